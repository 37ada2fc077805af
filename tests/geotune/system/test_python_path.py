"""Where modules of the user's own are found: the console script looks in the working directory last, `-m` first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geotune.config.recipe_files import RECIPES

SCRIPT = "import sys\nfrom geotune.__main__ import main\nsys.exit(main())\n"
BUILDER = """
import os, subprocess, sys
from dataclasses import dataclass
from geotune.system.python_path import safe_path_variables

@dataclass
class Mine:
    def make(self, out, name, **settings):
        environment = {**os.environ, **safe_path_variables()}
        subprocess.run([sys.executable, "-m", "geotune", "build", "builder=child.yaml", "out=x"], env=environment)
        raise SystemExit(7)

@dataclass
class Child:
    def make(self, out, name, **settings):
        print("the child found", __name__)
        raise SystemExit(7)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A working directory with a builder, and with folders that have the names of our packages."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "geotune").write_text(SCRIPT)
    here = tmp_path / "project"
    for package in ("eval", "data_builders"):
        (here / package).mkdir(parents=True)
        (here / package / "__init__.py").write_text("print('mine', __name__)\n")
    (here / "mine.py").write_text(BUILDER)
    (here / "mine.yaml").write_text("_target_: mine.Mine\n")
    (here / "child.yaml").write_text("_target_: mine.Child\n")
    return here


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words, "build", "builder=mine.yaml", "out=x"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(RECIPES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_console_script_and_its_children_see_the_working_directory_last(project: Path) -> None:
    done = run(project, str(project.parent / "bin" / "geotune"))
    assert (done.returncode, done.stdout) == (7, "the child found mine\n"), done.stderr


def test_python_m_and_its_children_see_the_working_directory_first(project: Path) -> None:
    done = run(project, "-m", "geotune")
    assert done.stdout.count("mine data_builders") == 2, "they see the project's own package instead of ours"
