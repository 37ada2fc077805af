"""Find the JSON that a model wrote, and the part of its text that is the answer.

Models write JSON carelessly: single quotes, bare words, trailing commas, a missing bracket, quotes within quotes, text
around it. `read_objects` reads every object that a text holds, wherever it begins, in time linear in the text: it goes
from the last bracket to the first, so that what is nested is known when its parent is read, and remembers what
follows each position.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

_LONGEST_KEY = 40
# typographic double and single quotes, full-width colon and comma
_STRAIGHT = str.maketrans("\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\uff1a\uff0c", "\"\"\"\"'''':,")
_SPACE = re.compile(r"\s*+")
_SPACE_AND_COMMAS = re.compile(r"[\s,]*+")
_BARE_KEY = re.compile(r"[A-Za-z_][\w -]*+")
_BARE_VALUE = re.compile(r"""[^\s,:{}\[\]"'`<][^,:{}\[\]"'`<\n]*+""")
_WHOLE_WORD = re.compile(r"(?:true|false|null|none)\s*", re.IGNORECASE)
# A quote ends its string where JSON goes on after it, so that apostrophes and quoted words within a string do no harm.
_AFTER_COMMA = r"""["'{}\[\]]|\n|[\w.+-]++\s*+(?:[:=,}\]]|\Z)|\Z"""
_AFTER_STRING = rf"[ \t]*+\n|\s*+(?:[:}}\]]|,[ \t]*+(?:{_AFTER_COMMA})|\Z|```|</)"
_CLOSING = {quote: re.compile(rf"\\.|{quote}(?={_AFTER_STRING})", re.DOTALL) for quote in ('"', "'")}
_PLAIN = {quote: re.compile(rf"\\.|{quote}", re.DOTALL) for quote in ('"', "'")}


def plain_punctuation(text: str) -> str:
    """Typographic quotes, colons and commas as plain ones, each character in its place."""
    return text.translate(_STRAIGHT)


def normal_key(key: str) -> str:
    """A key without case, spaces, hyphens and underscores: `isInRange` and `is_in_range` are the same key."""
    return re.sub(r"[\s_-]+", "", key).lower()


class Status(Enum):
    """How an object or array ends."""

    CLOSED = auto()
    """With its bracket."""
    CUT = auto()
    """Without it: the text, its fence or its tag ends first."""
    BROKEN = auto()
    """With something that is not JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A string (without its quotes), a number or a bare word: `text[start:end]`."""

    start: int
    end: int
    quoted: bool


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JsonNode:
    """An object or array: `text[start:end]`. `keys` are the wanted keys that it holds itself with a readable value,
    `deep` those that it or anything inside it holds, and `torn` says that a wanted key has no readable value."""

    start: int
    end: int
    status: Status
    is_object: bool
    first: Member | None
    keys: frozenset[str]
    deep: frozenset[str]
    torn: bool

    def members(self) -> Iterator[Member]:
        """What it holds, in the order of the text; duplicate keys are kept."""
        member = self.first
        while member is not None:
            yield member
            member = member.following


Value = Scalar | JsonNode | None  # None: the text ended, or broke off, where the value should be


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Member:
    """One member: `key` is normalised, and "" unless it is wanted; `start` is where the value begins."""

    key: str
    value: Value
    start: int
    following: Member | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Tail:
    """All members from some position on."""

    first: Member | None
    end: int
    status: Status
    keys: frozenset[str]
    deep: frozenset[str]
    torn: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """One member as it was read, before what follows it is known."""

    key: str
    value: Value
    start: int
    end: int
    status: Status


_NONE: frozenset[str] = frozenset()


def _stop(end: int, status: Status) -> _Tail:
    return _Tail(None, end, status, _NONE, _NONE, False)


@dataclass(eq=False, repr=False)
class Reading:
    """The objects and arrays of a text (`nodes`, in the order in which they begin) and how to read their values."""

    text: str
    nodes: list[JsonNode] = field(default_factory=list)

    def string(self, scalar: Scalar) -> str:
        """The scalar's text, unescaped and stripped, without lone surrogates."""
        raw = self.text[scalar.start : scalar.end]
        if scalar.quoted and "\\" in raw:
            try:
                raw = json.loads(f'"{raw}"', strict=False)
            except ValueError:
                raw = re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL)
        return raw.encode("utf-8", "replace").decode().strip()

    def last(self, wanted: Collection[str], since: int = 0, *, deep: bool = False) -> list[JsonNode] | None:
        """The object that gives the text's final answer: the last that holds one of the keys `wanted` (normalised).

        Only objects that begin at or after `since` count. A closed object counts more than one that is open around
        it, but not more than one that comes after it. With `deep`, objects count that hold a key at any depth, and the
        outermost is taken, even where only its last brackets are missing. Several objects are returned when they are
        items of one array. None: there is no such object; an empty list: the only one breaks off where its value
        should be.
        """
        objects = [node for node in self.nodes if node.is_object and node.start >= since]
        holds = [node for node in objects if not (node.deep if deep else node.keys).isdisjoint(wanted)]
        whole = (Status.CLOSED, Status.CUT) if deep else (Status.CLOSED,)
        closed = [node for node in holds if node.status in whole]
        # Two objects close at one bracket only when one of them began inside the other's string: the inner one is real.
        final = max(closed, key=lambda node: (node.end, -node.start if deep else node.start), default=None)
        late = [n for n in holds if n.status not in whole and (final is None or n.start >= final.end)]
        if late:
            return [late[0 if deep else -1]]
        if final is None:
            return [] if any(node.torn for node in objects) else None
        arrays = (n for n in self.nodes if not n.is_object and n.status is Status.CLOSED and n.end > final.end)
        array = next((n for n in arrays if n.start < final.start), None)
        if array is None:
            return [final]
        items: list[JsonNode] = []
        for node in closed:
            if array.start < node.start < array.end and (not items or node.start >= items[-1].end):
                items.append(node)
        return items

    def unfinished(self) -> JsonNode | None:
        """The object in the middle of which the text ends, if any: the outermost."""
        end = len(self.text.rstrip())
        cut = (node for node in self.nodes if node.is_object and node.status is Status.CUT and node.end >= end)
        return next(cut, None)


