"""What the embedded backbone is taught before any task: the skills that a pre-trained VLM brings.

Saying what a view shows and what a map shows, listing, finding a named thing, comparing and looking things up in plain
text, writing JSON. None of it is a question of the seven tasks: no record relates a view to a map. Where a record
shows both, they are of different places, and the question is about one of them alone; what compares or looks up, does
so between words that the user wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_builders.builder import Builder
from data_builders.synthetic.builder import city_fingerprint
from data_builders.synthetic.city import (
    BLOCKS,
    CITY_VERSION,
    HEADINGS,
    MAP_UNITS,
    MARGIN,
    PLAZA_COLORS,
    WALL_COLORS,
    Town,
)
from data_builders.synthetic.places import FULL, Place, draw_places, map_name, place_folder, write_images
from data_builders.synthetic.text import (
    COMPASS_WORD,
    NOWHERE,
    all_plazas_text,
    around_text,
    centers_text,
    choice_text,
    comparison_text,
    heading_text,
    place_text,
    plaza_text,
    plazas_text,
    spoken,
    view_text,
)
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError
from geotune.imagery.crops import CROPS, LANDS_AT, crop_box
from geotune.sample import Sample, Turn
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import SYSTEM_PROMPT

SOURCE = "synthetic_skills"
SceneImage = tuple[int, str]
"""(0: of the place in question, 1: of another; file name)."""
Exchange = tuple[str, str]
"""What is asked, and what is to be said."""


@dataclass(frozen=True)
class Scene:
    """The images of a record: a view of another place, then maps of the place in question; either may be missing."""

    heading: str | None = None
    crop: str | None = None
    """What the maps show: a crop, or the full map."""
    towns: tuple[int, ...] = ()
    """Whose maps, in order."""

    @property
    def images(self) -> tuple[SceneImage, ...]:
        """Its images in order."""
        views = () if self.heading is None else ((1, f"{self.heading}.png"),)
        return (*views, *((0, map_name(town, self.crop or FULL)) for town in self.towns))

    @property
    def one_map(self) -> bool:
        """Whether it has the place's own map and no other."""
        return self.towns == (0,)

    @property
    def cropped(self) -> bool:
        """Whether its maps are crops."""
        return self.crop not in (None, FULL)


@dataclass(frozen=True)
class Context:
    """What an exercise draws from: a place (its maps), another (its view), and a stream of chance."""

    place: Place
    other: Place
    rng: np.random.Generator
    beside: bool = True
    """Whether a view and maps may stand side by side."""

    @property
    def town(self) -> Town:
        return self.place.towns[0]

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def some(self, options: Sequence[str], count: int) -> list[str]:
        return [options[int(i)] for i in self.rng.permutation(len(options))[:count]]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def order(self) -> tuple[int, ...]:
        """The four towns, shuffled."""
        return tuple(int(i) for i in self.rng.permutation(4))

    def offset(self, crop: str, at: str) -> tuple[int, int]:
        """Crossings (south, east) from the map's middle to the position `at` of a crop."""
        (column, row), (middle_column, middle_row) = LANDS_AT[at], LANDS_AT[crop]
        return row - middle_row, column - middle_column

    def scene(self, skill: str) -> Scene:
        """Images for a skill. More often than not a view stands where a task would have the photo."""
        full = {"around": 0.4, "find": 0.25, "list_walls": 0.3, "list_plazas": 0.0, "which_map": 0.0, "centers": 1.0}
        if skill in ("view", "ground"):
            towns = ((), (0,), self.order())[int(self.rng.choice(3, p=[0.25, 0.5, 0.25]))] if self.beside else ()
            crop = self.one((FULL, *CROPS)) if towns else None
            return Scene(self.one(tuple(HEADINGS)), crop, towns)
        if skill not in full:
            return Scene()
        heading = self.one(tuple(HEADINGS)) if self.beside and self.chance(0.75) else None
        crop = FULL if self.chance(full[skill]) and self.beside else self.one(CROPS)
        return Scene(heading, crop, self.order() if skill in ("centers", "which_map") else (0,))


