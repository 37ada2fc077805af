"""Tables for the terminal and for log files, which fit into a width without cutting a title or a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class TableColumn:
    """One column of a table: its title, and one text for each row."""

    title: str
    cells: Sequence[str]
    right: bool = True
    """Whether the texts stand at the right edge of the column, as numbers do."""
    styles: Sequence[str] = ()
    """Style of each text, as rich names it; the rows have no style beyond the end."""

    @property
    def widest_cell(self) -> int:
        """Width of the widest text below the title."""
        return max(map(cell_len, self.cells), default=0)


@dataclass(frozen=True)
class TableBlock:
    """Some columns of a table that stand side by side: their numbers and their widths."""

    columns: Sequence[int]
    widths: Sequence[int]
    gap: int
    """Number of spaces between two columns."""


@dataclass(frozen=True)
class FittingTable:
    """A table with a title, which may be empty, that rich prints as wide as there is room.

    If the columns don't fit side by side, their titles are wrapped at spaces; if that is not enough, the table goes on
    below in further blocks, each of which begins with the first column. A text that is wider than the whole room is
    wrapped.
    """

    title: str
    columns: Sequence[TableColumn]
    row_styles: Sequence[str] = ()
    """Style of each row, as rich names it."""
    summaries: frozenset[int] = frozenset()
    """Numbers of the rows that a line separates from those above."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Return what rich prints."""
        if self.title:
            yield Text(self.title)
        for number, block in enumerate(blocks_of(self.columns, options.max_width)):
            if number:
                yield Text()
            yield self._table(block)

    def _table(self, block: TableBlock) -> Table:
        # The box itself puts one space between two columns.
        padding = (0, block.gap - 1, 0, 0)
        table = Table(box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False)
        chosen = [self.columns[number] for number in block.columns]
        for column, width in zip(chosen, block.widths, strict=True):
            justify = "right" if column.right else "left"
            table.add_column(Text(column.title), justify=justify, width=width, overflow="fold")  # type: ignore[arg-type]
        cells = [zip_longest(column.cells, column.styles[: len(column.cells)], fillvalue="") for column in chosen]
        for number, row in enumerate(zip(*cells, strict=True)):
            if number in self.summaries:
                table.add_section()
            style = self.row_styles[number] if number < len(self.row_styles) else None
            table.add_row(*(Text(text, style=own) for text, own in row), style=style)
        return table


def blocks_of(columns: Sequence[TableColumn], width: int) -> list[TableBlock]:
    """Divide the columns of a table into blocks, each at most `width` wide."""
    wide = [max(cell_len(column.title), column.widest_cell) for column in columns]
    everything = range(len(columns))
    for gap in (2, 1):
        if sum(wide) + gap * (len(columns) - 1) <= width:
            return [TableBlock(everything, wide, gap)]
    narrow = [max(max(map(cell_len, column.title.split()), default=0), column.widest_cell) for column in columns]
    if sum(narrow) + len(columns) - 1 <= width:
        return [TableBlock(everything, _widened(narrow, wide, width), 1)]
    # The first column leaves room for the others, up to two thirds.
    first = max(1, min(narrow[0], width - 1 - min(max(narrow[1:], default=0), 2 * width // 3)))
    room = max(1, width - first - 1)
    narrow = [first, *(min(each, room) for each in narrow[1:])]
    return [
        TableBlock(
            chosen, _widened([narrow[number] for number in chosen], [wide[number] for number in chosen], width), 1
        )
        for chosen in ([0, *others] for others in _in_turn(narrow[1:], room))
    ]


def _in_turn(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yield the numbers, from 1, of columns that stand side by side in `room`, as many as fit each time."""
    chosen: list[int] = []
    taken = -1
    for number, width in enumerate(widths, start=1):
        if chosen and taken + 1 + width > room:
            yield chosen
            chosen, taken = [], -1
        chosen.append(number)
        taken += 1 + width
    yield chosen


def _widened(widths: Sequence[int], wanted: Sequence[int], width: int) -> list[int]:
    """Return the widths, and in the order of the columns those that are wanted while there is room."""
    left = width - sum(widths) - (len(widths) - 1)
    found = []
    for own, better in zip(widths, wanted, strict=True):
        more = better - own if 0 < better - own <= left else 0
        left -= more
        found.append(own + more)
    return found
