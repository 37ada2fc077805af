"""An image that breaks while training: its samples are left out, listed and capped; the loss stays an exact mean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.data.datamodule import GeoData
from geotune.encoding.collate import collate
from geotune.errors import ConfigError
from geotune.runs.directory import read_state
from geotune.sample import Sample
from geotune.stages.sft import SFT
from geotune.train import train

City = tuple[Path, list[Sample]]
BROKEN = "view3.png"


@pytest.fixture
def own_city(city: City, tmp_path: Path) -> Path:
    """A copy of the city that may be broken."""
    return shutil.copytree(city[0], tmp_path / "city")


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch, own_city: Path) -> Callable[..., None]:
    """`breaking(names)`: those images are cut short when training starts, after they were checked."""

    def arrange(*names: str) -> None:
        own = SFT.on_train_start

        def cut(self: Any) -> None:
            own(self)
            for name in names:
                (own_city / name).write_bytes((own_city / name).read_bytes()[:100])

        monkeypatch.setattr(SFT, "on_train_start", cut)

    return arrange


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("tree", [True, False])
def test_the_gradient_is_the_mean_over_what_is_left(
    load_tiny: Callable[..., Any],
    recipe: Callable[..., Any],
    own_city: Path,
    city: City,
    breaking: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tree: bool,
) -> None:
    found: list[dict[str, torch.Tensor]] = []
    own = SFT.optimizer_step

    def keep(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        found.append({name: p.grad.clone() for name, p in self.backbone.trained_parameters().items()})

    monkeypatch.setattr(SFT, "optimizer_step", keep)
    breaking(BROKEN)
    settings = {"data.path": str(own_city), "data.batch_size": 4, "data.prefix_tree": tree, "stage.clip_norm": None}
    train(recipe(**settings, **{"backbone.language_model": "full", "trainer.max_steps": 2}))
    first = lines_of(tmp_path / "run" / "updates.jsonl")[0]
    samples = {sample.id: sample for sample in city[1]}
    wrong = sorted(sample for sample in first["ids"] if BROKEN in samples[sample].images)
    assert wrong, "the first update shows whether the gradient is exact"
    assert first["left_out"] == wrong
    bad = lines_of(tmp_path / "run" / "bad_samples.jsonl")
    assert [line["id"] for line in bad if line["step"] == 1] == wrong
    assert all(BROKEN in line["reason"] for line in bad)
    assert set(read_state(tmp_path / "run" / "checkpoints" / "last").left_out) == {line["id"] for line in bad}

    backbone = load_tiny("qwen", language_model="full").train()
    kept = [samples[sample] for sample in first["ids"] if sample not in wrong]
    batch = collate([backbone.encode(sample.in_folder(city[0])) for sample in kept], backbone.encoder)
    assert first["targets"] == len(batch.labels)
    loss = torch.nn.functional.cross_entropy(backbone(batch), batch.labels)
    assert first["loss"] == pytest.approx(float(loss), rel=1e-5)
    loss.backward()
    for name, parameter in backbone.trained_parameters().items():
        torch.testing.assert_close(found[0][name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_an_update_with_nothing_left_does_nothing(
    recipe: Callable[..., Any], own_city: Path, breaking: Any, tmp_path: Path
) -> None:
    breaking(*(path.name for path in own_city.glob("view*.png")))
    train(recipe(**{"data.path": str(own_city), "trainer.max_steps": 2, "data.max_bad_samples": 24}))
    updates = lines_of(tmp_path / "run" / "updates.jsonl")
    assert [(update["loss"], update["targets"]) for update in updates] == [(None, 0)] * 2
    state = read_state(tmp_path / "run" / "checkpoints" / "last")
    assert (state.skipped, len(state.left_out)) == (2, 8)


def test_too_many_stop_the_run(recipe: Callable[..., Any], own_city: Path, breaking: Any, tmp_path: Path) -> None:
    breaking(BROKEN)
    with pytest.raises(ConfigError, match=r"data\.max_bad_samples=1: 4 samples .*city/\d+ .*view3\.png.*resume=last"):
        train(recipe(**{"data.path": str(own_city), "data.max_bad_samples": 1, "data.batch_size": 12}))
    assert len(lines_of(tmp_path / "run" / "bad_samples.jsonl")) == 4


def test_an_image_of_another_size_is_bad(load_tiny: Callable[..., Any], own_city: Path, city: City) -> None:
    backbone = load_tiny("qwen")
    data = GeoData(str(own_city), 4)
    dataset = data.load(backbone.encoder, seed=0)
    plan = data.plan(dataset, seed=0, accumulate=1, ranks=1)
    shutil.copyfile(own_city / "map0.png", own_city / BROKEN)
    batches = [dataset[micro] for number in range(6) for micro in plan.micro_batches(number, 0)]
    bad = {sample: reason for batch in batches for sample, reason in batch.unreadable}
    assert set(bad) == {sample.id for sample in city[1] if BROKEN in sample.images}
    assert all("another size" in reason for reason in bad.values())
