"""Whole sweeps: real processes, over trainings that take no time or a few updates of a random model."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from PIL import Image

from geotune import sweep, train
from geotune.sweeps import runner
from geotune.sweeps.processes import MARK, processes
from geotune.sweeps.runner import training_command

HERE = Path(__file__).parent
Run = Callable[..., int]
Launch = Callable[..., "subprocess.Popen[str]"]


def instant_training(overrides: Sequence[str], processes: int) -> list[str]:
    """The command line of `trainer.py`."""
    return [sys.executable, str(HERE / "trainer.py"), *overrides]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> Run:
    """`run("trials=3")`: the exit status of a sweep in this process, over trainings that take no time."""
    monkeypatch.setattr(runner, "training_command", instant_training)
    monkeypatch.setattr(runner, "POLL", 0.02)
    return lambda *more: sweep.main([*overrides, *more])


@pytest.fixture
def launch(overrides: list[str]) -> Iterator[Launch]:
    """`launch("trials=3", SECONDS_PER_UPDATE="1")`: the same sweep in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "sweeper.py"), *overrides, *more]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), **variables}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Wait until `condition` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def table(folder: Path) -> list[dict[str, str]]:
    """Rows of trials.csv."""
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def launches(trial: Path) -> list[dict[str, Any]]:
    """How often and how `trainer.py` was started in a trial's folder."""
    return [json.loads(line) for line in (trial / "launches.jsonl").read_text(encoding="utf-8").splitlines()]


def left_over(folder: Path) -> list[Any]:
    """Processes of trials below `folder`."""
    environments = [process.info["environ"] or {} for process in psutil.process_iter(["environ"])]
    marks = {mark for each in environments if (mark := each.get(MARK, "")).startswith(str(folder.resolve()))}
    return [process for mark in marks for process in processes(mark)]


# --- a search ---


def test_search_with_pruning(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("HOLD", "4:2")
    search = ("sampler=random", "seed=5", "startup=3", "wandb.project=here")
    assert run("trials=6", *search) == 0
    out = tmp_path / "out"
    rows, summary = table(out), json.loads((out / "sweep.json").read_text())
    states = [row["state"] for row in rows]
    assert len(rows) == 6
    assert states == ["complete"] * 4 + ["pruned"] * 2
    assert summary["trials"] == {"complete": 4, "pruned": 2}
    for row in rows:
        pruned = row["state"] == "pruned"
        assert row["step"] == ("1" if pruned else "6")
        assert (out / row["run_dir"] / "metrics.json").exists() != pruned
        assert float(row["value"]) > 0
        assert (row["geox/pose_fixed/accuracy"] == row["value"]) != pruned
        (launched,) = launches(out / row["run_dir"])
        assert f"stage.lr={row['stage.lr']}" in launched["overrides"]
        assert {f"wandb.group={summary['study']}", "wandb.project=here"} <= set(launched["overrides"])
        assert launched["threads"]
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["value"]))
    assert (summary["best"]["trial"], summary["best"]["value"]) == (int(best["trial"]), float(best["value"]))
    said = capsys.readouterr().out
    assert f"best: trial {best['trial']}, {summary['metric']} " in said
    assert f"{out / best['run_dir']}\n" in said
    assert f"geotune train recipe={out / 'best.yaml'}\n" in said
    assert f"geotune locate checkpoint={out / best['run_dir']} image=" in said
    assert f"plot: {out / 'parallel.html'}\n" in said
    assert "pruned" in said
    recipe = yaml.safe_load((out / "best.yaml").read_text())
    assert recipe["stage"]["lr"] == float(best["stage.lr"])
    assert not {"run_dir", "resume", "dry_run"} & recipe.keys()
    assert summary["plots"] == [f"{name}.{kind}" for name in ("importance", "parallel") for kind in ("png", "html")]
    for name in ("importance", "parallel"):
        with Image.open(out / f"{name}.png") as image:
            assert image.width > 400
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
        page = (out / f"{name}.html").read_text(encoding="utf-8")
        assert "Plotly.newPlot" in page
        assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert sum(summary["importance"].values()) == pytest.approx(1)
    assert not left_over(out)

    monkeypatch.delenv("HOLD")
    lines = len((out / "study.journal").read_text().splitlines())
    assert run("trials=6", *search) == 0  # nothing is left to do
    assert len(table(out)) == 6
    assert run("trials=7", *search) == 0
    assert len(table(out)) == 7
    assert len((out / "study.journal").read_text().splitlines()) > lines


