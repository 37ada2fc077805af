"""What people see: a terminal of some width, or a file."""

from __future__ import annotations

import shutil
import sys
import textwrap
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

FILE_WIDTH = 160
"""Width, in columns, of what is written to a file or a pipe."""


def as_text(renderable: RenderableType, stream: TextIO | None = None) -> str:
    """Return a renderable of rich as text for `stream` (default: standard output), with a line break at its end.

    On a terminal it is as wide as that, and has colors. In a file or a pipe it has `FILE_WIDTH` columns, whatever the
    terminal of the process is like, and no control characters.
    """
    from rich.console import Console

    stream = sys.stdout if stream is None else stream
    sheet = _Sheet(getattr(stream, "encoding", None) or "utf-8")
    if stream.isatty():
        # The width is that of the terminal that the process belongs to, or of the variable COLUMNS.
        console = Console(file=sheet, force_terminal=True, width=Console().width)
    else:
        console = Console(file=sheet, force_terminal=False, width=FILE_WIDTH)
    console.print(renderable)
    return "".join(f"{line.rstrip(' ')}\n" for line in sheet.getvalue().splitlines())


def wrapped(text: str, stream: TextIO | None = None) -> str:
    """Return `text` for `stream` (default: standard output) with its lines wrapped at spaces if that is a terminal.

    What follows of a line is indented by two more columns than its start. A word that is too long, such as a path,
    stays whole, so that it can be copied.
    """
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(part for line in text.split("\n") for part in _wrapped_line(line, width))


def _wrapped_line(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    if len(line) <= width:
        return [line]
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


class _Sheet(StringIO):
    """A text for a stream of that encoding: rich draws no lines that the encoding lacks."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        """Name of the encoding."""
        return self._encoding
