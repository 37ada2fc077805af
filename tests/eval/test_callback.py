from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf
from PIL import Image, ImageColor
from torch import nn

from eval import callback as module
from eval.answerers import local
from eval.callback import InLoopEvaluator, evaluation_mode
from eval.plots.world import GUESS_COLOR, pixel_at
from eval.report.wandb_log import ROWS_PER_TASK, examples, side_by_side
from eval.suites import CrossViewSuite
from eval.suites.base import measured_by
from geotune.config.instantiation import instantiate_checked
from geotune.config.parts import EvaluatorConfig
from geotune.config.training import WandbConfig
from geotune.encoding.segments import Segment
from geotune.errors import ConfigError
from geotune.exporting.model_card import evaluation_text
from geotune.runs.figures import figure, table_figures
from geotune.runs.outcomes import read_outcomes
from geotune.runs.predictions import read_predictions
from geotune.runs.progress import RunProgress
from geotune.runs.reading import draws_from, predictions_from
from geotune.runs.suite_results import Cell, SuiteResult, SuiteRow
from geotune.sample import Sample
from geotune.system.interruption import Stopped
from geotune.system.ranks import gather_items
from geotune.tasks import CROSS_VIEW_TASKS, get_task
from geotune.training.wandb_logger import wandb_run
from tests.wandb_offline import wandb_records


@dataclass(frozen=True)
class Words:
    """A completion of which each word is a token."""

    words: str
    tokens: list[str]
    stopped: bool

    def text(self, encoder: Any) -> str:
        return self.words


