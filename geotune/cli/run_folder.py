"""The run directory, which a command chooses, creates and claims before its function starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from omegaconf import DictConfig

from geotune.config.overrides import escape_interpolation
from geotune.errors import ConfigError, Problem
from geotune.runs.aside import set_aside
from geotune.runs.chain import is_chain
from geotune.runs.claim import claimed
from geotune.runs.directory import RUN_DIR_VARIABLE, belongs_to, default_run_dir, find_checkpoint, has_checkpoint
from geotune.system.files import make_folder
from geotune.system.launchers import is_first_process


@contextmanager
def claimed_run_dir(cfg: DictConfig) -> Iterator[None]:
    """Set `cfg.run_dir`, and create and claim the folder, for a command that has one.

    The first process of a job claims the folder within the block. What an earlier run has left there is moved aside,
    unless this one goes on with it. Within a dry run nothing is created. The folder is removed again if the block
    raises ConfigError and left it empty. Raises ConfigError if the folder can't be written, belongs to another process,
    or holds a run that this one does not resume.
    """
    if "run_dir" not in cfg:
        yield
        return
    chain, is_first = "chain" in cfg, is_first_process()
    chosen = cfg.run_dir
    if chosen is None:
        chosen = default_run_dir(cfg.recipe, cfg.resume, chain=chain, make=not cfg.dry_run)
    folder = Path(chosen)
    if is_chain(folder) and not chain:
        raise ConfigError(
            Problem("run_dir", chosen, "this is the folder of a chain", "choose the chain's recipe, or another folder")
        )
    is_new = not folder.exists() or (cfg.run_dir is None and not any(folder.iterdir()))
    cfg.run_dir = escape_interpolation(chosen)
    if cfg.dry_run:
        yield
        return
    os.environ[RUN_DIR_VARIABLE] = chosen
    make_folder(folder, "run_dir")
    try:
        goes_on = _goes_on(cfg, folder)
        with claimed(folder) if is_first else nullcontext():
            # The first process of a chain may already have written its file when another one comes here.
            if not goes_on and (is_first or not chain):
                _refuse_used(folder, chain=chain)
            if not goes_on and is_first:
                set_aside(folder)
            yield
    except ConfigError:
        if is_new and is_first and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _goes_on(cfg: DictConfig, folder: Path) -> bool:
    """Return whether the command goes on with what `folder` holds.

    A run that resumes from a checkpoint in another folder is a new one. Raises ConfigError if there is no such
    checkpoint.
    """
    if cfg.resume is None or "chain" in cfg:
        return cfg.resume is not None
    return belongs_to(find_checkpoint(cfg.resume, folder), folder)


def _refuse_used(folder: Path, *, chain: bool) -> None:
    """Raise ConfigError if `folder` holds a chain, or a run with a complete checkpoint."""
    holds_chain = is_chain(folder)
    if not holds_chain and not has_checkpoint(folder):
        return
    remedy = "give resume=last, or another folder" if chain == holds_chain else "give another folder"
    what = "a chain" if holds_chain else "a run with a complete checkpoint"
    raise ConfigError(Problem("run_dir", folder, f"this folder holds {what} already", remedy))
