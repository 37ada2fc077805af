"""Fixtures of the tests of configs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from geotune.config import recipe_files
from geotune.config.recipe_files import RECIPES
from tests.geotune.commands import write_targets


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with a suite, a builder, a stage and a class without options."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return write_targets(tmp_path)


@pytest.fixture
def own_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recipes that a test may spoil."""
    copy = tmp_path / "recipes"
    shutil.copytree(RECIPES, copy)
    monkeypatch.setattr(recipe_files, "RECIPES", copy)
    return copy
