"""The tasks: the question, its legal answers, and how an answer is written, read from text and scored."""

from __future__ import annotations

from functools import cache

from geotune.config.targets import resolve_name
from geotune.errors import ConfigError, Problem
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
    "is_task",
]


def get_task(name: str) -> Task:
    """Return the task of that name: one of `TASKS`, or an own one by its dotted name, package.module.TASK.

    Raises `ConfigError` if there is no such task.
    """
    return TASKS[name] if name in TASKS else _own_task(name)


@cache
def is_task(name: str) -> bool:
    """Return whether there is a task of that name; a sample's field `task` may hold any text."""
    try:
        get_task(name)
    except ConfigError:
        return False
    return True


@cache
def _own_task(name: str) -> Task:
    """Import a task by its dotted name, which must be its `name` too: samples and figures hold that one."""
    known = f"the tasks are {', '.join(TASKS)}; write one of your own as package.module.TASK"
    if "." not in name:
        raise ConfigError(Problem("task", name, "there is no such task", known))
    task = resolve_name(name, "task", "a task, package.module.TASK")
    if not isinstance(task, Task):
        raise ConfigError(Problem("task", name, "this is no task, an instance of geotune.tasks.Task", known))
    if task.name != name:
        raise ConfigError(Problem("task", name, f"the name of this task is {task.name}", f"make it {name} as well"))
    return task
