"""Fixtures of the tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.runs.directory import RUN_DIR_VARIABLE
from tests.geotune.commands import write_targets


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with a suite, a builder and a plain class."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return write_targets(tmp_path)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, where `runs/` may appear, as a process of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", RUN_DIR_VARIABLE):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken away afterwards
        monkeypatch.delenv(name)
    return tmp_path
