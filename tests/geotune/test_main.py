"""The console script `geotune`, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from geotune.cli.commands import COMMANDS
from geotune.config.recipe_files import RECIPES
from tests.geotune.commands import NO_SUITES


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = str(RECIPES.parent)
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_the_console_script_hands_over_to_the_command(tmp_path: Path) -> None:
    done = run("-m", "geotune", "train", *NO_SUITES, "stage.lrr=1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: stage.lrr=1: no such key; did you mean stage.lr?\n"


def test_the_console_script_by_itself(tmp_path: Path) -> None:
    helped = run("-m", "geotune", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert all(name in helped.stdout for name in COMMANDS)
    wrong = run("-m", "geotune", "trian", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "geotune trian" in wrong.stderr
