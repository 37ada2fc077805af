"""What can be said of the procedural city in plain words: one set of phrases for explanations and base skills.

A thing that is looked up stands right before its answer ("green white south"), so that a small model finds it by what
its last word was followed by before: with a word in between, that word alone would not tell which line is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COMPASS_WORD = {"N": "north", "E": "east", "S": "south", "W": "west"}
NOWHERE = "nowhere"


def spoken(position: str) -> str:
    """A crop position in words: top_left -> top left."""
    return position.replace("_", " ")


def view_text(plaza: str, left: str, right: str) -> str:
    """What a ground view shows."""
    return f"View: {plaza} plaza, {left} left, {right} right."


def place_text(ground: str, trim: str) -> str:
    """What tells the climate and the region of a ground view."""
    return f"View: {ground} ground, {trim} trim."


def around_text(around: Mapping[str, tuple[str, str]]) -> str:
    """The walls ahead (left, right) for each heading of a crossing."""
    return "Around it: " + ", ".join(f"{a} {b} {COMPASS_WORD[h]}" for h, (a, b) in around.items()) + "."


def heading_text(left: str, right: str, heading: str) -> str:
    """Which heading has these walls ahead."""
    return f"So {left} {right} {COMPASS_WORD[heading]}."


def plazas_text(plazas: Mapping[str, str]) -> str:
    """The plazas of a map by position."""
    return "Plazas: " + ", ".join(f"{plaza} {spoken(position)}" for position, plaza in plazas.items()) + "."


def plaza_text(plaza: str, position: str) -> str:
    """Where a plaza lies in a map: a position's name, or nowhere."""
    return f"So {plaza} {spoken(position)}."


def comparison_text(first: str, second: str) -> str:
    """Whether two colours are the same."""
    return f"So {first} {second} {'same' if first == second else 'different'}."


def centers_text(plazas: Sequence[str]) -> str:
    """The middle plazas of several maps, by map."""
    return "Centers: " + ", ".join(f"{plaza} {index}" for index, plaza in enumerate(plazas)) + "."


def choice_text(plaza: str, index: int) -> str:
    """Which of several maps has a plaza, or has it in its middle."""
    return f"So {plaza} {index}."


def all_plazas_text(plazas: Sequence[Sequence[str]]) -> str:
    """The plazas of several maps, by map."""
    return "Plazas: " + " ".join(f"{plaza} {index}" for index, own in enumerate(plazas) for plaza in own) + "."
