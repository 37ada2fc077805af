"""Gathering and reducing over the processes (ranks) of a run."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
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
    trainer: Trainer, figures: Mapping[str, float], how: Literal["sum", "mean", "max"] = "sum"
) -> dict[str, float]:
    """Return each of `figures` reduced over all processes, in double precision. Every process must call it.

    Raises RuntimeError in every process if the processes have figures of different names.
    """
    if trainer.world_size == 1:
        return dict(figures)
    # The reduction itself can't find that out: it would add figures of different names, or wait forever.
    checksum = zlib.crc32("\0".join(sorted(figures)).encode())
    highest, lowest = _reduce(trainer, [checksum, -checksum], "max")
    if highest != -lowest:
        held = gather_items([sorted(figures)])
        told = "; ".join(f"rank {rank}: {', '.join(names) or 'none'}" for rank, names in enumerate(held))
        raise RuntimeError(f"the processes report figures of different names, which can't be added up ({told})")
    names = sorted(figures)
    reduced = dict(zip(names, _reduce(trainer, [figures[name] for name in names], how), strict=True))
    return {name: reduced[name] for name in figures}


def _reduce(trainer: Trainer, figures: list[float], how: str) -> list[float]:
    values = torch.tensor(figures, dtype=torch.float64, device=trainer.strategy.root_device)
    reduced: list[float] = trainer.strategy.reduce(values, reduce_op=how).tolist()
    return reduced
