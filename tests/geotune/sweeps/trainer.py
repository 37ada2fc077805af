"""A training that takes no time: the command line, run directory, signals and exit statuses of `geotune.train`.

It has six updates, each with a checkpoint and an evaluation, and starts a helper in a session of its own, as W&B does.
The seed 13 makes it fail; HANG=1 makes it hang at its first update and take no notice of SIGINT; with HOLD=<n>:<update>
the trials from number n on wait at that update for SIGINT, for five minutes at most.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from geotune.runs.suite_results import SuiteResult, task_rows

UPDATES = 6


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(".partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def main(overrides: list[str]) -> int:
    given = dict(override.split("=", 1) for override in overrides)
    run_dir, lr, interrupted, result = Path(given["run_dir"]), float(given.get("stage.lr", "1e-4")), [], {}
    hangs = os.environ.get("HANG") == "1"
    number, held = map(int, os.environ.get("HOLD", "9999:0").split(":"))
    saved = sorted(int(path.name[5:]) for path in run_dir.glob("checkpoints/step_*"))
    assert given["resume"] == ("last" if saved else "null")
    if given.get("seed") == "13":
        print("error: the thirteenth", file=sys.stderr)
        return 2
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN if hangs else lambda number, frame: interrupted.append(number))
    with (run_dir / "launches.jsonl").open("a") as file:
        file.write(
            json.dumps({"overrides": overrides, "from": saved[-1:], "threads": os.environ.get("OMP_NUM_THREADS")})
            + "\n"
        )
    for step in range(saved[-1] + 1 if saved else 1, UPDATES + 1):
        time.sleep(600 if hangs else 0.02)
        deadline = time.monotonic() + 300
        while step == held and int(run_dir.name[6:]) >= number and not interrupted and time.monotonic() < deadline:
            time.sleep(0.02)
        write(run_dir / f"checkpoints/step_{step:06d}/state.json", {"step": step, "total_updates": UPDATES})
        if interrupted:
            helper.kill()
            return 1
        # Best at 1e-3, and better with every update.
        accuracy = step / UPDATES / (1 + abs(math.log10(lr) + 3))
        interval = {"ci95": [0.0, 1.0], "chance": 0.25, "parse_rate": 1.0, "confusion": [[1, 2], [3, 4]]}
        tasks = {"pose_fixed": {"n": 10, "accuracy": accuracy, **interval}}
        figures = {"mean_accuracy": accuracy, "mean_ci95": [0.0, 1.0], "tasks": tasks}
        result = {"step": step, "suites": {"geox": SuiteResult("tasks", task_rows(figures), figures).entry()}}
        write(run_dir / f"eval/step_{step:06d}.json", result)
    write(run_dir / "metrics.json", result)
    helper.kill()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
