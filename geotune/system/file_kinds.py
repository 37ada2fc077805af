"""What a file is, told by its first bytes where its name does not say it."""

from __future__ import annotations

from pathlib import Path

_KINDS = (
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"BZh", "compressed (bzip2)"),
    (b"\xfd7zXZ\x00", "compressed (xz)"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
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
    return next((kind for magic, kind in _KINDS if start.startswith(magic)), None)


def json_suffix(path: Path) -> str | None:
    """Return `.json` for a file that begins as an array, `.jsonl` for one that begins as an object, None for others.

    Raises OSError if the file can't be read.
    """
    start = _start_of(path).removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
    return {b"[": ".json", b"{": ".jsonl"}.get(start[:1])


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)
