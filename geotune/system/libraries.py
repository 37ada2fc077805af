"""What libraries show on the terminal that is expected here."""

from __future__ import annotations

import logging
import os
import warnings

from geotune.system.launchers import is_first_process

EXPECTED = (
    r".*module\(s\) in eval mode at the start of training",  # a frozen tower stays in eval mode on purpose
    r".*does not have many workers",  # images are cached
    r".*Total length of .* across ranks is zero",  # a resumed run that has only its last evaluation left
    r".*isinstance\(treespec, LeafSpec\)",
    r".*`is_gradient_checkpointing` is deprecated",
    r".*`torch.jit.script_method` is deprecated",
)
"""Patterns of library warnings that are expected here."""


def silence_libraries() -> None:
    """Silence what libraries show that says nothing new; warnings that are not expected and errors stay visible.

    Of the processes of one run, only the first shows more than warnings.
    """
    from transformers.utils.logging import disable_progress_bar

    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    # It warns that 4-bit CPU kernels could not be fetched, which are not used.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # On import it logs the accelerator it found, and other libraries import it wherever it is installed.
    logging.getLogger("DeepSpeed").addFilter(_is_not_about_accelerators)
    disable_progress_bar()  # of loading and writing weights; downloads have bars of another library
    # W&B says where it writes and repeats all figures at the end of a run; its warnings and errors are shown.
    os.environ.setdefault("WANDB_SHOW_INFO", "false")
    if not is_first_process():
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.WARNING)
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)


def _is_not_about_accelerators(record: logging.LogRecord) -> bool:
    """Filter of log records."""
    return "accelerator" not in record.getMessage()
