"""Files that appear complete or not at all, and folders that a user names."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from geotune.errors import ABSENT, ConfigError, Problem

ASSETS = Path(__file__).resolve().parents[1] / "assets"
"""Folder of the package data: the embedded backbone, the gazetteer, outlines of the land."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing: no space is left, the user's quota or the largest size of a file is reached."""


class DiskFullError(ConfigError):
    """A file could not be written because no space is left. `path` names it, and `reason` is the system's."""

    def __init__(self, path: Path, reason: str) -> None:
        remedy = "make room there and run the command again"
        super().__init__(Problem(None, ABSENT, f"{path}: can't be written ({reason})", remedy))
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[DiskFullError], tuple[Path, str]]:
        """Return how the error is made again in another process."""
        return DiskFullError, (self.path, self.reason)


@contextlib.contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Raise DiskFullError if no space is left while the block writes to `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError(path, error.strerror or str(error)) from error


def append_whole(path: Path, text: str) -> None:
    """Append UTF-8 text to a file, all of it or nothing: on an error the file is cut to its earlier length.

    Raises DiskFullError if no space is left.
    """
    with naming_a_full_disk(path), path.open("ab") as file:
        write_whole(file.fileno(), text.encode())


def write_whole(descriptor: int, content: bytes) -> None:
    """Write `content` at the end of an open file, all of it or nothing: on an error the file is cut again."""
    before = os.lseek(descriptor, 0, os.SEEK_END)
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise


@contextlib.contextmanager
def open_atomically(path: str | Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing, of bytes or UTF-8 text, that takes its name only if the block ends without an error.

    Missing folders are created. A link keeps being one: the file appears where it leads. Raises ConfigError if the file
    can't be created, and DiskFullError if no space is left.
    """
    path = Path(path)
    try:
        path = end_of_link(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
        file = partial.open("wb") if binary else partial.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from None
    try:
        with naming_a_full_disk(path):
            with file:
                yield file
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def end_of_link(path: Path) -> Path:
    """Return where a link leads, which need not exist, or any other path as it is. Raises OSError for a circle."""
    try:
        return path.resolve() if path.is_symlink() else path
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


def replace_symlink(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target` in the same folder, atomically replacing an older link."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)


def make_folder(folder: Path, key: str) -> None:
    """Create the folder that a user named by `key`. Raises ConfigError if it can't be created or written.

    A link that leads to a missing folder keeps being one: the folder is created where it leads, if the folder around
    that is there, as it is not where a disk is not mounted.
    """
    try:
        for link in (path for path in (folder, *folder.parents) if path.is_symlink() and not path.exists()):
            end_of_link(link).mkdir(exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        dangling = isinstance(error, FileNotFoundError) and error.filename is not None
        reason = f"{error.strerror}: {error.filename}" if dangling else error.strerror or error
        raise ConfigError(
            Problem(key, folder, f"this folder can't be written ({reason})", f"give another {key}")
        ) from error
