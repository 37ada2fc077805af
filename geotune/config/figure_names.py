"""The form of a figure's name, `<suite>/[<task>/]<figure>`, as far as it can be checked before an evaluation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from geotune.config.training import TrainConfig
from geotune.config.wording import near
from geotune.errors import Problem

Direction = Literal["maximize", "minimize"]


def direction_of(figure: str, given: Direction | None = None) -> Direction:
    """Return whether a larger or a smaller value is better: as given, else smaller for a distance (`..._km`)."""
    return given or ("minimize" if figure.endswith("_km") else "maximize")


def figure_problem(key: str, figure: str, suites: Collection[str]) -> Problem | None:
    """Return the mistake in a figure's name, the value of `key`, or None. suites: names of the recipe's suites."""
    suite, slash, rest = figure.partition("/")
    if not slash or not rest:
        return Problem(
            key, figure, "write <suite>/<figure> or <suite>/<task>/<figure>", f"the suites are {', '.join(suites)}"
        )
    if suite not in suites:
        meant = near(suite, suites, rest=f"/{rest}")
        return Problem(key, figure, f"there is no suite {suite}", meant or f"the suites are {', '.join(suites)}")
    return None


def figure_problems(cfg: TrainConfig) -> list[Problem]:
    """Return the mistakes of a recipe in the names of its suites, and in the figure that its best checkpoint has."""
    suites = [] if cfg.evaluator is None else list(cfg.evaluator.suites)
    found = [
        Problem("evaluator.suites", name, "a suite's name is the first part of its figures' names", "leave out the /")
        for name in suites
        if "/" in name
    ]
    if cfg.trainer.best is None:
        return found
    if cfg.evaluator is None:
        missing = "there is no evaluator to give a figure"
        return [*found, Problem("trainer.best", cfg.trainer.best, missing, "leave the key out, or choose an evaluator")]
    wrong = figure_problem("trainer.best", cfg.trainer.best, suites)
    return found if wrong is None else [*found, wrong]
