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

from data_builders.imagery.crops import CROPS, LANDS_AT, crop_box
from data_builders.parallel import parallel_map, progress_bar
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
from data_builders.synthetic.places import Place, draw_places, map_name, picture_folder, write_pictures
from data_builders.synthetic.text import (
    COMPASS_WORD,
    NOWHERE,
    around_text,
    centers_text,
    choice_text,
    comparison_text,
    heading_text,
    on_map_text,
    place_text,
    plaza_text,
    spoken,
    view_text,
)
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError
from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT

SOURCE = "synthetic_skills"
Picture = tuple[int, str]
"""(0: of the place in question, 1: of another; file name)."""


@dataclass(frozen=True)
class Record:
    """One exercise of a skill."""

    pictures: tuple[Picture, ...]
    prompt: str
    answer: str


@dataclass(frozen=True)
class Context:
    """What an exercise draws from: a place, another whose pictures only stand beside, and a stream of chance."""

    place: Place
    other: Place
    rng: np.random.Generator
    beside: bool = True
    """Whether pictures of the other place may stand beside."""

    @property
    def town(self) -> Town:
        return self.place.towns[0]

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def some(self, options: Sequence[str], count: int) -> list[str]:
        return [options[int(i)] for i in self.rng.permutation(len(options))[:count]]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def before(self) -> tuple[Picture, ...]:
        """Another place's view, more often than not, where a task would have the photo."""
        if not self.beside:
            return ()
        return ((1, f"{self.one(tuple(HEADINGS))}.png"),) if self.chance(0.75) else ()

    def offset(self, crop: str, at: str) -> tuple[int, int]:
        """Crossings (south, east) from the map's middle to the position `at` of a crop."""
        (column, row), (middle_column, middle_row) = LANDS_AT[at], LANDS_AT[crop]
        return row - middle_row, column - middle_column


def view(c: Context) -> Record:
    """Say what a ground view shows, whatever maps of another place follow."""
    heading = c.one(tuple(HEADINGS))
    count = int(c.rng.choice([0, 1, 4], p=[0.25, 0.5, 0.25])) if c.beside else 0
    crop = c.one(("full", *CROPS))
    maps = tuple((1, map_name(town, crop)) for town in range(count))
    left, right = c.town.around()[heading]
    told = view_text(c.town.center_plaza, left, right)
    return Record(((0, f"{heading}.png"), *maps), "What does the view show?", told)


def around(c: Context) -> Record:
    """Say what stands around a crossing of a map."""
    if c.chance(0.4):
        picture = (0, map_name(0, "full"))
        return Record((*c.before(), picture), "What is around the center of the map?", around_text(c.town.around()))
    crop, at = c.one(CROPS), c.one(CROPS)
    offset = c.offset(crop, at)
    pictures = (*c.before(), (0, map_name(0, crop)))
    plaza, told = c.town.plaza_at(*offset), around_text(c.town.around(*offset))
    if c.chance(0.6):
        return Record(pictures, f"Where is the {plaza} plaza and what is around it?", f"{plaza_text(plaza, at)} {told}")
    return Record(pictures, f"What is around the {spoken(at)} plaza?", told)


def find(c: Context) -> Record:
    """Find a plaza of a given colour in a map, or say that there is none."""
    if c.chance(0.25):
        picture = (0, map_name(0, "full"))
        told = plaza_text(c.town.center_plaza, "center")
        return Record((*c.before(), picture), "Which plaza is at the center of the map?", told)
    crop, at = c.one(CROPS), c.one(CROPS)
    pictures = (*c.before(), (0, map_name(0, crop)))
    if c.chance(0.4):
        present = {c.town.plaza_at(*c.offset(crop, other)) for other in CROPS}
        plaza, at = c.one([color for color in PLAZA_COLORS if color not in present]), NOWHERE
    else:
        plaza = c.town.plaza_at(*c.offset(crop, at))
    return Record(pictures, f"Where is the {plaza} plaza?", plaza_text(plaza, at))


def centers(c: Context) -> Record:
    """Name the middles of four maps."""
    order = [int(i) for i in c.rng.permutation(4)]
    pictures = (*c.before(), *((0, map_name(town, "full")) for town in order))
    told = centers_text([c.place.towns[town].center_plaza for town in order])
    return Record(pictures, "Which plazas are at the centers of the maps?", told)


def which_map(c: Context) -> Record:
    """Find a plaza of a given colour among four maps."""
    order = [int(i) for i in c.rng.permutation(4)]
    crop, index = c.one(CROPS), int(c.rng.integers(4))
    pictures = (*c.before(), *((0, map_name(town, crop)) for town in order))
    plaza = c.place.towns[order[index]].center_plaza
    return Record(pictures, f"Which map has a {plaza} plaza?", on_map_text(plaza, index))


def list_plazas(c: Context) -> Record:
    """List the nine plazas of a crop."""
    crop = c.one(CROPS)
    listed = ", ".join(f"{spoken(at)} {c.town.plaza_at(*c.offset(crop, at))}" for at in CROPS)
    return Record((*c.before(), (0, map_name(0, crop))), "List the plazas of the map.", f"Plazas: {listed}.")


