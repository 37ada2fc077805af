"""Errors that are a user's mistake, not ours: in what was asked for, or in one record of the data."""

from __future__ import annotations

import reprlib


class ConfigError(Exception):
    """A mistake in what the user asked for: its message names the key, the value and the remedy. Exit status 2."""


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


def shortened(value: object) -> str:
    """A value as a message shows it: of bounded length and depth."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    return shortener.repr(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
