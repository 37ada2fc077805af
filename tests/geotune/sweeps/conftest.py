"""A recipe and a search that cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, dict[str, Any]], Path]:
    """`write("short", tree)`: a recipe or sweep file as a user writes it."""

    def file(name: str, tree: dict[str, Any]) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text("# @package _global_\n# For a test.\n" + yaml.safe_dump(tree), encoding="utf-8")
        return path

    return file


@pytest.fixture
def overrides(write: Callable[..., Path], tmp_path: Path) -> list[str]:
    """The command line of a search of two keys, over trainings of a recipe without data."""
    recipe = {
        "data": {"path": "none.jsonl", "batch_size": 2},
        "trainer": {"max_steps": 6, "accelerator": "cpu"},
        "evaluator": {"suites": {"geox": {"_target_": "eval.suites.CrossViewSuite", "path": "none.jsonl"}}},
    }
    space = {
        "stage.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "stage.schedule": {"choices": ["cosine", "linear"]},
    }
    search = {"space": space, "startup": 2}
    return [f"recipe={write('short', recipe)}", f"sweep={write('search', search)}", f"sweep_dir={tmp_path / 'out'}"]
