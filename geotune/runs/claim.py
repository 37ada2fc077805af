"""The claim of a folder: a file by which the one process that trains there keeps others out.

The file is created exclusively, and its owner removes it at the end. A process that is killed leaves it behind. Whether
its owner still lives is told by the process, where it can be seen from here, or else by the heartbeat: the owner
sets the time of the file every few seconds.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from geotune.errors import ConfigError, Problem
from geotune.system.launchers import job, restarts
from geotune.system.processes import is_running, process_space, start_time

CLAIM_FILE = ".claim"
BEAT = 15.0
"""Seconds between two heartbeats."""
STALE_AFTER = 120.0
"""Seconds without a heartbeat after which a process that can't be seen from here counts as gone."""
POLL = 0.5
"""Seconds between two looks at the file of a process that can't be seen from here."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderClaim:
    """What `.claim` says of the process that owns the folder."""

    host: str
    process_space: str
    """Text that only processes share whose process ids mean the same."""
    pid: int
    started: str
    """Time at which the process began, which tells it from a later process of the same id."""
    job: str | None
    """Job of a batch system that the process belongs to."""
    restarts: int
    """How often the batch system had started this job again."""
    claimed_at: str
    """Time of the claim, in ISO 8601."""

    @classmethod
    def of_this_process(cls) -> FolderClaim:
        """Return the claim that this process makes now."""
        pid, now = os.getpid(), datetime.now().astimezone().isoformat()
        return cls(socket.gethostname(), process_space(), pid, start_time(pid) or "", job(), restarts(), now)

    @classmethod
    def read(cls, text: str) -> FolderClaim | None:
        """Return the claim in the text of a file, or None if it says none, as while it is being written."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def text(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def is_by(self, other: FolderClaim) -> bool:
        """Return whether the process of `other` made this claim."""
        process, of_other = ((claim.process_space, claim.pid, claim.started) for claim in (self, other))
        return process == of_other

    def is_live(self) -> bool | None:
        """Return whether the process of this claim still runs, or None if that can't be seen from here."""
        mine = FolderClaim.of_this_process()
        if self.process_space == mine.process_space:
            return is_running(self.pid, self.started)
        # A batch system starts a job again only when its processes are gone.
        return False if self.job is not None and self.job == mine.job and self.restarts != mine.restarts else None

    def __str__(self) -> str:
        of_job = "" if self.job is None else f" ({self.job})"
        return f"process {self.pid} on {self.host}{of_job}"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Own `folder` within the block, against every other process.

    Raises ConfigError if another process owns it, or if the claim can't be written.
    """
    file, mine = folder / CLAIM_FILE, FolderClaim.of_this_process()
    try:
        _take(file, mine)
    except OSError as error:
        raise ConfigError(
            Problem("run_dir", folder, f"{file} can't be written ({error.strerror})", "give another folder")
        ) from error
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(file, mine, ended), name="heartbeat of the claim", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        with suppress(OSError):
            if _text(file) == mine.text():
                file.unlink()


def is_taken(folder: Path) -> bool:
    """Return whether another process than this one owns `folder`, as if this one had been taken for dead."""
    claim = FolderClaim.read(_text(folder / CLAIM_FILE))
    return claim is not None and not claim.is_by(FolderClaim.of_this_process())


def _beat(file: Path, mine: FolderClaim, ended: threading.Event) -> None:
    """Set the time of the file every few seconds until `ended`, or until another process has taken it."""
    while not ended.wait(BEAT):
        with suppress(OSError):  # of a network file system, for a moment
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return
            if text != mine.text():
                return
            os.utime(file)


def _take(file: Path, mine: FolderClaim) -> None:
    """Write `mine` to `file`, new or in the place of a claim whose process is gone.

    Raises ConfigError if the process of an earlier claim still runs, and OSError if the file can't be written.
    """
    while not _create(file, mine.text()):
        try:
            text, beat = file.read_text(encoding="utf-8", errors="replace"), file.stat().st_mtime
        except FileNotFoundError:  # its owner has ended meanwhile
            continue
        claim = FolderClaim.read(text)
        live = claim.is_live() if claim is not None else None
        if live is None:
            live = _beats(file, beat, str(claim or "another process"))
            if live and _text(file) != text:  # it was just being written, or another process has taken it
                continue
        if live:
            raise ConfigError(
                Problem("run_dir", file.parent, f"{claim} trains here", "wait until it ends, or give another folder")
            )
        if _replace(file, text, mine.text()):
            return


def _create(file: Path, text: str) -> bool:
    """Create `file`; return False if it is there already. Raises OSError."""
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        return False
    except OSError:
        file.unlink(missing_ok=True)
        raise
    return True


def _replace(file: Path, before: str, after: str) -> bool:
    """Write `after` into `file`; return False if another process was faster, so that it no longer says `before`."""
    import fcntl

    try:
        opened = file.open("r+", encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    with opened:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(opened, fcntl.LOCK_EX)
        if not _has_name(opened.fileno(), file) or opened.read() != before:
            return False
        opened.seek(0)
        opened.truncate()
        opened.write(after)
    return True


def _text(file: Path) -> str:
    """Return what `file` says; empty if it can't be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _has_name(descriptor: int, file: Path) -> bool:
    """Return whether an open file still has the name `file`."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _beats(file: Path, last: float, whose: str) -> bool:
    """Return whether a heartbeat follows the one at the time `last` before the owner counts as gone.

    Only times of the disk are compared: the clocks of two machines may differ.
    """
    with tempfile.TemporaryFile(dir=file.parent) as fresh:
        left = STALE_AFTER - (os.fstat(fresh.fileno()).st_mtime - last)
    if left > 0:
        log.warning("run_dir=%s: waiting for at most %.0f s to see whether %s is alive", file.parent, left, whose)
    until = time.monotonic() + left
    while time.monotonic() < until:
        time.sleep(min(POLL, left))
        try:
            if file.stat().st_mtime != last:
                return True
        except FileNotFoundError:
            return False
    return False
