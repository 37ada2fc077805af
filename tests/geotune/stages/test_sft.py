"""A gradient does not depend on how an update is split over micro-batches and ranks; and training learns."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

import geotune
from geotune.backbones.generation import generate
from geotune.config.parts import DataConfig, StageConfig
from geotune.data.datamodule import GeoData, TrainingData
from geotune.encoding.collate import collate
from geotune.errors import ConfigError
from geotune.runs.progress import RunProgress
from geotune.sample import Sample
from geotune.stages.base import StepOutput
from geotune.stages.sft import SFT, nll_sum
from tests.geotune.stages.bare_trainer import bare_trainer

City = tuple[Path, list[Sample]]


class Gradients(Callback):
    """Keeps the gradient of every update."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        named = pl_module.backbone.base.named_parameters()
        self.seen.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def run(backbone: Any, data: GeoData, *, accumulate: int, updates: int = 1, **stage: Any) -> list[Any]:
    """Train, with clipping out of the way, and return the gradients of the updates."""
    dataset = data.load(backbone.encoder, seed=3)
    plan = data.plan(dataset, seed=3, accumulate=accumulate, ranks=1)
    served = TrainingData(dataset, plan, seed=3, start=0, stop=updates, num_workers=0)
    progress = RunProgress(Path(), updates)
    module = SFT(backbone, StageConfig(**({"lr": 1e-3, "clip_norm": None, "warmup": 0} | stage)), progress)
    gradients = Gradients()
    trainer = bare_trainer(gradients, accumulate=accumulate)
    trainer.fit(module, datamodule=served)
    assert progress.is_complete
    return gradients.seen


@pytest.fixture(scope="module")
def whole(load_tiny: Callable[..., Any], city: City) -> dict[str, torch.Tensor]:
    """The gradient of the first update of eight samples, all in one batch, by the definition of the loss."""
    folder, _ = city
    backbone = load_tiny("qwen", language_model="full").train()
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=8))
    dataset = data.load(backbone.encoder, seed=3)
    chosen = data.plan(dataset, seed=3, accumulate=1, ranks=1).update(0)
    batch = collate([backbone.encode(dataset.samples[index]) for index in chosen], backbone.encoder)
    torch.nn.functional.cross_entropy(backbone(batch), batch.labels).backward()
    return {name: p.grad for name, p in backbone.base.named_parameters() if p.grad is not None}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (2, 4), (1, 8)])
def test_accumulation_does_not_change_the_gradient(
    load_tiny: Callable[..., Any], city: City, whole: dict[str, torch.Tensor], batch_size: int, accumulate: int
) -> None:
    folder, _ = city
    backbone = load_tiny("qwen", language_model="full")
    [found] = run(backbone, GeoData(DataConfig(str(folder / "city.jsonl"), batch_size)), accumulate=accumulate)
    same(found, whole)


def test_two_ranks_do_not_change_the_run(
    recipe: Callable[..., Any], whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """The whole of `train` in two processes: the gradient of the first update, and the losses of three."""
    from omegaconf import OmegaConf

    from geotune.train import train

    settings = {"seed": 3, "backbone.language_model": "full", "trainer.max_steps": 3, "trainer.checkpoint_every": 3}
    alone = recipe(run_dir=str(tmp_path / "alone"), **settings, **{"data.batch_size": 8, "trainer.accumulate": 1})
    train(alone)
    several = recipe(run_dir=str(tmp_path / "several"), **settings, **{"trainer.devices": 2})
    OmegaConf.save(several, tmp_path / "several.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        environment = os.environ | {
            "LOCAL_RANK": str(rank),
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "NODE_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(geotune.__file__).parents[1]),
        }
        command = [sys.executable, __file__, str(tmp_path / "several.yaml"), str(tmp_path / "gradient.pt")]
        children.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    for child in children:
        output, _ = child.communicate(timeout=180)
        assert child.returncode == 0, output.decode()
    same(torch.load(tmp_path / "gradient.pt"), whole)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "updates.jsonl").read_text().splitlines()]
        for name in ("alone", "several")
    )
    assert [(u["step"], u["ids"], u["targets"]) for u in one] == [(u["step"], u["ids"], u["targets"]) for u in two]
    assert [u["loss"] for u in two] == pytest.approx([u["loss"] for u in one], rel=1e-4)
    names = {path.name for path in (tmp_path / "several" / "checkpoints" / "last").iterdir()}
    assert names >= {"rng_0.pt", "rng_1.pt", "trainer.pt", "state.json", "model", "processor", "config.yaml"}


