"""The sample: one question with its images and gold answer; its strict reading and writing as a sharegpt record."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import reprlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from geotune.errors import ConfigError

IMAGE_TAG = "<image>"
Role = Literal["user", "assistant"]

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened; others (PostScript, say) run programs or are no photos."""
_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's decoders raise on files that are cut short or not what they seem."""
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What shows a picture upright, by its EXIF orientation."""
_SPELLINGS: dict[str, tuple[str, str, dict[str, Role]]] = {
    "conversations": ("from", "value", {"human": "user", "gpt": "assistant"}),
    "messages": ("role", "content", {"user": "user", "assistant": "assistant"}),
}
"""Of each spelling of the turns: the keys for who speaks and what is said, and the names of the roles."""
_FOREIGN_TAGS = ("<video>", "<audio>")
"""Placeholders that LLaMA-Factory and ms-swift count as they count `<image>`."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\r\n]*+")
_TEXT_FIELDS = ("system", "task", "answer", "source", "place", "meta")
_KNOWN = frozenset({"id", "image", "images", *_SPELLINGS, *_TEXT_FIELDS})


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says; in a user's turn each `<image>` stands for the sample's next image."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its images, its gold answer and where it came from.

    `images` are names relative to the dataset's folder, or absolute. `meta` is a JSON object as a string.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    system: str = ""
    task: str = ""
    answer: str = ""
    source: str = ""
    place: str = ""
    meta: str = "{}"

    @property
    def prompt(self) -> str:
        """Text of the last user turn, or ""."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def response(self) -> str:
        """Text of the last assistant turn, or ""."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant"), "")


class BadRecord(ConfigError, ValueError):  # noqa: N818 - a record is bad, not the program
    """One record, or one image of it, that can't be used: where it stands, its id, and why."""

    def __init__(self, record_id: str, reason: str, where: str = "") -> None:
        super().__init__(record_id, reason, where)
        self.record_id = record_id
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        named = f"record {self.record_id!r}" if self.record_id else ""
        return ": ".join(part for part in (self.where, named, self.reason) if part)

    def at(self, where: str, record_id: str) -> BadRecord:
        """The same error, placed."""
        return BadRecord(record_id, self.reason, where)


# Records


def sample_from_record(record: Mapping[str, Any], *, where: str, default_id: str | None = None) -> Sample:
    """The sample of a sharegpt record, also of one with role/content `messages` or with one `image` by name.

    `where` says in messages where the record stands. A record without an id gets `default_id` (else `where`). Keys
    that a sample has no field for are kept in `meta`. Raises BadRecord.
    """
    own_id = record.get("id")
    named = isinstance(own_id, str | int) and not isinstance(own_id, bool)
    record_id = str(own_id) if named else default_id or where
    try:
        if not named and own_id is not None:
            raise BadRecord("", f"`id` is {_shown(own_id)}; it must be a string")
        return _checked(_sample(record, record_id))
    except BadRecord as error:
        raise error.at(where, record_id) from None


def sample_to_record(sample: Sample) -> dict[str, Any]:
    """The sharegpt record of a sample, always with every key. Raises BadRecord for one that could not be read back."""
    _checked(sample)
    speakers = {"user": "human", "assistant": "gpt"}
    return {
        "id": sample.id,
        "images": list(sample.images),
        "conversations": [{"from": speakers[turn.role], "value": turn.text} for turn in sample.turns],
        **{field: getattr(sample, field) for field in _TEXT_FIELDS},
    }


def _sample(record: Mapping[str, Any], record_id: str) -> Sample:
    texts = {field: record.get(field) for field in _TEXT_FIELDS}
    for field, value in texts.items():
        if not isinstance(value, str | None):
            raise BadRecord("", f"`{field}` is {_shown(value)}; it must be a string")
    turns, system_turn = _turns(record)
    if system_turn and texts["system"] and system_turn != texts["system"]:
        raise BadRecord("", "two system prompts, one in `system` and one in the turns; keep one")
    texts["system"] = system_turn or texts["system"]
    texts["meta"] = _meta(record)
    given = {field: value for field, value in texts.items() if value is not None}
    return Sample(id=record_id, images=_images(record), turns=turns, **given)


def _turns(record: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str | None]:
    """The turns, and the system prompt where it is the first of them."""
    present = [key for key in _SPELLINGS if record.get(key) is not None]
    if len(present) != 1:
        raise BadRecord("", "both `conversations` and `messages`; keep one" if present else "no `conversations`")
    key = present[0]
    speaker, words, roles = _SPELLINGS[key]
    listed = record[key]
    if not isinstance(listed, list):
        raise BadRecord("", f"`{key}` is {_shown(listed)}; it must be a list of turns")
    turns: list[Turn] = []
    system = None
    for number, turn in enumerate(listed, start=1):
        if not isinstance(turn, Mapping) or {k for k, v in turn.items() if v is not None} != {speaker, words}:
            raise BadRecord(
                "", f"turn {number} is {_shown(turn)}; it must hold `{speaker}` and `{words}`, nothing else"
            )
        role, text = turn[speaker], turn[words]
        if not isinstance(text, str):
            raise BadRecord("", f"`{words}` of turn {number} is {_shown(text)}; it must be a string")
        if role == "system" and number == 1:
            system = text
        elif isinstance(role, str) and role in roles:
            turns.append(Turn(roles[role], text))
        else:
            raise BadRecord("", f"`{speaker}` of turn {number} is {_shown(role)}; known: {', '.join(roles)}")
    return tuple(turns), system


