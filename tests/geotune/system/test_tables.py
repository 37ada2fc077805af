"""Tables that fit: whatever the width, no title and no value is cut or lost."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from geotune.system.screen import FILE_WIDTH, as_text, wrapped
from geotune.system.tables import FittingTable, TableColumn, blocks_of
from tests.terminal import terminal


def drawn(table: FittingTable, width: int) -> str:
    sheet = io.StringIO()
    Console(file=sheet, width=width, color_system=None).print(table)
    return sheet.getvalue()


def words(texts: Sequence[str]) -> Counter[str]:
    return Counter(" ".join(texts).split())


WORD = st.text("abcxyz0189.,%+-@_", min_size=1, max_size=25)
TITLE = st.lists(WORD, min_size=1, max_size=3).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(
    titles=st.lists(TITLE, min_size=1, max_size=12),
    rows=st.integers(1, 4),
    width=st.integers(60, 200),
    cells=st.data(),
)
def test_no_cell_is_cut_or_lost(titles: list[str], rows: int, width: int, cells: st.DataObject) -> None:
    texts = cells.draw(st.lists(st.lists(WORD | st.just(""), min_size=rows, max_size=rows), min_size=len(titles)))
    columns = [TableColumn(title, column) for title, column in zip(titles, texts, strict=False)]
    blocks = blocks_of(columns, width)
    # The first column begins each block; every other one stands in one block.
    assert [number for block in blocks for number in block.columns if number] == list(range(1, len(columns)))
    assert all(block.columns[0] == 0 for block in blocks)
    text = drawn(FittingTable("", columns), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    shown = [columns[number] for block in blocks for number in block.columns]
    expected = words([text for column in shown for text in (column.title, *column.cells)])
    assert words([text.replace("─", " ")]) == expected


def test_a_name_that_is_too_long_is_wrapped() -> None:
    name = "a_suite_of_a_very_long_name/" * 5
    columns = [TableColumn("task", [name], right=False), TableColumn("accuracy", ["82.5%"])]
    text = drawn(FittingTable("title", columns), 60)
    assert name in "".join(line.split()[0] for line in text.splitlines() if line.strip())
    assert "82.5%" in text
    assert all(len(line) <= 60 for line in text.splitlines())


def test_a_table_uses_the_room_that_there_is() -> None:
    columns = [
        TableColumn("task", ["pose_fixed"], right=False),
        *(TableColumn("since step 0", ["+1.0"]) for _ in range(4)),
    ]
    table = FittingTable("", columns)
    wide, narrow = ([line.split() for line in drawn(table, width).splitlines()] for width in (80, 40))
    assert wide[0] == ["task", *["since", "step", "0"] * 4], "beside each other"
    assert narrow[:3] == [["since"] * 4, ["step"] * 4, ["task", *"0000"]]


def test_a_file_has_its_own_width_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    columns = [TableColumn("name", ["x" * 30]), *(TableColumn(f"column {number}", ["1" * 12]) for number in range(8))]
    table = FittingTable("wide", columns, ["bold"])
    text = as_text(table, io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) in range(100, FILE_WIDTH + 1)
    assert all(line == line.rstrip() for line in text.splitlines())
    assert as_text(table, io.TextIOWrapper(io.BytesIO(), encoding="ascii")).isascii()


def test_a_terminal_has_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [TableColumn("name", ["x"]), *(TableColumn(f"column {number}", ["1" * 12]) for number in range(8))]
    with terminal(monkeypatch, 60) as screen:
        print(as_text(FittingTable("narrow", columns)))
    assert max(len(line.rstrip()) for line in screen.lines) in range(45, 61)


def test_lines_are_wrapped_at_spaces_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/{'folder/' * 12}file"
    text = f"usage: {'a word ' * 10}end\n  rejected: {path} of all\n\nshort"
    assert wrapped(text, io.StringIO()) == text
    with terminal(monkeypatch, 60):
        lines = wrapped(text).split("\n")
    assert lines == [
        f"usage: {'a word ' * 7}a",
        "  word a word a word end",
        "  rejected:",
        f"    {path}",
        "    of all",
        "",
        "short",
    ]
