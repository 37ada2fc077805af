"""Table of how each command's config is composed: its schema, its checks, and the group that the user chooses from.

`geotune train` has two: `train`, and `chain` for a recipe with that key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geotune.config.chain_schema import ChainConfig, check_chain
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
from geotune.config.training import TrainConfig
from geotune.config.training_checks import check_train


@dataclass(frozen=True)
class Composition:
    """Settings by which the config of one command is composed."""

    schema: Any
    """Dataclass of the composed tree."""
    check: Callable[[Any], list[str]]
    """Function that returns messages about the mistakes that types can't express."""
    example: str
    """Example of a command line, for help and messages."""
    choice: str = ""
    """Group of which the user must choose a file; empty if there is nothing to choose."""
    kept_at: str = ""
    """Key that takes the name of the chosen file unless the user sets it."""
    shorthand: str = ""
    """Key below which overrides are placed that the schema does not know; empty if there is none."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """File of a group, by group, from which a node of that name takes `_target_` if it has none."""


COMPOSITIONS = {
    "train": Composition(
        TrainConfig,
        check_train,
        example="geotune train recipe=quickstart",
        choice="recipe",
        kept_at="recipe",
        fallbacks={"evaluator": "in_loop"},
    ),
    "chain": Composition(
        ChainConfig,
        check_chain,
        example="geotune train recipe=my_chain.yaml",
        choice="recipe",
        kept_at="recipe",
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
