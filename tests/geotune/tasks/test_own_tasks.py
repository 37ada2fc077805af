"""Tasks outside the package, which are found by their dotted name."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.errors import ConfigError
from geotune.tasks import get_task, is_task

MODULE = """
from dataclasses import replace
from geotune.tasks import TASKS

GOOD = replace(TASKS["judge"], name="{module}.GOOD")
MISNAMED = replace(TASKS["judge"], name="judge")
NOTHING = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE.format(module=name))
    (tmp_path / f"{name}_broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_an_own_task_is_found_by_its_name(module: str) -> None:
    task = get_task(f"{module}.GOOD")
    assert task.name == f"{module}.GOOD"
    assert get_task(task.name) is task
    assert is_task(task.name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("GOD", r"there is no .*\.GOD; did you mean GOOD\?"),
        ("NOTHING", "this is no task"),
        ("MISNAMED", r"the name of this task is judge; make it .*\.MISNAMED"),
    ],
)
def test_what_is_no_task(module: str, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"task={module}\.{name}: {told}"):
        get_task(f"{module}.{name}")
    assert not is_task(f"{module}.{name}")


def test_a_text_with_dots_is_no_task() -> None:
    assert not is_task("v1.0 of the questions")
    assert not is_task("")


def test_an_error_inside_the_module_of_a_task_is_not_hidden(module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        is_task(f"{module}_broken.GOOD")