def view(c: Context, s: Scene) -> Exchange | None:
    """Say what a ground view shows, whatever maps of another place follow."""
    if s.heading is None:
        return None
    town = c.other.towns[0]
    left, right = town.around()[s.heading]
    return "What does the view show?", view_text(town.center_plaza, left, right)


def around(c: Context, s: Scene) -> Exchange | None:
    """Say what stands around a crossing of a map."""
    if not s.one_map:
        return None
    if s.crop is None or not s.cropped:
        return "What is around the center of the map?", around_text(c.town.around())
    at = c.one(CROPS)
    offset = c.offset(s.crop, at)
    plaza, told = c.town.plaza_at(*offset), around_text(c.town.around(*offset))
    if c.chance(0.6):
        listed = plazas_text(c.town.plazas_in(s.crop))
        return f"Where is the {plaza} plaza and what is around it?", f"{listed} {plaza_text(plaza, at)} {told}"
    return f"What is around the {spoken(at)} plaza?", told


def find(c: Context, s: Scene) -> Exchange | None:
    """Find a plaza of a given colour in a map, or say that there is none."""
    if not s.one_map:
        return None
    if s.crop is None or not s.cropped:
        return "Which plaza is at the center of the map?", plaza_text(c.town.center_plaza, "center")
    at, present = c.one(CROPS), c.town.plazas_in(s.crop)
    if c.chance(0.4):
        plaza, at = c.one([color for color in PLAZA_COLORS if color not in present.values()]), NOWHERE
    else:
        plaza = present[at]
    return f"Where is the {plaza} plaza?", f"{plazas_text(present)} {plaza_text(plaza, at)}"


def centers(c: Context, s: Scene) -> Exchange | None:
    """Name the middles of four maps."""
    if len(s.towns) < 4 or s.cropped:
        return None
    told = centers_text([c.place.towns[town].center_plaza for town in s.towns])
    return "Which plazas are at the centers of the maps?", told


def which_map(c: Context, s: Scene) -> Exchange | None:
    """Find a plaza of a given colour among four maps."""
    if len(s.towns) < 4 or s.crop is None or not s.cropped:
        return None
    index = int(c.rng.integers(4))
    towns = [c.place.towns[town] for town in s.towns]
    plaza = towns[index].center_plaza
    listed = all_plazas_text([list(town.plazas_in(s.crop).values()) for town in towns])
    return f"Which map has a {plaza} plaza?", f"{listed} {choice_text(plaza, index)}"


def list_plazas(c: Context, s: Scene) -> Exchange | None:
    """List the plazas of a crop, row by row."""
    if s.crop is None or not s.cropped or not s.one_map:
        return None
    column, row = LANDS_AT[s.crop]
    rows = [[c.town.plaza_at(i - row - 1, j - column - 1) for j in range(4)] for i in range(4)]
    return "List the plazas of the map row by row.", f"Plazas: {'; '.join(map(' '.join, rows))}."


def list_walls(c: Context, s: Scene) -> Exchange | None:
    """List the blocks of a map or a crop, row by row."""
    if s.crop is None or not s.one_map:
        return None
    left, top, right, bottom = crop_box(s.crop, BLOCKS, BLOCKS) if s.cropped else (0, 0, BLOCKS, BLOCKS)
    window = c.town.walls[MARGIN + top : MARGIN + bottom, MARGIN + left : MARGIN + right]
    listed = "; ".join(" ".join(WALL_COLORS[wall] for wall in row) for row in window)
    return "List the walls of the map row by row.", f"Walls: {listed}."


def ground(c: Context, s: Scene) -> Exchange | None:
    """Say what the ground is made of and which trim the walls have."""
    if s.heading is None:
        return None
    return "What are the ground and the trim?", place_text(c.other.ground, c.other.trim)


def say_again(c: Context, s: Scene) -> Exchange:
    """In plain text: say words in no order of their own once more."""
    words = (*PLAZA_COLORS, *map(str, range(10)), *COMPASS_WORD.values(), *map(spoken, CROPS), "same", "different")
    said = " ".join(c.one(words) for _ in range(int(c.rng.integers(8, 30))))
    return f"Say again: {said}.", f"{said}."


