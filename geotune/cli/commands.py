"""The table of commands: the one place where `geotune` names `eval` and `data_builders`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

PACKAGES = ("geotune", "data_builders", "eval")
"""Packages whose log messages users see from level INFO on."""


@dataclass(frozen=True)
class Command:
    """A command: the module that implements it, and its texts in the help."""

    module: str
    """Name of a module with a function `main(argv)` that returns the exit status."""
    summary: str
    """Description of the command in one line."""
    usage: str = ""
    """Overrides that the usage line shows before the choice of a file."""

    def main(self, argv: Sequence[str]) -> int:
        """Run the command on the arguments `argv` and return its exit status."""
        status: int = importlib.import_module(self.module).main(argv)
        return status


COMMANDS = {
    "train": Command("geotune.train", "fine-tune a backbone and evaluate it during training"),
    "sweep": Command(
        "geotune.sweep",
        "train a recipe many times, to search values of its keys or to compare named variants",
        usage="recipe=<name> ",
    ),
    "build": Command("data_builders.build", "turn a source dataset into samples and images"),
    "merge": Command("data_builders.merge", "join the parts that `geotune build shard=i/n` wrote into one dataset"),
    "export": Command(
        "geotune.export", "write a checkpoint as an adapter and as a whole model that other libraries can load"
    ),
    "eval": Command("eval.run", "ask models the questions of suites, and measure the answers"),
    "locate": Command("geotune.locate", "estimate where photos were taken and how certain each estimate is"),
    "reward": Command(
        "geotune.reward",
        "show what a reward says of completions: its terms, distances and reasons",
        usage="file=<jsonl> ",
    ),
}
