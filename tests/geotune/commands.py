"""Command lines, recipe files and targets that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from geotune.cli.entry import run_command

RECIPE = "recipe=geox_sft_qwen2_5_vl_7b"
NO_SUITES = [RECIPE, "evaluator=null"]
BODY = "data: {path: x, batch_size: 1}\ntrainer: {max_steps: 1}\n"
TARGETS = """
from __future__ import annotations
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from geotune.config.options import Options
from geotune.config.parts import StageConfig
from geotune.config.rules import at_least


@dataclass
class Inner:
    depth: int = 1


@dataclass
class Suite(Options):
    path: str
    build: dict[str, Any] | None = None
    samples_per_task: int | None = None
    tasks: tuple[str, ...] | None = None
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner = field(default_factory=Inner)

    def check(self):
        yield from at_least("samples_per_task", self.samples_per_task, 1)


@dataclass
class City:
    places: int = 10
    folder: Path = Path(".")
    name_of: str = ""
    \"\"\"What the city is called.\"\"\"


@dataclass
class OwnConfig(StageConfig):
    size: int = 1

    def check(self):
        yield from super().check()
        yield from at_least("size", self.size, 1)


class OwnStage:
    Config = OwnConfig

    def __init__(self, backbone, config: OwnConfig) -> None:
        self.backbone, self.config = backbone, config


class Bare:
    def __init__(self, size: int) -> None:
        self.size = size


CONSTANT = 3
"""


def write_targets(folder: Path) -> str:
    """Write a module with a suite, a builder, a stage and a class without options to `folder`; returns its name."""
    name = f"targets_{folder.name}".replace("-", "_")
    (folder / f"{name}.py").write_text(TARGETS)
    return name


def recipe_file(folder: Path, text: str, name: str = "mine.yaml") -> str:
    """`recipe=<file>` for a recipe with this body and no suite."""
    path = folder / name
    path.write_text(f"# @package _global_\n# A recipe.\n{text}")
    return f"recipe={path}"


def status_and_message(argv: list[str], capsys: pytest.CaptureFixture[str], command: str = "train") -> tuple[int, str]:
    def function(cfg: DictConfig) -> None:
        raise AssertionError("a mistake came through")

    status = run_command(command, function, argv)
    out, err = capsys.readouterr()
    assert out == ""
    return status, err
