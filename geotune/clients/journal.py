"""Append-only record of paid calls to an endpoint: what was asked, answered and spent survives a kill at any moment."""

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

from geotune.errors import ConfigError

log = logging.getLogger(__name__)


class Journal:
    """The calls of one dataset, in a folder of three files of JSON lines; a context manager, one process at a time.

    `calls.jsonl` says before each call what it may cost at worst, and afterwards why it failed if it did;
    `answers.jsonl` holds the valid answers as they came, `invalid.jsonl` the others with the reason. Every line is on
    the disk before anything follows from it. A call that has no outcome, because the process was killed while it ran,
    counts with its worst cost: it may have been charged.

    A question is known by its key: what the endpoint is asked, not by whom.

    Raises:
        ConfigError: the folder can't be written, another process has it, or a line that is not the last is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.invalid: Counter[str] = Counter()
        """How many invalid answers each question has had."""
        self.last_invalid: dict[str, str] = {}
        """Why the last of them was invalid."""
        self.answer_tokens: list[int] = [0, 0]
        """Number of valid answers whose tokens were counted, and tokens in them."""
        self._usd: dict[int, float] = {}
        self._next = 0
        self._answered: dict[str, int] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._opened = ExitStack()

    @property
    def spent_usd(self) -> float:
        """What all calls so far have cost: as charged, at worst where that is not known."""
        return sum(self._usd.values())

    def __contains__(self, key: str) -> bool:
        """Whether the question has a valid answer."""
        return key in self._answered

    def body(self, key: str) -> str:
        """The valid answer to a question: the body of the response."""
        file = self._files["answers"]
        file.seek(self._answered[key])
        body: str = json.loads(file.readline())["body"]
        return body

    def start(self, key: str, photo: str, worst_usd: float) -> int:
        """Note that a call is about to be made; its number."""
        call = self._next
        self._append("calls", {"call": call, "key": key, "photo": photo, "worst_usd": worst_usd})
        self._next += 1
        self._usd[call] = worst_usd
        return call

    def fail(self, call: int, reason: str, usd: float) -> None:
        """Note that a call brought no response."""
        self._append("calls", {"call": call, "failed": reason, "usd": usd})
        self._usd[call] = usd

    def answer(self, call: int, key: str, photo: str, body: str, usd: float, tokens_out: int | None) -> None:
        """Keep a valid answer."""
        line = {"call": call, "key": key, "photo": photo, "usd": usd, "tokens_out": tokens_out, "body": body}
        self._note_answer(line, self._append("answers", line))

    def reject(self, call: int, key: str, photo: str, body: str, usd: float, reason: str, detail: str) -> None:
        """Keep an invalid answer, apart from the valid ones."""
        line = {"call": call, "key": key, "photo": photo, "usd": usd, "reason": reason, "detail": detail, "body": body}
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
                    f"out: another process is asking into {self.folder}; wait for it or stop it"
                ) from None
            except OSError as error:
                raise ConfigError(
                    f"out: can't write {self.folder} ({error.strerror}); choose another folder"
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
        """Write a line and wait until the disk has it; where it begins."""
        file = self._files[name]
        at = file.seek(0, os.SEEK_END)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        return at

    def _lines(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Where each line begins, and the line; a last one that was torn by a kill is taken off."""
        file = self._files[name]
        file.seek(0)
        at = 0
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                log.warning("%s.jsonl: its last line was cut off by a kill and is taken off", self.folder / name)
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
