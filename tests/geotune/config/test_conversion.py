"""Plain trees read into dataclasses, and the mistakes in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from geotune.config.conversion import Problem, convert


class Colour(Enum):
    RED = "red"


@dataclass
class Leaf:
    size: int
    names: list[str] = field(default_factory=list)


@dataclass
class Tree:
    leaf: Leaf
    other: Leaf | None = None
    leaves: dict[str, Leaf] = field(default_factory=dict)
    row: tuple[Leaf, ...] = ()
    anything: Any = None


def read(value: Any, hint: Any) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    return convert(value, hint, "k", problems), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("value", "hint", "result"),
    [
        (1, float, 1.0),
        ("x", Path, Path("x")),
        ("red", Colour, Colour.RED),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, "a"], tuple[int, str], (1, "a")),
        (None, int | None, None),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ({"a": [1, {"b": None}]}, Any, {"a": [1, {"b": None}]}),
        (True, Literal[True, "auto"], True),
        ({"leaf": {"size": 1}, "other": {"size": 2}}, Tree, Tree(Leaf(1), Leaf(2))),
        ({"leaf": {"size": 1}, "row": [{"size": 2}]}, Tree, Tree(Leaf(1), row=(Leaf(2),))),
    ],
)
def test_what_fits_is_converted(value: Any, hint: Any, result: Any) -> None:
    converted, problems = read(value, hint)
    assert problems == []
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("value", "hint", "told"),
    [
        ("1", int, "k=1: expected a whole number"),
        (True, int, "k=true: expected a whole number"),
        (True, float, "k=true: expected a number"),
        (1, bool, "k=1: expected true or false"),
        (1, Literal[True], "k=1: expected True"),
        (1.0, int, "k=1.0: expected a whole number"),
        (1, str, "k=1: expected text"),
        (None, str, "k=null: expected text"),
        ("blue", Colour, "k=blue: expected red"),
        ("a", list[int], "k=a: expected a list, [a, b]"),
        (["a"], list[int], "k[0]=a: expected a whole number"),
        ([1], tuple[int, int], "k=[1]: expected 2 values, [a, b, ...]"),
        (3, Leaf, "k=3: expected keys of its own, not a single value"),
        ({"leaf": {}}, Tree, "k.leaf.size=???: is required; give k.leaf.size=<value>"),
        ({}, Tree, "k.leaf.size=???: is required; give k.leaf.size=<value>"),
        ({"leaf": {"size": 1, "sze": 2}}, Tree, "k.leaf.sze=2: no such key; did you mean k.leaf.size?"),
        (
            {"leaf": {"size": 1}, "other": {"nmes": 3, "size": 2}},
            Tree,
            "k.other.nmes=3: no such key; did you mean k.other.names?",
        ),
        ({"leaf": {"size": 1}, "leaves": {"a": {"size": "x"}}}, Tree, "k.leaves.a.size=x: expected a whole number"),
        (
            {"leaf": {"size": 1}, "anything": {"b": "???"}},
            Tree,
            "k.anything.b=???: is required; give k.anything.b=<value>",
        ),
    ],
)
def test_what_does_not_fit_is_told(value: Any, hint: Any, told: str) -> None:
    assert read(value, hint)[1] == [told]
