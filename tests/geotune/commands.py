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

from geotune.errors import ConfigError


@dataclass
class Inner:
    depth: int = 1


@dataclass
class Suite:
    path: str
    build: dict[str, Any] | None = None
    samples_per_task: int | None = None
    tasks: tuple[str, ...] | None = None
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.samples_per_task == 0:
            raise ConfigError("samples_per_task=0: must be at least 1")


@dataclass
class City:
    places: int = 10
    folder: Path = Path(".")
    name_of: str = ""
    \"\"\"What the city is called.\"\"\"


class Plain:
    def __init__(self, backbone, size: int, label: str = "x") -> None:
        self.backbone, self.size, self.label = backbone, size, label


CONSTANT = 3
"""


def write_targets(folder: Path) -> str:
    """Write a module with a suite, a builder and a plain class to `folder`; returns its name."""
    name = f"targets_{folder.name}".replace("-", "_")
    (folder / f"{name}.py").write_text(TARGETS)
    return name


def recipe_file(folder: Path, text: str) -> str:
    """`recipe=<file>` for a recipe with this body and no suite."""
    path = folder / "mine.yaml"
    path.write_text(f"# @package _global_\n# A recipe.\n{text}")
    return f"recipe={path}"


def status_and_message(argv: list[str], capsys: pytest.CaptureFixture[str], command: str = "train") -> tuple[int, str]:
    def function(cfg: DictConfig) -> None:
        raise AssertionError("a mistake came through")

    status = run_command(command, function, argv)
    out, err = capsys.readouterr()
    assert out == ""
    return status, err