class Parrot(nn.Module):
    """A backbone that answers each question with its legal answer number `choice`."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Dropout()
        self.head = nn.Linear(1, 1)
        self.choice = 0
        self.breaks_at: str | None = None
        self.stops_at: str | None = None
        self.encoder: Any = None
        self.modes: set[tuple[bool, bool]] = set()

    def evaluation_mode(self) -> Any:
        return nullcontext()

    def encode(self, question: Sample, *, answer: bool) -> Any:
        assert not answer
        return SimpleNamespace(length=1, segments=(Segment("text", (0,)),), task=question.task)

    def sample(
        self, prompts: Sequence[Any], *, n: int, max_new_tokens: int, batch_size: int, sampling: Any
    ) -> list[list[Any]]:
        self.modes.add((self.training, torch.is_grad_enabled()))
        if self.breaks_at == prompts[0].task:
            raise RuntimeError("power cut")
        if self.stops_at == prompts[0].task:
            signal.raise_signal(signal.SIGTERM)
        tasks = [get_task(prompt.task) for prompt in prompts]
        texts = [t.target(t.options[self.choice]) if t.options else '{"lat": 1, "lon": 2}' for t in tasks]
        return [[Words(text, text.split(), len(text.split()) < max_new_tokens)] * n for text in texts]

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
    for name in ("sample", "score_options"):
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
    outcomes = list(read_outcomes(tmp_path / "outcomes" / "step_000020.jsonl", "geolocate"))
    assert {outcome.id for outcome in outcomes} == {p.id for p in predictions if p.suite == "geolocate"}
    assert {(o.status, o.tokens.output, o.usd, o.attempts) for o in outcomes} == {("answered", 4, 0.0, 1)}
    assert all(o.seconds > 0 and o.asked_at.endswith("Z") for o in outcomes)
    with Image.open(tmp_path / "accuracy.png") as image:
        image.load()
    files = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "maps").iterdir())
    assert files == ["maps/geolocate_step_000000.png", "maps/geolocate_step_000020.png"]
    with Image.open(tmp_path / files[1]) as image:
        place = tuple(round(pixel) for pixel in pixel_at(1, 2))  # which the parrot answers
        assert image.convert("RGB").getpixel(place) == ImageColor.getrgb(GUESS_COLOR)
    printed = capsys.readouterr().out
    assert "geox at step 20" in printed
    assert "since step 0" in printed
    assert "acc@25km" in printed


def test_draws_reach_the_files_the_table_and_no_example(
    city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = {**nodes(city)["geolocate"], "draws": 4, "draw_temperature": 0.5}
    callback = InLoopEvaluator(EvaluatorConfig(suites={"far": node}, batch_size=8))
    entry = callback.evaluate(trainer(), Stage(tmp_path), 0)["suites"]["far"]
    assert json.loads((tmp_path / "eval" / "step_000000.json").read_text())["suites"]["far"] == entry
    assert (entry["draws"], entry["draw_temperature"], entry["draws_read"]) == (4, 0.5, 1.0)
    outcomes = list(read_outcomes(tmp_path / "outcomes" / "step_000000.jsonl", "far"))
    assert [o.repeat for o in outcomes] == [0] * 12 + [1, 2, 3, 4] * 12
    predictions = list(read_predictions(tmp_path / "predictions" / "step_000000.jsonl"))
    assert [p.repeat for p in predictions] == [0] * 12 + [1, 2, 3, 4] * 12
    assert {p.repeat for p in examples(predictions, 100)} == {0}
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert (lines["draws"], lines["draw_temperature"]) == (["draws", "4"], ["draw_temperature", "0.500"])
    assert lines["radius_coverage_90"] == ["radius_coverage_90", "0.0%"]

    suite, samples = callback.evaluator.suites["far"], callback.questions()["far"]
    greedy, drawn = predictions_from("far", samples, outcomes), draws_from("far", samples, outcomes, 4)
    again = measured_by(suite, samples, greedy, drawn).entry("geoscore")
    assert {**entry, **again} == entry, "the file of outcomes alone gives the figures"


def test_choice_mode_reaches_the_backbone(city: Path, tmp_path: Path) -> None:
    callback = InLoopEvaluator(EvaluatorConfig(suites={"geox": nodes(city)["geox"]}, answer_mode="choice"))
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
        InLoopEvaluator(EvaluatorConfig(suites=suites))


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
    for name, value in {"WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    cfg = OmegaConf.create({"wandb": asdict(WandbConfig(project="test"))})
    callback, stage = InLoopEvaluator(EvaluatorConfig(suites=nodes(city))), Stage(tmp_path)
    with wandb_run(cfg, tmp_path, None) as [logger]:
        fit = trainer(logger)
        logger.log_metrics({"train/loss": 3.0}, step=50)
        for step in (50, 0):  # an evaluation whose step lies before what is logged already
            callback.evaluate(fit, stage, step)

    records = wandb_records(tmp_path)
    axes = {r.metric.name: r.metric.step_metric for r in records if r.WhichOneof("record_type") == "metric"}
    assert axes["eval/geox/mean_accuracy"] == axes["eval/geox/pose_fixed/accuracy"] == axes["eval/predictions"]
    assert axes["eval/predictions"] == axes["eval/geolocate/map"] == "eval/step"
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            if "eval/step" in items:
                rows.append(items)
    assert [row["eval/step"] for row in rows] == [50, 0]
    of_task = ["accuracy", "ci95_low", "ci95_high", "chance", "parse_rate", "h_norm", "d_kl", "p_mode", "a_mode", "n"]
    of_suite = ["mean_accuracy", "mean_ci95_low", "mean_ci95_high", "samples_per_second"]
    distances = [*(f"acc@{km}km" for km in (1, 25, 200, 750, 2500)), "median_km", "mean_km", "geoscore", "n"]
    wanted = {
        "eval/step",
        "eval/seconds",
        *(f"eval/geox/{name}" for name in of_suite),
        *(f"eval/geox/{task}/{name}" for task in CROSS_VIEW_TASKS for name in of_task),
        *(f"eval/geolocate/{name}" for name in (*distances, "coverage", "right_if_swapped", "samples_per_second")),
        *(f"eval/geolocate/answered_only/{name}" for name in distances),
    }
    for row in rows:
        named = {name for name in row if name.startswith("eval/")}
        assert {name for name in named if "/predictions/" not in name and "/map/" not in name} == wanted
        assert row["eval/predictions/_type"] == "table-file"
        assert row["eval/predictions/nrows"] == 8 * ROWS_PER_TASK
    run_dir = next(tmp_path.glob("wandb/offline-run-*"))
    for row, step in zip(rows, (50, 0), strict=True):
        assert row["eval/geolocate/map/_type"] == "image-file"
        logged = (run_dir / "files" / row["eval/geolocate/map/path"]).read_bytes()
        assert logged == (tmp_path / "maps" / f"geolocate_step_{step:06d}.png").read_bytes()
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


def one_of_two(rank: int, city: Path, folder: Path) -> None:
    """Evaluate as one of two processes."""
    for name in ("sample", "score_options"):
        setattr(local, name, lambda backbone, *args, _name=name, **kw: getattr(backbone, _name)(*args, **kw))
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    fit: Any = SimpleNamespace(global_rank=rank, world_size=2, is_global_zero=rank == 0, loggers=[])
    callback = InLoopEvaluator(EvaluatorConfig(suites=nodes(city), batch_size=4))
    result = callback.evaluate(fit, Stage(folder), 0)
    (folder / f"result_{rank}.json").write_text(json.dumps(result["suites"]["geox"]["tasks"]))
    torch.distributed.destroy_process_group()


def test_two_processes_write_a_file_each_and_agree(city: Path, tmp_path: Path) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    both.mkdir()
    torch.multiprocessing.spawn(one_of_two, args=(city, both), nprocs=2)
    result = InLoopEvaluator(EvaluatorConfig(suites=nodes(city), batch_size=4)).evaluate(trainer(), Stage(alone), 0)
    for rank in (0, 1):
        assert json.loads((both / f"result_{rank}.json").read_text()) == result["suites"]["geox"]["tasks"]
    files = [both / "outcomes" / name for name in ("step_000000.jsonl", "step_000000.1.jsonl")]
    assert sorted((both / "outcomes").iterdir()) == sorted(files)
    first, second = (
        {(name, outcome.id) for name in nodes(city) for outcome in read_outcomes(file, name)} for file in files
    )
    assert not first & second
    assert len(first | second) == 7 * 18 + 12
    predictions = Path("predictions", "step_000000.jsonl")
    assert (both / predictions).read_bytes() == (alone / predictions).read_bytes()


def stopped_one_of_two(rank: int, city: Path, folder: Path) -> None:
    """Evaluate as one of two processes, of which the second alone is asked to stop."""
    for name in ("sample", "score_options"):
        setattr(local, name, lambda backbone, *args, _name=name, **kw: getattr(backbone, _name)(*args, **kw))
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    fit: Any = SimpleNamespace(global_rank=rank, world_size=2, is_global_zero=rank == 0, loggers=[])
    stage = Stage(folder)
    stage.backbone.stops_at = "geolocate" if rank else None
    with pytest.raises(Stopped) as stop:
        InLoopEvaluator(EvaluatorConfig(suites=nodes(city), batch_size=4)).evaluate(fit, stage, 0)
    assert stop.value.number == signal.SIGTERM
    torch.distributed.destroy_process_group()


def test_two_processes_stop_together_and_keep_what_was_answered(city: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(stopped_one_of_two, args=(city, tmp_path), nprocs=2)
    files = [tmp_path / "outcomes" / name for name in ("step_000000.jsonl", "step_000000.1.jsonl")]
    assert sum(len(list(read_outcomes(file, "geox"))) for file in files) == 7 * 18
    assert not list(read_outcomes(files[1], "geolocate"))
    assert not (tmp_path / "eval").exists()


# --- what goes wrong ---


def test_a_broken_off_evaluation_leaves_its_outcomes(city: Path, tmp_path: Path) -> None:
    callback, stage, fit = InLoopEvaluator(EvaluatorConfig(suites=nodes(city))), Stage(tmp_path), trainer()
    stage.backbone.breaks_at = "geolocate"
    with pytest.raises(RuntimeError, match="power cut"):
        callback.evaluate(fit, stage, 0)
    file = tmp_path / "outcomes" / "step_000000.jsonl"
    assert len(list(read_outcomes(file, "geox"))) == 7 * 18
    assert not (tmp_path / "predictions").exists()
    (tmp_path / "outcomes" / "step_000000.1.jsonl").write_text("of a process that is no more")
    stage.backbone.breaks_at = None
    callback.evaluate(fit, stage, 0)
    counts = Counter((json.loads(line)["suite"], json.loads(line)["id"]) for line in file.read_text().splitlines())
    assert len(counts) == 7 * 18 + 12
    assert set(counts.values()) == {1}, "the file starts anew"
    assert [path.name for path in (tmp_path / "outcomes").iterdir()] == ["step_000000.jsonl"]


def test_outcomes_of_each_mode(city: Path, tmp_path: Path) -> None:
    """A text that reaches its limit of tokens is marked as cut off, and scores are kept by option."""
    suites = {
        name: {**nodes(city)["geox"], "tasks": ["pose_fixed"], "answer_mode": name}
        for name in ("generate", "choice", "explain_choice")
    }
    stage = Stage(tmp_path)
    stage.backbone.choice = 2
    InLoopEvaluator(EvaluatorConfig(suites=suites, max_new_tokens=2)).evaluate(trainer(), stage, 0)
    file = tmp_path / "outcomes" / "step_000000.jsonl"
    (said,), (scored,), (both,) = (
        {(o.status, o.text, json.dumps(o.option_logprobs)) for o in read_outcomes(file, name)} for name in suites
    )
    text, logprobs = get_task("pose_fixed").target("S"), {"N": -2.0, "E": -1.0, "S": -0.0, "W": -1.0}
    assert said == ("cut_off", text, "null")
    assert scored == ("answered", None, json.dumps(logprobs))
    assert both == ("cut_off", text, json.dumps(logprobs))


class TooMuchError(Exception):
    """What a broken plot, table or logger raises."""


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("plot_accuracy", "step 0: the plot of suite geox failed; the run goes on"),
        ("plot_world", "step 0: the map of suite geolocate failed; the run goes on"),
        ("evaluation_tables", "step 0: the table in the terminal failed; the run goes on"),
        ("prediction_table", "step 0: the table of predictions for W&B failed; the run goes on"),
        ("log_evaluation", "step 0: logging to W&B failed; the run goes on"),
    ],
)
def test_a_report_that_fails_is_logged_and_the_run_goes_on(
    city: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    part: str,
    words: str,
) -> None:
    from eval.report import wandb_log

    logged: list[Any] = []
    monkeypatch.setattr(wandb_log, "log_evaluation", lambda run, result, *reports: logged.append(reports))

    def fail(*arguments: Any) -> None:
        raise TooMuchError("no room")

    monkeypatch.setattr(wandb_log if part in ("prediction_table", "log_evaluation") else module, part, fail)
    monkeypatch.setattr(WandbLogger, "experiment", None)
    callback, stage = InLoopEvaluator(EvaluatorConfig(suites=nodes(city))), Stage(tmp_path)
    fit = trainer(WandbLogger(project="test", save_dir=tmp_path, offline=True))
    result = callback.evaluate(fit, stage, 0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [words]
    assert "TooMuchError: no room" in caplog.text
    assert json.loads((tmp_path / "eval" / "step_000000.json").read_text()) == result
    assert (tmp_path / "predictions" / "step_000000.jsonl").is_file()
    assert (tmp_path / "accuracy.png").is_file() == (part != "plot_accuracy")
    assert ("geox at step 0" in capsys.readouterr().out) == (part != "evaluation_tables")
    drawn = tmp_path / "maps" / "geolocate_step_000000.png"
    assert drawn.is_file() == (part != "plot_world")
    given = [(table is not None, maps == {"geolocate": drawn}) for table, maps in logged]
    assert given == ([] if part == "log_evaluation" else [(part != "prediction_table", part != "plot_world")])


@dataclass(kw_only=True)
class Hemispheres(CrossViewSuite):
    """A suite with a kind, figures and rows of its own, some of them named as in a suite of tasks."""

    headline = "north/right"
    breaks = False

    def measure(self, samples: Any, predictions: Any) -> SuiteResult:
        if self.breaks:
            raise KeyError("mean_ci95")
        figures: dict[str, Any] = {"mean_accuracy": 0.5, "tasks": {"pose_fixed": {"accuracy": 0.25}}}
        figures["north"] = {"right": 0.125, "spread_km": None}
        rows = [
            SuiteRow(
                {"part": Cell("north"), "right": Cell(0.125, "share"), "spread": Cell(None, "number")},
                "north/right",
            ),
            SuiteRow(
                {"part": Cell("pose"), "right": Cell(0.25, "share"), "spread": Cell(7.25, "number")},
                "pose_fixed/accuracy",
            ),
        ]
        return SuiteResult("hemispheres", rows, figures)


def test_an_own_suite_shows_up_everywhere(
    city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
) -> None:
    import wandb

    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}.items():
        monkeypatch.setenv(name, value)
    callback = InLoopEvaluator(
        EvaluatorConfig(suites={"own": Hemispheres(path=str(city), samples_per_task=2), **nodes(city)})
    )
    callback.evaluate(trainer(WandbLogger(project="test", save_dir=tmp_path)), Stage(tmp_path), 0)
    wandb.finish()
    wandb.teardown()  # which waits for the last records
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert (tmp_path / "accuracy.png").is_file(), "of the suite of tasks"
    assert not list(tmp_path.glob("accuracy_*"))
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["geolocate_step_000000.png"]
    assert "12.5%" in next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["north"])
    saved = json.loads((tmp_path / "eval" / "step_000000.json").read_text())
    card = evaluation_text(saved).splitlines()
    assert card[card.index("`own`, answers by `generate`:") + 2 :][:4] == [
        "| part | right | spread |",
        "| --- | --- | --- |",
        "| north | 12.5% |  |",
        "| pose | 25.0% | 7.2 |",
    ]
    in_sweep = table_figures(saved)
    assert {name: value for name, value in in_sweep.items() if name.startswith("own/")} == {
        "own/north/right": 0.125,
        "own/pose_fixed/accuracy": 0.25,
    }
    assert figure(saved, "own/north/spread_km") is None
    logged = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in wandb_records(tmp_path)
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    }
    assert {name: value for name, value in logged.items() if name.startswith("eval/own/") and "second" not in name} == {
        "eval/own/mean_accuracy": 0.5,
        "eval/own/pose_fixed/accuracy": 0.25,
        "eval/own/north/right": 0.125,
    }


def test_a_suite_that_breaks_ends_the_run_only_at_its_first_evaluation(
    city: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Hemispheres(path=str(city), samples_per_task=2)
    own.breaks = True
    callback, stage, fit = (
        InLoopEvaluator(EvaluatorConfig(suites={"own": own, **nodes(city)})),
        Stage(tmp_path),
        trainer(),
    )
    with pytest.raises(RuntimeError, match=r"evaluator.suites.own: Hemispheres can't measure .*KeyError: 'mean_ci95'"):
        callback.evaluate(fit, stage, 0)
    assert not (tmp_path / "eval").exists()
    own.breaks = False
    callback.evaluate(fit, stage, 0)
    own.breaks = True
    fresh = InLoopEvaluator(EvaluatorConfig(suites={"own": own, **nodes(city)}))  # the run was resumed since
    result = fresh.evaluate(fit, stage, 20)
    assert (
        "evaluator.suites.own: Hemispheres can't measure its predictions; its entry is marked as failed" in caplog.text
    )
    assert json.loads((tmp_path / "eval" / "step_000020.json").read_text()) == result
    assert result["suites"]["own"]["failed"] == "KeyError: 'mean_ci95'"
    assert result["suites"]["geox"]["mean_accuracy"] is not None
    assert "`own` could not be measured: KeyError: 'mean_ci95'" in evaluation_text(result)
    own.breaks = False
    assert "failed" not in callback.evaluate(fit, stage, 40)["suites"]["own"]
