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
