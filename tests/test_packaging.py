"""What an installed geotune must have: its recipes and assets, the versions it names, and a light import."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from geotune.cli.commands import COMMANDS
from geotune.config.recipe_files import RECIPES

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "lightning", "peft", "datasets", "wandb", "pyproj", "matplotlib", "pandas", "scipy")
LIGHT = (
    "geotune",
    "geotune.geo",
    "geotune.sample",
    "geotune.tasks",
    "geotune.tasks.coordinates",
    "geotune.runs.directory",
    "geotune.config.composing",
    "geotune.cli.entry",
    "geotune.__main__",
)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", [*LIGHT, *(command.module for command in COMMANDS.values())])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, time; t = time.perf_counter(); import {module}; s = time.perf_counter() - t\n"
    out = python(code + f"print(f'{{s:.2f}}', *[name for name in {HEAVY!r} if name in sys.modules])")
    seconds, *loaded = out.split()
    print(f"import {module}: {seconds} s")
    assert loaded == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_light(command: str) -> None:
    code = "import sys, io, contextlib\nfrom geotune.__main__ import main\n"
    code += f"with contextlib.redirect_stdout(io.StringIO()):\n    status = main([{command!r}, '--help'])\n"
    out = python(code + f"print(status, *[name for name in {HEAVY!r} if name in sys.modules])")
    assert out.split() == ["0"]


def test_the_wheel_holds_all_that_a_run_needs(tmp_path: Path) -> None:
    """Build a wheel of a copy (a build writes beside its sources) and look for every recipe, asset and module."""
    copy = tmp_path / "source"
    copy.mkdir()
    names = ["setup.cfg", "pyproject.toml", "LICENSE", "README.md", "geotune", "data_builders", "eval", "recipes"]
    expected = set()
    for path in (path for name in names for path in [ROOT / name, *(ROOT / name).rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            if path.parent != ROOT:
                expected.add(path.relative_to(ROOT).as_posix())
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert "recipes/recipe/quickstart.yaml" in held


def test_recipes_lie_where_the_package_looks() -> None:
    assert (RECIPES / "train.yaml").is_file()
    assert RECIPES.parent == ROOT


def test_every_requirement_is_pinned() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    names = [re.split(r"[<>=!~\[ ]", line)[0].lower() for line in wanted.split("\n") if line.strip()]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    assert [name for name in names if name not in pins] == []
    assert all("+" not in pin for pin in pins.values()), "a local version can't be installed elsewhere"


def test_every_command_is_a_module() -> None:
    for name, command in COMMANDS.items():
        assert (ROOT / Path(*command.module.split("."))).with_suffix(".py").is_file()
        assert (RECIPES / f"{name}.yaml").is_file()
