"""Read the JSON that a model wrote, however carelessly, in time linear in the length of the text.

Models write single quotes, bare words, trailing commas and quotes within quotes, omit brackets, and put text around the
JSON. `read_objects` finds every object and array, wherever it begins. It visits the brackets from last to first, so
that nested nodes are known when their parent is read, and it remembers the members that follow each position.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from geotune.tasks.json_nodes import JsonNode, Member, Reading, Scalar, Status, Value

# typographic double and single quotes, full-width colon and comma
_STRAIGHT = str.maketrans("\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\uff1a\uff0c", "\"\"\"\"'''':,")
_LONGEST_KEY = 40
_SPACE = re.compile(r"\s*+")
_SPACE_AND_COMMAS = re.compile(r"[\s,]*+")
_BRACKET = re.compile(r"[{\[]")
_KEY_SPACE = re.compile(r"[\s_-]+")
_BARE_KEY = re.compile(r"[A-Za-z_][\w -]*+")
_BARE_VALUE = re.compile(r"""[^\s,:{}\[\]"'`<][^,:{}\[\]"'`<\n]*+""")
_WHOLE_WORD = re.compile(r"(?:true|false|null|none)\s*", re.IGNORECASE)
# A quote closes its string only if JSON continues after it, so apostrophes and quoted words inside a string are kept.
_AFTER_COMMA = r"""["'{}\[\]]|\n|[\w.+-]++\s*+(?:[:=,}\]]|\Z)|\Z"""
_AFTER_STRING = rf"[ \t]*+\n|\s*+(?:[:}}\]]|,[ \t]*+(?:{_AFTER_COMMA})|\Z|```|</)"
_CLOSING = {quote: re.compile(rf"\\.|{quote}(?={_AFTER_STRING})", re.DOTALL) for quote in ('"', "'")}
_PLAIN = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in ('"', "'")}


def plain_punctuation(text: str) -> str:
    """Replace typographic quotes, colons and commas by plain ones; every character keeps its position."""
    return text if text.isascii() else text.translate(_STRAIGHT)


def normal_key(key: str) -> str:
    """Normalize a key: drop case, spaces, hyphens and underscores, so that `isInRange` equals `is_in_range`."""
    return (key if key.isalpha() else _KEY_SPACE.sub("", key)).lower()


def read_objects(text: str, wanted: frozenset[str]) -> Reading:
    """Read every object and array of `text`; `wanted` are the keys (normalized) that matter. Never raises."""

    def key_name(key: str) -> str:
        normal = normal_key(key)
        return normal if normal in wanted else ""

    return read_named_objects(text, key_name)


def read_named_objects(text: str, key_name: Callable[[str], str]) -> Reading:
    """Read every object and array of `text`. Never raises.

    `key_name` gives the name under which a key, as the text writes it, is known; "" for a key that does not matter.
    """
    return _Reader(text, key_name).read()


def read_spellings(text: str, wanted: frozenset[str]) -> Iterator[Reading]:
    """Read `text` as it stands and then, if this differs, with plain punctuation. Never raises.

    The readings of a text without objects are empty: they lack its arrays, too.
    """
    spelling = text
    while True:
        yield read_objects(spelling, wanted) if "{" in text else Reading(spelling)
        if spelling == (plain := plain_punctuation(text)):
            return
        spelling = plain


_NONE: frozenset[str] = frozenset()


class _Members(NamedTuple):
    """The members from some position to the end of their object or array, where that ends, and how.

    `keys`, `deep` and `incomplete` are those of `JsonNode`, over these members.
    """

    first: Member | None
    end: int
    status: Status
    keys: frozenset[str]
    deep: frozenset[str]
    incomplete: bool


class _SingleMember(NamedTuple):
    """One member, before the members that follow it are known."""

    key: str
    value: Value
    start: int
    end: int
    status: Status


def _no_members(end: int, status: Status) -> _Members:
    return _Members(None, end, status, _NONE, _NONE, False)