def two_ranks() -> None:
    """What each of the two processes of the test above does."""
    from omegaconf import OmegaConf

    from geotune.train import train

    config, out = sys.argv[1:]
    own = SFT.configure_gradient_clipping

    def keep(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        if self.progress.step == 0 and self.trainer.is_global_zero:
            named = self.backbone.base.named_parameters()
            torch.save({name: p.grad.clone() for name, p in named if p.grad is not None}, out)
        own(self, optimizer, *args, **kwargs)

    SFT.configure_gradient_clipping = keep  # type: ignore[method-assign]
    train(OmegaConf.load(config))  # type: ignore[arg-type]


def test_mean_of_means_would_be_another_gradient(
    load_tiny: Callable[..., Any], city: City, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual way, as a check that the tests above can tell."""
    folder, _ = city

    def mean(self: Any, batch: Any, batch_idx: int) -> StepOutput:
        nll = nll_sum(self.backbone(batch), batch.labels)
        return {"loss": nll / len(batch.labels), "sums": {}}

    monkeypatch.setattr(SFT, "training_step", mean)
    [found] = run(
        load_tiny("qwen", language_model="full"), GeoData(DataConfig(str(folder / "city.jsonl"), 2)), accumulate=4
    )
    with pytest.raises(AssertionError):
        same(found, whole)


@pytest.mark.parametrize(("family", "dtype"), [("qwen", "float32"), ("internvl", "bf16")])
def test_a_few_samples_are_learned_by_heart(load_tiny: Callable[..., Any], city: City, family: str, dtype: Any) -> None:
    folder, samples = city
    backbone = load_tiny(family, dtype=dtype)
    before = {name: p.clone() for name, p in backbone.base.named_parameters()}
    data = GeoData(DataConfig(str(folder / "city.jsonl"), 4, limit=4))
    known = {sample.id for sample in data.load(backbone.encoder, seed=3).samples}
    run(backbone, data, accumulate=1, updates=120, lr=1e-2, clip_norm=1.0)
    chosen = [sample.in_folder(folder) for sample in samples if sample.id in known]
    texts = generate(backbone, chosen, max_new_tokens=60, batch_size=4)
    assert sum(text == sample.response for text, sample in zip(texts, chosen, strict=True)) >= 3
    for name, parameter in backbone.base.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_an_update_that_is_not_finite_counts_and_changes_nothing(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = city
    backbone = load_tiny("qwen")
    own = SFT.training_step

    def broken(self: Any, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        result = own(self, batch, batch_idx)
        return {**result, "loss": result["loss"] * (float("nan") if batch.update == 0 else 1.0)}

    monkeypatch.setattr(SFT, "training_step", broken)
    weights: list[torch.Tensor] = []
    layer = backbone.base.model.language_model.layers[0].self_attn.q_proj.lora_B["default"].weight
    stage: list[Any] = []
    clip = SFT.configure_gradient_clipping

    def spy(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        weights.append(layer.detach().clone())
        stage.append(self)
        clip(self, optimizer, *args, **kwargs)

    monkeypatch.setattr(SFT, "configure_gradient_clipping", spy)
    run(backbone, GeoData(DataConfig(str(folder / "city.jsonl"), 2)), accumulate=1, updates=3)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert stage[0].progress.skipped == 1


def test_an_update_may_change_nothing_on_purpose(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = city
    backbone = load_tiny("qwen")
    norms: list[float] = []
    weights = [sum(p.detach().double().abs().sum() for p in backbone.parameters() if p.requires_grad)]

    def note(self: Any, **told: float) -> None:
        norms.append(told["grad_norm"])
        weights.append(sum(p.detach().double().abs().sum() for p in backbone.parameters() if p.requires_grad))
        counted(self, **told)
        assert self.skipped == 0

    counted = RunProgress.count_update
    monkeypatch.setattr(RunProgress, "count_update", note)
    monkeypatch.setattr(SFT, "gradient_scale", lambda self: 0.0 if self.progress.step % 2 else None)
    data = GeoData(DataConfig(str(folder / "city.jsonl"), 2))
    run(backbone, data, accumulate=2, updates=8, weight_decay=0.5, max_skipped=1)
    assert [norm == 0 for norm in norms] == [False, True] * 4
    assert [bool(before == after) for before, after in pairwise(weights)] == [False, True] * 4


def test_nothing_to_train(load_tiny: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="all frozen"):
        SFT(load_tiny("qwen", language_model="frozen"), StageConfig(), RunProgress(Path(), 1))


if __name__ == "__main__":
    two_ranks()
