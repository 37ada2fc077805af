"""The table of commands: the one place where `geotune` names `eval` and `data_builders`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

PACKAGES = ("geotune", "data_builders", "eval")
"""Packages whose log messages users see."""


@dataclass(frozen=True)
class Command:
    """Where a command lives and what its help text begins with."""

    module: str
    """Module with a function `main(argv)` that returns the exit status."""
    summary: str
    """What the command does, in one line."""
    beside: str = ""
    """What the usage line shows before the choice."""

    def main(self, argv: Sequence[str]) -> int:
        """Run the command on the arguments `argv`. Returns the exit status."""
        status: int = importlib.import_module(self.module).main(argv)
        return status


COMMANDS = {
    "train": Command("geotune.train", "fine-tune a backbone, evaluating it while it trains"),
    "sweep": Command(
        "geotune.sweep",
        "train a recipe many times: a search of its keys, or named variants",
        beside="recipe=<name> ",
    ),
    "build": Command("data_builders.build", "turn a source dataset into samples and images"),
    "merge": Command("data_builders.merge", "join the parts that `build shard=i/n` wrote into one dataset"),
    "export": Command("geotune.export", "write a checkpoint as an adapter and as a whole model that others can load"),
    "locate": Command("geotune.locate", "say where photos were taken, and how sure the model is"),
}
