"""What an evaluation measured of the radii of located photos, in words, for those who meet such radii later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.runs.suite_results import DRAW_SETTINGS

_FIGURES = ("n", *DRAW_SETTINGS, "radius_coverage_50", "radius_coverage_90")
"""Figures of a suite that are the fields of `MeasuredRadii`, in order."""


@dataclass(frozen=True)
class MeasuredRadii:
    """How often the radii around medoids of drawn answers held the truth, on one suite."""

    suite: str
    n: int
    """Number of photos."""
    draws: int
    """Number of answers drawn for each photo."""
    temperature: float
    """Temperature of the draws."""
    coverage_50: float
    """Share of the photos whose truth lay within the 50% radius."""
    coverage_90: float
    """Share of the photos whose truth lay within the 90% radius."""

    def told(self) -> str:
        """Return one sentence without a full stop, beginning in lower case."""
        return (
            f"on {self.suite} (n={self.n:,}) the 50% radius held the truth for {self.coverage_50:.0%} of the photos "
            f"and the 90% radius for {self.coverage_90:.0%}, with {self.draws} draws at temperature "
            f"{self.temperature:g}"
        )

    def differences(self, draws: int, temperature: float, top_p: float) -> list[str]:
        """Return in words how other draws differ from the measured ones, which had no nucleus (`top_p` = 1)."""
        pairs = {"samples": (draws, self.draws), "temperature": (temperature, self.temperature), "top_p": (top_p, 1.0)}
        return [f"{name}={now:g} instead of {then:g}" for name, (now, then) in pairs.items() if now != then]


def measured_radii(evaluation: Mapping[str, Any] | None) -> list[MeasuredRadii]:
    """Return what an evaluation measured of radii, suite by suite; empty if it measured nothing or there is none.

    The content may be anybody's: what is not an evaluation measured nothing.
    """
    suites = (evaluation or {}).get("suites")
    found = []
    for suite, entry in suites.items() if isinstance(suites, Mapping) else ():
        values = [entry.get(name) for name in _FIGURES] if isinstance(entry, Mapping) else [None]
        if all(isinstance(value, int | float) for value in values):
            found.append(MeasuredRadii(suite, *values))
    return found
