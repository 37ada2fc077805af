"""The folder of a run, which a command fixes before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from geotune.config.overrides import escape_interpolation
from geotune.errors import ConfigError
from geotune.runs.directory import RUN_DIR_VARIABLE, default_run_dir
from geotune.system.files import make_folder


@contextmanager
def claimed_run_dir(cfg: DictConfig) -> Iterator[None]:
    """Fix `cfg.run_dir` and make it, for commands that have one; taken away again if a mistake left it empty."""
    if "run_dir" not in cfg:
        yield
        return
    chosen = cfg.run_dir if cfg.run_dir is not None else default_run_dir(cfg.recipe, cfg.resume)
    cfg.run_dir = escape_interpolation(chosen)
    if cfg.dry_run:
        yield
        return
    os.environ[RUN_DIR_VARIABLE] = chosen
    folder = Path(chosen)
    made = not folder.exists()
    make_folder(folder, "run_dir")
    try:
        yield
    except ConfigError:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise
