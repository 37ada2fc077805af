"""Dataset files: strict reading and writing of samples in `.jsonl` and `.json` files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from geotune.errors import BadRecord, ConfigError, shortened
from geotune.sample import Sample, sample_from_record, sample_to_record
from geotune.system.files import open_atomically
from geotune.system.images import check_image, resolve_image
from geotune.system.strict_json import DECODER, NotJsonError, parse_json

_BLANK = re.compile(r"[\s\ufeff]*+")
"""White space of every kind, and byte order marks, which joining files leaves between records."""
_MARK = "\ufeff"


def read_samples(
    path: str | Path, *, check_images: bool = False, max_image_pixels: int | None = None
) -> Iterator[Sample]:
    """Yield the samples of a `.json` array or a `.jsonl` file in order, as `iter_records` does.

    Raises BadRecord at the first bad record.
    """
    for record in iter_records(path, check_images=check_images, max_image_pixels=max_image_pixels):
        if isinstance(record, BadRecord):
            raise record
        yield record


def iter_records(
    path: str | Path, *, check_images: bool = False, max_image_pixels: int | None = None
) -> Iterator[Sample | BadRecord]:
    """Yield the samples of a dataset file in order, and a BadRecord in place of each record that is no sample.

    A record without an id gets the id `<file's stem>/<index>`, counted from 0; a repeated id makes a record bad. With
    `check_images` each image is decoded once, and an unreadable image or one of more than `max_image_pixels` makes the
    record bad. Raises ConfigError if the file does not exist or is neither `.json` nor `.jsonl`.
    """
    path = Path(path)
    try:
        records = _READERS[path.suffix](path)
    except KeyError:
        raise ConfigError(f"{path}: a dataset file ends in .jsonl or .json") from None
    if not path.is_file():
        raise ConfigError(f"{path}: no such dataset file")
    positions: dict[str, str] = {}
    image_problems: dict[str, BadRecord | None] = {}
    for index, (where, record) in enumerate(records):
        default_id = f"{path.stem}/{index}"
        if isinstance(record, BadRecord):
            yield record if where == str(path) else record.at(where, default_id)
            continue
        try:
            sample = sample_from_record(record, where=where, default_id=default_id)
            if sample.id in positions:
                raise BadRecord(sample.id, f"this id is taken: {positions[sample.id]} has it too", where)
            positions[sample.id] = where
            for name in sample.images if check_images else ():
                if name not in image_problems:
                    image_problems[name] = _image_problem(path.parent, name, max_image_pixels)
                problem = image_problems[name]
                if problem is not None:
                    raise problem.at(where, sample.id)
        except BadRecord as error:
            yield error
        else:
            yield sample


def iter_json(path: Path, suffix: str | None = None) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
    """Yield the position and the content of each record of a `.json` array or a `.jsonl` file, whatever its keys.

    suffix: `.json` or `.jsonl`, to read a file whose name has another suffix.
    """
    return _READERS[suffix or path.suffix](path)


def write_samples(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write samples to a `.jsonl` or a `.json` file, which appears complete or not at all. Returns their number.

    Raises BadRecord for a sample that could not be read back or whose id is repeated.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: a dataset file ends in .jsonl or .json")
    before, between, after = ("", "\n", "\n") if path.suffix == ".jsonl" else ("[\n", ",\n", "\n]\n")
    seen: set[str] = set()
    with open_atomically(path) as file:
        file.write(before)
        for sample in samples:
            try:
                record = sample_to_record(sample)
            except BadRecord as error:
                raise error.at(str(path), str(sample.id)) from None
            if sample.id in seen:
                raise BadRecord(sample.id, "this id is taken by a sample before it", str(path))
            file.write((between if seen else "") + json.dumps(record, ensure_ascii=False))
            seen.add(sample.id)
        file.write(after if seen or path.suffix == ".json" else "")
    return len(seen)


def _as_record(value: Any, where: str) -> dict[str, Any] | BadRecord:
    """Return a JSON value as a record, or a BadRecord if it is no object."""
    if not isinstance(value, dict):
        return BadRecord("", f"a record is a JSON object; this is {shortened(value)}", where)
    return value


_Placed = tuple[str, dict[str, Any] | BadRecord]


def _json_lines(path: Path) -> Iterator[_Placed]:
    """Yield the position and the record of each line that is not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                text = _line_text(line, where)
            except BadRecord as error:
                yield where, error
            else:
                if text:
                    yield where, _parsed(text, where)


