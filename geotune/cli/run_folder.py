"""The run directory, which a command chooses and creates before its function starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from geotune.config.overrides import escape_interpolation
from geotune.errors import ConfigError, Problem
from geotune.runs.chain import is_chain
from geotune.runs.directory import RUN_DIR_VARIABLE, default_run_dir
from geotune.system.files import make_folder


@contextmanager
def claimed_run_dir(cfg: DictConfig) -> Iterator[None]:
    """Set `cfg.run_dir` and create the folder, for a command that has one.

    Within a dry run nothing is created. The folder is removed again if the block raises ConfigError and left it empty.
    Raises ConfigError if the folder can't be written.
    """
    if "run_dir" not in cfg:
        yield
        return
    chain = "chain" in cfg
    chosen = cfg.run_dir if cfg.run_dir is not None else default_run_dir(cfg.recipe, cfg.resume, chain=chain)
    if is_chain(Path(chosen)) and not chain:
        raise ConfigError(
            Problem("run_dir", chosen, "this is the folder of a chain", "choose the chain's recipe, or another folder")
        )
    cfg.run_dir = escape_interpolation(chosen)
    if cfg.dry_run:
        yield
        return
    os.environ[RUN_DIR_VARIABLE] = chosen
    folder = Path(chosen)
    is_new = not folder.exists()
    make_folder(folder, "run_dir")
    try:
        yield
    except ConfigError:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
        raise
