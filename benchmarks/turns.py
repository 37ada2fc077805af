"""The protocol between a benchmark and its contenders: their settings and their turns.

A contender writes JSON objects, one per line: first its facts, then `ready` after the warm-up, then the figures of each
turn. It does the updates of a turn for every line that it reads.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

KERNELS = ("flex", "sdpa")
"""Kernels of attention over the tree, on CUDA; a contender of this name is `tree` with this kernel."""
LEARNING_RATE = 1e-4
CHECKED = 39
"""Number of samples whose loss every contender of supervised fine-tuning reports before it trains."""


@dataclass(frozen=True)
class Setup:
    """The settings of one contender."""

    name: str
    """`plain` reads rows, `trl` is TRL, and all others read prefix trees; see `KERNELS`."""
    model: str
    """Folder of the model."""
    questions: str
    """File of the samples."""
    max_pixels: int
    """Images are scaled down to at most this many pixels."""
    batch_size: int
    """Samples per micro-batch; prompts per micro-batch if there are completions."""
    accumulate: int
    """Micro-batches per update."""
    warmup: int
    """Updates before the first turn."""
    updates: int
    """Updates per turn."""
    turns: int
    """Number of turns."""
    device: str = "cpu"
    dtype: str = "float32"
    checkpointing: bool = False
    """Whether activations are recomputed in the backward pass."""
    kernels: str = "auto"
    """Whether norms, rotary positions and MLPs are compiled; see `backbone.kernels`."""
    group_size: int = 0
    """Completions of a prompt; 0 for supervised fine-tuning."""
    new_tokens: int = 0
    """Tokens of each completion."""
    trl_rows: int = 0
    """Completions that TRL reads at a time in an update, of which they are a whole part."""

    @property
    def attn(self) -> str:
        """Attention over the tree; see `backbone.attn`."""
        return self.name if self.name in KERNELS else "auto"

    @property
    def reads_trees(self) -> bool:
        """Whether batches are prefix trees."""
        return self.name not in ("plain", "trl")

    @property
    def total(self) -> int:
        """Number of all updates, the warm-up included."""
        return self.warmup + self.updates * self.turns

    @property
    def workers(self) -> int:
        """Number of processes that load data: none on the CPU, where they would take cores from the training."""
        return 4 if self.device == "cuda" else 0


class Turns:
    """Counts what training reads, reports it at the end of each turn, and waits for the next turn.

    The figures of a turn are its seconds, the CPU time of the process in it (user and system, all threads), the peak
    memory so far, and what was added.
    """

    def __init__(self, setup: Setup, channel: IO[str]) -> None:
        self.setup = setup
        self.channel = channel
        self.done = 0
        self.since = 0.0
        self.cpu_since = 0.0
        self.count: dict[str, int | float] = {}

    def add(self, **counts: int | float) -> None:
        """Add the counts of a micro-batch, or times in seconds."""
        for name, count in counts.items():
            self.count[name] = self.count.get(name, 0) + count

    def report(self, **figures: Any) -> None:
        """Write one line to the process that leads the benchmark."""
        self.channel.write(json.dumps(figures) + "\n")
        self.channel.flush()

    def end_update(self) -> None:
        """Count an update. At the end of a turn, report its figures and wait for the next turn."""
        self.done += 1
        if self.done < self.setup.warmup or (self.done - self.setup.warmup) % self.setup.updates:
            return
        times = {"seconds": self.now() - self.since, "cpu_seconds": time.process_time() - self.cpu_since}
        if self.done == self.setup.warmup:
            self.report(ready=True)
        else:
            self.report(**times, peak_memory_gb=self.peak_memory_gb(), **self.count)
        if self.done < self.setup.total and not sys.stdin.readline():
            raise SystemExit("the leading process has ended")
        self.count.clear()
        self.since, self.cpu_since = self.now(), time.process_time()

    def now(self) -> float:
        """Seconds on the clock, once the device has finished its work."""
        if self.setup.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_memory_gb(self) -> float:
        """Largest memory of this process so far, in 1e9 bytes: resident on the CPU, allocated on the GPU."""
        if self.setup.device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / 1e9
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
