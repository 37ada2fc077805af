from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from torch import nn

from eval.answerers import local
from eval.callback import InLoopEvaluator, evaluation_mode
from eval.report.wandb_log import ROWS_PER_TASK, side_by_side
from geotune.config.instantiation import instantiate_checked
from geotune.errors import ConfigError
from geotune.runs.predictions import read_predictions
from geotune.runs.progress import RunProgress
from geotune.sample import Sample
from geotune.system.ranks import gather_items
from geotune.tasks import CROSS_VIEW_TASKS, get_task
from tests.wandb_offline import wandb_records


class Parrot(nn.Module):
    """A backbone that answers each question with its legal answer number `choice`."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Dropout()
        self.head = nn.Linear(1, 1)
        self.choice = 0
        self.modes: set[tuple[bool, bool]] = set()

    def generate(self, samples: Sequence[Sample], *, max_new_tokens: int, batch_size: int) -> list[str]:
        self.modes.add((self.training, torch.is_grad_enabled()))
        tasks = [get_task(sample.task) for sample in samples]
        return [t.target(t.options[self.choice]) if t.options else '{"lat": 1, "lon": 2}' for t in tasks]

    def score_options(
        self,
        samples: Sequence[Sample],
        options: Sequence[Sequence[str]],
        *,
        prefix: Sequence[str] | None = None,
        batch_size: int,
    ) -> list[list[float]]:
        return [[-float(abs(i - self.choice)) for i in range(len(row))] for row in options]


@pytest.fixture(autouse=True)
def parrot_instead_of_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the methods of a `Parrot` instead of the functions that generate and score with a real backbone."""
    for name in ("generate", "score_options"):
        monkeypatch.setattr(
            local, name, lambda backbone, *args, _name=name, **kw: getattr(backbone, _name)(*args, **kw)
        )


class Stage(LightningModule):
    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.backbone = Parrot()
        self.progress = RunProgress(run_dir, total=20)


def nodes(city: Path) -> dict[str, Any]:
    """Config nodes of suites, as in a recipe."""
    return {
        "geox": {"_target_": "eval.suites.CrossViewSuite", "path": str(city), "samples_per_task": 18},
        "geolocate": {"_target_": "eval.suites.DistanceSuite", "path": str(city), "build": None},
    }


def trainer(logger: Any = False) -> Trainer:
    return Trainer(accelerator="cpu", devices=1, logger=logger, enable_checkpointing=False, enable_progress_bar=False)


def test_files_table_and_plot(city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = {"_target_": "eval.callback.InLoopEvaluator", "suites": nodes(city), "batch_size": 4}
    callback = instantiate_checked(node, "evaluator")
    assert (callback.at_start, callback.every) == (True, None)
    stage, fit = Stage(tmp_path), trainer()
    stage.train()
    stage.backbone.tower.eval()  # frozen parts stay in eval mode while the rest trains
    callback.prepare()
    start = callback.evaluate(fit, stage, 0)
    stage.backbone.choice = 1
    later = callback.evaluate(fit, stage, 20)

    assert stage.backbone.modes == {(False, False)}
    assert stage.training
    assert stage.backbone.head.training
    assert not stage.backbone.tower.training
    assert torch.is_grad_enabled()

    assert json.loads((tmp_path / "eval" / "step_000000.json").read_text()) == start
    assert json.loads((tmp_path / "eval" / "step_000020.json").read_text()) == later
    assert start["mean_accuracy"] == pytest.approx(start["suites"]["geox"]["mean_accuracy"])
    predictions = list(read_predictions(tmp_path / "predictions" / "step_000020.jsonl"))
    assert len(predictions) == 7 * 18 + 12
    assert {p.suite for p in predictions} == {"geox", "geolocate"}
    assert (
        sum(p.score for p in predictions if p.task == "pose_fixed")
        == 18 * later["suites"]["geox"]["tasks"]["pose_fixed"]["accuracy"]
    )
    with Image.open(tmp_path / "accuracy.png") as image:
        image.load()
    printed = capsys.readouterr().out
    assert "geox at step 20" in printed
    assert "since step 0" in printed
    assert "acc@25km" in printed


def test_choice_mode_reaches_the_backbone(city: Path, tmp_path: Path) -> None:
    callback = InLoopEvaluator({"geox": nodes(city)["geox"]}, answer_mode="choice")
    stage = Stage(tmp_path)
    stage.backbone.choice = 1
    result = callback.evaluate(trainer(), stage, 0)
    assert result["suites"]["geox"]["answer_mode"] == "choice"
    assert {task["p_mode"] for task in result["suites"]["geox"]["tasks"].values()} == {1.0}


def test_a_mistake_in_a_suite_names_its_place(city: Path) -> None:
    suites = {"geox": {**nodes(city)["geox"], "samples_per_task": 0}}
    with pytest.raises(ConfigError, match=r"evaluator.suites.geox.samples_per_task=0"):
        instantiate_checked({"_target_": "eval.callback.InLoopEvaluator", "suites": suites}, "evaluator")
    suites = {"geox": {**nodes(city)["geox"], "sample_per_task": 3}}
    with pytest.raises(ConfigError, match=r"evaluator.suites.geox.sample_per_task"):
        InLoopEvaluator(suites)


def test_modes_come_back_after_an_error() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Linear(1, 1)).train()
    module[1].eval()

    def evaluate() -> None:
        with evaluation_mode(module):
            assert not any(part.training for part in module.modules())
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        evaluate()
    assert [part.training for part in module.modules()] == [True, True, False]


