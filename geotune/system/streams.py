"""Standard output and standard error that never end the work: whatever is shown, and whoever has stopped reading."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ESCAPES = "geotune.escapes"
"""Error handler of encodings: it writes a character as JSON does, \\u00fc, so that JSON stays valid."""
NOBODY_READS = (errno.EPIPE, errno.EIO, errno.ENXIO)
"""Errors of writing to a pipe or a terminal that its reader has closed."""


class OutputLostError(Exception):
    """Standard output could not be written, although somebody may want to read it (a full disk)."""


class _Tolerant(io.RawIOBase):
    """Writes to a file descriptor. What can't be written is dropped, and the reason is kept in `lost`.

    After its reader is gone, output has nowhere to go, which is no loss. Other reasons are.
    """

    def __init__(self, raw: io.RawIOBase, owner: TextIO) -> None:
        self.raw = raw
        self.owner = owner
        """The stream that would close the file if nothing referred to it."""
        self.lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int | None:
        try:
            return self.raw.write(data)
        except OSError as error:
            if error.errno not in NOBODY_READS:
                self.lost = error
            return len(memoryview(data).cast("B"))

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    @property
    def name(self) -> Any:
        """The name of the file."""
        return getattr(self.raw, "name", None)


def make_streams_tolerant() -> None:
    """Replace this process's standard output and standard error by ones that never raise an error of writing.

    A character that the encoding lacks is written as an escape. A stream that was closed before the process started
    becomes the null device. A stream that is no plain text file (a notebook's, a test's) stays as it is.
    """
    codecs.register_error(ESCAPES, _escape)
    sys.stdout = _tolerant(sys.stdout)
    sys.stderr = _tolerant(sys.stderr)


def check_output() -> None:
    """Flush standard output. Raises OutputLostError if some of it was lost although it has a reader."""
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    if isinstance(raw, _Tolerant) and raw.lost is not None:
        raise OutputLostError(raw.lost.strerror or str(raw.lost))


def _tolerant(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    raw = _raw(stream)
    if raw is None or isinstance(raw, _Tolerant):
        return stream
    stream.flush()
    tolerant: Any = _Tolerant(raw, stream)
    is_buffered = hasattr(stream.buffer, "raw")  # not with python -u
    return io.TextIOWrapper(
        io.BufferedWriter(tolerant) if is_buffered else tolerant,
        encoding=stream.encoding,
        errors=ESCAPES,
        line_buffering=bool(stream.line_buffering),
        write_through=not is_buffered,
    )


def _raw(stream: TextIO) -> io.RawIOBase | None:
    """Return the unbuffered file below a plain text stream; None for any other stream."""
    if type(stream) is not io.TextIOWrapper:
        return None
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return raw if isinstance(raw, io.RawIOBase) else None


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape the characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end
