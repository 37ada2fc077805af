"""Files that appear complete or not at all, and folders that a user names."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from geotune.errors import ConfigError, Problem

ASSETS = Path(__file__).resolve().parents[1] / "assets"
"""Folder of the package data: the embedded backbone, the gazetteer, outlines of the land."""


@contextlib.contextmanager
def open_atomically(path: str | Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing, of bytes or UTF-8 text, that takes its name only if the block ends without an error.

    Missing folders are created. Raises ConfigError if the file can't be created.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
        file = partial.open("wb") if binary else partial.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from None
    try:
        with file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def replace_symlink(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target` in the same folder, atomically replacing an older link."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)


def make_folder(folder: Path, key: str) -> None:
    """Create the folder that a user named by `key`. Raises ConfigError if it can't be created or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            Problem(key, folder, f"this folder can't be written ({reason})", f"give another {key}")
        ) from error
