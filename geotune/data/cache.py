"""The cache beside a dataset: folders that are made once, that appear complete or not at all, and that are checked.

Everything in a cache can be deleted at any time. What is missing, damaged or of another version is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from geotune.data.scratch import scratch_folder
from geotune.errors import ConfigError, Problem
from geotune.system.digests import fingerprint_of
from geotune.system.strict_json import write_json

CACHE = ".geotune"
"""Name of the folder beside a dataset that holds its index and its measures; it can be deleted at any time."""
CONTENTS = "contents.json"
"""File of an entry that holds the name of the entry and the digests of its files."""
MISSING = "it is missing"
IN_USE_SECONDS = 600
"""Time after an entry was opened in which it is not deleted: its process may be about to read it."""
log = logging.getLogger(__name__)


def cache_folder(path: Path) -> Path:
    """Return the cache folder of the dataset file `path`: beside the file if possible, else in the user's cache.

    Raises ConfigError if neither is writable.
    """
    name = fingerprint_of(str(path.absolute()))
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    beside = path.parent / CACHE / path.name
    if (scratch := scratch_folder()) is not None:
        return _in_scratch(scratch / name, (beside, user / "geotune" / name))
    if beside.is_file():
        _clear(beside, "this is a file, not a folder")
    for folder in (beside, user / "geotune" / name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            log.info("%s can't be written (%s)", folder, error.strerror)
            continue
        if folder != beside:
            log.info("the index of %s is kept in %s", path, folder)
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


def make_once(folder: Path, prefix: str, version: int, key: str, make: Callable[[Path], None]) -> Path:
    """Return the entry `folder`/<prefix>-<version>-<key>; `make` fills it first if it is missing or damaged.

    `make` writes files into a temporary folder that is renamed when it is complete. If several processes ask for an
    entry at the same time, one of them makes it. Raises ConfigError if the entry can't be stored.
    """
    wanted = folder / f"{prefix}-{version}-{key}"
    if _damage(wanted):
        with _locked(folder, prefix):
            if damage := _damage(wanted):  # else another process has made it while this one waited
                if damage != MISSING:
                    _clear(wanted, damage)
                elif _is_outdated(folder, prefix, version):
                    log.info("%s: the %s there is of another version; it is made again", folder, prefix)
                _make(wanted, prefix, make)
    if not wanted.is_symlink():  # as in a dry run, which changes nothing
        with contextlib.suppress(OSError):  # the entry of another user
            os.utime(wanted)
    return wanted


def _make(wanted: Path, prefix: str, make: Callable[[Path], None]) -> None:
    """Have `make` fill the entry `wanted`, which does not exist. The caller holds the lock."""
    for leftover in wanted.parent.glob(f".{prefix}-*"):  # of a process that was killed: only one makes entries
        _delete(leftover)
    partial = Path(tempfile.mkdtemp(dir=wanted.parent, prefix=f".{prefix}-"))
    try:
        make(partial)
        digests = {file.name: _digest(file) for file in sorted(partial.iterdir())}
        write_json(partial / CONTENTS, {"entry": wanted.name, "files": digests})
        try:
            partial.replace(wanted)
        except OSError as error:
            reason = f"can't be replaced ({error.strerror})"
            raise ConfigError(Problem("data.path", wanted, reason, f"delete {wanted.parent}")) from error
    finally:
        _delete(partial)


def keep_newest(folder: Path, prefix: str, count: int) -> None:
    """Delete all entries of `prefix` but the `count` that were opened last, and those that are in use."""
    opened: list[tuple[float, Path]] = []
    for entry in folder.glob(f"{prefix}-*"):
        with contextlib.suppress(OSError):  # another process has deleted it
            opened.append((entry.stat().st_mtime, entry))
    for seconds, entry in sorted(opened, reverse=True)[count:]:
        if time.time() - seconds > IN_USE_SECONDS:
            _delete(entry)


def _damage(entry: Path) -> str:
    """Return how an entry differs from what was stored, `MISSING` if it is not there; an empty text if it is whole."""
    if not os.path.lexists(entry):
        return MISSING
    try:
        contents = json.loads((entry / CONTENTS).read_text(encoding="utf-8"))
        name, files = contents["entry"], dict(contents["files"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return f"{CONTENTS} can't be read"
    if name != entry.name:
        return f"it is a copy of {name}"
    try:
        wrong = (file for file, digest in files.items() if _digest(entry / file) != digest)
        return next((f"{file} is not as it was written" for file in wrong), "")
    except OSError as error:
        return f"{Path(error.filename).name} can't be read ({error.strerror})"


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]


def _is_outdated(folder: Path, prefix: str, version: int) -> bool:
    """Return whether all entries of `prefix`, of which there are some, are of other versions."""
    entries = list(folder.glob(f"{prefix}-*"))
    return bool(entries) and not any(entry.name.startswith(f"{prefix}-{version}-") for entry in entries)


@contextlib.contextmanager
def _locked(folder: Path, prefix: str) -> Iterator[None]:
    """Hold the lock on the entries of `prefix`. Raises ConfigError if its file can't be locked."""
    from filelock import FileLock

    file = folder / f"{prefix}.lock"
    if file.is_dir():
        _clear(file, "this is a folder, not a file")
    lock = FileLock(file)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise ConfigError(Problem("data.path", file, f"can't be locked ({error})", f"delete {folder}")) from error
    try:
        yield
    finally:
        lock.release()


def _clear(path: Path, damage: str) -> None:
    """Delete a damaged part of a cache, with a line in the log."""
    log.warning("%s is damaged (%s); it is made again", path, damage)
    _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
