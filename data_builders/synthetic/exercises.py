"""The base skills: exercises that the embedded backbone learns before any task, as a pre-trained VLM would know them.

The exercises describe what a view or a map shows, list, find a named plaza, compare and look things up in plain text,
and write JSON. None is a question of the seven tasks, because no record relates a view to a map: if a record shows
both, they are of different places, and the question is about one of them alone. Exercises that compare or look up work
on the words of the prompt. No exercise tells which coordinates belong to a ground or a trim: those that write
coordinates take them from the prompt, which has no images and pairs them at random.

Each exercise takes its material and a scene, and returns a prompt with its answer, or None if the scene does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from data_builders.synthetic.city import (
    BLOCKS,
    CLIMATES,
    HEADINGS,
    MARGIN,
    PLAZA_COLORS,
    TRIM_COLORS,
    WALL_COLORS,
)
from data_builders.synthetic.scenes import Context, Scene
from data_builders.synthetic.text import (
    COMPASS_WORD,
    NOWHERE,
    all_plazas_text,
    around_text,
    centers_text,
    choice_text,
    comparison_text,
    degrees_text,
    heading_text,
    located_text,
    place_text,
    plaza_text,
    plazas_text,
    spoken,
    view_text,
)
from geotune.imagery.crops import CROPS, LANDS_AT, crop_box
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import coordinates_json

Exchange = tuple[str, str]
"""A prompt and its answer."""


def view(c: Context, s: Scene) -> Exchange | None:
    """Describe a ground view, whether or not maps of another place follow it."""
    if s.heading is None:
        return None
    town = c.other.towns[0]
    left, right = town.around()[s.heading]
    return "What does the view show?", view_text(town.center_plaza, left, right)


def around(c: Context, s: Scene) -> Exchange | None:
    """Describe the walls around a crossing of a map."""
    if not s.one_map:
        return None
    if s.crop is None or not s.cropped:
        center = plaza_text(c.town.center_plaza, "center")
        return "What is around the center of the map?", f"{center} {around_text(c.town.around())}"
    at = c.pick(CROPS)
    offset = c.offset(s.crop, at)
    plaza, walls = c.town.plaza_at(*offset), around_text(c.town.around(*offset))
    if c.chance(0.6):
        listed = plazas_text(c.town.plazas_in(s.crop))
        return f"Where is the {plaza} plaza and what is around it?", f"{listed} {plaza_text(plaza, at)} {walls}"
    return f"What is around the {spoken(at)} plaza?", walls


def find(c: Context, s: Scene) -> Exchange | None:
    """Find a plaza of a given color in a map, or say that there is none."""
    if not s.one_map:
        return None
    if s.crop is None or not s.cropped:
        return "Which plaza is at the center of the map?", plaza_text(c.town.center_plaza, "center")
    at, present = c.pick(CROPS), c.town.plazas_in(s.crop)
    if c.chance(0.4):
        plaza, at = c.pick([color for color in PLAZA_COLORS if color not in present.values()]), NOWHERE
    else:
        plaza = present[at]
    return f"Where is the {plaza} plaza?", f"{plazas_text(present)} {plaza_text(plaza, at)}"


def centers(c: Context, s: Scene) -> Exchange | None:
    """Name the center plazas of four maps."""
    if len(s.towns) < 4 or s.cropped:
        return None
    named = centers_text([c.place.towns[town].center_plaza for town in s.towns])
    return "Which plazas are at the centers of the maps?", named


def which_map(c: Context, s: Scene) -> Exchange | None:
    """Find which of four maps has a plaza of a given color."""
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
    """Name the ground and the trim of a ground view."""
    if s.heading is None:
        return None
    return "What are the ground and the trim?", place_text(c.other.ground, c.other.trim)


def say_again(c: Context, s: Scene) -> Exchange:
    """In plain text: repeat words that stand in random order."""
    words = (*PLAZA_COLORS, *map(str, range(10)), *COMPASS_WORD.values(), *map(spoken, CROPS), "same", "different")
    text = " ".join(c.pick(words) for _ in range(int(c.rng.integers(8, 30))))
    return f"Say again: {text}.", f"{text}."


def look_up(c: Context, s: Scene) -> Exchange:
    """In plain text: look several entries of a list up, in the order of the prompt."""
    kind = int(c.rng.integers(3))
    if kind == 0:
        walls = c.pick_several(WALL_COLORS, 4)
        pairs = [(walls[i], walls[(i + 1) % 4]) for i in range(4)]
        known = {f"{a} {b}": heading_text(a, b, heading) for (a, b), heading in zip(pairs, HEADINGS, strict=True)}
    elif kind == 1:
        known = {color: choice_text(color, index) for index, color in enumerate(c.pick_several(PLAZA_COLORS, 6))}
    else:
        firsts = c.pick_several(PLAZA_COLORS, 4)
        pairs = [(first, first if c.chance(0.5) else c.pick(PLAZA_COLORS)) for first in firsts]
        known = {f"{a} {b}": comparison_text(a, b) for a, b in pairs}
    notes = [known[key].removeprefix("So ").removesuffix(".") for key in c.pick_several(tuple(known), len(known))]
    keys = c.pick_several(tuple(known), len(known))
    listed = ", ".join(notes) if kind < 2 else "same, different"
    return f"Notes: {listed}. Look up {', '.join(keys)}.", " ".join(known[key] for key in keys)


def match_side(c: Context, s: Scene) -> Exchange | None:
    """In plain text: put four pairs of walls in order and look one of them up."""
    walls = c.pick_several(WALL_COLORS, 4)
    pairs = {heading: (walls[i], walls[(i + 1) % 4]) for i, heading in enumerate(HEADINGS)}
    heading, plaza = c.pick(tuple(HEADINGS)), c.pick(PLAZA_COLORS)
    left, right = pairs[heading]
    notes = ", ".join(f"{COMPASS_WORD[h]} {pairs[h][0]} {pairs[h][1]}" for h in c.pick_several(tuple(HEADINGS), 4))
    view_note = f"Seen: {plaza} plaza, {left} left, {right} right."
    where, position = "", ""
    if c.chance(0.5):
        at = c.pick(CROPS)
        where, position = f"Notes: {plaza} plaza {spoken(at)}. ", plaza_text(plaza, at) + " "
    answer = f"{view_text(plaza, left, right)} {position}{around_text(pairs)} {heading_text(left, right, heading)}"
    prompt = f"{where}Notes: {notes}. {view_note} Which side is it?"
    return _with_json(c, prompt, answer, "direction", heading)


def compare(c: Context, s: Scene) -> Exchange | None:
    """In plain text: compare two colors."""
    first, second = c.pick_several(PLAZA_COLORS, 2)
    second = first if c.chance(0.5) else second
    left, right = c.pick_several(WALL_COLORS, 2)
    answer = comparison_text(first, second)
    prompt = f"Compare {first} and {second}."
    if c.chance(0.5):
        prompt = f"Notes: {second} plaza center. Seen: {first} plaza, {left} left, {right} right. Compare the plazas."
        answer = f"{view_text(first, left, right)} {plaza_text(second, 'center')} {answer}"
    return _with_json(c, prompt, answer, "is_in_range", "true" if first == second else "false")


def match_number(c: Context, s: Scene) -> Exchange | None:
    """In plain text: put four numbered colors in order and look one of them up."""
    colors = c.pick_several(PLAZA_COLORS, 4)
    index = int(c.rng.integers(4))
    left, right = c.pick_several(WALL_COLORS, 2)
    notes = ", ".join(f"map {i} {colors[i]}" for i in c.rng.permutation(4))
    answer = f"{centers_text(colors)} {choice_text(colors[index], index)}"
    prompt = f"Notes: {notes}. Which is {colors[index]}?"
    if c.chance(0.5):
        prompt = f"Notes: {notes}. Seen: {colors[index]} plaza, {left} left, {right} right. Which is it?"
        answer = f"{view_text(colors[index], left, right)} {answer}"
    return _with_json(c, prompt, answer, "matched_aerial_index", str(index))


def repeat(c: Context, s: Scene) -> Exchange | None:
    """In plain text: state a finding as a sentence, then as JSON."""
    plaza = c.pick(PLAZA_COLORS)
    kind = int(c.rng.integers(3))
    if kind == 0:
        at = c.pick(CROPS)
        return _with_json(c, f"Notes: {plaza} plaza {spoken(at)}. Say it.", plaza_text(plaza, at), "location", at)
    if kind == 1:
        at = c.pick(CROPS) if c.chance(0.5) else NOWHERE
        prompt = f"Notes: {plaza} plaza {spoken(at)}. Say whether it is there."
        return _with_json(c, prompt, plaza_text(plaza, at), "is_in_range", "false" if at == NOWHERE else "true")
    index = int(c.rng.integers(4))
    prompt = f"Notes: {plaza} plaza map {index}. Say it."
    return _with_json(c, prompt, choice_text(plaza, index), "matched_aerial_index", str(index))


def spell_json(c: Context, s: Scene) -> Exchange | None:
    """In plain text: write a word as the JSON value of a key."""
    key = c.pick(("direction", "location", "matched_aerial_index", "is_in_range"))
    value = c.pick(
        {
            "direction": tuple(HEADINGS),
            "location": CROPS,
            "matched_aerial_index": ("0", "1", "2", "3"),
            "is_in_range": ("true", "false"),
        }[key]
    )
    word = COMPASS_WORD.get(value, spoken(value))
    return f"Write JSON, key {key}: {word}.", _json(key, value)


def write_place(c: Context, s: Scene) -> Exchange:
    """In plain text: write coordinates as JSON, south and west negative."""
    lat, lon = c.degrees(90), c.degrees(180)
    said = f"{lat:g}, {lon:g}" if c.chance(0.3) else f"{degrees_text(lat, 'NS')}, {degrees_text(lon, 'EW')}"
    return f"Write JSON, keys latitude and longitude: {said}.", coordinates_json(Coordinates(lat, lon))


def match_place(c: Context, s: Scene) -> Exchange:
    """In plain text: look up the latitude of a ground and the longitude of a trim, and write them as JSON."""
    lats = {ground: c.degrees(90) for ground in c.pick_several(tuple(CLIMATES), 3)}
    lons = {trim: c.degrees(180) for trim in c.pick_several(TRIM_COLORS, 3)}
    ground, trim = c.pick(tuple(lats)), c.pick(tuple(lons))
    notes = [f"{name} {degrees_text(lat, 'NS')}" for name, lat in lats.items()]
    notes += [f"{name} {degrees_text(lon, 'EW')}" for name, lon in lons.items()]
    question = f"Seen: {ground} ground, {trim} trim. Where is it? JSON, keys latitude and longitude."
    at = Coordinates(lats[ground], lons[trim])
    return f"Notes: {', '.join(notes)}. {question}", f"{located_text(ground, trim, at)}\n{coordinates_json(at)}"


def _json(key: str, value: str) -> str:
    """A JSON object in the form of the tasks' answers: numbers and truth values without quotes."""
    literal = key in ("is_in_range", "matched_aerial_index")
    return json.dumps({key: json.loads(value) if literal else value})


