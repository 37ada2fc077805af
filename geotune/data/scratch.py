"""The folder of a dry run, in which everything is written that would otherwise go beside the datasets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_FOLDER: ContextVar[Path | None] = ContextVar("_FOLDER", default=None)


@contextmanager
def only_in_scratch() -> Iterator[None]:
    """Write caches into a temporary folder within the block, and build no dataset; the folder is removed at its end."""
    with tempfile.TemporaryDirectory(prefix="geotune-dry-run-") as folder:
        token = _FOLDER.set(Path(folder))
        try:
            yield
        finally:
            _FOLDER.reset(token)


def scratch_folder() -> Path | None:
    """Return the temporary folder of the dry run, or None outside of one."""
    return _FOLDER.get()
