"""What launchers (torchrun, srun, Lightning's own) tell a process about the job that it belongs to."""

from __future__ import annotations

import os

NODE_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Variables that are 0 in the first process of a job whose launcher sets no RANK."""
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Variables by which a batch system tells a process its job."""
RESTART_VARIABLE = "SLURM_RESTART_COUNT"


def is_first_process() -> bool:
    """Return whether this process is the first one of its job, which alone writes what the processes share."""
    if "RANK" in os.environ:
        return _number("RANK") == 0
    # Processes that Lightning starts within a job of one task inherit SLURM_PROCID=0, so that alone does not tell.
    return all(_number(name) == 0 for name in NODE_VARIABLES)


def is_alone() -> bool:
    """Return whether no launcher has told this process that it is one of several."""
    return "LOCAL_RANK" not in os.environ and is_first_process() and _number("SLURM_STEP_NUM_TASKS") <= 1


def job() -> str | None:
    """Return the job of a batch system that this process belongs to, as `<variable>=<id>`, or None."""
    return next((f"{name}={os.environ[name]}" for name in JOB_VARIABLES if os.environ.get(name)), None)


def restarts() -> int:
    """Return how often the batch system has started this job again."""
    return _number(RESTART_VARIABLE)


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 0
