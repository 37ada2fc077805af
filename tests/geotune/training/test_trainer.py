"""Failures of building a trainer, and what libraries may print."""

from __future__ import annotations

import logging
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


def test_no_progress_bar_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        enable_progress_bar()
        monkeypatch.setattr("sys.stderr.isatty", lambda shown=terminal: shown)
        silence_libraries()
        assert is_progress_bar_enabled() == terminal
    enable_progress_bar()
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
