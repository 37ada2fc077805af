"""Choose the next token: the most likely one, or one drawn with random numbers of its completion alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

TokenChooser = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Function (logits (B, V), rows (B,), step) -> tokens (B,).

`rows` are the indices of the completions in their batch, `step` is the number of tokens that each already has.
"""


def greedy(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
    """The most likely token of each row; a `TokenChooser`."""
    return logits.argmax(-1)


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Draw tokens (B,) from logits (B, V) by inverting the cumulative distribution at `uniform` (B,), in [0, 1).

    The distribution is the softmax of logits / `temperature`, restricted to its nucleus: the smallest set of most
    likely tokens that holds `top_p` of the probability (Holtzman et al. 2020, arXiv 1904.09751). Probabilities are
    accumulated in the order of token ids, not of probabilities: rounding then changes a choice only if the random
    number lies within the rounding error of a boundary.
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
    """Settings for drawing completions: a temperature, a nucleus and a seed per prompt.

    A completion depends on its prompt, its seed and its number alone, not on the rest of the batch. In bfloat16 that
    holds up to the rounding of the logits, which depends on the batch, also for greedy completions.
    """

    seeds: Sequence[Sequence[int]]
    """One seed per prompt, a sequence of integers; completion k of a prompt draws from `default_rng((*seed, k))`."""
    temperature: float = 1.0
    """Divisor of the logits, above 0; 1 draws from the model's own distribution."""
    top_p: float = 1.0
    """Probability held by the nucleus, in (0, 1]; 1 draws from all tokens."""

    def chooser(self, seeds: Sequence[Sequence[int]], steps: int, device: torch.device) -> TokenChooser:
        """Return a chooser for a batch of completions with these `seeds`, for at most `steps` tokens each."""
        random = np.stack([np.random.default_rng(seed).random(steps) for seed in seeds])
        uniform = torch.from_numpy(random).to(device)
        return lambda logits, rows, step: draw(logits, uniform[rows, step], self.temperature, self.top_p)
