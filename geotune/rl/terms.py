"""The terms of a reward: pure functions of a completion's text and its sample, each with a value between 0 and 1.

A term reads an answer through the `parse` of the sample's task and in no other way, so that training rewards exactly
what evaluation counts. What `parse` does not accept is worth 0, with its reason.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from numpy.typing import ArrayLike

from geotune.config.options import Options
from geotune.config.rules import above_zero, at_least
from geotune.errors import Problem
from geotune.geo import haversine_km
from geotune.rl.kernels import SCALED, FloatArray, Tightening, kernel
from geotune.rl.places import finest_level
from geotune.sample import Sample
from geotune.system.strict_json import NotJsonError, parse_json
from geotune.tasks import Task, get_task
from geotune.tasks.address import Address, AddressTask
from geotune.tasks.base import Parsed, accepted
from geotune.tasks.coordinates import SWAP_WITHIN_KM, CoordinateError, Coordinates, right_if_swapped
from geotune.tasks.judge import JudgeTask

SWAPPED = "swapped"
"""Reason of an answer that would be right if latitude and longitude were exchanged. It stays wrong."""
NO_COORDINATES = "no_coordinates"
"""Reason of an address without coordinates, where coordinates are rewarded."""
FORM = "form"
"""Reason of an answer that can be read, but does not have the form that is asked for."""
ELSEWHERE = "elsewhere"
"""Reason of an answer in the wrong country."""
_TOKEN = re.compile(r"\w{1,12}|[^\w\s]")


@dataclass(frozen=True, slots=True)
class TermValue:
    """What one term says of a completion."""

    value: float
    """Between 0 and 1, larger is better."""
    reason: str | None = None
    """Reason in one word why the value is what it is, to be counted; None if there is nothing to say."""
    read: str | None = None
    """Answer that was read, in canonical form; None if none was."""
    place: Coordinates | None = None
    """Place that the answer states, from a term that judges places."""


@dataclass
class Term(Options, ABC):
    """One term of a reward, a pure function of text and sample. Its fields are its options in a recipe."""

    weight: float = 1.0
    """Weight in the mean of all terms; a term of weight 0 is shown, and may be the gate, but earns nothing."""

    def check(self) -> Iterator[Problem]:
        yield from at_least("weight", self.weight, 0)
        if math.isinf(self.weight):
            yield Problem("weight", self.weight, "give a finite number")

    @abstractmethod
    def __call__(self, text: str, sample: Sample) -> TermValue:
        """Judge a completion's text. An answer that can't be read is a value; whatever raises here ends the run."""

    def refusal(self, sample: Sample) -> str | None:
        """Return why this term can judge no answer to a sample, as in "the task judge asks for no place"; or None.

        The sample has a task and a canonical answer.
        """
        return None


def parsed_answer(text: str, sample: Sample) -> tuple[Task, Parsed]:
    """Return the sample's task, and what it reads from a text."""
    return get_task(sample.task), _parsed(sample.task, text)


@lru_cache(maxsize=4)
def _parsed(task: str, text: str) -> Parsed:
    """Parse a text; the terms of a reward ask for the same one, one after the other."""
    return get_task(task).parse(text)


@dataclass
class Format(Term):
    """1 for an answer that can be read and has the form that is asked for, otherwise 0."""

    form: Literal["json", "think_answer"] = "json"
    """Form that the prompt asks for: json is this project's, the task's JSON object at the end, with exactly its keys
    and any explanation before it; think_answer is GRE's, <think>...</think><answer>...</answer>."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        task, parsed = parsed_answer(text, sample)
        if parsed.answer is None:
            return TermValue(0.0, parsed.reason)
        fits = ends_in_json(text, task, parsed.answer) if self.form == "json" else is_think_answer(text)
        return TermValue(float(fits), None if fits else FORM, parsed.answer)


def ends_in_json(text: str, task: Task, answer: str) -> bool:
    """Return whether a text ends in one strict JSON object with exactly the keys of the task's own."""
    try:
        said = parse_json(text[len(task.answer_prefix(text)) :].strip())
    except NotJsonError:
        return False
    return isinstance(said, dict) and said.keys() == parse_json(task.json(answer)).keys()


