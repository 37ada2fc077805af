"""Gathering and reducing over the processes of a run: in one process, and in two real ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import geotune
from geotune.system.ranks import gather_items, reduce_figures


def test_one_process_holds_all_items() -> None:
    assert gather_items(["b", "a"]) == ["b", "a"]
    assert gather_items([]) == []


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_one_process_reduces_to_its_own_figures(how: Any) -> None:
    trainer: Any = SimpleNamespace(world_size=1)
    assert reduce_figures(trainer, {"b": 1.5, "a": -2.0, "c": 0}, how) == {"b": 1.5, "a": -2.0, "c": 0}
    assert reduce_figures(trainer, {}, how) == {}


def two_ranks() -> None:
    """What each of two processes does; it prints what it got."""
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
    operations = {"sum": torch.distributed.ReduceOp.SUM, "max": torch.distributed.ReduceOp.MAX}

    def reduce(values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        torch.distributed.all_reduce(values, operations["sum" if reduce_op == "mean" else reduce_op])
        return values / 2 if reduce_op == "mean" else values

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device="cpu", reduce=reduce))
    # The same names in another order, with sums that single precision can't hold.
    figures = {"large": 2.0**53 - 1, "small": 0.1} if rank else {"small": 0.1, "large": 2.0**53 - 1}
    told = [list(reduce_figures(trainer, figures).items()), list(gather_items([rank, rank + 10]))]
    told.append(reduce_figures(trainer, {"rank": rank}, "mean"))
    told.append(reduce_figures(trainer, {"rank": rank}, "max"))
    for names in ((["kl", "loss"], ["loss"]), (["loss", "kl"], ["loss", "nll"]), (["loss"], [])):
        try:
            reduce_figures(trainer, dict.fromkeys(names[rank], 1.0))
        except RuntimeError as error:
            told.append(str(error))
    told.append(reduce_figures(trainer, {"nan": float("nan") if rank else 1.0, "loss": 1.0}))
    print(told)
    torch.distributed.destroy_process_group()


def test_two_processes_reduce_by_name_or_say_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = str(Path(geotune.__file__).parents[1])
    children = [
        subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = []
    for child in children:
        out, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
        results.append(eval(out, {"nan": float("nan")}))
    reduced = {"small": 0.2, "large": 2.0**54 - 2}
    assert [dict(result[0]) for result in results] == [reduced, reduced]
    assert [list(dict(result[0])) for result in results] == [["small", "large"], ["large", "small"]]
    for result in results:
        assert result[1] == [0, 10, 1, 11]
        assert result[2:4] == [{"rank": 0.5}, {"rank": 1.0}]
        assert len(result) == 8, "each of three reductions with different names raises in both processes"
        assert all("different names" in message for message in result[4:7])
        assert "rank 0: kl, loss; rank 1: loss" in result[4]
        assert "rank 0: loss; rank 1: none" in result[6]
        assert str(result[7]) == str({"nan": float("nan"), "loss": 2.0})


if __name__ == "__main__":
    two_ranks()