def look_up(c: Context, s: Scene) -> Exchange:
    """In plain text: say of several things, in the order asked, what the notes say of each."""
    kind = int(c.rng.integers(3))
    if kind == 0:
        walls = c.some(WALL_COLORS, 4)
        pairs = [(walls[i], walls[(i + 1) % 4]) for i in range(4)]
        known = {f"{a} {b}": heading_text(a, b, heading) for (a, b), heading in zip(pairs, HEADINGS, strict=True)}
    elif kind == 1:
        known = {color: choice_text(color, index) for index, color in enumerate(c.some(PLAZA_COLORS, 6))}
    else:
        firsts = c.some(PLAZA_COLORS, 4)
        pairs = [(first, first if c.chance(0.5) else c.one(PLAZA_COLORS)) for first in firsts]
        known = {f"{a} {b}": comparison_text(a, b) for a, b in pairs}
    notes = [known[thing].removeprefix("So ").removesuffix(".") for thing in c.some(tuple(known), len(known))]
    asked = c.some(tuple(known), len(known))
    listed = ", ".join(notes) if kind < 2 else "same, different"
    return f"Notes: {listed}. Look up {', '.join(asked)}.", " ".join(known[thing] for thing in asked)


def match_side(c: Context, s: Scene) -> Exchange | None:
    """In plain text: put four pairs in order and look one of them up."""
    walls = c.some(WALL_COLORS, 4)
    pairs = {heading: (walls[i], walls[(i + 1) % 4]) for i, heading in enumerate(HEADINGS)}
    heading, plaza = c.one(tuple(HEADINGS)), c.one(PLAZA_COLORS)
    left, right = pairs[heading]
    notes = ", ".join(f"{COMPASS_WORD[h]} {pairs[h][0]} {pairs[h][1]}" for h in c.some(tuple(HEADINGS), 4))
    seen = f"Seen: {plaza} plaza, {left} left, {right} right."
    where, told = "", ""
    if c.chance(0.5):
        at = c.one(CROPS)
        where, told = f"Notes: {plaza} plaza {spoken(at)}. ", plaza_text(plaza, at) + " "
    answer = f"{view_text(plaza, left, right)} {told}{around_text(pairs)} {heading_text(left, right, heading)}"
    prompt = f"{where}Notes: {notes}. {seen} Which side is it?"
    return _with_json(c, prompt, answer, "direction", heading)


def compare(c: Context, s: Scene) -> Exchange | None:
    """In plain text: are two colours the same?"""
    first, second = c.some(PLAZA_COLORS, 2)
    second = first if c.chance(0.5) else second
    left, right = c.some(WALL_COLORS, 2)
    answer = comparison_text(first, second)
    prompt = f"Compare {first} and {second}."
    if c.chance(0.5):
        prompt = f"Notes: {second} plaza center. Seen: {first} plaza, {left} left, {right} right. Compare the plazas."
        answer = f"{view_text(first, left, right)} {plaza_text(second, 'center')} {answer}"
    return _with_json(c, prompt, answer, "is_in_range", "true" if first == second else "false")


def match_number(c: Context, s: Scene) -> Exchange | None:
    """In plain text: put four numbered colours in order and look one of them up."""
    colors = c.some(PLAZA_COLORS, 4)
    index = int(c.rng.integers(4))
    left, right = c.some(WALL_COLORS, 2)
    notes = ", ".join(f"map {i} {colors[i]}" for i in c.rng.permutation(4))
    answer = f"{centers_text(colors)} {choice_text(colors[index], index)}"
    prompt = f"Notes: {notes}. Which is {colors[index]}?"
    if c.chance(0.5):
        prompt = f"Notes: {notes}. Seen: {colors[index]} plaza, {left} left, {right} right. Which is it?"
        answer = f"{view_text(colors[index], left, right)} {answer}"
    return _with_json(c, prompt, answer, "matched_aerial_index", str(index))


