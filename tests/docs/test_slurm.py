"""The batch script returns a job to the queue exactly when a restart would go on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm.sbatch"
TOOLS = {
    "srun": 'echo "$@" >> srun.log; exit "$STATUS"',
    "scontrol": """echo "$@" >> scontrol.log; [[ $1 = show ]] && echo "JobId=7 JobState=$STATE Reason=None"; exit 0""",
    "squeue": "echo $STATE",
}


def job(folder: Path, status: int, *, state: str = "RUNNING", restarts: str | None = None) -> tuple[bool, str]:
    """Run the script with stand-ins for Slurm's commands. Returns whether it was requeued, and what srun was given."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, body in TOOLS.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "8", "RUN_DIR": "run"}
    variables |= {"PATH": f"{tools}:{os.environ['PATH']}", "STATUS": str(status), "STATE": state}
    if restarts is not None:
        variables["SLURM_RESTART_COUNT"] = restarts
    done = subprocess.run(["bash", SCRIPT, "recipe=x"], cwd=folder, env=variables, capture_output=True, check=False)
    assert done.returncode == status, done.stderr
    assert not done.stderr
    log = folder / "scontrol.log"
    return log.exists() and "requeue 7" in log.read_text().splitlines(), (folder / "srun.log").read_text()


@pytest.mark.parametrize(
    ("status", "requeued"), [(0, False), (1, True), (2, False), (130, True), (143, True), (129, False), (137, False)]
)
def test_a_job_that_was_stopped_returns(tmp_path: Path, status: int, requeued: bool) -> None:
    assert job(tmp_path, status)[0] == requeued


@pytest.mark.parametrize("state", ["CANCELLED", "CANCELLED+", "COMPLETING"])
def test_a_cancelled_job_does_not_return(tmp_path: Path, state: str) -> None:
    assert not job(tmp_path, 143, state=state)[0]


def test_the_limits(tmp_path: Path) -> None:
    assert not job(tmp_path, 143, restarts="20")[0]
    assert job(tmp_path, 143, restarts="19")[0]
    (tmp_path / "scontrol.log").unlink()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").touch()
    assert not job(tmp_path, 1)[0]


def test_it_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    assert "resume=last" not in job(tmp_path, 143)[1]
    step = tmp_path / "run" / "checkpoints" / "step_000001"
    step.mkdir(parents=True)
    (step / "state.json").touch()
    assert job(tmp_path, 0)[1].endswith("run_dir=run resume=last\n")
