"""The file of a table: whether it is a CSV file at all, its encoding, its delimiter, and its rows of cells."""

from __future__ import annotations

import codecs
import csv
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from data_builders.sources.table_names import axes_named
from geotune.errors import ConfigError, Problem
from geotune.system.file_kinds import ZIP, Treatment, binary_kind

DELIMITERS = ",;\t"
INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060\u202a\u202b\u202c\u2066\u2067\u2068\u2069"
"""Byte order marks, zero-width spaces and direction marks, which copying leaves at the ends of a cell. They mean
nothing there; inside a cell they stay, and soft hyphens stay everywhere, because one may be what is left of a minus."""
_AROUND = re.compile(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+$")
_HEADER_LINES = 20
"""Number of lines over which the cells of a header may run."""
_HEAD = 4096
"""Number of bytes from the start of a file by which its kind is told."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXPORT = "open it there and export the sheet as CSV (UTF-8), then give that file"
_UNPACK = "unpack it and give the CSV file inside"
_CONVERT = "write it as CSV (UTF-8), for instance with pandas, and give that file"
_OTHER_FILE = "give the CSV file itself"
_SAVE_AS_UTF8 = (
    "save it as UTF-8: a spreadsheet calls that CSV UTF-8; `iconv -f cp1252 -t utf-8` does it if Windows wrote it in "
    "a Western European language"
)
_REMEDIES: dict[Treatment, str] = {
    "unpack": _UNPACK,
    "export": _EXPORT,
    "convert": _CONVERT,
    "fetch": "fetch the table with `git lfs pull`",
    "none": _OTHER_FILE,
}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_MARKUP = re.compile(rb"<\s*[a-z!?]", re.IGNORECASE)
_JSON = re.compile(rb"[\[{]\s*[\"\[{}\]]")

_STATED_DELIMITER = re.compile(
    r"""\s*["']?sep\s*=\s?["']?(\\t|\t|[^\s\w"'\\])["']?(?:\1|[,;])*["']?\s*""", re.IGNORECASE
)
"""Excel's line `sep=;`, also in quotes, with `\\t` for a tab, and with the empty cells that saving it again adds."""

T = TypeVar("T")


@dataclass(frozen=True)
class TableFile:
    """A CSV file and how it is written."""

    path: Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    preamble: bool = False
    """Whether a line `sep=;`, by which Excel states the delimiter, stands above the header."""

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of every row below the header; blank lines are skipped.

        Raises csv.Error, which names the line, if a row can't be read, or if it spans lines that are rows by
        themselves: then a quotation mark stands for inches or begins a title, and joins what does not belong together.
        """
        yield from islice(self._records(), 1, None)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        lines: list[str] = []

        def remembered(file: Iterable[str]) -> Iterator[str]:
            for line in file:
                lines.append(line)
                yield line

        with self.path.open(encoding=self.encoding, newline="") as file:
            # The line that states the delimiter is no CSV: its quotation marks need not be closed.
            before = (
                next((number for number, line in enumerate(file, start=1) if line.strip()), 0) if self.preamble else 0
            )
            reader = csv.reader(remembered(file), delimiter=self.delimiter, skipinitialspace=True, strict=True)
            try:
                for cells in reader:
                    if len(lines) > 1 and self._are_rows(lines):
                        last = before + reader.line_num
                        first = last - len(lines) + 1
                        raise csv.Error(f"a quotation mark joins lines {first} to {last}, which are rows")
                    lines.clear()
                    if any(cell.strip() for cell in cells):
                        yield before + reader.line_num, cells
            except csv.Error as error:
                known = str(error).startswith("a quotation mark joins")
                first = before + reader.line_num - max(len(lines), 1) + 1
                raise csv.Error(str(error) if known else f"line {first}: {error}") from None

    def _are_rows(self, lines: Sequence[str]) -> bool:
        """Whether each of several lines has as many cells as the header."""
        return len(self.header) > 1 and all(line.count(self.delimiter) == len(self.header) - 1 for line in lines)

    def by_column(self, cells: list[str]) -> dict[str, str] | None:
        """The cells by column; None if there are too few or too many.

        Blank cells beyond the header are ignored, and cells below the header's last, unnamed columns may lack.
        """
        lacking = len(self.header) - len(cells)
        if any(self.header[len(cells) :]) or any(cell.strip() for cell in cells[len(self.header) :]):
            return None
        return dict(zip(self.header, [*cells, *[""] * lacking] if lacking > 0 else cells, strict=False))


def read_table(path: Path, key: str, read: Callable[[TableFile], T]) -> T:
    """What `read` makes of a CSV file.

    Raises:
        ConfigError: The file can't be opened, is no CSV file, or is not in UTF-8 or UTF-16, here or anywhere in what
            `read` takes from it. `key` is the config key of the path.
    """
    encoding = _encoding(path, key)
    try:
        return read(_table_file(path, encoding))
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(key, path, _undecodable(path, error), _SAVE_AS_UTF8)) from None
    except csv.Error as error:
        raise ConfigError(
            Problem(
                key,
                path,
                f"this file can't be read as CSV ({error})",
                "fix it or save it again; a quotation mark inside a cell is doubled, and the cell stands in quotes",
            )
        ) from None


def visible(cell: str) -> str:
    """A cell without the white space and the invisible characters at its ends."""
    text = cell.strip()
    return text if text.isascii() else _AROUND.sub("", text)


def _table_file(path: Path, encoding: str) -> TableFile:
    """The delimiter is the one under which the header names both coordinates.

    If several do, or none, it is the one that the first line states, or else the one that gives most columns.
    """
    with path.open(encoding=encoding, newline="") as file:
        lines = list(islice((line for line in file if line.strip()), _HEADER_LINES + 1))
    stated = _STATED_DELIMITER.fullmatch(lines[0]) if lines else None
    lines = lines[1:] if stated else lines[:_HEADER_LINES]
    own = stated[1].replace("\\t", "\t") if stated else ""
    delimiters = own + DELIMITERS
    headers = {
        delimiter: tuple(
            " ".join(visible(name).split())
            for name in next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
        )
        for delimiter in delimiters
    }
    delimiter = max(delimiters, key=lambda each: (axes_named(headers[each]) == 2, each == own, len(headers[each])))
    return TableFile(path, encoding, delimiter, headers[delimiter], preamble=stated is not None)


def _encoding(path: Path, key: str) -> str:
    """The encoding by the file's byte order mark; UTF-8 without one. Raises ConfigError if the file is no CSV."""
    if _ADDRESS.match(str(path)):
        text, remedy = "this is an address, not a file", "download the table and give the CSV file"
        raise ConfigError(Problem(key, path, text, remedy))
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ConfigError(
            Problem(key, path, f"this table can't be read ({error.strerror})", "give a CSV file")
        ) from None
    if not head.strip():
        raise ConfigError(Problem(key, path, "this file is empty", "give the whole table"))
    if kind := _other_kind(path, head):
        what, remedy = kind
        raise ConfigError(Problem(key, path, f"this is {what}, not a CSV file", remedy))
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")


