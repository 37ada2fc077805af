"""Figures of a rollout: what completions earned, how far their guesses are off, and whether they are still different.

They are made of one row per completion, which processes gather, so that all processes have the same figures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geotune.geo import haversine_km
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.estimates import estimate

if TYPE_CHECKING:
    from geotune.geo import FloatArray
    from geotune.rl.groups import CompletionGroup
    from geotune.rl.rewards import Reward

PRIOR_ROUNDS = 8
"""Number of other groups whose guesses each truth is compared with."""
REASON = "reason_"
"""Start of the names of figures that are shares of completions with a reason; one that no completion had is missing."""


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """What is known of one completion of a rollout."""

    slot: int
    draw: int
    id: str
    """Id of the sample."""
    number: int
    """Number of the completion in its group."""
    tokens: int
    stopped: bool
    reward: float
    terms: Mapping[str, float]
    """Value of each term of the reward."""
    reasons: tuple[str, ...]
    """Reasons that terms give for their values, each once."""
    guess: Coordinates | None
    truth: Coordinates | None
    is_dead: bool
    """Whether its group is dead."""

    @property
    def group(self) -> tuple[int, int]:
        """What its group is known by within a rollout."""
        return self.slot, self.draw

    @property
    def km(self) -> float | None:
        """Distance of the guess from the truth."""
        if self.guess is None or self.truth is None:
            return None
        return float(haversine_km(self.guess.lat, self.guess.lon, self.truth.lat, self.truth.lon))


def completion_rows(group: CompletionGroup, reward: Reward) -> list[CompletionRow]:
    """Return a row for each completion of a group."""
    geodesic = None if reward.geodesic is None else reward.geodesic[0]
    truth = None if reward.geodesic is None else reward.geodesic[1].truth(group.sample)
    return [
        CompletionRow(
            group.slot,
            group.draw,
            group.sample.id,
            number,
            len(completion.tokens),
            completion.stopped,
            value,
            {name: term.value for name, term in scored.terms.items()},
            tuple(dict.fromkeys(term.reason for term in scored.terms.values() if term.reason is not None)),
            None if geodesic is None else scored.terms[geodesic].place,
            truth,
            group.is_dead,
        )
        for number, (completion, scored, value) in enumerate(
            zip(group.completions, group.scored, group.rewards, strict=True)
        )
    ]


def rollout_figures(rows: Sequence[CompletionRow]) -> dict[str, float]:
    """Return the figures of the rollout of all ranks; one that has no value is NaN.

    `reward` and `term_<name>` are means, `reward_std` is the mean standard deviation within a group, `dead_groups` the
    share of groups whose rewards are all the same, `length` the mean number of tokens, `unfinished` the share of
    completions that were cut off, `reason_<reason>` the share of completions for which a term gave that reason. If
    answers are places, see `place_figures` too.
    """
    groups = by_group(rows)
    found = {
        "reward": mean(row.reward for row in rows),
        "reward_std": mean(float(np.std([row.reward for row in group])) for group in groups),
        **{f"term_{name}": mean(row.terms[name] for row in rows) for name in (rows[0].terms if rows else ())},
        "dead_groups": mean(group[0].is_dead for group in groups),
        "length": mean(row.tokens for row in rows),
        "unfinished": mean(not row.stopped for row in rows),
    }
    reasons = Counter(reason for row in rows for reason in row.reasons)
    found |= {f"{REASON}{reason}": count / len(rows) for reason, count in sorted(reasons.items())}
    return found | (place_figures(rows) if any(row.truth is not None for row in rows) else {})


def place_figures(rows: Sequence[CompletionRow]) -> dict[str, float]:
    """Return the figures of a rollout whose answers are places.

    `read_rate` is the share of completions that give a place; `km_10`, `km_50` and `km_90` are quantiles of the errors
    of those. `prior_km_50` is the median error of guesses about other prompts of the rollout: what the policy would
    reach without looking. `commonest_guess` is the share of the most frequent guess, to whole degrees, among those that
    give a place, and `commonest_truth` that of the most frequent truth. `coverage_50` and `coverage_90` are the shares
    of groups whose truth lies within the radius around the medoid that holds 50% or 90% of their guesses; a group with
    too few of them is not covered.
    """
    errors = [row.km for row in rows if row.km is not None]
    covered = [_covered(group) for group in by_group(rows)]
    return {
        "read_rate": mean(row.guess is not None for row in rows),
        **{f"km_{share}": float(np.quantile(errors, share / 100)) if errors else math.nan for share in (10, 50, 90)},
        "prior_km_50": prior_km(rows),
        "commonest_guess": commonest(row.guess for row in rows),
        "commonest_truth": commonest(row.truth for row in rows),
        "coverage_50": mean(half for half, _ in covered),
        "coverage_90": mean(most for _, most in covered),
    }


def prior_km(rows: Sequence[CompletionRow]) -> float:
    """Return the median distance in km of guesses from the truths of other groups; NaN if there are none.

    Each group is compared with the next ones of the rollout, `PRIOR_ROUNDS` at most.
    """
    groups = [group for group in by_group(rows) if group[0].truth is not None]
    found: list[FloatArray] = []
    for shift in range(1, min(PRIOR_ROUNDS, len(groups) - 1) + 1):
        for number, group in enumerate(groups):
            truth = groups[(number + shift) % len(groups)][0].truth
            guesses = [row.guess for row in group if row.guess is not None]
            if truth is not None and guesses:
                lat, lon = np.array([[guess.lat, guess.lon] for guess in guesses]).T
                found.append(haversine_km(lat, lon, truth.lat, truth.lon))
    return float(np.median(np.concatenate(found))) if found else math.nan


def commonest(places: Iterable[Coordinates | None]) -> float:
    """Return the share of the most frequent of the places that are known, to whole degrees; NaN if none is."""
    counts = Counter((round(place.lat), round(place.lon)) for place in places if place is not None)
    return max(counts.values()) / counts.total() if counts else math.nan


def by_group(rows: Iterable[CompletionRow]) -> list[list[CompletionRow]]:
    """Return the rows of each group, in the order of their places and draws."""
    groups: dict[tuple[int, int], list[CompletionRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [groups[key] for key in sorted(groups)]


def mean(values: Iterable[float]) -> float:
    """Return the mean of `values`; NaN if there are none."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan


def _covered(group: Sequence[CompletionRow]) -> tuple[bool, bool]:
    """Return whether the radii that hold 50% and 90% of a group's guesses hold the truth."""
    truth, found = group[0].truth, estimate([row.guess for row in group if row.guess is not None])
    if truth is None or found is None or found.radius_50_km is None or found.radius_90_km is None:
        return False, False
    distance = float(haversine_km(found.at.lat, found.at.lon, truth.lat, truth.lon))
    return distance <= found.radius_50_km, distance <= found.radius_90_km
