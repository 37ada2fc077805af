"""The example project of docs/extending.md, in a copy: its builder, its task, its suite and its recipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "example_project"
TASK = "brightness.task.BRIGHTNESS"
SCRIPT = "import sys\nfrom geotune.__main__ import main\nsys.exit(main())\n"
SMALL = ["data.build.photos=8", "data.batch_size=2", "trainer.max_steps=2", "wandb.mode=disabled"]
SMALL += ["evaluator.suites.brightness.build.photos=4", "run_dir=run"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "project"
    shutil.copytree(EXAMPLE, folder)
    (folder.parent / "geotune").write_text(SCRIPT)  # the console script
    return folder


def run(project: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("GEOTUNE_RUN_DIR", None)
    done = subprocess.run(
        [sys.executable, *words], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def test_its_builder_by_the_console_script(project: Path) -> None:
    (project / "eval").mkdir()
    (project / "eval" / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    run(project, "../geotune", "build", "builder=photos.yaml", "out=datasets/photos", "photos=20")
    report = json.loads((project / "datasets" / "photos" / "build_report.json").read_text())
    assert report["tasks"] == {TASK: 20}
    assert report["name"] == "photos"
    shown = run(project, "../geotune", "build", "builder=photos.yaml", "--help").stdout
    assert "Number of photos. [64]" in shown


def test_its_recipe_by_the_console_script(project: Path) -> None:
    shown = run(project, "../geotune", "train", "recipe=brightness.yaml", "dry_run=true", *SMALL).stdout
    assert "is not built yet; a run builds it first, by brightness.builder.Photos" in shown
    shutil.rmtree(project / "eval")


def test_its_recipe_by_python_m(project: Path) -> None:
    run(project, "-m", "geotune.train", "recipe=brightness.yaml", *SMALL)
    metrics = json.loads((project / "run" / "metrics.json").read_text())
    suite = metrics["suites"]["brightness"]
    assert (metrics["step"], suite["kind"], suite["n"], suite["headline"]) == (2, "brightness", 4, "accuracy")
    lines = (project / "run" / "predictions" / "step_000002.jsonl").read_text().splitlines()
    assert {json.loads(line)["task"] for line in lines} == {TASK}
    assert (project / "run" / "checkpoints" / "best").is_dir()
    assert metrics["train"]["train/smooth_loss"] > metrics["train"]["train/loss"], (
        "its stage reports a figure of its own"
    )


def test_mistakes_in_its_own_options_are_told_like_ours(project: Path) -> None:
    wrong = ["stage.smoothing=1", "stage.lr=0", "backbone=faint.yaml", "backbone.image_scale=none"]
    failed = run(project, "-m", "geotune.train", "recipe=brightness.yaml", *wrong, *SMALL, status=2).stderr
    assert failed.splitlines() == [
        "error: backbone.image_scale=none: expected a number",
        "stage.lr=0.0: give a number above 0",
        "stage.smoothing=1.0: must be at least 0 and below 1",
    ]


def test_its_backbone_trains_and_answers(project: Path) -> None:
    more = ["backbone=faint.yaml", "backbone.image_scale=0", "evaluator=null", "run_dir=faint"]
    run(project, "-m", "geotune.train", "recipe=brightness.yaml", *SMALL, *more)
    assert "image_scale: 0.0" in (project / "faint" / "config.yaml").read_text()
    code = "from geotune.inference.loading import *; print(open_backbone(find_source('faint')).image_scale)"
    assert run(project, "-c", code).stdout.strip() == "0.0"


def test_its_suite_keeps_the_contract(project: Path) -> None:
    code = "from brightness.suite import BrightnessSuite; from eval.suites.conformance import check_suite\n"
    run(project, "-c", f"{code}check_suite(BrightnessSuite(path='datasets/photos'))")


def test_the_documentation_names_its_commands() -> None:
    commands = [line for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("geotune ")]
    text = (ROOT / "docs" / "extending.md").read_text()
    assert len(commands) == 3
    assert all(command in text for command in commands)
