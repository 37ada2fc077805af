"""`train` from a config to a run directory, and what it says about mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from geotune.config.training import TrainerConfig
from geotune.data.row_plan import RowPlan
from geotune.errors import ConfigError
from geotune.runs.directory import checkpoint_steps, read_state
from geotune.sample import Sample
from geotune.train import main, train
from geotune.training import summary as describe
from geotune.training.run import total_updates
from tests.wandb_offline import wandb_records

City = tuple[Path, list[Sample]]


@pytest.mark.parametrize("family", ["qwen", "internvl"])
def test_run_directory(recipe: Callable[..., Any], tmp_path: Path, family: str) -> None:
    result = train(recipe(family))
    run = tmp_path / "run"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["versions"].keys() == {"python", "torch", "transformers", "peft", "lightning", "geotune"}
    assert config["stage"]["lr"] == 0.01
    assert json.loads((run / "metrics.json").read_text()) == result
    lines = (run / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("step,train/loss,train/lr,train/grad_norm,train/skipped,perf/tokens_per_second")
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "4", "6"]
    assert float(lines[-1].split(",")[1]) < float(lines[1].split(",")[1])
    assert checkpoint_steps(run) == [4, 6]
    names = {path.name for path in (run / "checkpoints" / "last").iterdir()}
    assert names == {"adapter", "processor", "config.yaml", "state.json", "trainer.pt", "rng_0.pt"}
    assert not (run / "rejected.jsonl").exists()


def test_learning_rate_of_each_line_is_the_one_used(recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(recipe(**{"trainer.log_every": 1, "stage.warmup": 3, "stage.schedule": "constant"}))
    rates = [float(line.split(",")[2]) for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.01, 0.01, 0.01])


def test_a_run_that_has_blown_up_stops(recipe: Callable[..., Any], tmp_path: Path) -> None:
    blown = {"stage.lr": 1e30, "stage.max_skipped": 2, "trainer.log_every": 1}
    with pytest.raises(RuntimeError, match=r"update \d: .* 2 times in a row .*samples: city/\d+, ") as stop:
        train(recipe(**blown))
    lines = (tmp_path / "run" / "updates.jsonl").read_text().splitlines()
    updates = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert f"update {updates[-1]['step']}: " in str(stop.value)
    assert all(sample in str(stop.value) for sample in updates[-1]["ids"])
    train(recipe(**blown, **{"run_dir": str(tmp_path / "again"), "trainer.max_steps": updates[-1]["step"] - 1}))
    text = (tmp_path / "again" / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["train"]["train/loss"] is None


def test_rejected_samples_are_listed(
    recipe: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(recipe(**{"data.max_length": 90, "trainer.max_steps": 1}))
    lines = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()]
    assert lines
    assert all("data.max_length=90" in line["reason"] for line in lines)
    left_out = json.loads((tmp_path / "run" / "metrics.json").read_text())["left_out"]
    assert left_out == {"tasks": 0, "limit": 0, "too_long": len(lines), "unreadable": 0}
    assert caplog.text.count(f"WARNING: {len(lines)} of 24 samples") == 2  # at the start and at the end


def test_dry_run(recipe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(recipe(dry_run=True, **{"data.max_length": 110})) == {}
    text = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    for part in (
        "lr: 0.01",
        "model.language_model.layers.*.mlp.up_proj.lora_A.default.weight",
        "7,424 of",
        '[[{"direction": "N"}<|im_end|>]]',
        "map0.png: 16 tokens}",
        "pose_fixed",
        "rejected, 6 updates",
        "the prefix tree computes one token where separate samples have",
        "data.max_length=110",
        "median",
    ):
        assert part in text, part
    assert text.count("[[") == 1


def test_dry_run_of_data_that_is_not_built(
    recipe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = {"_target_": "data_builders.synthetic.builder.SyntheticCity", "places": 400}
    path = tmp_path / "datasets" / "city"
    assert train(recipe(dry_run=True, **{"data.path": str(path), "data.build": build})) == {}
    text = capsys.readouterr().out
    assert "7,424 of" in text
    assert f"{path} is not built yet" in text
    assert "samples, tasks, tokens and what is left out: known once built\n6 updates" in text
    assert list(tmp_path.iterdir()) == []


def test_histogram_of_equal_lengths() -> None:
    assert "longest 7" in describe.histogram([7, 7, 7])
    assert describe.histogram([1, 100]).count("#") == 80


@pytest.mark.parametrize(
    ("steps", "epochs", "wanted"),
    [(6, None, 6), (None, 1.0, 3), (None, 4.0, 12), (6, 1.0, 3), (2, 1.0, 2), (None, 0.01, 1), (None, 1.5, 5)],
)
def test_length_of_a_run(steps: int | None, epochs: float | None, wanted: int) -> None:
    cfg: Any = TrainerConfig(max_steps=steps, epochs=epochs)
    plan = RowPlan(lengths=[1] * 24, targets=[1] * 24, batch_size=4, accumulate=2, ranks=1, seed=0)
    assert total_updates(cfg, plan) == wanted


def test_wandb_offline_unless_told_otherwise(
    recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(recipe(**{"wandb.mode": None, "wandb.tags": ["a"], "trainer.max_steps": 4}))
    records = wandb_records(tmp_path / "run")
    history: dict[str, list[Any]] = {}
    for record in records:
        for item in record.history.item:
            history.setdefault("/".join(item.nested_key) or item.key, []).append(json.loads(item.value_json))
    assert history["trainer/global_step"] == [2, 4]
    for key in ("train/loss", "train/lr", "train/grad_norm", "perf/tokens_per_second", "perf/samples_per_second"):
        assert len(history[key]) == 2
    axes = {r.metric.name or r.metric.glob_name: r.metric.step_metric for r in records if r.HasField("metric")}
    assert axes["eval/*"] == "eval/step"
    runs = [record.run for record in records if record.HasField("run")]
    assert runs[0].display_name == "run"
    assert list(runs[0].tags) == ["a"]
    assert read_state(tmp_path / "run" / "checkpoints" / "last").wandb_id == runs[0].run_id
    assert any(record.HasField("exit") for record in records)

    last = str(tmp_path / "run" / "checkpoints" / "last")
    train(recipe(run_dir=str(tmp_path / "on"), resume=last, **{"wandb.mode": None}))
    assert read_state(tmp_path / "on" / "checkpoints" / "last").wandb_id not in (None, runs[0].run_id)

    train(recipe(run_dir=str(tmp_path / "off"), **{"wandb.mode": "disabled", "trainer.max_steps": 2}))
    assert not list((tmp_path / "off").glob("wandb/offline-run-*"))


@pytest.fixture
def recipe_file(qwen_path: Path, city: City, tmp_path: Path) -> Path:
    """A recipe as a user writes it."""
    path = tmp_path / "short.yaml"
    tree = {
        "backbone": {"path": str(qwen_path)},
        "data": {"path": str(city[0] / "city.jsonl"), "batch_size": 2},
        "trainer": {"max_steps": 2, "accelerator": "cpu"},
        "wandb": {"mode": "disabled"},
        "run_dir": str(tmp_path / "run (1), a=b"),
    }
    path.write_text("# @package _global_\n# A short run.\n" + yaml.safe_dump(tree))
    return path


def test_command_line(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"recipe={recipe_file}"]) == 0
    assert checkpoint_steps(tmp_path / "run (1), a=b") == [2]
    cases = {
        "backbone.path=/nowhere/at/all": "backbone.path=/nowhere/at/all",
        "data.path=/nowhere/at/all": "data.path=/nowhere/at/all",
        "data.tasks=[judge]": "data.tasks=",
        "resume=/nowhere/at/all": "resume=/nowhere/at/all",
        "backbone.max_pixels=100": "backbone.max_pixels=100",
        "trainer.accelerator=gpu": "trainer.accelerator=gpu",
    }
    capsys.readouterr()
    for override, message in cases.items():
        assert main([f"recipe={recipe_file}", override, f"run_dir={tmp_path / 'other'}"]) == 2, override
        error = capsys.readouterr().err
        assert error.startswith("error: ") or "\nerror: " in error
        assert message in error
        assert "Traceback" not in error


def test_frozen_everything(recipe: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="frozen"):
        train(recipe(**{"backbone.language_model": "frozen"}))
