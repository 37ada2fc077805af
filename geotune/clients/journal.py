"""Append-only record of paid calls to an endpoint, which survives a kill of the process at any moment."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from geotune.errors import ABSENT, ConfigError, Problem

log = logging.getLogger(__name__)


class Journal:
    """The calls made for one dataset, as three files of JSON lines in one folder.

    The journal is a context manager, which one process at a time can enter. `calls.jsonl` gets a line with the highest
    possible cost before each call, and another one with the reason if the call fails. `answers.jsonl` holds the valid
    answers as they came, and `invalid.jsonl` the invalid ones with the reason. Every line is on the disk before the
    program acts on it. A call without an outcome, because the process was killed while it ran, counts with its highest
    possible cost, because it may have been charged.

    A question is identified by its key, a digest of what is asked; the model is no part of it.

    Raises:
        ConfigError: the folder can't be written, another process uses it, or a line before the last one is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.invalid: Counter[str] = Counter()
        """Number of invalid answers to each question."""
        self.last_invalid: dict[str, str] = {}
        """Reason why the last invalid answer to each question was invalid."""
        self.answer_tokens: list[int] = [0, 0]
        """Number of valid answers whose tokens were counted, and the sum of these tokens."""
        self._usd: dict[int, float] = {}
        self._next = 0
        self._answered: dict[str, int] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._opened = ExitStack()

    @property
    def spent_usd(self) -> float:
        """Cost of all calls so far; a call whose cost is not known counts with its highest possible cost."""
        return sum(self._usd.values())

    def __contains__(self, key: str) -> bool:
        """Return whether the question has a valid answer."""
        return key in self._answered

    def body(self, key: str) -> str:
        """Return the valid answer to a question, as the body of the response. Raises KeyError if there is none."""
        file = self._files["answers"]
        file.seek(self._answered[key])
        body: str = json.loads(file.readline())["body"]
        return body

    def start(self, key: str, item: str, worst_usd: float) -> int:
        """Record that a call is about to be made, and return its number."""
        call = self._next
        self._append("calls", {"call": call, "key": key, "photo": item, "worst_usd": worst_usd})
        self._next += 1
        self._usd[call] = worst_usd
        return call

    def fail(self, call: int, reason: str, usd: float) -> None:
        """Record that a call brought no response."""
        self._append("calls", {"call": call, "failed": reason, "usd": usd})
        self._usd[call] = usd

    def answer(self, call: int, key: str, item: str, body: str, usd: float, tokens_out: int | None) -> None:
        """Store a valid answer."""
        line = {"call": call, "key": key, "photo": item, "usd": usd, "tokens_out": tokens_out, "body": body}
        self._note_answer(line, self._append("answers", line))

    def reject(self, call: int, key: str, item: str, body: str, usd: float, reason: str, detail: str) -> None:
        """Store an invalid answer."""
        line = {"call": call, "key": key, "photo": item, "usd": usd, "reason": reason, "detail": detail, "body": body}
        self._append("invalid", line)
        self._note_invalid(line)

    def __enter__(self) -> Journal:
        from filelock import FileLock, Timeout

        with ExitStack() as opened:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                opened.enter_context(FileLock(self.folder / ".lock", timeout=0))
                for name in ("calls", "answers", "invalid"):
                    self._files[name] = opened.enter_context((self.folder / f"{name}.jsonl").open("a+b"))
            except Timeout:
                raise ConfigError(
                    Problem("out", ABSENT, f"another process is writing to {self.folder}", "wait for it or stop it")
                ) from None
            except OSError as error:
                raise ConfigError(
                    Problem("out", ABSENT, f"can't write {self.folder} ({error.strerror})", "choose another folder")
                ) from error
            for _, line in self._lines("calls"):
                self._usd[line["call"]] = line["usd"] if "failed" in line else line["worst_usd"]
                self._next = max(self._next, line["call"] + 1)
            for at, line in self._lines("answers"):
                self._note_answer(line, at)
            for _, line in self._lines("invalid"):
                self._note_invalid(line)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _note_answer(self, line: dict[str, Any], at: int) -> None:
        self._answered[line["key"]] = at
        self._usd[line["call"]] = line["usd"]
        if line["tokens_out"] is not None:
            self.answer_tokens[0] += 1
            self.answer_tokens[1] += line["tokens_out"]

    def _note_invalid(self, line: dict[str, Any]) -> None:
        self._usd[line["call"]] = line["usd"]
        self.invalid[line["key"]] += 1
        self.last_invalid[line["key"]] = f"{line['reason']}: {line['detail']}"

    def _append(self, name: str, line: dict[str, Any]) -> int:
        """Write a line, wait until it is on the disk, and return the offset of its beginning."""
        file = self._files[name]
        at = file.seek(0, os.SEEK_END)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        return at

    def _lines(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the offset and the content of each line; remove a last line that a kill left incomplete."""
        file = self._files[name]
        file.seek(0)
        at = 0
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                log.warning(
                    "%s.jsonl: the last line is incomplete, since its process was killed; it is removed",
                    self.folder / name,
                )
                file.truncate(at)
                return
            try:
                line = json.loads(raw)
                assert isinstance(line["call"], int)
            except (ValueError, LookupError, TypeError, AssertionError):
                raise ConfigError(
                    f"out: line {number} of {self.folder / name}.jsonl is broken; restore the file or remove the line"
                ) from None
            yield at, line
            at += len(raw)
