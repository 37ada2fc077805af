"""The reward of a completion: the weighted mean of its terms, between 0 and 1, which one of the terms may gate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from geotune.config.instantiation import instantiate_checked
from geotune.config.reward import RewardConfig
from geotune.errors import ABSENT, BadRecord, ConfigError, Problem, in_one_line, shortened
from geotune.geo import haversine_km
from geotune.rl.kernels import Tightening
from geotune.rl.terms import Geodesic, Term, TermValue, gold_problem
from geotune.sample import Sample
from geotune.tasks import get_task

__all__ = ["Geodesic", "Reward", "RewardError", "Scored", "Term", "TermValue"]

LONGEST_TEXT = 400
"""Characters of a completion that a message shows at most."""


class RewardError(RuntimeError):
    """A term failed or gave what is no value. It ends the run: a failure that counts as 0 would be learned from."""


@dataclass(frozen=True)
class Scored:
    """What a reward says of one completion."""

    terms: Mapping[str, TermValue]
    """What each term says, in the recipe's order."""
    value: float
    """Weighted mean of the terms' values, between 0 and 1; 0 if the gate is closed."""
    gated: bool
    """Whether the gate took everything away."""


class Reward:
    """Judges completions as a recipe says. Whatever holds a reward calls `check` on every sample before the first text.

    Raises:
        ConfigError: A term is no `Term` or its options are wrong, two terms are geodesic, or all weights are 0.
    """

    Config = RewardConfig

    def __init__(self, config: RewardConfig, key: str = "reward") -> None:
        """key: name of the node in the config tree, for messages."""
        self.key, self.gate = key, config.gate
        self.terms: dict[str, Term] = {name: _term(node, f"{key}.terms.{name}") for name, node in config.terms.items()}
        self._weight = math.fsum(term.weight for term in self.terms.values())
        if not 0 < self._weight < math.inf:
            weights = {name: term.weight for name, term in self.terms.items()}
            raise ConfigError(Problem(f"{key}.terms", weights, "give at least one term a weight above 0"))
        geodesic = [(name, term) for name, term in self.terms.items() if isinstance(term, Geodesic)]
        if len(geodesic) > 1:
            remedy = "keep one; kernel=multiscale is a mean of several scales"
            names = [name for name, _ in geodesic]
            raise ConfigError(Problem(f"{key}.terms", names, "several terms are geodesic", remedy))
        self.geodesic: tuple[str, Geodesic] | None = geodesic[0] if geodesic else None
        """Name and term of the geodesic term, which figures in km read."""

    @property
    def tightening(self) -> Tightening | None:
        """The scale of the geodesic term if it tightens, else None.

        A training calls its `note` after each update, and keeps its `state` in a checkpoint.
        """
        return self.geodesic[1].scale if self.geodesic is not None and self.geodesic[1].tighten else None

    def check(self, sample: Sample) -> None:
        """Refuse a sample whose completions could not be judged.

        Raises BadRecord if its task does not exist or its gold answer is missing or can't be read, and any other
        ConfigError if one of the terms does not suit its task.
        """
        if not sample.task:
            raise BadRecord(sample.id, "no `task`, which says how an answer is read")
        try:
            get_task(sample.task)
        except ConfigError as error:
            raise BadRecord(sample.id, str(error)) from None
        if (problem := gold_problem(sample)) is not None:
            raise BadRecord(sample.id, problem)
        for name, term in self.terms.items():
            if (refusal := term.refusal(sample)) is not None:
                text = f"can't judge answers to the sample {in_one_line(sample.id, 100)}: {refusal}"
                remedy = "leave this term or these samples out"
                raise ConfigError(Problem(f"{self.key}.terms.{name}", ABSENT, text, remedy))

    def __call__(self, text: str, sample: Sample) -> Scored:
        """Judge a completion's text.

        Raises RewardError, which names term, sample and text, if a term raises or gives no number between 0 and 1.
        """
        terms = {name: self._value(name, text, sample) for name in self.terms}
        gated = self.gate is not None and terms[self.gate].value < 1
        return Scored(terms, self.total({name: term.value for name, term in terms.items()}, gated=gated), gated)

    def total(self, values: Mapping[str, float], *, gated: bool) -> float:
        """Return the reward that the values of all terms make, between 0 and 1."""
        return 0.0 if gated else math.fsum(self.terms[name].weight * values[name] for name in values) / self._weight

    def distance_km(self, scored: Scored, sample: Sample) -> float | None:
        """Return the distance in km of the place that the geodesic term has read; None if it has read none."""
        if self.geodesic is None or (here := scored.terms[self.geodesic[0]].place) is None:
            return None
        there = self.geodesic[1].truth(sample)
        return float(haversine_km(here.lat, here.lon, there.lat, there.lon))

    def _value(self, name: str, text: str, sample: Sample) -> TermValue:
        """Return what a term says, which is sure to hold a number between 0 and 1."""
        about = f"for the sample {in_one_line(sample.id, 100)} and the text {_quoted(text)}"
        try:
            said: object = self.terms[name](text, sample)
        except Exception as error:
            raise RewardError(f"the term {name} of the reward failed {about}: {shortened(error)}") from error
        value: Any = said.value if isinstance(said, TermValue) else said
        if not isinstance(said, TermValue) or isinstance(value, bool) or not isinstance(value, Real):
            raise RewardError(f"the term {name} of the reward gave {shortened(said)} {about}; a term gives a TermValue")
        if not 0 <= float(value) <= 1:
            raise RewardError(f"the term {name} of the reward gave {value} {about}; values lie between 0 and 1")
        return replace(said, value=float(value))


def _quoted(text: str) -> str:
    return f'"{in_one_line(text, LONGEST_TEXT)}"'


def _term(node: Mapping[str, object], where: str) -> Term:
    """Make a term from its node. Raises ConfigError if the node names anything else."""
    made = instantiate_checked(node, where)
    if not isinstance(made, Term):
        remedy = f"derive it from {Term.__module__}.{Term.__name__}"
        raise ConfigError(Problem(f"{where}._target_", node["_target_"], "this class is no term", remedy))
    return made
