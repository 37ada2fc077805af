"""Outcomes: what came of asking a sample once, and the append-only JSON-lines files that hold them."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, get_args

from geotune.errors import ConfigError
from geotune.system.files import naming_a_full_disk, write_whole
from geotune.system.strict_json import finite

Status = Literal["answered", "refused", "cut_off", "failed"]
"""What came back: an answer, a refusal, an answer that reached its limit of tokens, or nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Numbers of tokens of one outcome; None where the answerer does not count them."""

    input: int | None = None
    """Tokens of the prompt, images included."""
    cached: int | None = None
    """Those of the prompt that the endpoint had cached."""
    reasoning: int | None = None
    """Tokens of hidden reasoning."""
    output: int | None = None
    """Tokens of the text."""

    def __add__(self, other: TokenCounts) -> TokenCounts:
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return TokenCounts(*(a if b is None else b if a is None else a + b for a, b in pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of asking a sample once."""

    id: str
    """Id of the sample."""
    variant: str = ""
    """Form of the question; empty for the sample as it stands."""
    repeat: int = 0
    """Number of the draw; 0 is the greedy answer, which gives every headline figure."""
    status: Status
    text: str | None = None
    """Text of the answer; None if there is none, or if options were scored without an explanation."""
    option_logprobs: Mapping[str, float | None] | None = None
    """Log-probability of each legal answer, if they were scored; None for one that is not finite."""
    reason: str | None = None
    """Why there is no answer, as one word where possible; None if there is one."""
    attempts: int = 1
    """Number of times that the question was sent."""
    tokens: TokenCounts = field(default_factory=TokenCounts)
    usd: float | None = 0.0
    """Cost; None if it is not known."""
    seconds: float = 0.0
    """Time that the answer took; a batch's time is shared evenly by its questions, so that sums are wall time."""
    asked_at: str = ""
    """Time of asking in UTC, in ISO 8601."""

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"status {self.status!r}: an outcome is one of {', '.join(get_args(Status))}")
        if self.repeat < 0 or self.attempts < 0:
            raise ValueError(f"repeat {self.repeat}, attempts {self.attempts}: must be at least 0")

    def with_scores(self, scored: Outcome) -> Outcome:
        """Return this outcome of an explanation, joined with the scores of the legal answers that follow it."""
        assert scored.id == self.id
        lost = scored.status in ("failed", "refused")
        return replace(
            self,
            status=scored.status if lost else self.status,
            reason=scored.reason if lost else self.reason,
            option_logprobs=scored.option_logprobs,
            attempts=self.attempts + scored.attempts,
            tokens=self.tokens + scored.tokens,
            usd=None if self.usd is None or scored.usd is None else self.usd + scored.usd,
            seconds=self.seconds + scored.seconds,
        )


def utc_now() -> str:
    """Return the time in UTC as an outcome's `asked_at`, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class OutcomeWriter:
    """Appends outcomes to a file, and flushes each call, so that a killed process loses no outcome that it was given.

    The writer is a context manager. An incomplete last line that a killed process left is removed, with a warning.

    Args:
        path: the file; missing folders are created.
        fresh: start the file anew instead of continuing it.
        sync_seconds: seconds between two waits for the disk; 0 waits at every call, for answers that cost money.

    Raises:
        ConfigError: the file can't be written; DiskFullError if no space is left.
    """

    def __init__(self, path: Path, *, fresh: bool = False, sync_seconds: float = 1.0) -> None:
        self.path = path
        self.sync_seconds = sync_seconds
        self._synced = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("w+b" if fresh else "a+b")
        except OSError as error:
            raise ConfigError(f"{path}: can't be written ({error.strerror})") from error
        self._drop_torn_line()

    def append(self, outcomes: Iterable[Outcome], suite: str | None = None) -> None:
        """Append outcomes. suite: name that each line begins with, in a file that holds those of several suites."""
        lines = [_line(outcome, suite) for outcome in outcomes]
        if not lines:
            return
        with naming_a_full_disk(self.path):
            # Not through the file's buffer, which would keep what can't be written and try it again when it is closed.
            write_whole(self._file.fileno(), b"".join(lines))
        if time.monotonic() - self._synced >= self.sync_seconds:
            self._sync()

    def __enter__(self) -> OutcomeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._sync()

    def _sync(self) -> None:
        with naming_a_full_disk(self.path):
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _drop_torn_line(self) -> None:
        """Cut the file after its last complete line."""
        self._file.seek(0)
        complete = 0
        for line in self._file:
            if line.endswith(b"\n"):
                complete += len(line)
            else:
                log.warning("%s: the last line is incomplete, since its process was killed; it is removed", self.path)
        self._file.truncate(complete)
        self._file.seek(0, os.SEEK_END)


def read_outcomes(path: Path, suite: str | None = None) -> Iterator[Outcome]:
    """Yield the outcomes of a file in order, those of `suite` in a file that names suites (None: of all lines).

    An incomplete last line, which a killed process leaves, is left out with a warning. Raises ConfigError, with file
    and line, at any other broken line.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                log.warning("%s:%d: the last line is incomplete, since its process was killed", path, number)
                return
            try:
                record = json.loads(line)
                named = record.pop("suite", None)
                outcome = _outcome(record)
            except (TypeError, AttributeError, ValueError) as error:
                raise ConfigError(f"{path}:{number}: not an outcome ({error}); restore or remove the line") from error
            if suite is None or named == suite:
                yield outcome


def _line(outcome: Outcome, suite: str | None) -> bytes:
    record = asdict(outcome) if suite is None else {"suite": suite, **asdict(outcome)}
    # Escaped to ASCII, line separators and lone surrogates of a model's text can't break the line.
    return (json.dumps(finite(record), allow_nan=False) + "\n").encode()


_KEYS = frozenset(field.name for field in fields(Outcome))


def _outcome(record: dict[str, Any]) -> Outcome:
    """Return the outcome of a line; raises TypeError or ValueError for a record with other keys."""
    if record.keys() != _KEYS:
        wrong = sorted(record.keys() ^ _KEYS)
        raise ValueError(f"missing or unknown: {', '.join(wrong)}")
    return Outcome(**{**record, "tokens": TokenCounts(**record["tokens"])})
