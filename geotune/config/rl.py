"""Options of the stage that trains by reinforcement learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from geotune.config.losses import AdvantageScale, LossConfig
from geotune.config.options import Options
from geotune.config.parts import StageConfig
from geotune.config.reward import RewardConfig
from geotune.config.rules import above_zero, at_least
from geotune.errors import Problem

Guard = Literal["off", "warn", "stop"]
FEWEST_FOR_SPREAD = 4
"""Smallest group whose completions can be compared with one another."""


@dataclass
class RolloutConfig(Options):
    """How completions are sampled from the policy. Tokens are drawn from the whole softmax: there is no top_p or top_k,
    because the loss is that of the distribution from which completions were drawn."""

    group_size: int = 8
    """Number of completions of a prompt, G in the papers."""
    max_new_tokens: int = 512
    """Largest number of tokens of a completion. One that does not end within them is left out of the loss, and its
    reward counts in its group."""
    temperature: float = 1.0
    """Divisor of the logits, when tokens are drawn and in the loss."""
    batch_size: int = 64
    """Number of completions that are generated at a time."""
    max_cached_tokens: int | None = None
    """Largest number of tokens whose keys and values exist at a time while completions are generated: those of the
    prompts, which completions share, and max_new_tokens for each completion. null means no limit."""
    max_draws: int = 1
    """Number of prompts that are tried at most in a place of the update until the rewards of a group differ."""

    def check(self) -> Iterator[Problem]:
        yield from at_least("group_size", self.group_size, 2, "a completion is compared with others of its prompt")
        for key in ("max_new_tokens", "batch_size", "max_cached_tokens", "max_draws"):
            yield from at_least(key, getattr(self, key), 1)
        yield from above_zero("temperature", self.temperature)


@dataclass(kw_only=True)
class GRPOConfig(StageConfig, LossConfig):
    """Reinforcement learning with group-relative advantages: rewards, rollouts, loss and optimizer."""

    targets: ClassVar[tuple[str, ...]] = ("geotune.stages.grpo.GRPO",)

    reward: RewardConfig
    """What completions are worth; choose one by reward@stage.reward=<name>."""
    lr: float = 1e-5
    """Peak learning rate; LoRA takes about ten times that of full training."""
    warmup: int | float = 10
    """Length of the linear warm-up: a whole number of updates, or a fraction below 1 of all updates."""
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    """Shape of the learning rate after the warm-up."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    updates_per_rollout: int = 1
    """Number of updates on the completions of one rollout. With 1, policy and sampler are the same, and no ratio is
    clipped."""
    scale: AdvantageScale = "none"
    """Divisor of the advantages: none, or the standard deviation of the group's rewards, as GRPO was published, which
    makes the probabilities of answers miscalibrated (arXiv 2508.11800)."""
    spread: float = 0.0
    """Weight of what a completion loses for being near the others of its group. With 1 the policy learns the true
    distribution of places instead of one guess, because the reward is then a proper score."""
    guard: Guard = "warn"
    """What happens when training goes wrong: entropy collapses, one guess takes over, or the reward rises while the
    error in km rises too. warn says so, stop ends the run with a checkpoint."""
    kept_groups: int = 2
    """Number of groups of each rollout whose completions are kept in `completions.jsonl` and shown in W&B."""

    def check(self) -> Iterator[Problem]:
        yield from StageConfig.check(self)
        yield from LossConfig.check(self)
        yield from at_least("updates_per_rollout", self.updates_per_rollout, 1)
        yield from at_least("kept_groups", self.kept_groups, 0)
        yield from at_least("spread", self.spread, 0)
        if self.spread and self.scale != "none":
            yield Problem("scale", self.scale, "with stage.spread only differences of rewards count", "set {key}=none")
        if self.spread and self.rollout.group_size < FEWEST_FOR_SPREAD:
            remedy = f"give at least {FEWEST_FOR_SPREAD}, or set stage.spread=0"
            yield Problem("rollout.group_size", self.rollout.group_size, "stage.spread compares completions", remedy)
