"""The keys that a sweep varies, as ranges, choices or named variants, and the overrides that set their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from geotune.config.conversion import convert
from geotune.config.override_text import text
from geotune.config.trees import flatten
from geotune.errors import ABSENT, ConfigError, Problem

if TYPE_CHECKING:
    from optuna import Trial


VARIANT = "variant"
"""Name of the only parameter in a study of named variants."""


@dataclass(frozen=True)
class Dimension:
    """Values that a search may give to one key: a range from `low` to `high`, or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    """Whether to draw uniformly on a logarithmic scale."""
    step: int | float | None = None
    """Distance between neighboring values of the range, counted from `low`; None: every value."""
    choices: list[Any] | None = None

    def suggest(self, trial: Trial, key: str) -> None:
        """Let Optuna draw a value of `key` for `trial`. A choice that is a list is passed to Optuna as its text."""
        if self.choices is not None:
            trial.suggest_categorical(key, [label(choice) for choice in self.choices])
            return
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None):
            trial.suggest_int(key, self.low, self.high, log=self.log, step=self.step or 1)
        else:
            trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)

    def value(self, drawn: Any) -> Any:
        """Return the value of the training for the value that Optuna drew."""
        if self.choices is None:
            return drawn
        return next(choice for choice in self.choices if label(choice) == drawn)

    def samples(self) -> list[Any]:
        """Return values for checking that the key accepts this dimension: every choice, or both ends of the range."""
        return list(self.choices) if self.choices is not None else [self.low, self.high]

    def __str__(self) -> str:
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}
        return f"{{{', '.join(f'{name}: {text(value)}' for name, value in given.items())}}}"

    def mistake(self) -> str | None:
        """Return what is wrong with this dimension, or None."""
        ranged = self.low is not None or self.high is not None
        if ranged == (self.choices is not None):
            return "give either {low, high} or {choices}, one of the two"
        if self.choices is not None:
            if self.log or self.step is not None:
                return "log and step belong to {low, high}, not to {choices}"
            labels = [label(choice) for choice in self.choices]
            return "give at least one choice, each once" if len(set(labels)) < len(labels) or not labels else None
        if self.low is None or self.high is None or self.low > self.high:
            return "give {low, high}, with low at most high"
        if self.log and (self.low <= 0 or self.step is not None):
            return "with log, low must be above 0 and step must be left out"
        return "step must be above 0" if self.step is not None and self.step <= 0 else None


KEYS = frozenset(field.name for field in fields(Dimension))


def read_space(tree: Mapping[str, Any]) -> dict[str, Dimension]:
    """Read the `space` of a sweep: one dimension for each key that it varies. A key set to null is not varied.

    Keys may be nested, dotted or both: files write `stage.lr`, and the command line nests the same key. A later entry
    for a key overrides the fields of an earlier one.

    Raises:
        ConfigError: a dimension has a mistake.
    """
    space: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for key, node in flatten(
        tree, is_leaf=lambda node: not isinstance(node, Mapping) or not node or KEYS & node.keys()
    ):
        if node is None:
            space.pop(key, None)
            continue
        if not isinstance(node, Mapping):
            raise ConfigError(
                Problem(f"space.{key}", node, "give {low, high} or {choices}, or null to leave the key out")
            )
        replaced = {"choices"} if {"low", "high"} & node.keys() else KEYS if "choices" in node else set()
        space[key] = {name: value for name, value in space.get(key, {}).items() if name not in replaced} | dict(node)
    dimensions = {key: convert(node, Dimension, f"space.{key}", problems) for key, node in space.items()}
    mistakes = problems or [
        Problem(f"space.{key}", ABSENT, mistake)
        for key, dimension in dimensions.items()
        if (mistake := dimension.mistake())
    ]
    if mistakes:
        raise ConfigError(*mistakes)
    return dimensions


def read_variants(tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the values by key of each named variant. A variant set to null is left out.

    Raises:
        ConfigError: a variant is not a mapping.
    """
    for name, node in tree.items():
        if node is not None and not isinstance(node, Mapping):
            raise ConfigError(Problem(f"variants.{name}", node, "give its keys, {} for none, or null to drop it"))
    return {
        name: dict(flatten(node, is_leaf=lambda node: not isinstance(node, Mapping) or not node))
        for name, node in tree.items()
        if node is not None
    }


def label(choice: Any) -> bool | int | float | str | None:
    """Return a choice as Optuna stores it: a plain value, or the text of a list."""
    return choice if choice is None or isinstance(choice, bool | int | float | str) else text(choice)
