"""Samples, and their strict conversion from and to sharegpt records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from geotune.errors import BadRecord, shortened
from geotune.system.image_names import NOT_A_FILE, file_name
from geotune.system.strict_json import NotJsonError, parse_json

IMAGE_TAG = "<image>"
Role = Literal["user", "assistant"]
_SPELLINGS: dict[str, tuple[str, str, dict[str, Role]]] = {
    "conversations": ("from", "value", {"human": "user", "gpt": "assistant"}),
    "messages": ("role", "content", {"user": "user", "assistant": "assistant"}),
}
"""Key of the turns in a record -> keys of speaker and text in a turn, and roles by the speaker's name."""
_FOREIGN_TAGS = ("<video>", "<audio>")
"""Placeholders that LLaMA-Factory and ms-swift count like `<image>`."""
_FOREIGN_IMAGES = re.compile(
    r"</?img\b[^>]{0,200}>?|<\|(?:image|img|vision_start)\w*\|>|<img_\w+>|<image(?:[ _-]\w+|\d+)?>"
    r"|\[IMG\]|!\[[^\]]{0,200}\]\(",
    re.IGNORECASE,
)
"""Marks by which prompts of other projects hold an image: Qwen-VL's `<img>`, `<|image_pad|>`, Markdown, ..."""
_IMAGE_KEYS = re.compile(
    r"(?:images?|imgs?|pictures?|photos?|media)(?:_?(?:paths?|files?|file_?names?|names?|urls?|bytes|data))?",
    re.IGNORECASE,
)
"""Keys under which records of other projects hold their images."""
_IN_PLACE = {
    **dict.fromkeys(("bytes", "data", "base64", "b64_json"), "write it to a file"),
    **dict.fromkeys(("url", "image_url", "uri"), "download it"),
}
"""Keys of an object that is an image or its address, in place of its name, and what to do about it."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT_FIELDS = ("system", "task", "answer", "source", "place", "meta")
_KNOWN = frozenset({"id", "image", "images", *_SPELLINGS, *_TEXT_FIELDS})


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; in a user turn each `<image>` stands for the sample's next image."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its images, its gold answer and where it came from.

    `images` are names relative to the dataset's folder, or absolute; `in_folder` makes paths of them. `meta` is a JSON
    object as a string.
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
        """Text of the last user turn, or "" if there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def response(self) -> str:
        """Text of the last assistant turn, or "" if there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant"), "")

    def in_folder(self, folder: str | os.PathLike[str]) -> Sample:
        """Return the sample with the paths of its images: `folder` joined to each relative name.

        The names are joined as text. Whether a file exists, and whether a relative name or a link leaves the folder, is
        checked by `geotune.system.images.resolve_image` when a dataset is loaded.
        """
        return replace(self, images=tuple(os.path.join(folder, name) for name in self.images))


def sample_from_record(record: Mapping[str, Any], *, where: str, default_id: str | None = None) -> Sample:
    """Convert a sharegpt record, also one with role/content `messages` or with a single `image`, to a sample.

    where: position of the record, for messages. default_id: id for a record without one; by default `where`. Keys for
    which a sample has no field are kept in `meta`. Raises BadRecord.
    """
    own_id = record.get("id")
    named = isinstance(own_id, str | int) and not isinstance(own_id, bool)
    record_id = str(own_id) if named else default_id or where
    try:
        if not named and own_id is not None:
            raise BadRecord("", f"`id` is {shortened(own_id)}; it must be a string")
        return _checked(_sample(record, record_id))
    except BadRecord as error:
        raise error.at(where, record_id) from None


def sample_to_record(sample: Sample) -> dict[str, Any]:
    """Convert a sample to a sharegpt record with every key. Raises BadRecord if the record could not be read back."""
    _checked(sample)
    for name in sample.images:
        if file_name(name) != name:
            raise BadRecord("", f"image {shortened(name)} is an address; give the path alone")
    speakers = {"user": "human", "assistant": "gpt"}
    return {
        "id": sample.id,
        "images": list(sample.images),
        "conversations": [{"from": speakers[turn.role], "value": turn.text} for turn in sample.turns],
        **{field: getattr(sample, field) for field in _TEXT_FIELDS},
    }


def _sample(record: Mapping[str, Any], record_id: str) -> Sample:
    """Return the sample of a record, whose texts and counts are still to be checked."""
    texts = {field: record.get(field) for field in _TEXT_FIELDS}
    for field, value in texts.items():
        if not isinstance(value, str | None):
            raise BadRecord("", f"`{field}` is {shortened(value)}; it must be a string")
    turns, system_turn = _turns(record)
    if system_turn and texts["system"] and system_turn != texts["system"]:
        raise BadRecord("", "two system prompts, one in `system` and one in the turns; keep one")
    texts["system"] = system_turn or texts["system"]
    texts["meta"] = _meta(record)
    given = {field: value for field, value in texts.items() if value is not None}
    return Sample(id=record_id, images=_images(record), turns=turns, **given)


def _turns(record: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str | None]:
    """Return the turns, and the system prompt if it is the first of them."""
    present = [key for key in _SPELLINGS if record.get(key) is not None]
    if len(present) != 1:
        held = ", ".join(map(str, record)) or "no key"
        none = f"no `conversations` and no `messages`, in which the turns are expected; the record holds {held:.200}"
        raise BadRecord("", "both `conversations` and `messages`; keep one" if present else none)
    key = present[0]
    speaker, words, roles = _SPELLINGS[key]
    listed = record[key]
    if not isinstance(listed, list):
        raise BadRecord("", f"`{key}` is {shortened(listed)}; it must be a list of turns")
    turns: list[Turn] = []
    system = None
    for number, turn in enumerate(listed, start=1):
        if not _holds_exactly(turn, speaker, words):
            other = next((key for key, (*keys, _) in _SPELLINGS.items() if _holds_exactly(turn, *keys)), None)
            hint = f" (turns like this one belong in `{other}`)" if other else ""
            raise BadRecord(
                "", f"turn {number} is {shortened(turn)}; it must hold `{speaker}` and `{words}`, nothing else{hint}"
            )
        role, text = turn[speaker], turn[words]
        if not isinstance(text, str):
            hint = f", with {IMAGE_TAG} where an image of `images` stands" if isinstance(text, list) else ""
            raise BadRecord("", f"`{words}` of turn {number} is {shortened(text)}; it must be a string{hint}")
        if role == "system" and number == 1:
            system = text
        elif isinstance(role, str) and role in roles:
            turns.append(Turn(roles[role], text))
        else:
            raise BadRecord("", f"`{speaker}` of turn {number} is {shortened(role)}; known: {', '.join(roles)}")
    return tuple(turns), system


def _holds_exactly(turn: object, *keys: str) -> bool:
    """Whether a turn is an object that holds these keys and no other; a key whose value is null is not held."""
    return isinstance(turn, Mapping) and {key for key, value in turn.items() if value is not None} == set(keys)


def _images(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images of a record, from `images` or a single `image`."""
    one, several = record.get("image"), record.get("images")
    if one is not None and several is not None:
        raise BadRecord("", "both `image` and `images`; keep one")
    if isinstance(one, list):
        raise BadRecord("", f"`image` is {shortened(one)}; it must be one file name, or use `images`")
    if one is not None:
        return (_image_name("image", one),)
    if not several:
        other = next((key for key, value in record.items() if _holds_image(key, value)), None)
        if other is not None:
            raise BadRecord("", f"`{other}` holds an image under a name that is not read; name the key `images`")
    if several is None:
        return ()
    if not isinstance(several, list):
        raise BadRecord("", f"`images` is {shortened(several)}; it must be a list of file names")
    return tuple(_image_name(f"images[{number}]", name) for number, name in enumerate(several))