def repeat(c: Context, s: Scene) -> Exchange | None:
    """In plain text: say a finding in full, then as JSON."""
    plaza = c.one(PLAZA_COLORS)
    kind = int(c.rng.integers(3))
    if kind == 0:
        at = c.one(CROPS)
        return _with_json(c, f"Notes: {plaza} plaza {spoken(at)}. Say it.", plaza_text(plaza, at), "location", at)
    if kind == 1:
        at = c.one(CROPS) if c.chance(0.5) else NOWHERE
        prompt = f"Notes: {plaza} plaza {spoken(at)}. Say whether it is there."
        return _with_json(c, prompt, plaza_text(plaza, at), "is_in_range", "false" if at == NOWHERE else "true")
    index = int(c.rng.integers(4))
    prompt = f"Notes: {plaza} plaza map {index}. Say it."
    return _with_json(c, prompt, choice_text(plaza, index), "matched_aerial_index", str(index))


def spell_json(c: Context, s: Scene) -> Exchange | None:
    """In plain text: a word as JSON."""
    key = c.one(("direction", "location", "matched_aerial_index", "is_in_range"))
    value = c.one(
        {
            "direction": tuple(HEADINGS),
            "location": CROPS,
            "matched_aerial_index": ("0", "1", "2", "3"),
            "is_in_range": ("true", "false"),
        }[key]
    )
    word = COMPASS_WORD.get(value, spoken(value))
    return f"Write JSON, key {key}: {word}.", _json(key, value)


def _json(key: str, value: str) -> str:
    """An object as the tasks write theirs: numbers and truth values without quotes."""
    literal = key in ("is_in_range", "matched_aerial_index")
    return json.dumps({key: json.loads(value) if literal else value})


def _with_json(c: Context, prompt: str, answer: str, key: str, value: str) -> Exchange:
    """Half of the plain-text exercises end with their result as JSON."""
    if c.chance(0.5):
        return prompt, answer
    return f"{prompt} Then JSON, key {key}.", f"{answer}\n{_json(key, value)}"


SKILLS: dict[str, tuple[Callable[[Context, Scene], Exchange | None], float]] = {
    "view": (view, 0.06),
    "around": (around, 0.15),
    "find": (find, 0.14),
    "centers": (centers, 0.05),
    "which_map": (which_map, 0.11),
    "list_plazas": (list_plazas, 0.05),
    "list_walls": (list_walls, 0.06),
    "ground": (ground, 0.02),
    "say_again": (say_again, 0.05),
    "look_up": (look_up, 0.09),
    "match_side": (match_side, 0.07),
    "compare": (compare, 0.03),
    "match_number": (match_number, 0.07),
    "repeat": (repeat, 0.03),
    "write_json": (spell_json, 0.02),
}
"""Each skill and its share of the records' first questions."""
TEXT_SKILLS = ("say_again", "look_up", "match_side", "compare", "match_number", "repeat", "write_json")
"""Those without images."""