def test_gathers_over_a_process_group(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert gather_items(["a", "b"]) == ["a", "b"]
    finally:
        torch.distributed.destroy_process_group()
    assert gather_items([]) == []


def test_wandb_run_read_back(city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    logger = WandbLogger(project="test", save_dir=tmp_path)
    callback, stage = InLoopEvaluator(nodes(city)), Stage(tmp_path)
    fit = trainer(logger)
    logger.log_metrics({"train/loss": 3.0}, step=50)
    for step in (50, 0):  # an evaluation whose step lies before what is logged already
        callback.evaluate(fit, stage, step)
    wandb.finish()

    records = wandb_records(tmp_path)
    axes = {r.metric.name: r.metric.step_metric for r in records if r.WhichOneof("record_type") == "metric"}
    assert axes["eval/mean_accuracy"] == axes["eval/pose_fixed/accuracy"] == axes["eval/predictions"] == "eval/step"
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            if "eval/step" in items:
                rows.append(items)
    assert [row["eval/step"] for row in rows] == [50, 0]
    for row in rows:
        for task in CROSS_VIEW_TASKS:
            wanted = {"accuracy", "ci95_low", "ci95_high", "chance", "parse_rate", "h_norm", "d_kl", "p_mode", "a_mode"}
            assert all(f"eval/{task}/{metric}" in row for metric in wanted)
        assert row["eval/geolocate/acc@2500km"] is not None
        assert row["eval/predictions/_type"] == "table-file"
        assert row["eval/predictions/nrows"] == 8 * ROWS_PER_TASK
    run_dir = next(tmp_path.glob("wandb/offline-run-*"))
    table = json.loads((run_dir / "files" / rows[0]["eval/predictions/path"]).read_text())
    assert table["columns"] == ["suite", "task", "images", "question", "gold", "answer", "score", "said", "id"]
    first, last = table["data"][0], table["data"][-1]
    assert first[1] == "pose_fixed"
    assert "<image>" not in first[3]
    assert first[5] == "N"
    assert last[:2] == ["geolocate", "geolocate"]
    # The images wait for their upload in the run directory, not in the home folder.
    assert list((tmp_path / "wandb" / "artifacts").rglob("*"))


def test_images_side_by_side() -> None:
    strip = side_by_side([Image.new("RGB", (200, 100), "red"), Image.new("RGB", (30, 60), "blue")], height=50, gap=4)
    assert strip.size == (100 + 4 + 25, 50)
    assert strip.getpixel((50, 25)) == (255, 0, 0)
    assert strip.getpixel((102, 25)) == (255, 255, 255)
    assert strip.getpixel((120, 25)) == (0, 0, 255)
