"""Messages of libraries that tell a user of this project nothing."""

from __future__ import annotations

import logging
import sys
import warnings

EXPECTED = (
    r".*module\(s\) in eval mode at the start of training",  # a frozen tower is, on purpose
    r".*does not have many workers",  # images are cached
    r".*Total length of .* across ranks is zero",  # a run that has only its last evaluation left
    r".*isinstance\(treespec, LeafSpec\)",
    r".*`is_gradient_checkpointing` is deprecated",
    r".*`torch.jit.script_method` is deprecated",
)
"""Warnings of libraries that tell a user of this project nothing."""


def silence_libraries() -> None:
    """Keep libraries from speaking of what is as it should be."""
    from transformers.utils.logging import disable_progress_bar

    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    # Says that 4-bit kernels could not be fetched; they are not used.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # Says on import which accelerator it found; others import it wherever it is installed.
    logging.getLogger("DeepSpeed").addFilter(_not_of_accelerators)
    if not sys.stderr.isatty():
        disable_progress_bar()
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)


def _not_of_accelerators(record: logging.LogRecord) -> bool:
    return "accelerator" not in record.getMessage()
