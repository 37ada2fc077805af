"""The guard of a training by rewards: it notices when figures show that something other than skill is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW = 20
"""Number of updates whose mean is compared with that of the first ones."""
ENTROPY_LEFT = 0.1
"""Share of its first value below which the entropy counts as collapsed."""
GUESS_SHARE = 0.5
"""Share of the guesses above which the commonest one counts as taking over, unless that many truths lie there."""
REWARD_RISE = 0.02
"""Rise of the reward that is worth looking at, in units of the reward, which lies between 0 and 1."""
KM_RISE = 1.1
"""Factor of the median error above which a rising reward has another reason than better guesses."""
WATCHED = ("entropy", "commonest_guess", "commonest_truth", "reward", "km_50")


@dataclass
class Guard:
    """Compares figures of the last updates with those of the first, and tells each kind of trouble once.

    A figure that a run does not have, or that is NaN, is not watched.
    """

    first: dict[str, list[float]] = field(default_factory=dict)
    """The first `WINDOW` values of each figure."""
    recent: dict[str, list[float]] = field(default_factory=dict)
    """The last `WINDOW` values of each figure."""
    told: list[str] = field(default_factory=list)
    """Kinds of trouble that were told."""

    def note(self, figures: Mapping[str, float]) -> list[str]:
        """Take note of the figures of an update; return the trouble that has not been told yet, in words."""
        for name in WATCHED:
            if math.isfinite(value := figures.get(name, math.nan)):
                if len(self.first.setdefault(name, [])) < WINDOW:
                    self.first[name].append(float(value))
                self.recent[name] = [*self.recent.get(name, []), float(value)][-WINDOW:]
        found = self._trouble()
        fresh = [text for kind, text in found.items() if kind not in self.told]
        self.told = sorted({*self.told, *found})
        return fresh

    def _trouble(self) -> dict[str, str]:
        then, now = self._means(self.first), self._means(self.recent)
        found: dict[str, str] = {}
        if "entropy" in now and now["entropy"] < ENTROPY_LEFT * then["entropy"]:
            found["entropy"] = (
                f"the entropy of tokens fell from {then['entropy']:.3g} to {now['entropy']:.3g} nats: completions are "
                "hardly different any more, so there is little left to learn from; lower stage.lr, or stop earlier"
            )
        share, truth = now.get("commonest_guess", 0.0), now.get("commonest_truth", 0.0)
        if share > GUESS_SHARE and share > 2 * truth:
            found["guess"] = (
                f"{share:.0%} of the guesses are the same place, where {truth:.0%} of the photos are: the policy "
                "does not look at them any more; lower stage.lr, or set stage.spread=1"
            )
        if "km_50" in now and "reward" in now:
            rise = now["reward"] - then["reward"]
            if rise > REWARD_RISE and now["km_50"] > KM_RISE * then["km_50"]:
                found["reward"] = (
                    f"the reward rose from {then['reward']:.3f} to {now['reward']:.3f} while the median error rose "
                    f"from {then['km_50']:,.0f} to {now['km_50']:,.0f} km: another term than the distance is being "
                    "learned; look at the figures term_<name>, and at completions.jsonl"
                )
        return found

    def _means(self, values: Mapping[str, list[float]]) -> dict[str, float]:
        """Return the mean of each figure that has been seen for more than one window."""
        return {
            name: math.fsum(listed) / len(listed)
            for name, listed in values.items()
            if len(self.recent[name]) == WINDOW and self.recent[name] != self.first[name]
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"first": self.first, "recent": self.recent, "told": self.told}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.first, self.recent, self.told = dict(state["first"]), dict(state["recent"]), list(state["told"])
