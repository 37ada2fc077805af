"""A record of the images that earlier builds checked, so that a rebuild opens only new and changed images."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

FOLDER = ".checked"
"""Name of the ledger's folder inside a dataset's images; it may be deleted at any time."""
LedgerEntry = dict[str, Any]
"""One line of a ledger: `path`, `state` and the facts that were noted about the image."""


class Ledger:
    """Holds an entry for each checked image, valid while the file keeps its size and modification time.

    Each process appends to its own file at once, so that a build that is killed loses nothing and several builds can
    run side by side.
    """

    def __init__(self, images: Path) -> None:
        self.folder = images / FOLDER
        self._known: dict[str, LedgerEntry] = {}
        self._file: IO[str] | None = None
        for path in sorted(self.folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                        self._known[entry["path"]] = entry
                    except (ValueError, KeyError, TypeError):  # cut off when the build was killed
                        continue

    def find(self, path: Path) -> LedgerEntry | None:
        """Return the entry of an image, or None if there is none for the file in its present state."""
        entry = self._known.get(str(path))
        return entry if entry is not None and entry["state"] == _state(path) else None

    def note(self, path: Path, **entry: Any) -> None:
        """Append an entry with the facts `entry` about the file in its present state; a missing file is ignored."""
        if (state := _state(path)) is None:
            return
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path_of_process = self.folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
            self._file = path_of_process.open("a", encoding="utf-8")
        self._file.write(json.dumps({"path": str(path), "state": state, **entry}) + "\n")
        self._file.flush()


@contextmanager
def open_ledger(images: Path) -> Iterator[Ledger]:
    """Open the ledger of a dataset's images for the length of a `with` block."""
    ledger = Ledger(images)
    try:
        yield ledger
    finally:
        if ledger._file is not None:
            ledger._file.close()


def _state(path: Path) -> list[int] | None:
    """Size and modification time of a file, or None if it can't be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
