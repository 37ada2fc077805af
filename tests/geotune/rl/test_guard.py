"""The guard tells trouble once, and says nothing of a training that goes well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geotune.rl.guard import WINDOW, Guard

GOOD = {"entropy": 0.4, "commonest_guess": 0.05, "commonest_truth": 0.04, "reward": 0.2, "km_50": 2000.0}


def course(updates: int = 100, **ends: float) -> list[dict[str, float]]:
    """Figures that go in a line from those of `GOOD` to other values, and then stay there."""
    shares = [*np.linspace(0, 1, updates), *[1.0] * (updates // 2)]
    return [{k: v + (ends.get(k, v) - v) * float(share) for k, v in GOOD.items()} for share in shares]


def told(guard: Guard, figures: list[dict[str, float]]) -> list[str]:
    return [text for each in figures for text in guard.note(each)]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({"entropy": 0.01}, "the entropy of tokens fell from"),
        ({"commonest_guess": 0.9}, "of the guesses are the same place"),
        ({"reward": 0.6, "km_50": 4000.0}, "the reward rose from"),
    ],
)
def test_each_trouble_is_told_once(ends: dict[str, float], said: str) -> None:
    [text] = told(Guard(), course(**ends))
    assert said in text


@pytest.mark.parametrize(
    "ends",
    [
        {},
        {"reward": 0.7, "km_50": 300.0, "entropy": 0.1},
        {"commonest_guess": 0.9, "commonest_truth": 0.9},  # nearly all photos are of one place
        {"km_50": 4000.0, "reward": 0.1},  # a training that gets worse is seen by its reward
    ],
)
def test_nothing_is_said_without_reason(ends: dict[str, float]) -> None:
    assert told(Guard(), course(**ends)) == []


def test_a_short_run_and_figures_that_are_missing_are_no_reason() -> None:
    assert told(Guard(), course(WINDOW, entropy=0.0, commonest_guess=1.0)[:WINDOW]) == []
    missing = [{"reward": 0.1 * n, "km_50": float("nan")} for n in range(100)]
    assert told(Guard(), missing) == []


def test_the_state_of_a_checkpoint_goes_on() -> None:
    figures = course(entropy=0.01)
    whole = Guard()
    wanted = [whole.note(each) for each in figures]
    parts: list[Any] = []
    guard = Guard()
    for at, each in enumerate(figures):
        if at % 7 == 0:
            fresh = Guard()
            fresh.load_state(guard.state())
            guard = fresh
        parts.append(guard.note(each))
    assert parts == wanted
    assert any(wanted)
