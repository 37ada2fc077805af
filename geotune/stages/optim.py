"""Optimiser and learning-rate schedule that stages share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from geotune.errors import ConfigError

Schedule = Literal["cosine", "linear", "constant"]


def warmup_updates(warmup: int | float, total: int) -> int:
    """Updates of warm-up: a whole number counts them, a fraction below 1 is a share of `total` (rounded up)."""
    if warmup < 0 or (isinstance(warmup, float) and warmup >= 1 and not warmup.is_integer()):
        raise ConfigError(f"stage.warmup={warmup}: must be a whole number of updates, or a fraction of them below 1")
    return math.ceil(warmup * total) if warmup < 1 else int(warmup)


def lr_factor(step: int, *, total: int, warmup: int, schedule: Schedule, min_ratio: float) -> float:
    """Share of the peak learning rate for update `step` (from 0): linear warm-up, then down to `min_ratio`."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return min_ratio + (1 - min_ratio) * shape


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices decay; biases, norms and other vectors do not."""
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for _, parameter in named:
        if parameter.requires_grad:
            (decay if parameter.ndim >= 2 else rest).append(parameter)
    groups = ({"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


class MuonAdamW(Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon/) for the hidden matrices, AdamW for all else, as one optimiser.

    Muon's updates are scaled to AdamW's size (Moonlight, arXiv 2502.16982), so that both take one learning rate.
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
        # One set of groups, so that a schedule that writes here is read there.
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
