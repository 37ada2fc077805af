"""Options of a reward, which recipes name by `_target_`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from geotune.config.options import PartOptions
from geotune.errors import ABSENT, Problem


@dataclass
class RewardConfig(PartOptions):
    """What a completion is worth: the weighted mean of terms, each of which gives a value between 0 and 1."""

    terms: dict[str, Any]
    """Terms by name: each a node with `_target_` and its fields, of which `weight` is one."""
    gate: str | None = None
    """Name of the term without whose full value of 1 a completion is worth 0; null means none."""

    def check(self) -> Iterator[Problem]:
        if not self.terms:
            yield Problem("terms", {}, "there is nothing to reward", "add a term, {key}.<name>._target_=<class>")
        for name, node in self.terms.items():
            if not isinstance(node, Mapping) or "_target_" not in node:
                remedy = "give {key}._target_=<package.module.Class>, or ~{key}"
                yield Problem(f"terms.{name}", ABSENT if isinstance(node, Mapping) else node, "is no term", remedy)
        if self.gate is not None and self.gate not in self.terms:
            known = f"the terms are {', '.join(self.terms)}"
            yield Problem("gate", self.gate, "there is no such term", f"{known}; {{key}}=null means no gate")
