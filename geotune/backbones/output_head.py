"""The output head of a language model: logits of all tokens at once, or of a chunk of tokens at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 1024
"""Number of tokens whose logits exist at a time in `OutputHead` with labels."""
LogitFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Function (logits (n, vocabulary) in float32, labels (n,)) -> tensor, which draws no random numbers.

The logits are the function's own: it may overwrite them.
"""


def label_logprobs(logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Log-probability (n,) of each of the labels (n,) under softmax(logits / temperature), in float32.

    logits: (n, vocabulary).
    """
    scaled = logits.float() if temperature == 1 else logits.float() / temperature
    return scaled.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)


def leave_out(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Set the logits (n, vocabulary) of some `tokens` to -inf in place, which leaves them out of the softmax."""
    return logits.index_fill_(-1, tokens, -torch.inf)


class OutputHead(nn.Linear):
    """A linear layer that can pass its logits to a function chunk by chunk, without ever holding all of them.

    The chunks are computed within one call of the module, because strategies that shard its weight gather it once per
    call, on all processes together, and processes have different numbers of tokens.
    """

    def forward(
        self, hidden: torch.Tensor, labels: torch.Tensor | None = None, function: LogitFunction | None = None
    ) -> torch.Tensor:
        """Logits (..., vocabulary) of hidden states (..., hidden).

        With labels (N,) and a function, hidden states are (N, hidden), and the result is what the function returns for
        each chunk of at most `CHUNK_TOKENS` tokens, flattened and concatenated. If there are several chunks, their
        logits are computed again in the backward pass. There is at least one chunk, which is empty if N is 0.
        """
        if labels is None or function is None:
            return super().forward(hidden)

        def on_chunk(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return function(nn.Linear.forward(self, hidden).float(), labels).reshape(-1)

        chunks = list(zip(hidden.split(CHUNK_TOKENS), labels.split(CHUNK_TOKENS), strict=True))
        if len(chunks) == 1:
            return on_chunk(*chunks[0])
        return torch.cat(
            [checkpoint(on_chunk, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
        )


def use_output_head(layer: nn.Module) -> None:
    """Turn the linear `layer` into an `OutputHead` in place; its weights and their names stay as they are."""
    assert type(layer) is nn.Linear, f"the output head is a {type(layer).__name__}"
    layer.__class__ = OutputHead