def is_think_answer(text: str) -> bool:
    """Return whether a text is <think>...</think><answer>...</answer>, each tag once and neither part empty."""
    said = text.strip()
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    if any(said.count(tag) != 1 for tag in tags) or not (said.startswith(tags[0]) and said.endswith(tags[3])):
        return False
    thought, _, rest = said.removeprefix(tags[0]).removesuffix(tags[3]).partition(tags[1])
    between, _, answer = rest.partition(tags[2])
    return bool(thought.strip() and answer.strip()) and not between.strip()


@dataclass
class Accuracy(Term):
    """The task's own score: 1 or 0 for a choice, between them for places and addresses; 0 for an unread answer."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        task, parsed = parsed_answer(text, sample)
        return TermValue(task.score(parsed, sample.answer), parsed.reason, parsed.answer)


@dataclass
class Judge(Term):
    """1 if the verdict on somebody's answer is right, otherwise 0, as in GRE's stage RL-I (arXiv 2505.18700)."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        task, parsed = parsed_answer(text, sample)
        return TermValue(float(task.score(parsed, sample.answer) == 1), parsed.reason, parsed.answer)

    def refusal(self, sample: Sample) -> str | None:
        return None if isinstance(get_task(sample.task), JudgeTask) else f"the task {sample.task} asks for no verdict"


@dataclass
class Geodesic(Term):
    """A kernel of the distance between the place that an answer states and the truth; 0 for an unread answer."""

    kernel: Literal["multiscale", "exponential", "sigmoid", "piecewise", "steps"] = "multiscale"
    """Value at d km: the mean of e^(-d/s) over s = 1, 25, 100, 750 and 5000 km (multiscale), e^(-d/theta_km)
    (exponential), GRE's 2/(1+e^(d/theta_km)) (sigmoid), Geo-R's .5 at 750 km and .2 at 2,500 km (piecewise), or
    Thinking-with-Map's thresholds (steps)."""
    theta_km: float = 750.0
    """Scale of exponential and sigmoid, in km."""
    tighten: bool = False
    """Halve theta_km whenever the mean of this term over 20 updates is less than 1% above that of the 20 before."""
    least_theta_km: float = 25.0
    """Scale in km at which tightening ends."""
    scale: Tightening = field(init=False, repr=False, compare=False)
    """The scale at present, and what tightens it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.scale = Tightening(self.theta_km, self.least_theta_km)

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from above_zero("theta_km", self.theta_km)
        yield from above_zero("least_theta_km", self.least_theta_km)
        if self.tighten and self.kernel not in SCALED:
            yield Problem("tighten", True, f"kernel={self.kernel} has no scale", "set kernel=sigmoid or exponential")
        elif self.tighten and self.least_theta_km > self.theta_km:
            yield Problem("least_theta_km", self.least_theta_km, f"must not exceed theta_km={self.theta_km}")

    def values(self, d_km: ArrayLike) -> FloatArray:
        """Return the kernel at distances in km, of any shape, with the present scale."""
        return kernel(self.kernel, d_km, self.scale.theta_km)

    def truth(self, sample: Sample) -> Coordinates:
        """Return the coordinates of the sample's answer."""
        found = get_task(sample.task).coordinates(sample.answer)
        assert found is not None, f"{sample.id} has not been checked"
        return found

    def __call__(self, text: str, sample: Sample) -> TermValue:
        (task, parsed), there = parsed_answer(text, sample), self.truth(sample)
        here = None if parsed.answer is None else task.coordinates(parsed.answer)
        if here is None:
            # Exchanged coordinates are often none: a latitude of 139 degrees. Beside names they count as not known.
            may_be = parsed.reason == CoordinateError.out_of_range or isinstance(task, AddressTask)
            reason = SWAPPED if may_be and _is_swapped(text, there) else parsed.reason or NO_COORDINATES
            return TermValue(0.0, reason, parsed.answer)
        value = float(self.values(haversine_km(here.lat, here.lon, there.lat, there.lon)))
        return TermValue(value, SWAPPED if _is_swapped(here, there) else None, parsed.answer, here)

    def refusal(self, sample: Sample) -> str | None:
        return _refused_without_place(sample)


