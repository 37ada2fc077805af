"""`start`: training begins with exactly the weights that it names, or refuses with every setting that differs."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from geotune.errors import ConfigError
from geotune.export import main as export
from geotune.inference.loading import find_source
from geotune.train import train
from geotune.training.run import build_run, load_checkpoint
from geotune.training.starting import differences, is_same_model

Recipe = Callable[..., Any]
FULL = {"backbone.language_model": "full"}


def adapter_of(step: Path) -> dict[str, torch.Tensor]:
    return load_file(step / "adapter" / "adapter_model.safetensors")


def trained(backbone: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in backbone.trained_parameters().items()}


@pytest.fixture
def first(recipe: Recipe, tmp_path: Path) -> Path:
    """Folder of a short run."""
    train(recipe(run_dir=str(tmp_path / "first"), **{"trainer.max_steps": 2}))
    return tmp_path / "first"


def begin(recipe: Recipe, **changes: Any) -> Any:
    return build_run(recipe(**changes))


@pytest.mark.parametrize("named", ["first", "first/checkpoints/last", "first/checkpoints/step_000002"])
def test_training_begins_with_the_weights_of_a_checkpoint(
    named: str, first: Path, recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geotune")
    cfg = recipe(start=str(tmp_path / named))
    backbone = build_run(cfg).backbone
    step = first.resolve() / "checkpoints" / "step_000002"
    assert cfg.start == str(step)
    assert f"training starts from the checkpoint {step} of update 2" in caplog.text
    saved = adapter_of(step)
    own = trained(backbone)
    assert len(own) == len(saved) > 0
    for name, value in own.items():
        assert torch.equal(value, saved[f"base_model.model.{name}".replace(".default", "")]), name
    fresh = trained(begin(recipe).backbone)
    assert any(not torch.equal(value, fresh[name]) for name, value in own.items())


def test_a_resumed_run_holds_its_start_until_its_checkpoint_is_loaded(
    first: Path, recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stage that compares with the start of the run is made between the two."""
    start = trained(build_run(recipe(start=str(first))).backbone)
    train(recipe(start=str(first), **{"trainer.max_steps": 2}))
    resumed = build_run(recipe(resume="last"))
    own = trained(resumed.backbone)
    assert all(torch.equal(value, start[name]) for name, value in own.items())
    load_checkpoint(resumed, "last")
    later = trained(resumed.backbone)
    assert any(not torch.equal(value, start[name]) for name, value in later.items())
    shutil.rmtree(first)
    load_checkpoint(build_run(recipe(resume="last")), "last")
    assert "a stage that compares with the start of the run can't do so" in caplog.text


def test_the_optimizer_and_the_schedule_start_anew(first: Path, recipe: Recipe, tmp_path: Path) -> None:
    changes = {"trainer.log_every": 1, "stage.warmup": 2, "trainer.max_steps": 2}
    train(recipe(start=str(first), **changes))
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]
    assert float(lines[1].split(",")[2]) == pytest.approx(0.005), "the warm-up begins again"
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["start"] == str(first / "checkpoints" / "step_000002")


def test_fully_trained_weights(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe(run_dir=str(tmp_path / "first"), **FULL, **{"trainer.max_steps": 2}))
    own = trained(begin(recipe, start=str(tmp_path / "first"), **FULL).backbone)
    saved = load_file(tmp_path / "first" / "checkpoints" / "last" / "model" / "trained.safetensors")
    assert own.keys() == saved.keys()
    assert all(torch.equal(own[name], saved[name]) for name in saved)