def _holds_image(key: str, value: object) -> bool:
    """Whether a key for which a sample has no field holds an image or its name."""
    known_kind = isinstance(value, str | list | Mapping) and bool(value)
    return known_kind and key not in _KNOWN and _IMAGE_KEYS.fullmatch(key) is not None


def _image_name(key: str, image: object) -> str:
    """Return the file name of an image, which may be an object with its `path`, as Hugging Face datasets have it."""
    if isinstance(image, Mapping) and isinstance(image.get("path"), str) and image.get("bytes") is None:
        image = image["path"]
    if isinstance(image, Mapping) and (other := next((name for name in _IN_PLACE if image.get(name)), None)):
        text = f"`{key}` is {shortened(image)}, not the name of the image's file; {_IN_PLACE[other]} and name the file"
        raise BadRecord("", text, code=NOT_A_FILE)
    if not isinstance(image, str):
        raise BadRecord("", f"`{key}` is {shortened(image)}; it must be a string, the name of the image's file")
    return file_name(image)


def _meta(record: Mapping[str, Any]) -> str:
    """Return the record's `meta`, with the keys added for which a sample has no field."""
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
    """Parse `meta`. Raises BadRecord if it is no JSON object."""
    try:
        held = parse_json(meta)
    except NotJsonError as error:
        raise BadRecord("", f"`meta` is {shortened(meta)}; it must be a JSON object as a string ({error})") from None
    if not isinstance(held, dict):
        raise BadRecord("", f"`meta` is {shortened(meta)}; it must be a JSON object as a string")
    return held


def _checked(sample: Sample) -> Sample:
    """Return the sample if it keeps the rules that readers of sharegpt records rely on; raise BadRecord if not.

    The turns alternate, begin with the user and end with the assistant, and none is empty. The user turns hold one
    `<image>` per image, and neither the system prompt nor an answer holds any.
    """
    fields = {"id": sample.id, **{field: getattr(sample, field) for field in _TEXT_FIELDS}}
    fields |= {f"images[{i}]": name for i, name in enumerate(sample.images)}
    fields |= {f"turn {i}": turn.text for i, turn in enumerate(sample.turns, start=1)}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise BadRecord("", f"`{name}` is {shortened(value)}; it must be a string")
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
    for number, turn in enumerate(sample.turns, start=1):
        foreign = _foreign_image(turn.text) if turn.role == "user" else None
        if foreign is not None:
            raise BadRecord(
                "",
                f"turn {number} holds {shortened(foreign)}; write {IMAGE_TAG} instead, and name the file in `images`",
            )
    tags = sum(turn.text.count(IMAGE_TAG) for turn in sample.turns)
    if tags != len(sample.images):
        raise BadRecord(
            "",
            f"{tags} {IMAGE_TAG} in the turns, but {len(sample.images)} images; the user turns hold one for each image",
        )
    _meta_object(sample.meta)
    return sample


def _foreign_image(text: str) -> str | None:
    """Return the first mark of another project that stands for an image, or None."""
    rest = text.replace(IMAGE_TAG, "")
    # Most texts hold none of these characters, and finding that out is much faster than the pattern.
    if "<" not in rest and "[" not in rest:
        return None
    found = _FOREIGN_IMAGES.search(rest)
    return None if found is None else found.group()