@dataclass
class SyntheticSkills(Builder):
    """Base skills on the procedural city, for `recipe=tiny_pretrain`. Deterministic by seed."""

    version: ClassVar[str] = CITY_VERSION

    places: int = 1000
    """How many places, of a split that no task's dataset uses."""
    records_per_place: int = 60
    """How many exercises each place gives."""
    questions: int = 1
    """How many questions in a row an exercise may ask about its images."""
    seed: int = 0
    """The city and the exercises are a pure function of it."""
    skills: Sequence[str] | None = None
    """Names of the skills to write; null for all."""
    beside: bool = True
    """Whether images of other places stand beside those in question; without, maps are crops, which is easier."""
    split: str = "pretrain"
    """pretrain, or validation to measure the skills on other places."""
    view_size: int = 64
    """Pixels of a ground view's side."""
    map_size: int = MAP_UNITS
    """Pixels of a satellite image's side."""
    workers: int | None = field(default=None, compare=False)
    """Processes that draw; null for all cores."""

    def __post_init__(self) -> None:
        if self.places < 2:
            raise ConfigError(f"places={self.places}: exercises show images of two places, ask for more")
        if self.records_per_place < 1:
            raise ConfigError(f"records_per_place={self.records_per_place}: ask for at least one")
        if self.questions < 1:
            raise ConfigError(f"questions={self.questions}: ask for at least one")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: name at least one process, or null for all cores")
        if self.skills is not None and not self.skills:
            raise ConfigError(f"skills=[]: name some of {', '.join(SKILLS)}, or null for all")
        for skill in self.skills or ():
            if skill not in SKILLS:
                raise ConfigError(f"skills names {skill!r}: the skills are {', '.join(SKILLS)}")
        if self.split not in ("pretrain", "validation"):
            raise ConfigError(f"split={self.split}: say pretrain or validation; the others belong to the tasks")

    def build(self, writer: DatasetWriter) -> None:
        """Draw the images that the exercises show, and write these."""
        places = list(islice(draw_places(self.seed, self.split), self.places))
        wanted: dict[int, set[str]] = {index: set() for index in range(len(places))}
        names = list(SKILLS if self.skills is None else self.skills)
        shares = np.array([SKILLS[name][1] for name in names])
        for index, place in enumerate(places):
            rng = place.rng("skills")
            for number in range(self.records_per_place):
                other = (index + 1 + int(rng.integers(len(places) - 1))) % len(places)
                skill = names[int(rng.choice(len(names), p=shares / shares.sum()))]
                context = Context(place, places[other], rng, self.beside)
                scene = context.scene(skill)
                told = exchanges(context, scene, skill, names, self.questions)
                shown = [(other if which else index, file) for which, file in scene.images]
                for where, file in shown:
                    wanted[where].add(file)
                files = [str(self._folder(writer, places[where]) / file) for where, file in shown]
                writer.write(_sample(f"{place.name}/{number:03d}/{skill}", place, skill, told, files))
        draw = partial(draw_some, folder=writer.images_dir, view_size=self.view_size, map_size=self.map_size)
        jobs = [(place, frozenset(wanted[index])) for index, place in enumerate(places)]
        with (
            parallel_map(self.workers, len(jobs)) as run,
            progress_bar("drawing the city", len(jobs)) as advance,
        ):
            for (_, shown_files), made in zip(jobs, run(draw, jobs), strict=True):
                writer.count_images(made, reused=len(shown_files) - made)
                advance()
        writer.audit["city_fingerprint"] = city_fingerprint()

    def _folder(self, writer: DatasetWriter, place: Place) -> Path:
        return place_folder(writer.images_dir, place, self.view_size, self.map_size)


def exchanges(context: Context, scene: Scene, skill: str, names: Sequence[str], count: int) -> list[Exchange]:
    """Up to `count` different questions about one scene, the first of `skill`, the others of those `names` that fit."""
    first = SKILLS[skill][0](context, scene)
    assert first is not None, "a scene is chosen for its skill"
    told = [first]
    fitting = [name for name in names if (name in TEXT_SKILLS) == (skill in TEXT_SKILLS)]
    shares = np.array([SKILLS[name][1] for name in fitting])
    for _ in range(4 * (count - 1)):
        another = SKILLS[fitting[int(context.rng.choice(len(fitting), p=shares / shares.sum()))]][0](context, scene)
        if len(told) < count and another is not None and another[0] not in [prompt for prompt, _ in told]:
            told.append(another)
    return told


def _sample(name: str, place: Place, skill: str, told: Sequence[Exchange], files: list[str]) -> Sample:
    turns = [turn for prompt, answer in told for turn in (Turn("user", prompt), Turn("assistant", answer))]
    turns[0] = Turn("user", "<image>\n" * len(files) + turns[0].text)
    return Sample(
        id=f"{SOURCE}/{name}",
        images=tuple(files),
        turns=tuple(turns),
        system=SYSTEM_PROMPT,
        task=skill,
        answer=told[-1][1],
        source=SOURCE,
        place=f"{SOURCE}/{place.lat:.6f},{place.lon:.6f}",
    )


def draw_some(job: tuple[Place, frozenset[str]], folder: Path, view_size: int, map_size: int) -> int:
    """Write those of a place's images that are named and missing; returns how many."""
    place, wanted = job
    images = {name: image for name, image in place.images(view_size, map_size).items() if name in wanted}
    return write_images(images, place_folder(folder, place, view_size, map_size))
