"""What a file is, told by its first bytes where its name does not say it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

Treatment = Literal["unpack", "export", "convert", "fetch", "none"]


class FileKind(NamedTuple):
    """A kind of files that are no text of data, by their first bytes."""

    magic: bytes
    what: str
    """What such a file is: `a Parquet file`."""
    treatment: Treatment
    """What makes text of it: unpacking, exporting a sheet, converting with a library, fetching, or nothing."""


BINARY_KINDS = (
    FileKind(b"\x1f\x8b", "compressed (gzip)", "unpack"),
    FileKind(b"BZh", "compressed (bzip2)", "unpack"),
    FileKind(b"\xfd7zXZ\x00", "compressed (xz)", "unpack"),
    FileKind(b"\x28\xb5\x2f\xfd", "compressed (zstd)", "unpack"),
    FileKind(b"7z\xbc\xaf", "a 7z archive", "unpack"),
    FileKind(b"Rar!", "a RAR archive", "unpack"),
    FileKind(b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls) or another Office document", "export"),
    FileKind(b"PAR1", "a Parquet file", "convert"),
    FileKind(b"ARROW1", "an Arrow or Feather file", "convert"),
    FileKind(b"FEA1", "a Feather file", "convert"),
    FileKind(b"SQLite format 3", "an SQLite database", "convert"),
    FileKind(b"\x89HDF", "an HDF5 file", "convert"),
    FileKind(b"\x89PNG", "an image (PNG)", "none"),
    FileKind(b"\xff\xd8\xff", "an image (JPEG)", "none"),
    FileKind(b"%PDF", "a PDF document", "none"),
    FileKind(b"{\\rtf", "an RTF document", "none"),
    FileKind(b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch"),
)
ZIP = b"PK\x03\x04"
"""First bytes of zip archives, and of the spreadsheets and documents that are such archives."""
_NO_JSON = (
    *((kind.magic, kind.what) for kind in BINARY_KINDS),
    (ZIP, "a zip archive or a spreadsheet"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"\xff\xfe", "text in UTF-16, not UTF-8"),
    (b"\xfe\xff", "text in UTF-16, not UTF-8"),
)
"""First bytes of kinds of files that are no JSON, and what they are."""
_BLANK = b" \t\r\n"


def kind_of_file(path: Path) -> str | None:
    """Return what a file is if it is no JSON: `compressed (gzip)`, `a Parquet file`, ...; None if it may be JSON.

    Raises OSError if the file can't be read.
    """
    start = _start_of(path)
    return next((kind for magic, kind in _NO_JSON if start.startswith(magic)), None)


def binary_kind(start: bytes) -> FileKind | None:
    """Return the kind of a binary file that begins with these bytes, zip archives excepted; None if it is none."""
    return next((kind for kind in BINARY_KINDS if start.startswith(kind.magic)), None)


def json_suffix(path: Path) -> str | None:
    """Return `.json` for a file that begins as an array, `.jsonl` for one that begins as an object, None for others.

    Raises OSError if the file can't be read.
    """
    start = _start_of(path).removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
    return {b"[": ".json", b"{": ".jsonl"}.get(start[:1])


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)
