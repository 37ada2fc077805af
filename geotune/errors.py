"""Errors that are mistakes of the user: in the config, or in one record of the data."""

from __future__ import annotations

import reprlib
import unicodedata
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""Value of a `Problem` that is about no single value."""
LONGEST_VALUE = 300
"""Characters of a value that a message shows at most."""
LONGEST_REASON = 1000
"""Characters of the reason why a record is bad that a message shows at most."""


@dataclass(frozen=True)
class Problem:
    """One mistake of the user: the key and its value, what is wrong, and what to do about it."""

    key: str | None
    """Full name of the key in the config; None for a mistake that is not about a key, such as a damaged file."""
    value: Any
    """Value of the key; `ABSENT` if the key alone is meant."""
    text: str
    """Description of the mistake."""
    remedy: str = ""
    """What the user can do, in which {key} stands for the full name of the key; empty if the description says it."""
    siblings: tuple[str, ...] | None = None
    """Known keys beside an unknown key; None for any other mistake."""

    def __str__(self) -> str:
        value = "" if self.value is ABSENT else f"={as_typed(self.value, LONGEST_VALUE)}"
        about = "" if self.key is None else f"{self.key}{value}: "
        remedy = self.remedy.replace("{key}", self.key or "")
        return f"{about}{self.text}{f'; {remedy}' if remedy else ''}"

    def below(self, where: str) -> Problem:
        """Return the same mistake with a key below the key `where`."""
        return self if self.key is None or not where else replace(self, key=f"{where}.{self.key}".rstrip("."))


class ConfigError(Exception):
    """One or several mistakes of the user. The command shows them and exits with status 2.

    problems: the mistakes; a text stands for a mistake that is not about a key.
    """

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(None, ABSENT, p) for p in problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class BadRecord(ConfigError, ValueError):  # noqa: N818 - a record is bad, not the program
    """A record that can't be used, or an image of it.

    record_id: id of the record, or "". reason: description of the problem. where: position of the record, or "". code:
    kind of the problem, one word that reports count: `invalid_record`, `missing_image`, `image_not_a_file`,
    `broken_image` or `image_too_large`.
    """

    def __init__(self, record_id: str, reason: str, where: str = "", code: str = "invalid_record") -> None:
        super().__init__(reason)
        self.args = (record_id, reason, where, code)
        self.record_id = record_id
        self.reason = in_one_line(reason, LONGEST_REASON)
        self.where = where
        self.code = code

    def __str__(self) -> str:
        named = f"record {in_one_line(repr(self.record_id), LONGEST_VALUE)}" if self.record_id else ""
        where = in_one_line(self.where, LONGEST_VALUE)
        return ": ".join(part for part in (where, named, self.reason) if part)

    def at(self, where: str, record_id: str) -> BadRecord:
        """Return the same error with a position and an id."""
        return BadRecord(record_id, self.reason, where, self.code)


def as_typed(value: Any, longest: int = 80) -> str:
    """Return a value as a user types it, cut to `longest` characters."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    text = f"[{','.join(map(as_typed, value))}]" if isinstance(value, (list, tuple)) else str(value)
    text = _escaped(text[:longest]) + text[longest:]
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def in_one_line(text: str, longest: int) -> str:
    """Return `text` with its control characters escaped, and without its middle if it is longer than `longest`."""
    if len(text) > longest:
        half = (longest - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return _escaped(text)


def _escaped(text: str) -> str:
    """Return `text` with line breaks and other characters that a terminal would act on as escapes, such as \\n."""
    if text.isprintable():
        return text
    acting = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) in acting else letter for letter in text)


def shortened(value: object) -> str:
    """Return `repr(value)`, cut in length and depth for a message."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    return shortener.repr(value)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
