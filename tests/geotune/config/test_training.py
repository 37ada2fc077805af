"""The schema of training: keys that the targets accept, each with a text."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from geotune.config.commands import BuildConfig
from geotune.config.composing import compose
from geotune.config.conversion import Problem, read_arguments
from geotune.config.parameters import is_schema, parameters_of, walk
from geotune.config.targets import resolve_target
from geotune.config.training import LoraConfig, TrainConfig


@pytest.mark.parametrize("group", ["backbone", "stage", "data", "evaluator"])
def test_targets_take_the_keys_of_their_schema(group: str) -> None:
    """What the recipes may say and what the classes accept are one list, with the same types."""
    node = compose("train", ["recipe=quickstart"])[group]
    target = resolve_target(node._target_, group)
    given = {"backbone"} if group == "stage" else set()
    assert set(node) - {"_target_"} == set(parameters_of(target)) - given
    problems: list[Problem] = []
    read_arguments(OmegaConf.to_container(node), target, group, problems, given)
    assert problems == []


@pytest.mark.parametrize("config", [TrainConfig, BuildConfig])
def test_every_key_has_a_text(config: type) -> None:
    for key, parameter in walk(config):
        assert is_schema(parameter.hint) or parameter.doc, key


def test_the_schema_of_lora_serves_as_a_default() -> None:
    assert LoraConfig() == LoraConfig(r=8, alpha=32, dropout=0.0, use_dora=False, use_rslora=False, target="all-linear")
