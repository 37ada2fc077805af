"""The schema of training: checks across keys, and keys that the targets accept."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from geotune.config.commands import BuildConfig
from geotune.config.composing import compose
from geotune.config.conversion import Problem, read_arguments
from geotune.config.parameters import is_schema, parameters_of, walk
from geotune.config.targets import resolve_target
from geotune.config.training import LoraConfig, TrainConfig
from geotune.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer.epochs=null"], "trainer.max_steps=null"),
        (["backbone.language_model=frozen"], "nothing would train"),
        (["backbone.min_pixels=300000"], "backbone.min_pixels=300000: must not exceed backbone.max_pixels=262144"),
        (["backbone.lora.r=0"], "backbone.lora.r=0"),
        (["backbone.lora.dropout=1"], "backbone.lora.dropout=1"),
        (["stage.warmup=1.5"], "stage.warmup=1.5"),
        (["stage.betas=[0.9,1]"], "stage.betas=1"),
        (["stage.min_lr_ratio=2"], "stage.min_lr_ratio=2"),
        (["stage.clip_norm=0"], "stage.clip_norm=0"),
        (["stage.max_skipped=0"], "stage.max_skipped=0"),
        (["stage.lr=inf"], "stage.lr=inf"),
        (["trainer.devices=0"], "trainer.devices=0"),
        (["trainer.epochs=-1"], "trainer.epochs=-1"),
        (["trainer.checkpoint_every=0"], "trainer.checkpoint_every=0"),
        (["data.tasks=[]"], "data.tasks=[]"),
        (["seed=-1"], "seed=-1"),
        (["data.build.places=3"], "builder@data.build=<name>"),
    ],
)
def test_checks_across_keys(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", ["recipe=geox_sft_qwen2_5_vl_7b", "evaluator=null", *overrides])
    assert told in str(caught.value)


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
