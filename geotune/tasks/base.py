"""What a task is: a question with its images, its legal answers, and how an answer is written, read and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from geotune.sample import IMAGE_TAG
from geotune.tasks.final_answer import answer_span, without_open_thought
from geotune.tasks.json_reading import normal_key, plain_punctuation, read_objects

SYSTEM_PROMPT = "You tell where photos were taken; maps are satellite images with north up; answers are JSON."
ANSWER_ONLY = "Reply with JSON only:"
EXPLAIN_FIRST = "First explain briefly, then reply with JSON:"


class Reason(StrEnum):
    """Why no answer could be read from a text. Tasks that ask for coordinates add the reasons of `CoordinateError`."""

    EMPTY = "empty"
    """Nothing but white space."""
    NO_ANSWER = "no_answer"
    """Text that states no answer, or says that there is none (null, "unknown")."""
    ILLEGAL = "illegal"
    """An answer that is not one of the legal ones: index 7, 1.5, NE."""
    CONTRADICTION = "contradiction"
    """Different answers, none of them later or more final than the others."""
    TRUNCATED = "truncated"
    """The answer's JSON breaks off before its value is complete."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer in its canonical form, or the reason why there is none: exactly one of the two is set."""

    answer: str | None
    reason: str | None

    def __post_init__(self) -> None:
        assert (self.answer is None) != (self.reason is None)


def accepted(answer: str) -> Parsed:
    return Parsed(answer, None)


def refused(reason: str) -> Parsed:
    return Parsed(None, str(reason))


class GoldError(ValueError):
    """A source record that has no usable gold answer for a task; `reason` is short and machine-readable."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def entry(record: Mapping[str, Any], *path: str) -> Any:
    """What stands in a nested record under `path`; raises `GoldError` "missing <path>" where it ends early."""
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping) or value.get(key) is None:
            raise GoldError(f"missing {'.'.join(path)}")
        value = value[key]
    return value


@dataclass(frozen=True)
class Task(ABC):
    """One kind of question. Answers are strings in one canonical form; `parse` never raises.

    `keys` are the JSON keys of an answer, the first of them the one by which it is known; `options` the legal answers,
    () when there are too many to list; `chance` the accuracy of guessing, None when that means nothing; `n_maps` how
    many maps follow the photo; `cropped` whether these maps are crops, so that the camera can be anywhere in them.
    """

    name: str
    keys: tuple[str, ...]
    options: tuple[str, ...] = ()
    chance: float | None = None
    n_maps: int = 0
    cropped: bool = False

    @property
    def key(self) -> str:
        """The JSON key of the answer."""
        return self.keys[0]

    @property
    def n_images(self) -> int:
        """How many images a question shows: the photo and its maps."""
        return 1 + self.n_maps

    @abstractmethod
    def question(self) -> str:
        """What is asked, in plain words, without the form of the answer."""

    @abstractmethod
    def form(self) -> str:
        """The JSON form of an answer and what is legal in it."""

    def prompt(self, *, explain: bool) -> str:
        """The user's text: one image mark per line, the photo first and then the maps, then the question."""
        reply = EXPLAIN_FIRST if explain else ANSWER_ONLY
        return f"{IMAGE_TAG}\n" * self.n_images + f"{self.question()} {reply} {self.form()}"

    @abstractmethod
    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        """The canonical answer from a record of the source's index, for one crop of its map; raises `GoldError`."""

    @abstractmethod
    def json(self, answer: str) -> str:
        """A canonical answer as the JSON object that the assistant writes; raises `ValueError` if it is not legal."""

    @abstractmethod
    def parse(self, text: str) -> Parsed:
        """The final answer that a text gives, or why it gives none. Never raises; linear in the text."""

    @abstractmethod
    def score(self, parsed: Parsed, gold: str) -> float:
        """How good a parsed answer is, in [0, 1]; 0 for one that could not be parsed."""

    def target(self, answer: str, explanation: str | None = None) -> str:
        """What the assistant should say: the explanation on lines of its own, if any, then the JSON object."""
        said = (explanation or "").strip()
        text = f"{said}\n{self.json(answer)}" if said else self.json(answer)
        if IMAGE_TAG in text:
            raise ValueError(f"{self.name}: an answer may not contain {IMAGE_TAG}")
        return text

    def answer_prefix(self, text: str) -> str:
        """What the assistant said before its final JSON answer, so that each `target(option)` can stand in its place.

        For a text without one, the whole text and a line break; an answer that breaks off is left out.
        """
        wanted = frozenset(map(normal_key, self.keys))
        whole, text = text, without_open_thought(text)
        since, _ = answer_span(text)
        for version in dict.fromkeys((text, plain_punctuation(text))):
            reading = read_objects(version, wanted)
            final = reading.last(wanted, since, deep=len(wanted) > 1)
            if final:
                return text[: final[0].start]
            if (open_object := reading.unfinished()) is not None:
                return text[: open_object.start]
        said = whole.rstrip()
        return f"{said}\n" if said else ""
