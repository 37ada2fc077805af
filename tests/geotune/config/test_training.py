"""The schema of training: keys that the targets accept, each with a text."""

from __future__ import annotations

import pytest

from geotune.config.commands import BuildConfig
from geotune.config.parameters import is_schema, walk
from geotune.config.parts import LoraConfig
from geotune.config.training import TrainConfig


@pytest.mark.parametrize("config", [TrainConfig, BuildConfig])
def test_every_key_has_a_text(config: type) -> None:
    for key, parameter in walk(config):
        assert is_schema(parameter.hint) or parameter.doc, key


def test_the_schema_of_lora_serves_as_a_default() -> None:
    assert LoraConfig() == LoraConfig(r=8, alpha=32, dropout=0.0, use_dora=False, use_rslora=False, target="all-linear")