class _Reader:
    """One pass over a text. Each method is a pure function of a position; results that may be needed twice are kept."""

    def __init__(self, text: str, key_name: Callable[[str], str]) -> None:
        self.text = text
        self.key_name = key_name
        self.nodes: dict[int, JsonNode] = {}
        self.members: dict[bool, dict[int, _Members]] = {True: {}, False: {}}
        self.values: dict[int, tuple[Value, int, Status]] = {}
        self.spaces: dict[int, int] = {}
        self.quotes: dict[tuple[str, bool], list[int]] = {}

    def read(self) -> Reading:
        """Read all nodes of the text."""
        for bracket in reversed([match.start() for match in _BRACKET.finditer(self.text)]):
            is_object = self.text[bracket] == "{"
            inside = self.members_from(bracket + 1, is_object)
            self.nodes[bracket] = JsonNode(
                start=bracket,
                end=inside.end,
                status=inside.status,
                is_object=is_object,
                first=inside.first,
                keys=inside.keys,
                deep=inside.deep,
                incomplete=inside.incomplete,
            )
        return Reading(self.text, [self.nodes[bracket] for bracket in reversed(self.nodes)])

    def members_from(self, at: int, is_object: bool) -> _Members:
        """Read the members from `at` to the end of their object or array."""
        known = self.members[is_object]
        singles: list[tuple[int, _SingleMember]] = []
        while (members := known.get(at)) is None:
            single = self.object_member(at) if is_object else self.array_item(at)
            if isinstance(single, _Members):
                members = known[at] = single
                break
            singles.append((at, single))
            if single.status is not Status.CLOSED:
                members = _no_members(single.end, single.status)
                break
            at = single.end
        for start, single in reversed(singles):
            inner = single.value if isinstance(single.value, JsonNode) else None
            keys, deep, incomplete = members.keys, members.deep, members.incomplete
            if single.key and single.value is not None:
                keys, deep = keys | {single.key}, deep | {single.key}
            elif single.key:
                incomplete = True
            if inner is not None:
                deep, incomplete = deep | inner.deep if inner.deep else deep, incomplete or inner.incomplete
            members = known[start] = _Members(
                Member(single.key, single.value, single.start, members.first),
                members.end,
                members.status,
                keys,
                deep,
                incomplete,
            )
        return members

    def object_member(self, at: int) -> _SingleMember | _Members:
        """Read the `key: value` at `at`, or how the object ends there."""
        at = self.skip(at, commas=True)
        if (end := self.end_at(at, "}")) is not None:
            return end
        if self.text[at] in "\"'":
            string = self.string_end(at)
            if string is None:
                return _no_members(len(self.text), Status.CUT)
            key, after = self.key(at + 1, string), string + 1
        elif bare := _BARE_KEY.match(self.text, at):
            key, after = self.key(at, bare.end()), bare.end()
        else:
            return _no_members(at, Status.BROKEN)
        colon = self.skip(after)
        if colon == len(self.text):
            return _no_members(colon, Status.CUT)
        if self.text[colon] not in ":=":
            return _no_members(colon, Status.BROKEN)
        start = self.skip(colon + 1)
        value, value_end, status = self.value(start)
        return _SingleMember(key, value, start, value_end, status)

    def array_item(self, at: int) -> _SingleMember | _Members:
        """Read the array item at `at` with the comma after it, or how the array ends there."""
        at = self.skip(at)
        if (array_end := self.end_at(at, "]")) is not None:
            return array_end
        value, end, status = self.value(at)
        if status is Status.CLOSED:
            end = self.skip(end)
            if self.text.startswith(",", end):
                end += 1
            elif not self.text.startswith("]", end):
                status = Status.CUT if end == len(self.text) else Status.BROKEN
        return _SingleMember("", value, at, end, status)

    def end_at(self, at: int, bracket: str) -> _Members | None:
        """Return how an object or array ends at `at`; None if it continues. `bracket` is its closing bracket."""
        char = self.text[at : at + 1]
        if char == bracket:
            return _no_members(at + 1, Status.CLOSED)
        if not char or (char in "`<" and self.text.startswith(("```", "</"), at)):
            return _no_members(at, Status.CUT)
        return None

    def value(self, at: int) -> tuple[Value, int, Status]:
        """Return the value at `at`, its end, and how it ends."""
        if (node := self.nodes.get(at)) is not None:
            return node, node.end, node.status
        if at not in self.values:
            self.values[at] = self.read_value(at)
        return self.values[at]

    def read_value(self, at: int) -> tuple[Value, int, Status]:
        """Read the string or bare value at `at`, as `value` returns it."""
        text = self.text
        if at == len(text):
            return None, at, Status.CUT
        if text[at] in "\"'":
            end = self.string_end(at)
            if end is None:
                return None, len(text), Status.CUT
            return Scalar(at + 1, end, True), end + 1, Status.CLOSED
        if bare := _BARE_VALUE.match(text, at):
            if bare.end() == len(text) and not _WHOLE_WORD.fullmatch(text, at):
                return None, len(text), Status.CUT  # the rest of the word may be missing
            return Scalar(at, bare.end(), False), bare.end(), Status.CLOSED
        return None, at, Status.BROKEN

    def key(self, start: int, end: int) -> str:
        """Return the name of the key at `text[start:end]`, "" if it does not matter."""
        return self.key_name(self.text[start:end]) if end - start <= _LONGEST_KEY else ""

    def skip(self, at: int, *, commas: bool = False) -> int:
        """Return the first position from `at` on that holds no white space (with `commas`: nor a comma)."""
        char = self.text[at : at + 1]
        if not (char.isspace() or (commas and char == ",")):
            return at
        if commas:  # needed only once per position, because `members_from` keeps its results
            match = _SPACE_AND_COMMAS.match(self.text, at)
            assert match
            return match.end()
        if at not in self.spaces:
            match = _SPACE.match(self.text, at)
            assert match
            self.spaces[at] = match.end()
        return self.spaces[at]

    def string_end(self, at: int) -> int | None:
        """Return the position of the quote that closes the string which begins at `at`."""
        for proper in (True, False):
            places = self.quote_places(self.text[at], proper)
            index = bisect_left(places, at + 1)
            if index < len(places):
                return places[index]
        return None

    def quote_places(self, quote: str, proper: bool) -> list[int]:
        """Return the positions of all unescaped quotes of one kind; with `proper`, only of those after which JSON
        continues."""
        if (quote, proper) not in self.quotes:
            pattern = (_CLOSING if proper else _PLAIN)[quote]
            self.quotes[quote, proper] = [m.start() for m in pattern.finditer(self.text) if m[0] == quote]
        return self.quotes[quote, proper]
