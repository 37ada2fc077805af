"""The list of tasks, and properties that all tasks share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from geotune.errors import ConfigError
from geotune.tasks import CROSS_VIEW_TASKS, SYSTEM_PROMPT, TASKS, Parsed, get_task


def test_names_and_facts() -> None:
    assert CROSS_VIEW_TASKS == (
        "pose_fixed",
        "pose_random",
        "localization_prior",
        "localization_no_prior",
        "intra_map",
        "cross_map",
        "cross_map_random",
    )
    assert tuple(TASKS) == (*CROSS_VIEW_TASKS, "geolocate", "address", "judge")
    assert [TASKS[name].key for name in CROSS_VIEW_TASKS] == [
        *["direction"] * 2,
        *["is_in_range"] * 2,
        "location",
        *["matched_aerial_index"] * 2,
    ]
    assert [TASKS[name].n_maps for name in TASKS] == [1, 1, 1, 1, 1, 4, 4, 0, 0, 0]
    assert [name for name in TASKS if TASKS[name].cropped] == [
        "pose_random",
        "localization_no_prior",
        "intra_map",
        "cross_map_random",
    ]
    # chance over the seven tasks, as published
    chances = [TASKS[name].chance or 0 for name in CROSS_VIEW_TASKS]
    assert sum(chances) / 7 == pytest.approx(0.3016, abs=1e-4)
    assert SYSTEM_PROMPT.endswith(".")
    assert SYSTEM_PROMPT.count(".") == 1
    assert "<image>" not in SYSTEM_PROMPT


def test_get_task() -> None:
    assert get_task("judge") is TASKS["judge"]
    with pytest.raises(ConfigError, match=r"task=pose: there is no such task; .*pose_fixed, pose_random"):
        get_task("pose")


def test_an_answer_and_a_reason_exclude_each_other() -> None:
    for both in ((None, None), ("N", "illegal")):
        with pytest.raises(AssertionError):
            Parsed(*both)


def test_importing_the_tasks_is_light() -> None:
    code = (
        "import sys, geotune.tasks; print(*{'torch', 'transformers', 'pyproj', 'PIL', 'datasets'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