def read_objects(text: str, wanted: frozenset[str]) -> Reading:
    """Read every object and array of `text`; `wanted` are the keys (normalised) that matter. Never raises."""
    return _Reader(text, wanted).read()


class _Reader:
    """One pass over a text. Each method is a pure function of a position, remembered where it could be asked twice."""

    def __init__(self, text: str, wanted: frozenset[str]) -> None:
        self.text = text
        self.wanted = wanted
        self.nodes: dict[int, JsonNode] = {}
        self.chains: dict[bool, dict[int, _Tail]] = {True: {}, False: {}}
        self.values: dict[int, tuple[Value, int, Status]] = {}
        self.spaces: dict[int, int] = {}
        self.quotes: dict[tuple[str, bool], list[int]] = {}

    def read(self) -> Reading:
        for bracket in reversed([match.start() for match in re.finditer(r"[{\[]", self.text)]):
            is_object = self.text[bracket] == "{"
            tail = self.chain(bracket + 1, is_object)
            self.nodes[bracket] = JsonNode(
                bracket, tail.end, tail.status, is_object, tail.first, tail.keys, tail.deep, tail.torn
            )
        return Reading(self.text, [self.nodes[bracket] for bracket in reversed(self.nodes)])

    def chain(self, at: int, is_object: bool) -> _Tail:
        """The members from `at` on."""
        known = self.chains[is_object]
        steps: list[tuple[int, _Step]] = []
        while (tail := known.get(at)) is None:
            step = self.member(at) if is_object else self.item(at)
            if isinstance(step, _Tail):
                tail = known[at] = step
                break
            steps.append((at, step))
            if step.status is not Status.CLOSED:
                tail = _stop(step.end, step.status)
                break
            at = step.end
        for start, step in reversed(steps):
            deep = step.value.deep if isinstance(step.value, JsonNode) else _NONE
            own = frozenset((step.key,)) if step.key else _NONE
            keys = _NONE if step.value is None else own
            tail = known[start] = _Tail(
                Member(step.key, step.value, step.start, tail.first),
                tail.end,
                tail.status,
                tail.keys | keys,
                tail.deep | keys | deep,
                tail.torn or keys != own or (isinstance(step.value, JsonNode) and step.value.torn),
            )
        return tail

    def member(self, at: int) -> _Step | _Tail:
        """`key: value` at `at`, or how the object ends there."""
        at = self.skip(at, commas=True)
        if (stop := self.stop(at, "}")) is not None:
            return stop
        if self.text[at] in "\"'":
            string = self.string_end(at)
            if string is None:
                return _stop(len(self.text), Status.CUT)
            key, after = self.key(at + 1, string), string + 1
        elif bare := _BARE_KEY.match(self.text, at):
            key, after = self.key(at, bare.end()), bare.end()
        else:
            return _stop(at, Status.BROKEN)
        colon = self.skip(after)
        if colon == len(self.text):
            return _stop(colon, Status.CUT)
        if self.text[colon] not in ":=":
            return _stop(colon, Status.BROKEN)
        start = self.skip(colon + 1)
        value, end, status = self.value(start)
        return _Step(key, value, start, end, status)

    def item(self, at: int) -> _Step | _Tail:
        """An array's item at `at` with the comma after it, or how the array ends there."""
        at = self.skip(at)
        if (stop := self.stop(at, "]")) is not None:
            return stop
        value, end, status = self.value(at)
        if status is Status.CLOSED:
            end = self.skip(end)
            if self.text.startswith(",", end):
                end += 1
            elif not self.text.startswith("]", end):
                status = Status.CUT if end == len(self.text) else Status.BROKEN
        return _Step("", value, at, end, status)

    def stop(self, at: int, bracket: str) -> _Tail | None:
        if self.text.startswith(bracket, at):
            return _stop(at + 1, Status.CLOSED)
        if at == len(self.text) or self.text.startswith(("```", "</"), at):
            return _stop(at, Status.CUT)
        return None

    def value(self, at: int) -> tuple[Value, int, Status]:
        if at not in self.values:
            self.values[at] = self.read_value(at)
        return self.values[at]

    def read_value(self, at: int) -> tuple[Value, int, Status]:
        text = self.text
        if at == len(text):
            return None, at, Status.CUT
        if text[at] in "{[":
            node = self.nodes[at]
            return node, node.end, node.status
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
        key = normal_key(self.text[start:end]) if end - start <= _LONGEST_KEY else ""
        return key if key in self.wanted else ""

    def skip(self, at: int, *, commas: bool = False) -> int:
        if commas:  # only asked once for a position, as `chain` remembers
            match = _SPACE_AND_COMMAS.match(self.text, at)
            assert match
            return match.end()
        if at not in self.spaces:
            match = _SPACE.match(self.text, at)
            assert match
            self.spaces[at] = match.end()
        return self.spaces[at]

    def string_end(self, at: int) -> int | None:
        """Where the string that begins at `at` has its closing quote."""
        for proper in (True, False):
            places = self.quote_places(self.text[at], proper)
            index = bisect_left(places, at + 1)
            if index < len(places):
                return places[index]
        return None

    def quote_places(self, quote: str, proper: bool) -> list[int]:
        if (quote, proper) not in self.quotes:
            pattern = (_CLOSING if proper else _PLAIN)[quote]
            self.quotes[quote, proper] = [m.start() for m in pattern.finditer(self.text) if m[0] == quote]
        return self.quotes[quote, proper]