def list_walls(c: Context) -> Record:
    """List the blocks of a map or a crop, row by row."""
    crop = c.one(("full", "full", "full", "full", *CROPS) if c.beside else CROPS)
    left, top, right, bottom = (0, 0, BLOCKS, BLOCKS) if crop == "full" else crop_box(crop, BLOCKS, BLOCKS)
    window = c.town.walls[MARGIN + top : MARGIN + bottom, MARGIN + left : MARGIN + right]
    listed = "; ".join(" ".join(WALL_COLORS[wall] for wall in row) for row in window)
    return Record((*c.before(), (0, map_name(0, crop))), "List the walls of the map row by row.", f"Walls: {listed}.")


def ground(c: Context) -> Record:
    """Say what the ground is made of and which trim the walls have."""
    picture = (0, f"{c.one(tuple(HEADINGS))}.png")
    return Record((picture,), "What are the ground and the trim?", place_text(c.place.ground, c.place.trim))


def match_side(c: Context) -> Record:
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


def compare(c: Context) -> Record:
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


def match_number(c: Context) -> Record:
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


def repeat(c: Context) -> Record:
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
    return _with_json(c, prompt, on_map_text(plaza, index), "matched_aerial_index", str(index))


def write_json(c: Context) -> Record:
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
    return Record((), f"Write JSON, key {key}: {word}.", _json(key, value))


def _json(key: str, value: str) -> str:
    """An object as the tasks write theirs: numbers and truth values without quotes."""
    literal = key in ("is_in_range", "matched_aerial_index")
    return json.dumps({key: json.loads(value) if literal else value})


def _with_json(c: Context, prompt: str, answer: str, key: str, value: str) -> Record:
    """Half of the plain-text exercises end with their result as JSON."""
    if c.chance(0.5):
        return Record((), prompt, answer)
    return Record((), f"{prompt} Then JSON, key {key}.", f"{answer}\n{_json(key, value)}")


SKILLS: dict[str, tuple[Callable[[Context], Record], float]] = {
    "view": (view, 0.11),
    "around": (around, 0.13),
    "find": (find, 0.12),
    "centers": (centers, 0.08),
    "which_map": (which_map, 0.09),
    "list_plazas": (list_plazas, 0.09),
    "list_walls": (list_walls, 0.07),
    "ground": (ground, 0.02),
    "match_side": (match_side, 0.12),
    "compare": (compare, 0.05),
    "match_number": (match_number, 0.05),
    "repeat": (repeat, 0.04),
    "write_json": (write_json, 0.03),
}
"""Each skill and its share of the records."""


@dataclass
class SyntheticSkills:
    """Base skills on the procedural city, for `recipe=tiny_pretrain`. Deterministic by seed."""

    version: ClassVar[str] = CITY_VERSION

    places: int = 1000
    """How many places, of a split that no task's dataset uses."""
    records_per_place: int = 60
    """How many exercises each place gives."""
    seed: int = 0
    """The city and the exercises are a pure function of it."""
    skills: Sequence[str] | None = None
    """Names of the skills to write; null for all."""
    beside: bool = True
    """Whether pictures of other places stand beside those in question; without, maps are crops, which is easier."""
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
            raise ConfigError(f"places={self.places}: exercises show pictures of two places, ask for more")
        if self.records_per_place < 1:
            raise ConfigError(f"records_per_place={self.records_per_place}: ask for at least one")
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
        """Draw the pictures that the exercises show, and write these."""
        places = list(islice(draw_places(self.seed, self.split), self.places))
        wanted: dict[int, set[str]] = {index: set() for index in range(len(places))}
        names = list(SKILLS if self.skills is None else self.skills)
        shares = np.array([SKILLS[name][1] for name in names])
        for index, place in enumerate(places):
            rng = place.rng("skills")
            for number in range(self.records_per_place):
                other = (index + 1 + int(rng.integers(len(places) - 1))) % len(places)
                skill = names[int(rng.choice(len(names), p=shares / shares.sum()))]
                record = SKILLS[skill][0](Context(place, places[other], rng, self.beside))
                shown = [(other if which else index, file) for which, file in record.pictures]
                for where, file in shown:
                    wanted[where].add(file)
                files = [str(self._folder(writer, places[where]) / file) for where, file in shown]
                writer.write(_sample(f"{place.name}/{number:03d}/{skill}", place, skill, record, files))
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
        return picture_folder(writer.images_dir, place, self.view_size, self.map_size)


def _sample(name: str, place: Place, skill: str, record: Record, files: list[str]) -> Sample:
    return Sample(
        id=f"{SOURCE}/{name}",
        images=tuple(files),
        turns=(Turn("user", "<image>\n" * len(files) + record.prompt), Turn("assistant", record.answer)),
        system=SYSTEM_PROMPT,
        task=skill,
        answer=record.answer,
        source=SOURCE,
        place=f"{SOURCE}/{place.lat:.6f},{place.lon:.6f}",
    )


def draw_some(job: tuple[Place, frozenset[str]], folder: Path, view_size: int, map_size: int) -> int:
    """Write those of a place's pictures that are named and missing; returns how many."""
    place, wanted = job
    pictures = {name: picture for name, picture in place.pictures(view_size, map_size).items() if name in wanted}
    return write_pictures(pictures, picture_folder(folder, place, view_size, map_size))
