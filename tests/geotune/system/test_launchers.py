"""Which process of a job is the first one, and which is alone."""

from __future__ import annotations

import pytest

from geotune.system.launchers import is_alone, is_first_process, job, restarts

VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_RESTART_COUNT")
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


@pytest.mark.parametrize(
    ("told", "first", "alone"),
    [
        ({}, True, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True, False),  # torchrun
        ({"RANK": "8", "LOCAL_RANK": "0"}, False, False),
        ({"RANK": "8", "LOCAL_RANK": "0", "SLURM_PROCID": "0"}, False, False),  # torchrun within srun
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, True, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "16"}, True, False),  # srun
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "16"}, False, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, True, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "SLURM_PROCID": "0"}, False, False),  # Lightning within a job
        ({"NODE_RANK": "1"}, False, False),  # the second machine of Lightning's own launcher
    ],
)
def test_what_launchers_tell(told: dict[str, str], first: bool, alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert (is_first_process(), is_alone()) == (first, alone)


def test_the_job_of_a_batch_system(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*JOBS, *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    assert (job(), restarts()) == (None, 0)
    monkeypatch.setenv("PBS_JOBID", "7.server")
    assert job() == "PBS_JOBID=7.server"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert (job(), restarts()) == ("SLURM_JOB_ID=12", 3)
