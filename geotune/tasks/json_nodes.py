"""The objects and arrays that a text holds, and which of them give the text's final answer."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

_JOINED = re.compile(r"[^\w{}\[\]]*(?:or|and/or|and|vs|versus|alternatively)[^\w{}\[\]]*|\s*[,;/|&]\s*", re.IGNORECASE)
# Words before and behind an object in its line that doubt or deny what it says.
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|unlikely|exclud(?:e|ed|ing)|rul(?:e|ed|ing) out|except|maybe|perhaps|possibly"
    r"|(?:might|may|could|would)(?: be)?|anything but|(?:other|rather|less likely) than|instead of|opposite of)"
    r"|n['\u2019]t(?: be)?)[ \t:\"'`*(]*\Z",
    re.IGNORECASE,
)
_NEAR = 30
_DOUBTED = re.compile(
    r"[ \t`\"'*)]*(?:\?|\s*or\b|,?[ \t]*(?:would|could|might|may|cannot|can['\u2019]t|lacks?"
    r"|do(?:es)?(?:n['\u2019]t| not)"
    r"|(?:is|was|seems?|looks?)(?:n['\u2019]t|[ \t]+(?:not|wrong|incorrect|false|unlikely|impossible|excluded|ruled out"
    r"|(?:also |only |just )?(?:possible|an? (?:example|guess|alternative|candidate))|my first|the first)))\b)",
    re.IGNORECASE,
)


class Status(Enum):
    """How an object or array ends."""

    CLOSED = auto()
    """With its closing bracket."""
    CUT = auto()
    """Without a closing bracket, because the text, its code fence or its tag ends first."""
    BROKEN = auto()
    """With something that is not JSON."""


# None of these objects is ever changed. They are not frozen, because it would take twice as long to make them.


@dataclass(slots=True, eq=False)
class Scalar:
    """A string (without its quotes), a number or a bare word: `text[start:end]`."""

    start: int
    end: int
    quoted: bool


@dataclass(slots=True, eq=False, repr=False)
class JsonNode:
    """An object or array: `text[start:end]`."""

    start: int
    end: int
    status: Status
    is_object: bool
    first: Member | None
    keys: frozenset[str]
    """Wanted keys that this object itself holds with a complete value."""
    deep: frozenset[str]
    """Wanted keys that this node or any node inside it holds with a complete value."""
    incomplete: bool
    """Whether a wanted key, here or in a node inside, has no complete value."""

    def members(self) -> Iterator[Member]:
        """Iterate over the members in the order of the text; duplicate keys are kept."""
        member = self.first
        while member is not None:
            yield member
            member = member.following


Value = Scalar | JsonNode | None
"""The value of a member; None if the text ends or breaks off before the value is complete."""


@dataclass(slots=True, eq=False, repr=False)
class Member:
    """One member of an object or item of an array.

    `key` is normalized, and "" unless it is a wanted key. `start` is the position at which the value begins.
    """

    key: str
    value: Value
    start: int
    following: Member | None


@dataclass(eq=False, repr=False)
class Reading:
    """All objects and arrays of a text (`nodes`, in the order in which they begin)."""

    text: str
    nodes: list[JsonNode] = field(default_factory=list)

    def string(self, scalar: Scalar) -> str:
        """Return the text of a scalar, unescaped and stripped, with lone surrogates replaced."""
        raw = self.text[scalar.start : scalar.end]
        if scalar.quoted and "\\" in raw:
            try:
                raw = json.loads(f'"{raw}"', strict=False)
            except ValueError:
                raw = re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL)
        return raw.encode("utf-8", "replace").decode().strip()

    def final_objects(self, wanted: Collection[str], *, deep: bool = False) -> list[JsonNode] | None:
        """Return the object that gives the final answer: the last one that holds a key of `wanted` (normalized).

        A closed object takes precedence over an unclosed object
        around it, but not over an unclosed object after it. With `deep`, an object also counts if an object inside it
        holds a key; the outermost object is returned, even if only its last brackets are missing. Several objects are
        returned if they are items of one array, or joined by "or", "and", a comma or a slash.

        Returns None if no object has a wanted key, and an empty list if the only wanted keys have incomplete values.
        """
        if not self.nodes:
            return None
        objects = [node for node in self.nodes if node.is_object]
        holds = [node for node in objects if not (node.deep if deep else node.keys).isdisjoint(wanted)]
        whole = (Status.CLOSED, Status.CUT) if deep else (Status.CLOSED,)
        closed = [node for node in holds if node.status in whole]
        # If two objects close at one bracket, one of them began inside a string of the other: the inner one is real.
        final = max(closed, key=lambda node: (node.end, -node.start if deep else node.start), default=None)
        late = [node for node in holds if node.status not in whole and (final is None or node.start >= final.end)]
        if late:
            return [late[0 if deep else -1]]
        if final is None:
            return [] if any(node.incomplete for node in objects) else None
        arrays = (n for n in self.nodes if not n.is_object and n.status is Status.CLOSED and n.end > final.end)
        array = next((n for n in arrays if n.start < final.start), None)
        if array is None:
            before = max((node for node in closed if node.end <= final.start), key=lambda node: node.end, default=None)
            joined = before is not None and _JOINED.fullmatch(self.text, before.end, final.start)
            return [before, final] if before is not None and joined else [final]
        items: list[JsonNode] = []
        for node in closed:
            if array.start < node.start < array.end and (not items or node.start >= items[-1].end):
                items.append(node)
        return items

    def is_doubted(self, node: JsonNode) -> bool:
        """Return whether the words beside an object doubt or deny it: `not {...}`, `{...} is wrong`, `{...} or`."""
        return is_denial(self.text[max(0, node.start - _NEAR) : node.start]) or bool(
            _DOUBTED.match(self.text, node.end)
        )

    def unfinished(self) -> JsonNode | None:
        """Return the outermost object in the middle of which the text ends, if there is one."""
        end = len(self.text.rstrip())
        cut = (node for node in self.nodes if node.is_object and node.status is Status.CUT and node.end >= end)
        return next(cut, None)


def is_denial(before: str) -> bool:
    """Return whether the text before an object denies or doubts what the object says."""
    return _DENIED.search(before, max(0, len(before) - _NEAR)) is not None
