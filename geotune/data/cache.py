"""The cache beside a dataset: folders that are made once and that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from geotune.data.scratch import scratch_folder
from geotune.errors import ConfigError, Problem
from geotune.system.digests import fingerprint_of

CACHE = ".geotune"
"""Name of the folder beside a dataset that holds its index and its measures; it can be deleted at any time."""


def cache_folder(path: Path) -> Path:
    """Return the cache folder of the dataset file `path`: beside the file if possible, else in the user's cache.

    Raises ConfigError if neither is writable.
    """
    name = fingerprint_of(str(path.absolute()))
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if (scratch := scratch_folder()) is not None:
        return _in_scratch(scratch / name, (path.parent / CACHE / path.name, user / "geotune" / name))
    for folder in (path.parent / CACHE / path.name, user / "geotune" / name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    raise ConfigError(
        Problem(
            "data.path",
            path,
            f"neither the folder of the dataset nor {user} is writable",
            "set XDG_CACHE_HOME to one that is",
        )
    )


def _in_scratch(folder: Path, caches: Sequence[Path]) -> Path:
    """Return the cache folder of a dataset in a dry run, in which the entries of its own caches are links."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for entry in (entry for cache in caches if cache.is_dir() for entry in cache.iterdir()):
            copy = folder / entry.name
            if entry.is_dir() and not copy.exists():
                copy.symlink_to(entry.absolute())
            elif entry.suffix == ".json" and not copy.exists():
                shutil.copyfile(entry, copy)
    return folder


def make_once(folder: Path, prefix: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the entry `folder`/<prefix>-<key>, and have `make` fill it first if it does not exist.

    `make` writes into a temporary folder that is renamed when it is complete. If several processes ask for an entry at
    the same time, one of them makes it.
    """
    from filelock import FileLock

    wanted = folder / f"{prefix}-{key}"
    if wanted.is_dir():
        return wanted
    with FileLock(folder / f"{prefix}.lock"):
        if not wanted.is_dir():
            partial = Path(tempfile.mkdtemp(dir=folder, prefix=f".{prefix}-"))
            try:
                make(partial)
                partial.replace(wanted)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return wanted


def keep_newest(folder: Path, prefix: str, count: int) -> None:
    """Delete all entries of `prefix` but the `count` newest."""
    entries = sorted(folder.glob(f"{prefix}-*"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[count:]:
        shutil.rmtree(entry, ignore_errors=True)
