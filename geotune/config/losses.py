"""Options of the losses of reinforcement learning, which the stage `grpo` takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from geotune.config.options import Options
from geotune.config.rules import above_zero, at_least
from geotune.errors import Problem

LossName = Literal["dr_grpo", "dapo", "cispo", "gspo", "grpo"]
AdvantageScale = Literal["none", "group"]

_CLIPS: dict[LossName, tuple[float, float]] = {
    "dr_grpo": (0.2, 0.28),
    "dapo": (0.2, 0.28),
    "cispo": (1.0, 5.0),
    "gspo": (3e-4, 4e-4),
    "grpo": (0.2, 0.28),
}
"""Default of clip_low and clip_high; the ratio of cispo has no lower bound."""


@dataclass
class LossConfig(Options):
    """The loss of a group-relative policy gradient."""

    loss: LossName = "dr_grpo"
    """What an update minimizes. dr_grpo (arXiv 2503.20783): tokens, divided by a constant, which is the number of
    tokens if every planned completion had the full length. dapo (2503.14476): tokens, divided by their number in the
    update. cispo (2506.13585, 2510.13786): the same, but a token whose ratio is clipped keeps its gradient. gspo
    (2507.18071): completions, each clipped as a whole. grpo (2402.03300): completions, each the mean of its tokens,
    which favors short good answers and long bad ones. With one update per rollout the first three have the same
    gradient up to a factor."""
    clip_low: float | None = None
    """How far a ratio of new to old probability may fall below 1 before a bad completion loses its gradient. null means
    the recommended value: 3e-4 for gspo (2507.18071), 0.2 for the others. cispo has no such bound."""
    clip_high: float | None = None
    """How far a ratio may rise above 1 before a good completion loses its gradient. null means the recommended value:
    4e-4 for gspo (2507.18071), 0.28 for dr_grpo, dapo and grpo (2503.14476; grpo was published with 0.2). For cispo it
    is the largest ratio itself, and null means 5 (2510.13786)."""
    beta: float = 0.0
    """Weight of the KL divergence from the policy at the start (k3 estimator, corrected by the ratio for being sampled
    from the old policy, 2512.02556). 0, as 2503.14476 and 2503.20783 recommend, computes no reference; GRPO was
    published with 0.04."""

    def check(self) -> Iterator[Problem]:
        yield from above_zero("clip_low", self.clip_low)
        if self.loss == "cispo" and self.clip_low is not None:
            yield Problem("clip_low", self.clip_low, "loss=cispo clips ratios from above only", "set {key}=null")
        elif self.clip_low is not None and self.clip_low >= 1:
            yield Problem("clip_low", self.clip_low, "a ratio never falls by 1 or more", "give a number below 1")
        yield from above_zero("clip_high", self.clip_high)
        if self.loss == "cispo" and self.clip_high is not None and 0 < self.clip_high < 1:
            remedy = "loss=cispo takes the largest ratio itself; give a number of at least 1"
            yield Problem("clip_high", self.clip_high, "would weaken tokens whose ratio is 1", remedy)
        yield from at_least("beta", self.beta, 0)

    def ratio_bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest ratio that are not clipped."""
        low, high = _CLIPS[self.loss]
        low = low if self.clip_low is None else self.clip_low
        high = high if self.clip_high is None else self.clip_high
        return 1 - low, high if self.loss == "cispo" else 1 + high