def _is_swapped(said: str | Coordinates, truth: Coordinates) -> bool:
    return right_if_swapped(said, truth.lat, truth.lon, within_km=SWAP_WITHIN_KM)


def _refused_without_place(sample: Sample) -> str | None:
    if get_task(sample.task).coordinates(sample.answer) is not None:
        return None
    return f"its answer, of the task {sample.task}, states no coordinates"


@dataclass
class PlaceLevel(Term):
    """The finest level in which the place is right, by names and the offline gazetteer (`geotune.rl.places`).

    An address is compared by its names. Coordinates are compared by distance, and their country is that of the nearest
    town. The values are those of GeoVista, 4 for the city, 2 for the state and 1 for the country, divided by 4.
    """

    city: float = 1.0
    """Value of an answer in the right city."""
    region: float = 0.5
    """Value of an answer in the right region or state, but not in the right city."""
    country: float = 0.25
    """Value of an answer in the right country, but not in the right region."""

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        if not 0 <= self.country <= self.region <= self.city <= 1:
            values = f"country={self.country}, region={self.region}, city={self.city}"
            yield Problem("country", self.country, f"{values} must not fall in this order, nor leave the range 0 to 1")

    def __call__(self, text: str, sample: Sample) -> TermValue:
        task, parsed = parsed_answer(text, sample)
        if parsed.answer is None:
            return TermValue(0.0, parsed.reason)
        said = _address(task, parsed.answer)
        level = finest_level(said, _address(task, sample.answer))
        value = 0.0 if level is None else float(getattr(self, level))
        reason = None if level == "city" else ELSEWHERE if level is None else f"{level}_only"
        return TermValue(value, reason, parsed.answer, said.coordinates)

    def refusal(self, sample: Sample) -> str | None:
        return None if isinstance(get_task(sample.task), AddressTask) else _refused_without_place(sample)


def _address(task: Task, answer: str) -> Address:
    """Return what a canonical answer states of a place."""
    return task.address(answer) if isinstance(task, AddressTask) else Address(coordinates=task.coordinates(answer))


@dataclass
class Length(Term):
    """1 for a text up to a soft limit, then falling in a line to 0 at a hard limit (DAPO, arXiv 2503.14476)."""

    soft: int = 2000
    """Number of characters that cost nothing."""
    hard: int = 4000
    """Number of characters from which on the value is 0."""

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from at_least("soft", self.soft, 0)
        if self.hard <= self.soft:
            yield Problem("hard", self.hard, f"must exceed soft={self.soft}")

    def __call__(self, text: str, sample: Sample) -> TermValue:
        value = min(1.0, max(0.0, (self.hard - len(text)) / (self.hard - self.soft)))
        return TermValue(value, None if value == 1 else "long")


@dataclass
class Repetition(Term):
    """The share of a text's n-grams that stand in it for the first time: 1 without repetition (arXiv 2502.03373)."""

    n: int = 4
    """Number of words in an n-gram. A run of more than 12 letters or digits counts as several words."""

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from at_least("n", self.n, 1)

    def __call__(self, text: str, sample: Sample) -> TermValue:
        words = _TOKEN.findall(text.casefold())
        total = len(words) - self.n + 1
        if total < 1:
            return TermValue(1.0)
        distinct = len({tuple(words[at : at + self.n]) for at in range(total)})
        return TermValue(distinct / total, None if distinct == total else "repeated")


def gold_problem(sample: Sample) -> str | None:
    """Return why a sample's gold answer can't be compared with anything, or None if it can."""
    if not sample.answer.strip():
        return "no gold answer in `answer`, so there is nothing to reward"
    task = get_task(sample.task)
    try:
        task.json(sample.answer)
        task.score(accepted(sample.answer), sample.answer)
    except ValueError as error:
        return f"the gold answer can't be read: {error}"
    return None
