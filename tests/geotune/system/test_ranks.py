"""Gathering and reducing over the processes of a run, with one process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from geotune.system.ranks import gather_items, reduce_figures


def test_one_process_holds_all_items() -> None:
    assert gather_items(["b", "a"]) == ["b", "a"]
    assert gather_items([]) == []


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_one_process_reduces_to_its_own_figures(how: Any) -> None:
    trainer: Any = SimpleNamespace(world_size=1)
    assert reduce_figures(trainer, (1.5, -2.0, 0), how) == [1.5, -2.0, 0]


def test_several_processes_reduce_in_double_precision() -> None:
    seen: list[Any] = []

    def reduce(values: Any, reduce_op: str) -> Any:
        seen.append((str(values.dtype), reduce_op))
        return values * 2

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device="cpu", reduce=reduce))
    assert reduce_figures(trainer, [2.0**53 - 1, 0.1]) == [2.0**54 - 2, 0.2]
    assert seen == [("torch.float64", "sum")]
