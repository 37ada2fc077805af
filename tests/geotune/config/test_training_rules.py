"""Mistakes in a training recipe that its types allow."""

from __future__ import annotations

import pytest

from geotune.config.composing import compose
from geotune.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer.epochs=null"], "trainer.max_steps=null"),
        (["backbone.language_model=frozen"], "nothing would train"),
        (["backbone.min_pixels=300000"], "backbone.min_pixels=300000: must not exceed max_pixels=262144"),
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


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["stage.rollout.group_size=1"], "stage.rollout.group_size=1: must be at least 2"),
        (["stage.spread=1", "stage.rollout.group_size=3"], "stage.rollout.group_size=3: stage.spread compares"),
        (["stage.spread=1", "stage.scale=group"], "stage.scale=group: with stage.spread"),
        (["stage.rollout.top_p=0.9"], "stage.rollout.top_p=0.9: no such key"),
        (["stage.rollout.top_k=5"], "stage.rollout.top_k=5: no such key"),
        (["stage.rollout.temperature=0"], "stage.rollout.temperature=0"),
        (["stage.rollout.max_draws=0"], "stage.rollout.max_draws=0"),
        (["stage.loss=ppo"], "stage.loss=ppo: expected"),
        (["stage.beta=-1"], "stage.beta=-1"),
        (["reward@stage.reward=nearness"], "stage.reward=nearness: there is no such reward"),
        (["stage.reward.gate=nothing"], "stage.reward.gate=nothing: there is no such term"),
        (["backbone.lora.dropout=0.1"], "backbone.lora.dropout=0.1: the loss would be that of other weights"),
        (["trainer.strategy=fsdp2"], "trainer.strategy=fsdp2: processes that share one model's weights can't generate"),
        (["trainer.strategy=deepspeed_zero3_offload"], "use ddp or deepspeed_zero2"),
        (["stage.updates_per_rollout=4"], "trainer.checkpoint_every=50: checkpoints fall between rollouts"),
        (["stage.updates_per_rollout=3", "trainer.checkpoint_every=3"], "trainer.max_steps=500"),
    ],
)
def test_checks_of_reinforcement_learning(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", ["recipe=geo_honest", "evaluator=null", "stage.spread=0", *overrides])
    assert told in str(caught.value)


def test_evaluations_fall_between_rollouts() -> None:
    per_rollout = ["stage.updates_per_rollout=5", "trainer.checkpoint_every=75", "trainer.max_steps=150"]
    compose("train", ["recipe=quickstart_rl", *per_rollout, "evaluator.every=75"])
    with pytest.raises(ConfigError, match=r"evaluator\.every=7: evaluations fall between rollouts"):
        compose("train", ["recipe=quickstart_rl", *per_rollout, "evaluator.every=7"])
