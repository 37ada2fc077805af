"""Table of how each command's config is composed: its schema, and the group that the user chooses from.

`geotune train` has two: `train`, and `chain` for a recipe with that key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geotune.config.chain_schema import ChainConfig
from geotune.config.commands import (
    BuildConfig,
    EvalConfig,
    ExportConfig,
    LocateConfig,
    MergeConfig,
    RewardCommandConfig,
    SweepConfig,
)
from geotune.config.training import TrainConfig
from geotune.config.variables import WANDB_VARIABLES


@dataclass(frozen=True)
class Composition:
    """Settings by which the config of one command is composed."""

    schema: Any
    """Dataclass of the composed tree."""
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
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variable of the environment that sets a key, by key; it wins over recipe files, and the command line over it."""


COMPOSITIONS = {
    "train": Composition(
        TrainConfig,
        example="geotune train recipe=quickstart",
        choice="recipe",
        kept_at="recipe",
        fallbacks={"evaluator": "in_loop", "stage": "sft", "data": "sharegpt"},
        variables=WANDB_VARIABLES,
    ),
    "chain": Composition(
        ChainConfig,
        example="geotune train recipe=my_chain.yaml",
        choice="recipe",
        kept_at="recipe",
    ),
    "sweep": Composition(
        SweepConfig,
        example="geotune sweep recipe=quickstart sweep=lora trials=8 trainer.max_steps=100",
        choice="sweep",
        kept_at="sweep",
    ),
    "build": Composition(
        BuildConfig,
        example="geotune build builder=synthetic out=datasets/city places=200",
        choice="builder",
        kept_at="name",
        shorthand="builder",
    ),
    "merge": Composition(MergeConfig, example="geotune merge out=datasets/geox_benchmark"),
    "export": Composition(
        ExportConfig,
        example="geotune export checkpoint=runs/quickstart/<date-time> out=exports/quickstart",
    ),
    "eval": Composition(
        EvalConfig,
        example="geotune eval checkpoint=[runs/quickstart,exports/quickstart]",
    ),
    "locate": Composition(LocateConfig, example="geotune locate checkpoint=exports/quickstart image=photo.jpg"),
    "reward": Composition(
        RewardCommandConfig,
        example="geotune reward reward=geodesic file=completions.jsonl",
        choice="reward",
        kept_at="name",
        shorthand="reward",
    ),
}
