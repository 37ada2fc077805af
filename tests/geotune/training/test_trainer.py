"""Failures of building a trainer, and what libraries may print."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import lightning.pytorch
import pytest
from transformers.utils.logging import enable_progress_bar, is_progress_bar_enabled

from geotune.errors import ConfigError
from geotune.system.libraries import silence_libraries
from geotune.training.trainer import trainer_from


@pytest.mark.parametrize(
    ("raised", "told"), [(RuntimeError, ConfigError), (ValueError, ConfigError), (KeyError, KeyError)]
)
def test_only_lightnings_own_complaints_are_the_users(
    recipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, raised: type[Exception], told: type[Exception]
) -> None:
    def fail(**_: Any) -> None:
        raise raised("no such device")

    monkeypatch.setattr(lightning.pytorch, "Trainer", fail)
    with pytest.raises(told, match="no such device"):
        trainer_from(recipe(), [], vision_trains=False)


def test_libraries_show_neither_bars_nor_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SHOW_INFO", raising=False)
    enable_progress_bar()
    silence_libraries()
    assert not is_progress_bar_enabled()
    enable_progress_bar()
    assert os.environ["WANDB_SHOW_INFO"] == "false"
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
    monkeypatch.setenv("WANDB_SHOW_INFO", "true")
    silence_libraries()
    assert os.environ["WANDB_SHOW_INFO"] == "true", "what the user has chosen stays"


def test_only_the_first_process_shows_more_than_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for rank, level in (("0", logging.NOTSET), ("1", logging.WARNING)):
        monkeypatch.setenv("RANK", rank)
        silence_libraries()
        assert handler.level == level
