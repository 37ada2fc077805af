"""How the next token is chosen: the likeliest, or drawn so that every answer has random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Tokens (B,) from logits (B, V), the numbers of the answers in their batch (B,), and that of the token."""


def greedy(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
    """The likeliest token of each row."""
    return logits.argmax(-1)


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Tokens (B,) for logits (B, V) and random numbers in [0, 1) (B,), by inverting the distribution function.

    The distribution is the softmax of logits / `temperature`, cut to its nucleus: the fewest likeliest tokens that hold
    `top_p` of the probability (Holtzman et al. 2020, arXiv 1904.09751). It is inverted in the order of token ids, not
    of probabilities, so that rounding moves a choice only where a random number lies within it of a boundary.
    """
    probabilities = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ranked, order = probabilities.sort(-1, descending=True)
        outside = ranked.cumsum(-1) - ranked >= top_p
        probabilities = torch.zeros_like(ranked).scatter(-1, order, ranked.masked_fill(outside, 0))
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    below = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


@dataclass(frozen=True)
class Sampling:
    """Draw answers at a `temperature` from the nucleus of `top_p`, one of `seeds` for each sample.

    A question with its seed is answered the same way whatever is asked beside it (in bfloat16 up to the rounding of the
    logits, which depends on the batch, as in greedy answers).
    """

    seeds: Sequence[Sequence[int]]
    temperature: float = 1.0
    top_p: float = 1.0

    def chooser(self, chosen: Sequence[int], steps: int, device: torch.device) -> Choose:
        """Chooses the tokens of a batch that holds the samples `chosen`, at most `steps` of each."""
        numbers = np.stack([np.random.default_rng(self.seeds[index]).random(steps) for index in chosen])
        uniform = torch.from_numpy(numbers).to(device)
        return lambda logits, rows, step: draw(logits, uniform[rows, step], self.temperature, self.top_p)
