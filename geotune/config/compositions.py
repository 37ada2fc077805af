"""How the config of each command is composed: its schema, its checks, and the group that the user chooses from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geotune.config.commands import (
    BuildConfig,
    ExportConfig,
    LocateConfig,
    MergeConfig,
    SweepConfig,
    check_build,
    check_export,
    check_locate,
    check_merge,
    check_sweep,
)
from geotune.config.training import TrainConfig, check_train


@dataclass(frozen=True)
class Composition:
    """What composing the config of one command needs to know."""

    schema: Any
    """Dataclass of the composed tree."""
    check: Callable[[Any], list[str]]
    """Returns the mistakes that span several keys, as messages."""
    example: str
    """Command line that a message shows."""
    choice: str = ""
    """Group that must be chosen on the command line; empty if there is nothing to choose."""
    kept_at: str = ""
    """Key that holds the name of the choice unless the user sets it."""
    shorthand: str = ""
    """Keys that the schema does not know are looked up below this one."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Group and choice that supply `_target_` for a node of that name which has none."""


COMPOSITIONS = {
    "train": Composition(
        TrainConfig,
        check_train,
        example="geotune train recipe=quickstart",
        choice="recipe",
        kept_at="recipe",
        fallbacks={"evaluator": "in_loop"},
    ),
    "sweep": Composition(
        SweepConfig,
        check_sweep,
        example="geotune sweep recipe=quickstart sweep=lora trials=8 trainer.max_steps=100",
        choice="sweep",
        kept_at="sweep",
    ),
    "build": Composition(
        BuildConfig,
        check_build,
        example="geotune build builder=synthetic out=datasets/city places=200",
        choice="builder",
        kept_at="name",
        shorthand="builder",
    ),
    "merge": Composition(MergeConfig, check_merge, example="geotune merge out=datasets/geox_benchmark"),
    "export": Composition(
        ExportConfig,
        check_export,
        example="geotune export checkpoint=runs/quickstart/<date-time> out=exports/quickstart",
    ),
    "locate": Composition(
        LocateConfig, check_locate, example="geotune locate checkpoint=exports/quickstart image=photo.jpg"
    ),
}
