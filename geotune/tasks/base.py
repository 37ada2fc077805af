"""The base of all tasks: a question about images, its legal answers, and how an answer is written, read and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from geotune.sample import IMAGE_TAG
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.final_answer import find_answer
from geotune.tasks.json_reading import normal_key, read_spellings

SYSTEM_PROMPT = "You tell where photos were taken; maps are satellite images with north up; answers are JSON."
ANSWER_ONLY = "Reply with JSON only:"
EXPLAIN_FIRST = "First explain briefly, then reply with JSON:"


class Reason(StrEnum):
    """Reason why no answer can be read from a text. Tasks that ask for coordinates add those of `CoordinateError`."""

    EMPTY = "empty"
    """The text is empty or all white space."""
    NO_ANSWER = "no_answer"
    """The text states no answer, or says that there is none (null, "unknown")."""
    ILLEGAL = "illegal"
    """The answer is not one of the legal answers: index 7, 1.5, NE."""
    CONTRADICTION = "contradiction"
    """The text gives different answers, and none of them is later or more final than the others."""
    TRUNCATED = "truncated"
    """The answer's JSON breaks off before its value is complete."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer in canonical form, or the reason why there is none; exactly one of the two is set."""

    answer: str | None
    reason: str | None

    def __post_init__(self) -> None:
        assert (self.answer is None) != (self.reason is None)


def accepted(answer: str) -> Parsed:
    """Return the outcome of reading a legal answer, given in canonical form."""
    return Parsed(answer, None)


def rejected(reason: str) -> Parsed:
    """Return the outcome of reading a text that gives no legal answer."""
    return Parsed(None, str(reason))


class GoldError(ValueError):
    """Raised for a source record without a usable gold answer for a task; `reason` is short and machine-readable."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def entry(record: Mapping[str, Any], *path: str) -> Any:
    """Return the value at `path` in a nested record; raises `GoldError` ("missing <path>") if there is none."""
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping) or value.get(key) is None:
            raise GoldError(f"missing {'.'.join(path)}")
        value = value[key]
    return value


@dataclass(frozen=True)
class Task(ABC):
    """One kind of question. Its answers are strings in one canonical form."""

    name: str
    keys: tuple[str, ...]
    """JSON keys of an answer; the first identifies the answer."""
    options: tuple[str, ...] = ()
    """Legal answers; () if there are too many to list."""
    chance: float | None = None
    """Accuracy of guessing at random; None if the task has no such figure."""
    n_maps: int = 0
    """Number of maps that follow the photo."""
    cropped: bool = False
    """Whether the maps are crops, so that the camera can be anywhere in them."""

    @property
    def key(self) -> str:
        """JSON key that identifies the answer."""
        return self.keys[0]

    @property
    def n_images(self) -> int:
        """Number of images that a question shows: the photo and its maps."""
        return 1 + self.n_maps

    @abstractmethod
    def question(self) -> str:
        """Return the question in plain words, without the form of the answer."""

    @abstractmethod
    def form(self) -> str:
        """Return the JSON form of an answer and its legal values, as the prompt states them."""

    def prompt(self, *, explain: bool) -> str:
        """Return the user's text: one image mark per line (the photo first, then the maps), then the question."""
        reply = EXPLAIN_FIRST if explain else ANSWER_ONLY
        return f"{IMAGE_TAG}\n" * self.n_images + f"{self.question()} {reply} {self.form()}"

    @abstractmethod
    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        """Return the canonical answer of a source record, for one crop of its map; raises `GoldError`."""

    @abstractmethod
    def json(self, answer: str) -> str:
        """Return the JSON object that the assistant writes for a canonical answer; raises `ValueError` for others."""

    @abstractmethod
    def parse(self, text: str) -> Parsed:
        """Read the final answer of a text, or why it gives none. Never raises; takes time linear in the text."""

    @abstractmethod
    def score(self, parsed: Parsed, gold: str) -> float:
        """Score a parsed answer in [0, 1] against the gold answer; an unparsed answer scores 0."""

    def coordinates(self, answer: str) -> Coordinates | None:
        """Return the coordinates that a canonical answer states; None if it states none, as in most tasks."""
        return None

    def target(self, answer: str, explanation: str | None = None) -> str:
        """Return what the assistant should say: the explanation, if any, then the JSON object on a line of its own."""
        explained = (explanation or "").strip()
        text = f"{explained}\n{self.json(answer)}" if explained else self.json(answer)
        if IMAGE_TAG in text:
            raise ValueError(f"{self.name}: an answer may not contain {IMAGE_TAG}")
        return text

    def answer_prefix(self, text: str) -> str:
        """Return what the assistant says before its final JSON answer, so that `target(option)` can follow instead.

        If the text has no JSON answer, this is the text up to what its answer tags hold; without such tags, the whole
        text and a line break. An unfinished answer is left out, and a thought that is cut off is closed.
        """
        wanted = frozenset(map(normal_key, self.keys))
        answer = find_answer(text)
        for reading in read_spellings(answer.text, wanted):
            final = reading.final_objects(wanted, deep=len(wanted) > 1)
            if final:
                return text[: answer.start + final[0].start]
            if (open_object := reading.unfinished()) is not None:
                return text[: answer.start + open_object.start]
        if answer.marked:
            return text[: answer.start]
        explanation = text[: answer.turn_end].rstrip()
        explanation = f"{explanation}\n{answer.closing}" if answer.closing else explanation
        return f"{explanation}\n" if explanation else ""