def test_variants_on_two_slots(run: Run, overrides: list[str], write: Callable[..., Path], tmp_path: Path) -> None:
    """A variant that fails is tried again by the next sweep; the others are trained once."""
    variants = {"plain": {}, "broken": {"seed": 13}, "fast": {"stage.lr": 1e-3}}
    overrides[1] = f"sweep={write('named', {'variants': variants, 'pruner': 'none'})}"
    assert run("devices=[0,1]") == 0
    rows = {row["variant"]: row for row in table(tmp_path / "out")}
    assert {name: row["state"] for name, row in rows.items()} == {
        "plain": "complete",
        "broken": "failed",
        "fast": "complete",
    }
    assert rows["broken"]["error"].splitlines() == ["status 2: error: the thirteenth"]
    summary = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert summary["plots"] == ["variants.png", "variants.html"]
    before = rows["plain"]["run_dir"]
    assert run() == 0
    again = table(tmp_path / "out")
    assert [row["variant"] for row in again if row["state"] == "failed"] == ["broken", "broken"]
    assert len(launches(tmp_path / "out" / before)) == 1


def test_stops_after_failures_in_a_row(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"max_failed=2: .*\n.*the thirteenth"):
        run("seed=13", "max_failed=2")
    assert [row["state"] for row in table(tmp_path / "out")] == ["failed", "failed"]


def test_a_study_is_not_continued_with_another_training(run: Run, tmp_path: Path, capsys: Any) -> None:
    assert run("trials=1") == 0
    assert run("trials=2", "data.batch_size=4") == 2
    assert "data.batch_size was 2, now 4" in capsys.readouterr().err
    assert run("trials=2", "trainer.accelerator=auto", "wandb.mode=disabled") == 0
    assert len(table(tmp_path / "out")) == 2


# --- several processes, and ends of all kinds ---


def test_killed_sweep_is_continued(run: Run, launch: Launch, tmp_path: Path) -> None:
    """The trials of a killed sweep end with a checkpoint; the next sweep continues them in the same folders."""
    out = tmp_path / "out"
    sweep_process = launch("trials=2", HOLD="0:3")
    wait_for(lambda: (out / "trial_0000/eval/step_000002.json").exists())
    sweep_process.kill()
    sweep_process.wait()
    wait_for(lambda: not left_over(out))
    assert run("trials=2") == 0
    rows = table(out)
    assert [(row["run_dir"], row["state"]) for row in rows] == [("trial_0000", "complete"), ("trial_0002", "complete")]
    first, second = launches(out / "trial_0000")
    assert (first["from"], second["from"]) == ([], [3])
    assert "resume=last" in second["overrides"]


