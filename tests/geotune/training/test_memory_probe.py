"""The longest micro-batch runs before the first update, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geotune.backbones.base import Backbone
from geotune.data.datamodule import TrainingData
from geotune.data.row_plan import RowPlan
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError
from geotune.train import train
from geotune.training import memory_probe


def test_the_longest_rows_of_a_rank_are_found() -> None:
    lengths = np.random.default_rng(0).integers(5, 50, 96)
    plan = RowPlan(lengths, lengths, batch_size=2, accumulate=2, ranks=2, seed=0)
    data = TrainingData(None, plan, seed=0, start=3, stop=12, num_workers=0)  # type: ignore[arg-type]
    for rank in range(2):
        found = data.longest_micro_batch(rank)
        assert found is not None
        assert 3 <= found.update < 12
        padded = [
            len(micro_batch.indices) * max(lengths[list(micro_batch.indices)])
            for update in range(3, 12)
            for micro_batch in plan.micro_batches(update, rank)
        ]
        assert plan.tokens(found.indices) == max(padded)
    data.start = data.stop  # a run that has only its last evaluation left
    assert data.longest_micro_batch(0) is None


@pytest.mark.parametrize("prefix_tree", [True, False])
def test_a_probed_run_trains_the_same_weights(
    prefix_tree: bool, recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with dropout, which draws random numbers; the longest micro-batch is at least as long as any other."""
    probed: list[Batch] = []
    run = memory_probe.probe

    def noted(stage: Any, batch: Batch) -> None:
        probed.append(batch)
        run(stage, batch)
        assert any(parameter.grad is not None for parameter in stage.parameters())

    monkeypatch.setattr(memory_probe, "probe", noted)
    trained: list[Batch] = []
    over_logits = Backbone.over_logits

    def seen(backbone: Backbone, batch: Batch, function: Any) -> torch.Tensor:
        trained.append(batch)
        return over_logits(backbone, batch, function)

    monkeypatch.setattr(Backbone, "over_logits", seen)
    for name, devices in (("plain", ()), ("probed", ("cpu",))):
        monkeypatch.setattr(memory_probe, "PROBED_DEVICES", devices)
        folder = tmp_path / name
        folder.mkdir()
        settings = {"backbone.lora.dropout": 0.2, "data.prefix_tree": prefix_tree, "run_dir": str(folder)}
        train(recipe(**settings, **{"trainer.max_steps": 2}))
        assert len(probed) == (name == "probed")
    plain, other = (
        load_file(tmp_path / name / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors")
        for name in ("plain", "probed")
    )
    assert all(torch.equal(plain[key], other[key]) for key in plain)
    assert probed[0].input_ids.numel() == max(batch.input_ids.numel() for batch in trained)


@pytest.mark.parametrize(
    ("prefix_tree", "told"),
    [
        (True, r"data\.max_tokens=null: the longest micro-batch \(\d+ tokens, 2 samples, \d images\) does not fit in "
         r"the memory of cpu.*try data\.max_tokens=\d+"),
        (False, r"data\.batch_size=2: the longest micro-batch .* does not fit"),
    ],
)  # fmt: skip
def test_a_micro_batch_that_does_not_fit_ends_the_run_before_the_first_update(
    prefix_tree: bool, told: str, recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(memory_probe, "PROBED_DEVICES", ("cpu",))
    monkeypatch.setattr(memory_probe, "probe", full)
    with pytest.raises(ConfigError, match=told):
        train(recipe(**{"data.prefix_tree": prefix_tree}))
    assert not (tmp_path / "run" / "updates.jsonl").exists()
