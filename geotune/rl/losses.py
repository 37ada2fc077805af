"""Losses of group-relative policy gradients, as shares of an update that add up over micro-batches and ranks.

Which tokens count is the caller's decision: completions of dead groups and unfinished ones are left out of what these
functions get.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geotune.config.losses import LossConfig, LossName


@dataclass(frozen=True)
class UpdateCounts:
    """The sizes of an update, over all its micro-batches and all ranks."""

    planned_tokens: int
    """Planned groups x completions of a group x max_new_tokens, whatever is dead or unfinished."""
    tokens: int
    """Tokens of the finished completions of live groups."""
    completions: int
    """Finished completions of live groups."""


def normalizer(loss: LossName, counts: UpdateCounts) -> int:
    """Return what the sum of a loss over an update is divided by; 1 for an update without any completion."""
    if loss == "dr_grpo":
        return counts.planned_tokens
    return max(1, counts.tokens if loss in ("dapo", "cispo") else counts.completions)


def policy_loss(
    config: LossConfig,
    new: torch.Tensor,
    old: torch.Tensor,
    owner: torch.Tensor,
    advantages: torch.Tensor,
    counts: UpdateCounts,
    reference: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return a micro-batch's share of the loss of its update, and sums over its tokens for the figures.

    The shares of all micro-batches on all ranks add up to the loss. A micro-batch holds whole completions. Without any
    token its share is 0, through which a backward pass can run.

    Args:
        config: which loss, and its options.
        new: (N,) log-probabilities in nats of the tokens under the policy that trains.
        old: (N,) those under the policy that the first update of the rollout had; no gradient flows into them.
        owner: (N,) index in `advantages` of the completion that a token belongs to.
        advantages: (C,) advantage of each completion; one that owns no token does not count.
        counts: sizes of the update.
        reference: (N,) log-probabilities under the policy at the start; None exactly if `config.beta` is 0.

    Returns:
        The share, a scalar in float32 (float64 for float64), and the detached sums "tokens", "clipped" (tokens that the
        clipping keeps from having their full gradient), "ratio" (new to old probability) and, with a reference, "kl".
    """
    assert (reference is None) == (config.beta == 0), (config.beta, reference)
    # bf16 would round a ratio near 1 to steps of 1/128, coarser than the bounds of gspo.
    new = new.to(torch.promote_types(new.dtype, torch.float32))
    old, advantages = old.detach().to(new.dtype), advantages.detach().to(new.dtype)
    lengths = new.new_zeros(len(advantages)).index_add(0, owner, torch.ones_like(old))
    by_completion = config.loss in ("gspo", "grpo")
    token_weights = 1 / lengths[owner] if by_completion else torch.ones_like(old)
    token_advantages = advantages[owner]
    ratio = torch.exp(new - old)
    low, high = config.ratio_bounds()

    if config.loss == "cispo":
        objective = (ratio.detach().clamp(max=high) * token_advantages * new).sum()
        clipped = ratio > high
    elif config.loss == "gspo":
        mean_log_ratio = new.new_zeros(len(advantages)).index_add(0, owner, (new - old) * token_weights)
        of_completion = torch.exp(mean_log_ratio)
        objective = _clipped(of_completion, advantages, low, high)[lengths > 0].sum()
        clipped = _is_clipped(of_completion, advantages, low, high)[owner]
    else:
        objective = (_clipped(ratio, token_advantages, low, high) * token_weights).sum()
        clipped = _is_clipped(ratio, token_advantages, low, high)

    sums = {"tokens": lengths.sum(), "clipped": clipped.sum(), "ratio": ratio.detach().sum()}
    loss = -objective
    if reference is not None:
        log_ratio = reference.detach().to(new.dtype) - new
        # The ratio is not detached: its gradient makes that of the estimate the gradient of the KL divergence.
        kl = (torch.expm1(log_ratio) - log_ratio) * ratio
        loss = loss + config.beta * (kl * token_weights).sum()
        sums["kl"] = kl.detach().sum()
    return loss / normalizer(config.loss, counts), sums


def _clipped(ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return the clipped objective of PPO (arXiv 1707.06347, equation 7), elementwise."""
    return torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)


def _is_clipped(ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return where the objective of PPO has no gradient because the ratio has gone far enough already."""
    return ((ratio > high) & (advantages > 0)) | ((ratio < low) & (advantages < 0))
