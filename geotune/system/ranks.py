"""Gathering and reducing over the processes (ranks) of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Item = TypeVar("Item")


def gather_items(items: list[Item]) -> list[Item]:
    """Return the items of all processes in the order of their ranks. Every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return items
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def reduce_figures(
    trainer: Trainer, figures: Sequence[float], how: Literal["sum", "mean", "max"] = "sum"
) -> list[float]:
    """Return each of `figures` reduced over all processes, in double precision. Every process must call it."""
    if trainer.world_size == 1:
        return list(figures)
    values = torch.tensor(figures, dtype=torch.float64, device=trainer.strategy.root_device)
    reduced: list[float] = trainer.strategy.reduce(values, reduce_op=how).tolist()
    return reduced
