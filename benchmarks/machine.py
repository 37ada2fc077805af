"""Describes the machine that a benchmark runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from geotune.system.parallel import usable_cores


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the processor, its usable cores, the memory in 1e9 bytes and, if `device` is cuda, the GPU."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    facts: dict[str, Any] = {"cpu": cpu, "cores": usable_cores(), "memory_gb": round(memory, 1)}
    if device == "cuda":
        import torch

        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
    return facts
