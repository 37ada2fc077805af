"""Dataset files: samples read strictly from, and written to, `.jsonl` and `.json` files."""

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

_BLANK = re.compile(r"[ \t\r\n]*+")


def read_samples(
    path: str | Path, *, check_images: bool = False, max_image_pixels: int | None = None
) -> Iterator[Sample]:
    """Samples of a `.json` array or a `.jsonl` file, in order, as `iter_records` reads them.

    Raises BadRecord at the first bad record.
    """
    for record in iter_records(path, check_images=check_images, max_image_pixels=max_image_pixels):
        if isinstance(record, BadRecord):
            raise record
        yield record


def iter_records(
    path: str | Path, *, check_images: bool = False, max_image_pixels: int | None = None
) -> Iterator[Sample | BadRecord]:
    """Samples of a dataset file, and in their place the records that are none.

    A record without an id is named `<file's stem>/<index>`, counted from 0; an id that comes twice is bad. With
    `check_images` each image is decoded once, and one of more than `max_image_pixels` is bad as well. Raises
    ConfigError when there is no such file or it is neither `.json` nor `.jsonl`.
    """
    path = Path(path)
    try:
        records = _READERS[path.suffix](path)
    except KeyError:
        raise ConfigError(f"{path}: a dataset file ends in .jsonl or .json") from None
    if not path.is_file():
        raise ConfigError(f"{path}: no such dataset file")
    places: dict[str, str] = {}
    verdicts: dict[str, BadRecord | None] = {}
    for index, (where, record) in enumerate(records):
        default_id = f"{path.stem}/{index}"
        if isinstance(record, BadRecord):
            yield record if where == str(path) else record.at(where, default_id)
            continue
        try:
            sample = sample_from_record(record, where=where, default_id=default_id)
            if sample.id in places:
                raise BadRecord(sample.id, f"this id is taken: {places[sample.id]} has it too", where)
            places[sample.id] = where
            for name in sample.images if check_images else ():
                if name not in verdicts:
                    verdicts[name] = _verdict(path.parent, name, max_image_pixels)
                verdict = verdicts[name]
                if verdict is not None:
                    raise verdict.at(where, sample.id)
        except BadRecord as error:
            yield error
        else:
            yield sample


def iter_json(path: Path, suffix: str | None = None) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
    """Where each record of a `.json` array or a `.jsonl` file stands, and the record, whatever its keys.

    suffix: how to read the file where its name does not say so.
    """
    return _READERS[suffix or path.suffix](path)


def write_samples(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write samples to a `.jsonl` or a `.json` file, whole or not at all; returns their number. Raises BadRecord."""
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
    if not isinstance(value, dict):
        return BadRecord("", f"a record is a JSON object; this is {shortened(value)}", where)
    return value


_Placed = tuple[str, dict[str, Any] | BadRecord]


def _json_lines(path: Path) -> Iterator[_Placed]:
    """Each line's place and record; blank lines are passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield where, _as_record(parse_json(text), where)
            except UnicodeDecodeError as error:
                yield where, BadRecord("", f"not UTF-8 at byte {error.start} of the line", where)
            except NotJsonError as error:
                yield where, BadRecord("", f"not JSON: {error}", where)


def parse_line(line: bytes, *, where: str, default_id: str) -> Sample:
    """The sample of one line of a `.jsonl` file. Raises BadRecord."""
    try:
        record = _as_record(parse_json(line.decode("utf-8-sig").strip()), where)
    except UnicodeDecodeError as error:
        raise BadRecord("", f"not UTF-8 at byte {error.start} of the line", where) from None
    except NotJsonError as error:
        raise BadRecord("", f"not JSON: {error}", where) from None
    if isinstance(record, BadRecord):
        raise record.at(where, default_id)
    return sample_from_record(record, where=where, default_id=default_id)


def _json_array(path: Path) -> Iterator[_Placed]:
    """Each element's place and record; what breaks the array itself ends it."""
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
    """The record that begins at `position`, and where it ends. Raises ValueError when that can't be told."""
    try:
        value, end = DECODER.raw_decode(text, position)
    except NotJsonError as error:
        _, end = json.JSONDecoder().raw_decode(text, position)
        return BadRecord("", f"not JSON: {error}", where), end
    return _as_record(value, where), end


def _blank_end(text: str, position: int) -> int:
    """Where the blanks that begin at `position` end."""
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


_READERS = {".jsonl": _json_lines, ".json": _json_array}


def _verdict(dataset_dir: Path, name: str, max_pixels: int | None) -> BadRecord | None:
    """What is wrong with an image, if anything."""
    try:
        check_image(resolve_image(dataset_dir, name), max_pixels=max_pixels)
    except BadRecord as error:
        return error
    return None