def test_an_export_is_a_model_or_an_adapter(first: Path, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "export"
    assert export([f"checkpoint={first}", f"out={out}", "dtype=float32"]) == 0
    cfg = recipe(start=str(out), **{"backbone.max_pixels": 64 * 64, "backbone.lora.r": 2})
    backbone = build_run(cfg).backbone
    assert cfg.start == cfg.backbone.path == backbone.path == str(out / "merged")
    assert cfg.backbone.max_pixels == 64 * 64
    cfg = recipe(start=str(out / "adapter"))
    own = trained(build_run(cfg).backbone)
    saved = adapter_of(first / "checkpoints" / "last")
    assert all(torch.equal(own[name], saved[f"base_model.model.{name}".replace(".default", "")]) for name in own)


def test_a_run_that_started_from_a_whole_model_passes_it_on(first: Path, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export([f"checkpoint={first}", f"out={out}", "dtype=float32"]) == 0
    model = str((out / "merged").resolve())
    runs = [str(out / "merged"), *(str(tmp_path / name) for name in "abc")]
    for start, folder in pairwise(runs):
        cfg = recipe(start=start, run_dir=folder, **{"trainer.max_steps": 1})
        train(cfg)
        assert cfg.backbone.path == model
    resumed = recipe(run_dir=runs[-1], resume="last", **{"trainer.max_steps": 2})
    train(resumed)
    assert resumed.backbone.path == model, "the checkpoint's base model, not the recipe's"


def test_the_name_of_a_recipe_means_its_newest_run(
    first: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    newest = tmp_path / "runs" / "short" / "2024"
    shutil.copytree(first, newest, symlinks=True)
    (tmp_path / "runs" / "short" / "empty").mkdir()
    cfg = recipe(start="short")
    build_run(cfg)
    assert cfg.start == str(newest / "checkpoints" / "step_000002")
    assert find_source("short").folder == newest / "checkpoints" / "step_000002", "for export and locate as well"
    with pytest.raises(ConfigError, match=r"start=long: there is no such folder, and no run in runs/long has a"):
        build_run(recipe(start="long"))
    (tmp_path / "short").mkdir()
    with pytest.raises(ConfigError, match="start=short: the folder holds neither"):
        build_run(recipe(start="short"))
    assert "start=short is the folder of this name, not the recipe" in caplog.text


def test_every_difference_is_told_with_the_keys_to_set(first: Path, recipe: Recipe, qwen_path: Path) -> None:
    copy = first.parent / "copy"
    shutil.copytree(qwen_path, copy)
    changes = {"backbone.lora.r": 4, "backbone.projector": "full", "backbone.path": str(copy)}
    with pytest.raises(ConfigError) as error:
        begin(recipe, start=str(first), **changes)
    message = str(error.value)
    assert message.startswith(f"start={first}: it was trained with backbone.projector=frozen (here full), ")
    assert "set backbone.projector=frozen backbone.lora.r=8, or" in message
    assert "geotune export" in message
    begin(recipe, start=str(first), **{"backbone.lora.dropout": 0.5, "backbone.path": str(copy)})
    state = first / "checkpoints" / "last" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"identity": None}))
    with pytest.raises(ConfigError, match=f"it was trained with backbone.path={qwen_path} .here {copy}.; set"):
        begin(recipe, start=str(first), **{"backbone.path": str(copy)})  # of an older version, which noted no weights


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Qwen/Qwen2.5-VL", "/models/Qwen2.5-VL", True),
        ("Qwen/Qwen2.5-VL", "Qwen/Qwen3-VL", False),
        ("/gone/a/merged", "/gone/b/merged", False),
        ("/gone/a/merged", "/gone/a/merged", True),
    ],
)
def test_the_same_base_model(one: str, other: str, same: bool) -> None:
    assert is_same_model(one, other) is same


def test_a_config_from_before_an_option_existed(recipe: Recipe) -> None:
    own = recipe().backbone
    old = {"path": own.path, "language_model": "lora", "lora": {"r": 8, "alpha": 32}}
    assert differences(old, own) == {}


def test_a_resumed_run_does_not_need_its_start(
    first: Path, recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geotune")
    constant = {"stage.schedule": "constant", "stage.warmup": 0}
    train(recipe(start=str(first), run_dir=str(tmp_path / "whole"), **constant))
    train(recipe(start=str(first), **constant, **{"trainer.max_steps": 4}))
    began = str(first / "checkpoints" / "step_000002")
    shutil.rmtree(first)
    cfg = recipe(start=str(first), resume="last", **constant)
    train(cfg)
    assert cfg.start == began
    assert f"start={first} is not loaded" in caplog.text
    own, whole = (adapter_of(tmp_path / name / "checkpoints" / "step_000006") for name in ("run", "whole"))
    assert all(torch.equal(own[name], whole[name]) for name in whole)
    cfg = recipe(resume=str(tmp_path / "run" / "checkpoints" / "step_000006"), run_dir=str(tmp_path / "further"))
    build_run(cfg)
    assert cfg.start == began, "without start=, the earlier run's"


def test_a_resumed_run_keeps_the_model_that_it_began_with(first: Path, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "export"
    assert export([f"checkpoint={first}", f"out={out}", "dtype=float32"]) == 0
    train(recipe(start=str(out), **{"trainer.max_steps": 2}))
    cfg = recipe(resume="last")
    build_run(cfg)
    assert cfg.backbone.path == cfg.start == str(out / "merged")
    out.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"start=.*merged: the model .* is gone; give start="):
        build_run(recipe(resume="last"))
    cfg = recipe(resume="last", start=str(tmp_path / "moved"))
    build_run(cfg)
    assert cfg.backbone.path == cfg.start == str(tmp_path / "moved" / "merged")


def test_a_run_without_a_start_does_not_get_one_later(first: Path, recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="belongs to a run without a start; leave start out"):
        build_run(recipe(run_dir=str(first), resume="last", start=str(first)))


def test_a_dry_run_shows_the_start(first: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(start=str(first), dry_run=True))
    assert f"start: {first}/checkpoints/step_000002" in capsys.readouterr().out
