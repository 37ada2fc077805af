"""The form of a figure's name, `<suite>/[<task>/]<figure>`, as far as it can be checked before an evaluation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from geotune.config.wording import near
from geotune.errors import Problem

Direction = Literal["maximize", "minimize"]


def direction_of(figure: str, given: Direction | None = None) -> Direction:
    """Return whether a larger or a smaller value is better: as given, else smaller for a distance (`..._km`)."""
    return given or ("minimize" if figure.endswith("_km") else "maximize")


def figure_problems(key: str, figure: str, suites: Collection[str]) -> Iterator[Problem]:
    """Yield the mistake in a figure's name, the value of `key`. suites: names of the recipe's suites."""
    suite, slash, rest = figure.partition("/")
    known = f"the suites are {', '.join(suites)}"
    if not suites:
        yield Problem(
            key, figure, "there is no evaluator to give a figure", "leave the key out, or choose an evaluator"
        )
    elif not slash or not rest:
        yield Problem(key, figure, "write <suite>/<figure> or <suite>/<task>/<figure>", known)
    elif suite not in suites:
        yield Problem(key, figure, f"there is no suite {suite}", near(suite, suites, rest=f"/{rest}") or known)


def suite_name_problems(suites: Iterable[str]) -> Iterator[Problem]:
    """Yield the suites whose names can't begin the name of a figure."""
    for name in suites:
        if "/" in name:
            yield Problem("suites", name, "a suite's name is the first part of its figures' names", "leave out the /")
