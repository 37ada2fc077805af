"""The optimizers and learning-rate schedules of all stages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

Schedule = Literal["cosine", "linear", "constant"]


def warmup_updates(warmup: int | float, total: int) -> int:
    """Return the number of warm-up updates.

    `warmup` is a whole number of updates, or a fraction of the `total` updates below 1, which is rounded up.
    """
    return math.ceil(warmup * total) if warmup < 1 else int(warmup)


def lr_factor(step: int, *, total: int, warmup: int, schedule: Schedule, min_ratio: float) -> float:
    """Return the learning rate of update `step` (counted from 0) as a share of the peak.

    It rises linearly over the `warmup` updates, then falls to `min_ratio` at update `total`, or stays constant.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return min_ratio + (1 - min_ratio) * shape


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: matrices decay; biases, norms and other vectors do not."""
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for _, parameter in named:
        if parameter.requires_grad:
            (decay if parameter.ndim >= 2 else rest).append(parameter)
    groups = ({"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


class MuonAdamW(Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon/) for hidden matrices and AdamW for all else, as one optimizer.

    Muon's updates are scaled to the size of AdamW's (Moonlight, arXiv 2502.16982), so both use the same learning rate.
    Embeddings and the output head are not hidden matrices.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        trainable = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        hidden = {name for name, p in trainable if p.ndim == 2 and not ("embed" in name or "lm_head" in name)}
        rest = [(name, parameter) for name, parameter in trainable if name not in hidden]
        self.parts: list[Optimizer] = []
        if hidden:
            matrices = [parameter for name, parameter in trainable if name in hidden]
            self.parts.append(Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        if rest:
            self.parts.append(AdamW(parameter_groups(rest, weight_decay), lr=lr, betas=betas, eps=eps))
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": lr})
        # The parts share these groups, so that they see the learning rate that a schedule sets here.
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states that `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
