"""What earlier builds found out about images, so that a rebuild opens only those that are new or have changed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

FOLDER = ".checked"
"""Of a dataset's images; may be deleted at any time."""
Entry = dict[str, Any]


class Ledger:
    """Entries by an image's path, good as long as its size and its time of change are those of then.

    Each process appends to a file of its own as it goes, so that a build that was killed loses nothing and several may
    work side by side.
    """

    def __init__(self, images: Path) -> None:
        self.folder = images / FOLDER
        self._known: dict[str, Entry] = {}
        self._file: IO[str] | None = None
        for path in sorted(self.folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                        self._known[entry["path"]] = entry
                    except (ValueError, KeyError, TypeError):  # cut off when the build was killed
                        continue

    def find(self, path: Path) -> Entry | None:
        """What is known of an image as it is now."""
        entry = self._known.get(str(path))
        return entry if entry is not None and entry["state"] == _state(path) else None

    def note(self, path: Path, **entry: Any) -> None:
        """Remember what was found out about an image as it is now."""
        if (state := _state(path)) is None:
            return
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            own = self.folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
            self._file = own.open("a", encoding="utf-8")
        self._file.write(json.dumps({"path": str(path), "state": state, **entry}) + "\n")
        self._file.flush()


@contextmanager
def open_ledger(images: Path) -> Iterator[Ledger]:
    """The ledger of a dataset's images, closed at the end."""
    ledger = Ledger(images)
    try:
        yield ledger
    finally:
        if ledger._file is not None:
            ledger._file.close()


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
