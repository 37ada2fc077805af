"""`geotune.sweep` whose trials are the trainings of `trainer.py`; for tests that kill or interrupt the sweep itself."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from geotune import sweep
from geotune.sweeps import runner


def command(overrides: list[str], processes: int) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("trainer.py")), *overrides]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background has it ignored
    runner.training_command = command
    raise SystemExit(sweep.main())
