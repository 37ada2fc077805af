"""Rollouts: the groups of completions of an update, sampled from the policy as it is.

What is sampled is a function of the seed of the run, the number of the rollout, the place in it and the policy alone,
whatever the number of processes is and wherever a run was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geotune.backbones.generation import sample as sample_completions
from geotune.backbones.sampling import Sampling
from geotune.data.stream import Stream
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.rl.groups import CompletionGroup, make_group

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.config.rl import GRPOConfig
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan
    from geotune.encoding.segments import Encoded
    from geotune.rl.rewards import Reward
    from geotune.sample import Sample


REDRAWS = 7
"""Number that tells the random stream of further prompts from the others of a seed."""


@dataclass(frozen=True)
class PromptSlot:
    """A place in an update for the group of one prompt."""

    number: int
    """Number of the place, over all ranks."""
    index: int
    """Index in the dataset of the sample that the plan puts there."""


@dataclass(frozen=True)
class Rollout:
    """The groups of one rank for one update, or for several on the same completions."""

    number: int
    """Number of the rollout, counted from 0."""
    micro_batches: tuple[tuple[CompletionGroup, ...], ...]
    """The groups of each micro-batch; a place whose sample can't be read has none."""
    slots: tuple[tuple[PromptSlot, ...], ...]
    """The places of each micro-batch."""
    redrawn: tuple[CompletionGroup, ...]
    """Dead groups in whose place another prompt was tried."""
    unreadable: tuple[tuple[str, str], ...]
    """(id, reason) of each sample that can't be read."""
    seconds: float
    """Time that the rollout took."""

    @property
    def groups(self) -> tuple[CompletionGroup, ...]:
        """All groups that the update is made of."""
        return tuple(group for micro_batch in self.micro_batches for group in micro_batch)


def slots_of(plan: UpdatePlan, number: int, rank: int, ranks: int) -> tuple[tuple[PromptSlot, ...], ...]:
    """Return the places of each micro-batch of a rank in update `number`.

    Places are numbered in the order of `plan.update`, so that a number means the same whatever the number of ranks.
    """
    places: dict[int, list[int]] = {}
    for place, index in enumerate(plan.update(number)):
        places.setdefault(index, []).append(place)
    by_rank = [plan.micro_batches(number, each) for each in range(ranks)]
    own: list[tuple[PromptSlot, ...]] = []
    for turn in range(plan.accumulate):
        for each in range(ranks):
            slots = tuple(PromptSlot(places[index].pop(0), index) for index in by_rank[each][turn].indices)
            if each == rank:
                own.append(slots)
    return tuple(own)


class Roller:
    """Rolls out the groups of a rank.

    seed: seed of the run. ranks: number of processes. tree: whether completions share the keys of their prompts; see
    `geotune.backbones.generation.sample`.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: SampleDataset,
        plan: UpdatePlan,
        reward: Reward,
        config: GRPOConfig,
        *,
        seed: int,
        ranks: int,
        tree: bool | None = None,
    ) -> None:
        self.backbone = backbone
        self.dataset = dataset
        self.plan = plan
        self.reward = reward
        self.config = config
        self.seed = seed
        self.ranks = ranks
        self.tree = tree

    @cached_property
    def _redraws(self) -> Stream:
        """The order in which further prompts are tried: a shuffled stream of its own, with the mix of the data."""
        sizes, weights = zip(*(self.plan.mix or [(len(self.dataset), 1.0)]), strict=True)
        return Stream(sizes, weights, int(np.random.default_rng([self.seed, REDRAWS]).integers(2**31)))

    def sample_index(self, number: int, slot: PromptSlot, draw: int) -> int:
        """Return the index of the sample that is tried in a place at its draw `draw`; draw 0 is that of the plan."""
        if draw == 0:
            return slot.index
        place = number * self.plan.update_size + slot.number
        position = place * (self.config.rollout.max_draws - 1) + draw - 1
        return self._redraws.items(position, position + 1)[0]

    def roll_out(self, number: int, rank: int) -> Rollout:
        """Sample and score the groups of a rank in rollout `number`.

        A place whose group is dead, or whose sample can't be read, is tried again with another prompt, as often as
        `max_draws` allows.
        """
        began = time.perf_counter()
        slots = slots_of(self.plan, number, rank, self.ranks)
        pending = [slot for micro_batch in slots for slot in micro_batch]
        found: dict[int, CompletionGroup] = {}
        redrawn: list[CompletionGroup] = []
        unreadable: list[tuple[str, str]] = []
        for draw in range(self.config.rollout.max_draws):
            readable: list[tuple[PromptSlot, Sample, Encoded]] = []
            for slot in pending:
                sample = self.dataset.samples[self.sample_index(number, slot, draw)]
                try:
                    readable.append((slot, sample, self.prompt_of(sample)))
                except BadRecord as error:
                    unreadable.append((sample.id, error.reason))
            for group in self._groups(number, draw, readable):
                if (before := found.get(group.slot)) is not None:
                    redrawn.append(before)
                found[group.slot] = group
            pending = [slot for slot in pending if slot.number not in found or found[slot.number].is_dead]
            if not pending:
                break
        micro_batches = tuple(
            tuple(found[slot.number] for slot in micro_batch if slot.number in found) for micro_batch in slots
        )
        seconds = time.perf_counter() - began
        return Rollout(number, micro_batches, slots, tuple(redrawn), tuple(unreadable), seconds)

    def first_group(self) -> CompletionGroup:
        """Sample and score the first group of a run. Raises BadRecord if its sample can't be read."""
        slot = slots_of(self.plan, 0, 0, self.ranks)[0][0]
        sample = self.dataset.samples[slot.index]
        return self._groups(0, 0, [(slot, sample, self.prompt_of(sample))])[0]

    def prompt_of(self, sample: Sample) -> Encoded:
        """Encode the prompt of a sample, whose images are read. Raises BadRecord."""
        prompt = self.backbone.encode(sample, answer=False)
        for path in prompt.images:
            self.backbone.encoder.pixels(path)
        return prompt

    def _groups(
        self, number: int, draw: int, prompts: Sequence[tuple[PromptSlot, Sample, Encoded]]
    ) -> list[CompletionGroup]:
        """Sample and score a group for each prompt. Raises ConfigError if the memory does not suffice."""
        if not prompts:
            return []
        config, rollout = self.config, self.config.rollout
        try:
            completions = sample_completions(
                self.backbone,
                [prompt for _, _, prompt in prompts],
                n=rollout.group_size,
                max_new_tokens=rollout.max_new_tokens,
                batch_size=rollout.batch_size,
                max_cached_tokens=rollout.max_cached_tokens,
                tree=self.tree,
                sampling=Sampling(
                    [(self.seed, number, slot.number, draw) for slot, _, _ in prompts], rollout.temperature
                ),
            )
        except torch.OutOfMemoryError as error:
            text = f"so many completions at a time do not fit in the memory of {self.backbone.device}"
            remedy = "lower it, or set stage.rollout.max_cached_tokens or a lower stage.rollout.max_new_tokens"
            raise ConfigError(Problem("stage.rollout.batch_size", rollout.batch_size, text, remedy)) from error
        encoder = self.backbone.encoder
        shape: dict[str, Any] = {"spread": config.spread, "scale": config.scale}
        return [
            make_group(
                slot.number, draw, sample, prompt, group, [each.text(encoder) for each in group], self.reward, **shape
            )
            for (slot, sample, prompt), group in zip(prompts, completions, strict=True)
        ]
