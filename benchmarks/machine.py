"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores, memory, and the GPU where the `device` is cuda."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found: dict[str, Any] = {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory, 1)}
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
    return found