def _other_kind(path: Path, head: bytes) -> tuple[str, str] | None:
    """What a file is by its content and what to do about it, if it is no CSV file."""
    if (kind := binary_kind(head)) is not None:
        return kind.what, _REMEDIES[kind.treatment]
    if head.startswith(ZIP):
        return _kind_of_zip(path)
    marked = any(head.startswith(mark) for mark, _ in _BYTE_ORDER_MARKS)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if _MARKUP.match(text):
        return _kind_of_markup(text.lower())
    if _JSON.match(text):
        return "JSON", _CONVERT
    return None if marked else _kind_of_bytes(head)


def _kind_of_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = archive.read("mimetype") if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
        return "a damaged or incomplete zip archive or spreadsheet", _UNPACK
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook (.xlsx)", _EXPORT
    if b"opendocument.spreadsheet" in kind:
        return "an OpenDocument spreadsheet (.ods)", _EXPORT
    if any(name.endswith(".iwa") or name == "Index.zip" for name in names):
        return "a Numbers spreadsheet", _EXPORT
    if any(name.startswith("word/") for name in names) or b"opendocument.text" in kind:
        return "a text document", _EXPORT
    return "a zip archive", _UNPACK


def _kind_of_markup(text: bytes) -> tuple[str, str]:
    if b"office:spreadsheet" in text or b"office:excel" in text:
        return "an Excel workbook saved as XML or HTML", _EXPORT
    for sign, what in ((b"<kml", "a KML file"), (b"<gpx", "a GPX file")):
        if sign in text:
            return what, _CONVERT
    if text.startswith(b"<?xml") and b"<html" not in text:
        return "XML", _CONVERT
    return (
        "a web page (HTML)",
        "download the CSV file itself: a link to a page, or to a file behind a login, saves the page",
    )


def _kind_of_bytes(head: bytes) -> tuple[str, str] | None:
    """Tells UTF-16 without a byte order mark, whose every second byte is zero in Western text, from other bytes."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even + odd <= len(head) // 20:
        return None
    for name, zeros, others in (("UTF-16LE", odd, even), ("UTF-16BE", even, odd)):
        if others <= zeros // 10 and zeros >= len(head) // 4:
            remedy = f"save it as UTF-8, for instance with `iconv -f {name} -t utf-8`"
            return f"text in {name} without a byte order mark", remedy
    return "a binary file", _OTHER_FILE


def _undecodable(path: Path, error: UnicodeDecodeError) -> str:
    """Says where a table stops being text, for a message."""
    if error.encoding != "utf-8":
        return f"it begins as {error.encoding} but does not continue so"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as bad:
                return f"line {number} is not UTF-8 (byte 0x{line[bad.start]:02x} at {bad.start + 1})"
    return "it is not UTF-8"
