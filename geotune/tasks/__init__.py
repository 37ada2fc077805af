"""The tasks: the question, its legal answers, and how an answer is written, read from text and scored."""

from __future__ import annotations

from geotune.errors import ConfigError
from geotune.tasks.address import ADDRESS
from geotune.tasks.base import SYSTEM_PROMPT, GoldError, Parsed, Reason, Task
from geotune.tasks.cross_view import CROSS_VIEW
from geotune.tasks.geolocate import GEOLOCATE
from geotune.tasks.judge import JUDGE

TASKS: dict[str, Task] = {task.name: task for task in (*CROSS_VIEW, GEOLOCATE, ADDRESS, JUDGE)}
CROSS_VIEW_TASKS: tuple[str, ...] = tuple(task.name for task in CROSS_VIEW)

__all__ = [
    "CROSS_VIEW_TASKS",
    "SYSTEM_PROMPT",
    "TASKS",
    "GoldError",
    "Parsed",
    "Reason",
    "Task",
    "get_task",
]


def get_task(name: str) -> Task:
    """Return the task of that name; raises `ConfigError` for an unknown name."""
    if name not in TASKS:
        raise ConfigError(f"task {name!r} does not exist; the tasks are {', '.join(TASKS)}")
    return TASKS[name]
