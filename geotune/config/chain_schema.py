"""Schema of a recipe with `chain`: runs that follow one another, each from the weights of the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from geotune.config.options import Options
from geotune.config.rules import is_named
from geotune.errors import ABSENT, Problem

LEG_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(kw_only=True)
class ChainConfig(Options):
    """Config of `geotune train` for a recipe with `chain`; any other key of `geotune train` goes to every leg."""

    recipe: str
    """Name of the recipe: a file of recipes/recipe/, or any YAML file."""
    chain: dict[str, Any]
    """Legs by name, in order: the recipe of each and its overrides, as {recipe: <name>, stage.lr: 1e-4}. Each starts
    from the last checkpoint of the leg before, unless it sets `start`. chain.<leg>.<key>=<value> sets a key of one leg,
    and chain.<leg>=null leaves a leg out."""
    start: str | None = None
    """Whose trained weights the first leg begins with, as for a single run."""
    run_dir: str | None = None
    """Folder of the chain; null means runs/<recipe>/<date-time>."""
    resume: str | None = None
    """`last` to go on with the first unfinished leg, in run_dir or else in the recipe's newest chain."""
    dry_run: bool = False
    """Show every leg as the dry run of its training, and stop."""

    def check(self) -> Iterator[Problem]:
        yield from is_named("start", self.start)
        yield from is_named("run_dir", self.run_dir)
        if self.resume not in (None, "last"):
            remedy = "give resume=last run_dir=<folder>"
            yield Problem("resume", self.resume, "a chain goes on with its first unfinished leg", remedy)
        legs = {name: node for name, node in self.chain.items() if node is not None}
        if not legs:
            yield Problem("chain", {}, "there is nothing to train", "name at least one leg")
        for name, node in legs.items():
            if not LEG_NAME.fullmatch(name):
                yield Problem(f"chain.{name}", ABSENT, "use letters, digits, _ and - alone")
            if not isinstance(node, dict):
                yield Problem(f"chain.{name}", node, "this is no leg", "give {recipe: <name>, ...}")
