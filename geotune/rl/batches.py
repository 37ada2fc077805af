"""Micro-batches of completions: the prompt of a group once, with a branch for each completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch

from geotune.encoding.collate import Batch, collate, collate_tree
from geotune.rl.losses import UpdateCounts

if TYPE_CHECKING:
    from geotune.encoding.encoder import Encoder
    from geotune.encoding.segments import Encoded
    from geotune.rl.groups import CompletionGroup


@dataclass(frozen=True)
class CompletionBatch(Batch):
    """A batch of C completions, each with its prompt; `owner` says which completion a token belongs to."""

    advantages: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """Advantage of each completion (C,)."""
    sampled: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """Log-probability (N,) in nats of each token under the sampler, in the order of `labels`."""
    counts: UpdateCounts = field(default_factory=lambda: UpdateCounts(1, 0, 0))
    """Sizes of the whole update."""
    number: int = 0
    """Number of the micro-batch in its update on this rank."""
    is_live: bool = True
    """Whether there is anything to learn from its completions; if not, they count for nothing."""
    round: int = 0
    """Number of the update among those on the same rollout; the first has 0."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Figures of the rollout, in the first micro-batch of the first rank; NaN elsewhere."""


def update_counts(lengths: Sequence[Sequence[int]], planned_tokens: int) -> UpdateCounts:
    """Return the sizes of an update.

    lengths: tokens of each live completion of each group, over all ranks. planned_tokens: places of the update x
    completions of a group x tokens of the longest completion.
    """
    return UpdateCounts(planned_tokens, sum(map(sum, lengths)), sum(map(len, lengths)))


def completion_batch(
    groups: Sequence[CompletionGroup], encoder: Encoder, *, prefix_tree: bool, stand_in: Encoded | None
) -> CompletionBatch:
    """Make the batch of the live completions of `groups`.

    Every rank must run every micro-batch. If no completion is live, the batch holds one of the first group, with the
    advantage 0 and so without a gradient; without any group it holds `stand_in`, in which nothing is supervised.
    """
    chosen = [(group, number, group.advantages[number]) for group in groups for number in group.live]
    is_live = bool(chosen)
    if not is_live and groups:
        chosen = [(groups[0], 0, 0.0)]
    paths = [group.prompt.with_answer(group.completions[number].tokens) for group, number, _ in chosen]
    if not paths:
        assert stand_in is not None, "a micro-batch without groups needs a stand-in"
        paths = [stand_in]
    batch = (collate_tree if prefix_tree else collate)(paths, encoder)
    sampled = [value for group, number, _ in chosen for value in group.completions[number].logprobs]
    return CompletionBatch(
        **{each.name: getattr(batch, each.name) for each in fields(Batch)},
        advantages=torch.tensor([advantage for _, _, advantage in chosen], dtype=torch.float32),
        sampled=torch.tensor(sampled, dtype=torch.float32),
        is_live=is_live,
    )