def _with_json(c: Context, prompt: str, answer: str, key: str, value: str) -> Exchange:
    """Ask for the result as JSON as well, in half of the cases."""
    if c.chance(0.5):
        return prompt, answer
    return f"{prompt} Then JSON, key {key}.", f"{answer}\n{_json(key, value)}"


SKILLS: dict[str, tuple[Callable[[Context, Scene], Exchange | None], float]] = {
    "view": (view, 0.06),
    "around": (around, 0.14),
    "find": (find, 0.14),
    "centers": (centers, 0.05),
    "which_map": (which_map, 0.11),
    "list_plazas": (list_plazas, 0.04),
    "list_walls": (list_walls, 0.05),
    "ground": (ground, 0.06),
    "say_again": (say_again, 0.04),
    "look_up": (look_up, 0.07),
    "match_side": (match_side, 0.06),
    "compare": (compare, 0.03),
    "match_number": (match_number, 0.05),
    "repeat": (repeat, 0.03),
    "write_json": (spell_json, 0.02),
    "write_place": (write_place, 0.03),
    "match_place": (match_place, 0.02),
}
"""The exercise of each skill, and its share of the records' first questions."""
TEXT_SKILLS = (
    "say_again",
    "look_up",
    "match_side",
    "compare",
    "match_number",
    "repeat",
    "write_json",
    "write_place",
    "match_place",
)
"""The skills without images."""


def exchanges(context: Context, scene: Scene, skill: str, names: Sequence[str], count: int) -> list[Exchange]:
    """Draw up to `count` different questions about a scene.

    The first question is of `skill`; the others are of those skills in `names` that fit the scene.
    """
    first = SKILLS[skill][0](context, scene)
    assert first is not None, "a scene fits its skill"
    drawn = [first]
    fitting = [name for name in names if (name in TEXT_SKILLS) == (skill in TEXT_SKILLS)]
    shares = np.array([SKILLS[name][1] for name in fitting])
    for _ in range(4 * (count - 1)):
        another = SKILLS[fitting[int(context.rng.choice(len(fitting), p=shares / shares.sum()))]][0](context, scene)
        if len(drawn) < count and another is not None and another[0] not in [prompt for prompt, _ in drawn]:
            drawn.append(another)
    return drawn
