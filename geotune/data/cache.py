"""What is kept beside a dataset: made once, in one piece, and deleted when it is old."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from geotune.errors import ConfigError
from geotune.system.digests import fingerprint_of

CACHE = ".geotune"
"""Folder beside a dataset that holds what was found out about it; may be deleted at any time."""


def cache_folder(path: Path) -> Path:
    """Where to keep what is known of the dataset file `path`: beside it, else in the user's own cache."""
    name = fingerprint_of(str(path.absolute()))
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (path.parent / CACHE / path.name, user / "geotune" / name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    raise ConfigError(f"data.path={path}: neither its folder nor {user} can be written; set XDG_CACHE_HOME")


def cached(folder: Path, key: str, prefix: str, make: Callable[[Path], None]) -> Path:
    """`folder`/<prefix>-<key>, made by `make` in one piece when it is not there; others of `prefix` go.

    Of several processes that ask, one makes it.
    """
    from filelock import FileLock

    wanted = folder / f"{prefix}-{key}"
    if wanted.is_dir():
        return wanted
    with FileLock(folder / f"{prefix}.lock"):
        if not wanted.is_dir():
            partial_ = Path(tempfile.mkdtemp(dir=folder, prefix=f".{prefix}-"))
            try:
                make(partial_)
                partial_.replace(wanted)
            finally:
                shutil.rmtree(partial_, ignore_errors=True)
    return wanted


def forget(folder: Path, prefix: str, keep: int) -> None:
    """Delete all but the newest `keep` entries of `prefix`."""
    entries = sorted(folder.glob(f"{prefix}-*"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[keep:]:
        shutil.rmtree(entry, ignore_errors=True)
