"""The file to which `locate` appends what it has found, and from which the same command goes on."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from geotune.errors import ConfigError, Problem, as_typed
from geotune.inference.photos import text_of
from geotune.system.files import make_folder

if TYPE_CHECKING:
    from torch import nn

ENDING = ".partial.jsonl"
"""Ending of the file's name, after the name of the results."""
SYNC_SECONDS = 1.0
"""Seconds between two waits for the disk."""
VALUES_PER_TENSOR = 256
"""Number of values of a tensor that identify it."""
_SETTINGS = "geotune_locate"
log = logging.getLogger(__name__)


def partial_path(out: Path) -> Path:
    """Return the file that holds the answers until the results `out` are complete."""
    return out.with_name(out.name + ENDING)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Check that the results can be written to `out`.

    Raises ConfigError if it is a folder, if its folder can't be written, or if it holds an earlier result that this
    command would not go on with, unless `overwrite`.
    """
    make_folder(out.parent, "out")
    if out.is_dir():
        raise ConfigError(Problem("out", out, "this is a folder", "name a file"))
    if out.exists() and not partial_path(out).exists() and not overwrite:
        raise ConfigError(Problem("out", out, "this file exists", "set overwrite=true or name another file"))


class PartialResults:
    """Results of photos, one per line, which are written as they come, so that a kill loses the batch at work alone.

    The first line holds the settings that decide the answers. The results are a context manager, which one process at
    a time can enter; once it is open, `done` says which photos need not be located again: those that have a result
    without an error, and whose size and time of change are still the same. Lines that can't be read are left out, with
    a warning.

    Args:
        out: the file of the complete results.
        photos: the photos to locate.
        settings: what the answers depend on, by name; values are texts, numbers or None.

    Raises:
        ConfigError: the file holds results of other settings, another process writes to it, or it can't be written.
    """

    def __init__(self, out: Path, photos: Sequence[Path], settings: Mapping[str, Any]) -> None:
        self.out = out
        self.path = partial_path(out)
        self.photos = photos
        self.settings = dict(settings)
        self.done: set[Path] = set()
        """Photos that need not be located again."""
        self._stamps = {photo: _stamp(photo) for photo in photos}
        self._lines: dict[Path, int] = {}
        """Offset of the latest line of each photo."""
        self._synced = time.monotonic()
        self._file: IO[bytes]

    def __enter__(self) -> PartialResults:
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                os.fsync(self._file.fileno())
        except OSError as failure:
            if error is None:
                raise self._unwritable(failure) from failure

    def append(self, photo: Path, row: Mapping[str, Any]) -> None:
        """Write the result of a photo. Raises ConfigError if the disk is full."""
        self._lines[photo] = self._write({"photo": _key(photo), "stamp": self._stamps[photo], "row": row})

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the results so far, in the order of the photos."""
        for photo in self.photos:
            if photo in self._lines:
                self._file.seek(self._lines[photo])
                row: dict[str, Any] = json.loads(self._file.readline())["row"]
                yield row | {"image": text_of(photo)}

    def remove(self) -> None:
        """Delete the file, which is no longer needed."""
        self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                Problem("out", self.out, f"another process is writing {self.path}", "wait for it or stop it")
            ) from None
        except OSError:  # a file system without locks
            log.warning("%s can't be locked; start no other process that writes it", self.path)

    def _read(self) -> None:
        """Take over what an earlier process wrote, or begin the file with the settings."""
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n"):  # an empty file, or a kill while its first line was written
            self._file.truncate(0)
            self._write({_SETTINGS: self.settings})
            return
        self._compare(first)
        stamps, complete, broken = {}, len(first), 0
        by_key = {_key(photo): photo for photo in self.photos}
        for line in self._file:
            if not line.endswith(b"\n"):
                log.warning("%s: the last line is incomplete, since its process was killed; it is removed", self.path)
                break
            try:
                record = json.loads(line)
                photo, stamp, failed = by_key.get(record["photo"]), record["stamp"], "error" in record["row"]
            except (ValueError, LookupError, TypeError):
                broken += 1
            else:
                if photo is not None:
                    self._lines[photo] = complete
                    stamps[photo] = None if failed else stamp
            complete += len(line)
        self._file.truncate(complete)
        if broken:
            log.warning("%s: %d lines can't be read; their photos are located again", self.path, broken)
        self.done = {photo for photo, stamp in stamps.items() if stamp is not None and stamp == self._stamps[photo]}
        for photo in stamps.keys() - self.done:
            del self._lines[photo]

    def _compare(self, first: bytes) -> None:
        """Raise ConfigError if the file's first line has other settings than this command."""
        try:
            held = json.loads(first)[_SETTINGS]
            names = [name for name in self.settings | held if self.settings.get(name) != held.get(name)]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ConfigError(
                Problem("out", self.out, f"{self.path} holds no results of this command", "name another file")
            ) from None
        if names:
            differ = ", ".join(_difference(name, held.get(name), self.settings.get(name)) for name in names)
            raise ConfigError(
                Problem(
                    "out",
                    self.out,
                    f"{self.path} holds answers of another command: {differ}",
                    "repeat that command to go on with it, delete that file to begin anew, or name another file",
                )
            )

    def _write(self, record: Mapping[str, Any]) -> int:
        """Append a line and return its offset."""
        at = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self._file.flush()
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._unwritable(error) from error
        return at

    def _unwritable(self, error: OSError) -> ConfigError:
        remedy = "free some space or name another file; the same command then goes on where it was"
        return ConfigError(
            Problem("out", self.out, f"{self.path} can't be written ({error.strerror or error})", remedy)
        )


def weights_digest(model: nn.Module) -> str:
    """Return a digest of the weights of a loaded model, by a few values of every tensor, which training all changes."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().flatten()
        some = values[:: max(1, len(values) // VALUES_PER_TENSOR)].float().cpu().numpy()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + some.tobytes())
    return digest.hexdigest()[:16]


def _difference(name: str, held: Any, given: Any) -> str:
    digests = name in ("weights", "prompt")
    return f"{name} is another one" if digests else f"{name} was {as_typed(held)} and is {as_typed(given)}"


def _key(photo: Path) -> str:
    return str(photo.absolute())


def _stamp(photo: Path) -> list[int] | None:
    """Return the size of a file and its time of change, which tell whether it was changed; None if it is missing."""
    try:
        status = photo.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