def _images(record: Mapping[str, Any]) -> tuple[str, ...]:
    one, several = record.get("image"), record.get("images")
    if one is not None and several is not None:
        raise BadRecord("", "both `image` and `images`; keep one")
    if one is not None:
        if not isinstance(one, str):
            raise BadRecord("", f"`image` is {_shown(one)}; it must be one file name, or use `images`")
        return (one,)
    if several is None:
        return ()
    if not isinstance(several, list):
        raise BadRecord("", f"`images` is {_shown(several)}; it must be a list of file names")
    return tuple(several)


def _meta(record: Mapping[str, Any]) -> str:
    """The record's `meta`, with the keys that no field holds added to it."""
    meta = record.get("meta") or "{}"
    extra = {key: value for key, value in record.items() if key not in _KNOWN}
    if not extra:
        return meta
    held = _meta_object(meta)
    twice = sorted(held.keys() & extra.keys())
    if twice:
        raise BadRecord("", f"`{twice[0]}` stands both in the record and in its `meta`")
    try:
        return json.dumps(held | extra, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecord("", f"a key beside the known ones can't be kept in `meta`: {error}") from None


def _meta_object(meta: str) -> dict[str, Any]:
    try:
        held = _parse_json(meta)
    except _NotJsonError as error:
        raise BadRecord("", f"`meta` is {_shown(meta)}; it must be a JSON object as a string ({error})") from None
    if not isinstance(held, dict):
        raise BadRecord("", f"`meta` is {_shown(meta)}; it must be a JSON object as a string")
    return held


def _checked(sample: Sample) -> Sample:
    """The sample itself, once it keeps the rules that every reader of sharegpt records relies on.

    Turns alternate, user first, even in number, none empty; the `<image>` of the user's turns are as many as the
    images; none stands in the system prompt or an answer. Raises BadRecord.
    """
    fields = {"id": sample.id, **{field: getattr(sample, field) for field in _TEXT_FIELDS}}
    fields |= {f"images[{i}]": name for i, name in enumerate(sample.images)}
    fields |= {f"turn {i}": turn.text for i, turn in enumerate(sample.turns, start=1)}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise BadRecord("", f"`{name}` is {_shown(value)}; it must be a string")
        if not value.isascii() and _SURROGATE.search(value):
            raise BadRecord("", f"`{name}` holds half a character (a lone surrogate), which is not text")
        if not value and (name == "id" or name.startswith("images")):
            raise BadRecord("", f"`{name}` is empty")
    roles = [turn.role for turn in sample.turns]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        said = ", ".join(roles) or "none"
        raise BadRecord("", f"turns must alternate user, assistant and end with the assistant; they are: {said}")
    for number, turn in enumerate(sample.turns, start=1):
        if not turn.text.strip():
            raise BadRecord("", f"turn {number} ({turn.role}) is empty")
        if turn.role == "assistant" and IMAGE_TAG in turn.text:
            raise BadRecord("", f"turn {number} is an answer and holds {IMAGE_TAG}")
    if IMAGE_TAG in sample.system:
        raise BadRecord("", f"the system prompt holds {IMAGE_TAG}")
    for tag in _FOREIGN_TAGS:
        if any(tag in text for text in (sample.system, *(turn.text for turn in sample.turns))):
            raise BadRecord("", f"a turn holds {tag}, and a sample has images only")
    tags = sum(turn.text.count(IMAGE_TAG) for turn in sample.turns)
    if tags != len(sample.images):
        raise BadRecord("", f"{tags} {IMAGE_TAG} in the turns, but {len(sample.images)} images")
    _meta_object(sample.meta)
    return sample


def _shown(value: object) -> str:
    """A value as a message shows it: of bounded length and depth."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    return shortener.repr(value)


# Files


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
    `check_images` each picture is decoded once, and one of more than `max_image_pixels` is bad as well. Raises
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


@contextlib.contextmanager
def open_atomically(path: str | Path) -> Iterator[IO[str]]:
    """A UTF-8 text file to write, which takes its name only once the block ends without an error.

    Missing folders are made. Raises ConfigError when the file can't be made there.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
        file = partial.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from None
    try:
        with file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


class _NotJsonError(Exception):
    """Text that is not the JSON of one value, and why."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, value in pairs:
        if name in held:
            raise _NotJsonError(f"key {name!r} comes twice")
        held[name] = value
    return held


def _refuse(constant: str) -> Any:
    raise _NotJsonError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _parse_json(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _NotJsonError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _NotJsonError("nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise _NotJsonError(str(error)) from None


def _as_record(value: Any, where: str) -> dict[str, Any] | BadRecord:
    if not isinstance(value, dict):
        return BadRecord("", f"a record is a JSON object; this is {_shown(value)}", where)
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
                    yield where, _as_record(_parse_json(text), where)
            except UnicodeDecodeError as error:
                yield where, BadRecord("", f"not UTF-8 at byte {error.start} of the line", where)
            except _NotJsonError as error:
                yield where, BadRecord("", f"not JSON: {error}", where)


def parse_line(line: bytes, *, where: str, default_id: str) -> Sample:
    """The sample of one line of a `.jsonl` file. Raises BadRecord."""
    try:
        record = _as_record(_parse_json(line.decode("utf-8-sig").strip()), where)
    except UnicodeDecodeError as error:
        raise BadRecord("", f"not UTF-8 at byte {error.start} of the line", where) from None
    except _NotJsonError as error:
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
        value, end = _DECODER.raw_decode(text, position)
    except _NotJsonError as error:
        _, end = json.JSONDecoder().raw_decode(text, position)
        return BadRecord("", f"not JSON: {error}", where), end
    return _as_record(value, where), end


def _blank_end(text: str, position: int) -> int:
    """Where the blanks that begin at `position` end."""
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


_READERS = {".jsonl": _json_lines, ".json": _json_array}


# Images


def resolve_image(dataset_dir: str | Path, name: str) -> Path:
    """Where an image lies: a relative name inside the dataset's folder, links followed; an absolute one as it stands.

    Raises BadRecord for a relative name that leaves the folder. Whether the file exists is `check_image`'s to say.
    """
    path = Path(name)
    if path.is_absolute():
        return path
    try:
        root = Path(dataset_dir).resolve()
        resolved = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, no file name
        raise BadRecord("", f"image {_shown(name)} can't be followed: {error}") from None
    if not resolved.is_relative_to(root):
        raise BadRecord("", f"image {name!r} leaves the dataset's folder {root}; name it by its absolute path")
    return resolved


def check_image(path: str | Path, *, max_pixels: int | None) -> tuple[int, int]:
    """Width and height of an image as `load_image` gives it, which is decoded to the end.

    Raises BadRecord when it is missing, empty, not an image, cut short, animated, without colours that fit 8 or 16
    bits, or of more than `max_pixels`.
    """
    return _decoded(Path(path), max_pixels).size


def picture_facts(path: str | Path) -> tuple[int, int, float]:
    """Width, height and mean brightness (0 to 255) of a picture, fast: a JPEG is decoded at a fraction of its size."""
    path = Path(path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            image.draft("L", (64, 64))
            small = image.convert("L").resize((32, 32), Image.Resampling.BOX)
    except (*_IMAGE_ERRORS, UnidentifiedImageError) as error:
        raise BadRecord("", f"image {path} can't be read: {error}") from None
    return width, height, sum(small.tobytes()) / 1024


def load_image(path: str | Path, *, max_pixels: int | None = None) -> Image.Image:
    """The picture in RGB, 8 bits a channel, upright as its EXIF says. Raises BadRecord, as `check_image` does."""
    image = _decoded(Path(path), max_pixels)
    if image.mode.startswith("I"):  # 16 bits of grey, of which Pillow's own conversion keeps the lowest eight
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    return image.convert("RGB")


def _decoded(path: Path, max_pixels: int | None) -> Image.Image:
    try:
        if not path.is_file():
            raise BadRecord("", f"image {path} is not a file" if path.exists() else f"image {path} is missing")
        if not path.stat().st_size:
            raise BadRecord("", f"image {path} is empty (0 bytes)")
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if max_pixels is not None and width * height > max_pixels:
                raise BadRecord("", f"image {path} has {width} x {height} pixels, more than the {max_pixels} allowed")
            # A phone's MPO holds a second view for depth: its first is the photo.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise BadRecord("", f"image {path} is animated or has pages; save the one that is meant")
            if image.mode.startswith("F"):
                raise BadRecord("", f"image {path} holds real numbers, no colours; save it with 8 bits a channel")
            image.load()
            return _upright(image)
    except BadRecord:
        raise
    except UnidentifiedImageError:
        raise BadRecord("", f"image {path} is no picture in a known format ({', '.join(_FORMATS)})") from None
    except Image.DecompressionBombError as error:  # Pillow's own limit stands before ours
        raise BadRecord("", f"image {path} can't be read: {error.args[0]} More pixels than allowed") from None
    except _IMAGE_ERRORS as error:
        raise BadRecord("", f"image {path} can't be read: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    """A copy as the EXIF orientation says, without the EXIF; Pillow's own turns only what it can write again."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _IMAGE_ERRORS:  # unreadable EXIF beside a good picture: no orientation is known
        orientation = None
    turn = _TURNS.get(orientation)
    upright = image.copy() if turn is None else image.transpose(turn)
    upright.info.pop("exif", None)
    return upright


def _verdict(dataset_dir: Path, name: str, max_pixels: int | None) -> BadRecord | None:
    """What is wrong with an image, if anything."""
    try:
        check_image(resolve_image(dataset_dir, name), max_pixels=max_pixels)
    except BadRecord as error:
        return error
    return None
