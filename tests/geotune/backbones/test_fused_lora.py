"""The fused LoRA layer has the outputs and gradients of PEFT's own layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import Linear

from geotune.backbones.fused_lora import FusedLinear
from geotune.backbones.generation import generate
from geotune.config.parts import LoraConfig
from geotune.encoding.collate import collate
from geotune.sample import Sample
from geotune.stages.sft import nll_sum

City = tuple[Path, list[Sample]]


def outcome(backbone: Any, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one batch."""
    backbone.zero_grad()
    logits = backbone(batch)
    nll_sum(logits, batch.labels).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


def randomize_adapters(backbone: Any) -> None:
    """Make the adapters' updates differ from zero."""
    torch.manual_seed(0)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)


def with_peft(backbone: Any, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients with PEFT's own layers."""
    layers = [module for module in backbone.modules() if type(module) is FusedLinear]
    assert layers
    for layer in layers:
        layer.__class__ = Linear
    found = outcome(backbone, batch)
    for layer in layers:
        layer.__class__ = FusedLinear
    return found


@pytest.mark.parametrize(("family", "dtype"), [("qwen", "float32"), ("internvl", "float32"), ("qwen", "bf16")])
def test_fused_layers_equal_pefts(family: str, dtype: str, load_tiny: Callable[..., Any], city: City) -> None:
    folder, samples = city
    # The scale is no power of two. All parts have adapters, so that layers with and without a bias occur.
    parts = dict.fromkeys(("tower", "projector", "language_model"), "lora")
    backbone = load_tiny(family, dtype=dtype, lora=LoraConfig(r=3, alpha=7), **parts).train()
    randomize_adapters(backbone)
    batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:4]], backbone.encoder)
    (logits, gradients), (wanted, expected) = outcome(backbone, batch), with_peft(backbone, batch)
    rounding = 1e-4 if dtype == "float32" else 5e-2
    torch.testing.assert_close(logits, wanted, atol=rounding * float(wanted.abs().max()), rtol=0)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradients[name].dtype == gradient.dtype
        size = float(gradient.norm())
        assert float((gradients[name] - gradient).norm()) <= (rounding if dtype == "float32" else 0.2) * size + 1e-6, (
            name
        )


def test_special_cases_fall_back_to_peft(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, DoRA, and adapters that are switched off or merged."""
    folder, samples = city

    def refuse(*_: Any) -> None:
        raise AssertionError("fused")

    monkeypatch.setattr("geotune.backbones.fused_lora._LoraProduct.apply", refuse)
    plain = load_tiny("qwen").train()
    batch = collate([plain.encode(sample.in_folder(folder)) for sample in samples[:2]], plain.encoder)
    with pytest.raises(AssertionError, match="fused"):
        plain(batch)
    with plain.model.disable_adapter():
        plain(batch)
    for lora in (LoraConfig(dropout=0.1), LoraConfig(use_dora=True)):
        load_tiny("qwen", lora=lora).train()(batch)
    generate(plain, [samples[0].in_folder(folder)], max_new_tokens=2, batch_size=1)
