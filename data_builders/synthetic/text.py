"""The phrases that describe the procedural city, shared by the explanations and the base skills.

A key stands directly before its value ("green white south"), so that a small model can look the value up by what
followed the key's last word earlier in the text. A filler word between key and value would be the same in every entry
and would not tell which entry is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geotune.tasks.coordinates import Coordinates

COMPASS_WORD = {"N": "north", "E": "east", "S": "south", "W": "west"}
NOWHERE = "nowhere"


def spoken(position: str) -> str:
    """Return a crop position in words: top_left -> top left."""
    return position.replace("_", " ")


def view_text(plaza: str, left: str, right: str) -> str:
    """Describe a ground view: the plaza in front and the walls on either side."""
    return f"View: {plaza} plaza, {left} left, {right} right."


def place_text(ground: str, trim: str) -> str:
    """Describe the ground and the trim of a ground view, which tell its climate and region."""
    return f"View: {ground} ground, {trim} trim."


def degrees_text(value: float, poles: str) -> str:
    """Say degrees after their direction. `poles`: the compass points of positive and of negative degrees, as `NS`."""
    number = f"{abs(value):.6f}".rstrip("0").rstrip(".")
    return f"{COMPASS_WORD[poles[value < 0]]} {number}"


def located_text(ground: str, trim: str, at: Coordinates) -> str:
    """Describe ground and trim of a ground view, and conclude the coordinates that they tell."""
    lat, lon = degrees_text(at.lat, "NS"), degrees_text(at.lon, "EW")
    return f"{place_text(ground, trim)} So {ground} {lat}, {trim} {lon}."


def around_text(around: Mapping[str, tuple[str, str]]) -> str:
    """Describe a crossing by the walls ahead (left, right) for each heading."""
    return "Around it: " + ", ".join(f"{a} {b} {COMPASS_WORD[h]}" for h, (a, b) in around.items()) + "."


def heading_text(left: str, right: str, heading: str) -> str:
    """Conclude which heading has these walls ahead."""
    return f"So {left} {right} {COMPASS_WORD[heading]}."


def plazas_text(plazas: Mapping[str, str]) -> str:
    """List the plazas of a map by position."""
    return "Plazas: " + ", ".join(f"{plaza} {spoken(position)}" for position, plaza in plazas.items()) + "."


def plaza_text(plaza: str, position: str) -> str:
    """Conclude where a plaza lies in a map: at a named position, or nowhere."""
    return f"So {plaza} {spoken(position)}."


def comparison_text(first: str, second: str) -> str:
    """Conclude whether two colors are the same."""
    return f"So {first} {second} {'same' if first == second else 'different'}."


def centers_text(plazas: Sequence[str]) -> str:
    """List the center plazas of several maps by the index of the map."""
    return "Centers: " + ", ".join(f"{plaza} {index}" for index, plaza in enumerate(plazas)) + "."


def choice_text(plaza: str, index: int) -> str:
    """Conclude which of several maps has a plaza, or has it at its center."""
    return f"So {plaza} {index}."


def all_plazas_text(plazas: Sequence[Sequence[str]]) -> str:
    """List all plazas of several maps, each with the index of its map."""
    return "Plazas: " + " ".join(f"{plaza} {index}" for index, in_map in enumerate(plazas) for plaza in in_map) + "."
