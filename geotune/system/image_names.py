"""Names of images in records and tables: which of them name a file on disk, and where a missing file may lie."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from geotune.errors import BadRecord, shortened

NOT_A_FILE = "image_not_a_file"
"""Code of the BadRecord for an image that is named by an address, or is itself where its name should be."""
_FILE_ADDRESS = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/[^/]))", re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"data:[\w/+.;=-]*,", re.IGNORECASE)
_ENCODED = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkq|TU0A)[A-Za-z0-9+/\s]{100,}={0,2}\s*")
"""The bytes of a JPEG, PNG, GIF, WebP or TIFF file in base64."""
_LONG_ENCODED = re.compile(r"[A-Za-z0-9+/_\s-]{500,}={0,2}\s*")
"""Any file in base64: a name of this length has a dot."""
_BEFORE_THE_NUMBER = re.compile(r"[^0-9]*0*(?=[0-9])")
_SHOWN = 3
"""Number of names that a message lists."""


def file_name(name: str) -> str:
    """Return the name of an image's file: `name` itself, or the path that a `file:` address states.

    Raises BadRecord, with the code `NOT_A_FILE`, for any other address (`https://`, `s3://`, `hf://`, ...), for a
    `file:` address of another machine, and for an image that stands in place of its name (`data:`, base64).
    """
    local = _FILE_ADDRESS.match(name)
    if local is not None:
        return unquote(name[local.end() :])
    address = _ADDRESS.match(name)
    if address is not None and address["scheme"].lower() == "file":
        text = "is the address of a file on another machine; write file:///<absolute path>, or the path alone"
    elif address is not None:
        text = "is an address, and images are read from disk; download it and name the file"
    elif _DATA_ADDRESS.match(name) or _ENCODED.fullmatch(name) or _LONG_ENCODED.fullmatch(name):
        text = "is the image itself, and images are read from disk; write it to a file and name the file"
    else:
        return name
    raise BadRecord("", f"image {shortened(name)} {text}", code=NOT_A_FILE)


def name_forms(name: str) -> Iterator[str]:
    """Yield a name as it is, and then its composed and decomposed Unicode forms (NFC, NFD) if they differ from it.

    The forms look alike, and a copy between file systems may change one into the other.
    """
    yield name
    if not name.isascii():
        yield from {unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)} - {name}


def name_on_disk(path: Path) -> Path:
    """Return `path`, or the path that exists where a part of it has another Unicode form, if only that one exists."""
    if str(path).isascii() or os.path.exists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        there = next((form for form in name_forms(part) if os.path.lexists(found / form)), None)
        if there is None:
            return path
        found /= there
    return found


def missing_image(path: Path) -> BadRecord:
    """Return the error for an image that is not at `path`; it says what lies there instead."""
    try:
        found = "is not a file" if path.exists() else f"is missing: {_what_lies_there(path)}"
    except OSError as error:  # a name that is too long, a folder that can't be listed
        found = f"is missing ({error.strerror})"
    return BadRecord("", f"image {path} {found}", code="missing_image")


def _what_lies_there(path: Path) -> str:
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names, by_plain_name = _names(folder, folder.stat().st_mtime_ns)
    if folder == path.parent:
        return f"its folder holds {_listed(by_plain_name.get(_plain(path.name), names))}"
    return f"there is no folder {folder / path.relative_to(folder).parts[0]}, and {folder} holds {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "nothing"


@lru_cache(maxsize=8)
def _names(folder: Path, modified_ns: int) -> tuple[list[str], dict[str, list[str]]]:
    """The names in a folder, sorted, and by their plain form. `modified_ns` makes a changed folder be read again."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    by_plain_name: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_plain_name[_plain(name)].append(name)
    return names, dict(by_plain_name)


def _plain(name: str) -> str:
    """What is left of a file's name without its endings, its case, and what stands before its number."""
    stem = name.partition(".")[0].lower()
    return _BEFORE_THE_NUMBER.sub("", stem, count=1) or stem