def parse_line(line: bytes, *, where: str, default_id: str) -> Sample:
    """Return the sample of one line of a `.jsonl` file. Raises BadRecord.

    where: position of the line, for messages. default_id: id for a record without one.
    """
    record = _parsed(_line_text(line, where), where)
    if isinstance(record, BadRecord):
        raise record.at(where, default_id)
    return sample_from_record(record, where=where, default_id=default_id)


def is_blank(line: bytes) -> bool:
    """Return whether a line of a `.jsonl` file is nothing but white space, of any kind, and byte order marks.

    A line that is not UTF-8 is not blank.
    """
    if line[:1] == b"{":
        return False
    try:
        return not _line_text(line, "")
    except BadRecord:
        return False


def _line_text(line: bytes, where: str) -> str:
    """Decode one line, without the blanks at its ends. Raises BadRecord if it is not UTF-8."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadRecord("", f"not UTF-8 at byte {error.start} of the line", where) from None
    while text.startswith(_MARK) or text.endswith(_MARK):
        text = text.strip(_MARK).strip()
    return text


def _parsed(text: str, where: str) -> dict[str, Any] | BadRecord:
    """Return the record that `text` holds, or a BadRecord if it is no JSON object."""
    try:
        return _as_record(parse_json(text), where)
    except NotJsonError as error:
        return BadRecord("", f"not JSON: {error}", where)


def _json_array(path: Path) -> Iterator[_Placed]:
    """Yield the position and the record of each element; an error in the array itself is the last of them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield str(path), BadRecord("", f"not UTF-8 at byte {error.start}", str(path))
        return
    position = _blank_end(text, 0)
    if text[position : position + 1] != "[":
        yield str(path), BadRecord("", "a .json dataset is one array of records; name JSON lines .jsonl", str(path))
        return
    position = _blank_end(text, position + 1)
    closed = text[position : position + 1] == "]"
    index = 0
    while not closed:
        where = f"{path}[{index}]"
        try:
            record, position = _element(text, position, where)
            position = _blank_end(text, position)
            yield where, record
            if text[position : position + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else str(error)
            yield where, BadRecord("", f"not JSON: {reason}; the rest of the file can't be read", where)
            return
        closed = text[position] == "]"
        position = _blank_end(text, position + 1)
        index += 1
    if _blank_end(text, position + (index == 0)) < len(text):
        yield str(path), BadRecord("", "text after the end of the array", str(path))


def _element(text: str, position: int, where: str) -> tuple[dict[str, Any] | BadRecord, int]:
    """Return the record that begins at `position`, and its end. Raises ValueError if the end can't be found."""
    try:
        value, end = DECODER.raw_decode(text, position)
    except NotJsonError as error:
        _, end = json.JSONDecoder().raw_decode(text, position)
        return BadRecord("", f"not JSON: {error}", where), end
    return _as_record(value, where), end


def _blank_end(text: str, position: int) -> int:
    """Return the end of the blanks that begin at `position`."""
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


_READERS = {".jsonl": _json_lines, ".json": _json_array}


def _image_problem(dataset_dir: Path, name: str, max_pixels: int | None) -> BadRecord | None:
    """Return the reason why an image can't be used, or None if it can."""
    try:
        check_image(resolve_image(dataset_dir, name), max_pixels=max_pixels)
    except BadRecord as error:
        return error
    return None
