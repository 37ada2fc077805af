"""What people see: a terminal of some width, or a file."""

from __future__ import annotations

import sys
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


class _Sheet(StringIO):
    """A text for a stream of that encoding: rich draws no lines that the encoding lacks."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        """Name of the encoding."""
        return self._encoding