def test_what_a_killed_sweep_left_running_is_ended(run: Run, launch: Launch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep_process = launch("trials=1", HANG="1")
    wait_for(lambda: (out / "trial_0000/launches.jsonl").exists())
    sweep_process.kill()
    sweep_process.wait()
    assert len(left_over(out)) == 2
    assert run("trials=1", "grace=0.3") == 0
    assert not left_over(out)
    assert [row["state"] for row in table(out)] == ["complete"]


def test_interrupted_sweep_leaves_no_process(launch: Launch, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep_process = launch("trials=3", "devices=[0,1]", HOLD="0:3")
    wait_for(lambda: all((out / f"trial_000{at}/eval/step_000002.json").exists() for at in (0, 1)))
    assert len(left_over(out)) == 4  # two trainings and their helpers
    sweep_process.send_signal(signal.SIGINT)
    _, error = sweep_process.communicate(timeout=300)
    assert sweep_process.returncode == 130
    assert error.endswith("interrupted\n")
    assert "Traceback" not in error
    assert not left_over(out)
    assert [row["state"] for row in table(out)] == ["waiting", "waiting"]
    assert run("trials=3") == 0
    rows = table(out)
    assert len(rows) == 3
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert [each["from"] for each in launches(out / "trial_0001")] == [[], [3]]


def test_two_sweeps_on_one_storage(run: Run, launch: Launch, tmp_path: Path) -> None:
    """Two sweeps together run as many trials as one would, and never the same values twice."""
    overrides = ("trials=8", "pruner=none", f"storage=sqlite:///{tmp_path / 'study.db'}")
    other = launch(*overrides, f"sweep_dir={tmp_path / 'other'}")
    wait_for(lambda: (tmp_path / "other/trial_0000/launches.jsonl").exists())
    assert run(*overrides) == 0
    assert other.wait(300) == 0
    assert run(*overrides) == 0  # the other sweep may have ended last
    rows = table(tmp_path / "out")
    assert [row["state"] for row in rows] == ["complete"] * 8
    assert len({row["stage.lr"] for row in rows}) == 8
    here = [row["run_dir"] for row in rows if (tmp_path / "out" / row["run_dir"]).exists()]
    there = [row["run_dir"] for row in rows if (tmp_path / "other" / row["run_dir"]).exists()]
    assert here
    assert there
    assert sorted(here + there) == sorted(row["run_dir"] for row in rows)


def test_several_devices_per_trial(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def command(overrides: Sequence[str], processes: int) -> list[str]:
        started.append(training_command(overrides, processes))
        return instant_training(overrides, processes)

    monkeypatch.setattr(runner, "training_command", command)
    assert run("devices=[0,1]", "devices_per_trial=2", "trials=1") == 0
    (line,) = started
    assert line[:6] == [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    assert line[6] == "geotune.train"
    assert {"trainer.devices=2", f"run_dir={tmp_path / 'out' / 'trial_0000'}"} <= set(line)


# --- of real trainings ---


def test_real_trainings(
    qwen_path: Path,
    city: tuple[Path, Any],
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """A sweep of real trainings, each a process tree with its own W&B run, ends with a recipe that trains."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[2]))
    data, out = str(city[0] / "city.jsonl"), tmp_path / "out"
    tree = {
        "backbone": {"path": str(qwen_path), "max_pixels": 96 * 96, "dtype": "float32"},
        "data": {"path": data, "batch_size": 2},
        "trainer": {"max_steps": 2, "accelerator": "cpu"},
        "evaluator": {
            "suites": {"geox": {"_target_": "eval.suites.CrossViewSuite", "path": data}},
            "answer_mode": "choice",
            "every": 1,
        },
    }
    overrides = [f"recipe={write('short', tree)}", "sweep=tower", "variants.lora=null"]
    assert sweep.main([*overrides, f"sweep_dir={out}"]) == 0
    rows = table(out)
    assert [(row["variant"], row["state"], row["step"]) for row in rows] == [
        ("frozen", "complete", "2"),
        ("full", "complete", "2"),
    ]
    for row in rows:
        trial = out / row["run_dir"]
        final = json.loads((trial / "metrics.json").read_text())
        assert final["suites"]["geox"]["mean_accuracy"] == float(row["value"])
        assert sorted(path.name for path in (trial / "eval").iterdir()) == ["step_000001.json", "step_000002.json"]
        (offline,) = trial.glob("wandb/offline-run-*/*.wandb")
        assert b"short-tower" in offline.read_bytes()
    capsys.readouterr()
    assert train.main([f"recipe={out / 'best.yaml'}", "dry_run=true"]) == 0
    assert "short-tower-best" in capsys.readouterr().out
