"""Errors that are mistakes of the user: in the config, or in one record of the data."""

from __future__ import annotations

import reprlib


class ConfigError(Exception):
    """A mistake of the user, whose message names the key, the value and the remedy. The command exits with status 2."""


class BadRecord(ConfigError, ValueError):  # noqa: N818 - a record is bad, not the program
    """A record that can't be used, or an image of it.

    record_id: id of the record, or "". reason: description of the problem. where: position of the record, or "".
    """

    def __init__(self, record_id: str, reason: str, where: str = "") -> None:
        super().__init__(record_id, reason, where)
        self.record_id = record_id
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        named = f"record {self.record_id!r}" if self.record_id else ""
        return ": ".join(part for part in (self.where, named, self.reason) if part)

    def at(self, where: str, record_id: str) -> BadRecord:
        """Return the same error with a position and an id."""
        return BadRecord(record_id, self.reason, where)


def shortened(value: object) -> str:
    """Return `repr(value)`, cut in length and depth for a message."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    return shortener.repr(value)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
