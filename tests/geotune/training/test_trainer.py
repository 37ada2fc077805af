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
from geotune.training.trainer import check_devices, trainer_from


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


@pytest.mark.parametrize(
    ("cuda", "raised", "told"),
    [
        (None, None, "this build of PyTorch has no CUDA"),
        (
            "12.8",
            "The NVIDIA driver on your system is too old (found version 11040).",
            "driver on your system is too old",
        ),
        ("12.8", "Found no NVIDIA driver on your system.", "Found no NVIDIA driver"),
        ("12.8", None, "no GPU is visible"),
    ],
)
def test_why_there_is_no_gpu(cuda: str | None, raised: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver that is too old, accelerator=auto would otherwise train on the CPU unnoticed."""

    def init() -> None:
        if raised is not None:
            raise RuntimeError(raised)

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.init", init)
    monkeypatch.setattr("torch.version.cuda", cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    backbone = {"quantization": None}
    for accelerator in ("gpu", "auto"):
        trainer = {"accelerator": accelerator, "devices": 1, "strategy": "auto"}
        if accelerator == "gpu" or "too old" in (raised or ""):
            with pytest.raises(ConfigError, match=told):
                check_devices(trainer, backbone)
        else:
            check_devices(trainer, backbone)
