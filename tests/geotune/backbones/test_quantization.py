"""QLoRA: four-bit weights under adapters in training, evaluation and resumption, and settings that exclude it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from geotune.backbones.quantization import weight_count
from geotune.config.composing import compose
from geotune.encoding.collate import collate
from geotune.errors import ConfigError
from geotune.sample import Sample
from geotune.train import train

City = tuple[Path, list[Sample]]
FAMILIES = ("qwen", "internvl")
NF4: dict[str, Any] = {"backbone.quantization": "nf4"}


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_language_models_linear_layers_are_quantized(
    load_tiny: Callable[..., Any], city: City, family: str
) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    plain, backbone = load_tiny(family), load_tiny(family, quantization="nf4")
    layers = dict(backbone.base.named_modules())
    for name, module in plain.base.named_modules():
        if not isinstance(module, nn.Linear) or ".lora_" in name:
            continue
        layer = layers[name]
        inside = name.startswith("model.language_model.layers.")
        assert isinstance(layer, bitsandbytes.nn.Linear4bit) == inside, name
        if inside:
            assert layer.weight.dtype == torch.uint8
            assert layer.weight.quant_state.quant_type == "nf4"
            assert layer.weight.quant_state.nested, "the scales are quantized as well"
            assert layer.weight.numel() == math.ceil(module.weight.numel() / 2)
    total = [sum(weight_count(p) for p in model.parameters()) for model in (plain, backbone)]
    assert total[0] == total[1]
    folder, samples = city
    batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:3]], backbone.encoder)
    with torch.no_grad():
        near, far = backbone(batch), plain(batch)
        assert torch.equal(near, backbone.train()(batch)), "evaluation computes what training does"
    assert 0 < (near.softmax(-1) - far.softmax(-1)).abs().mean() < 0.01


def test_trains_and_resumes(recipe: Callable[..., Any], tmp_path: Path) -> None:
    """A resumed run in bf16 equals the uninterrupted one, and its checkpoints hold adapters alone."""
    pytest.importorskip("bitsandbytes")
    settings = {**NF4, "backbone.dtype": "bf16", "backbone.gradient_checkpointing": True, "trainer.keep_last": 9}
    one, two = tmp_path / "one", tmp_path / "two"
    train(recipe(run_dir=str(one), **settings))
    train(recipe(run_dir=str(two), **settings, resume=str(one / "checkpoints" / "step_000002")))
    first, second = (
        [json.loads(line) for line in (run / "updates.jsonl").read_text().splitlines()] for run in (one, two)
    )
    assert second == first[2:]
    assert first[-1]["loss"] < first[0]["loss"]
    a, b = (load_file(run / "checkpoints" / "last" / "adapter" / "adapter_model.safetensors") for run in (one, two))
    assert a.keys() == b.keys()
    assert all(".lora_" in name and torch.equal(a[name], b[name]) for name in a)
    assert not (one / "checkpoints" / "last" / "model").exists()


def test_four_bits_under_a_projector_that_trains(load_tiny: Callable[..., Any], city: City) -> None:
    pytest.importorskip("bitsandbytes")
    backbone = load_tiny("qwen", quantization="nf4", language_model="frozen", projector="full").train()
    folder, samples = city
    batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:2]], backbone.encoder)
    nn.functional.cross_entropy(backbone(batch), batch.labels).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in backbone.trained_parameters().values())


def test_four_bits_exclude_full_training(load_tiny: Callable[..., Any]) -> None:
    wanted = r"quantization=nf4: .*set backbone\.language_model=lora"
    with pytest.raises(ConfigError, match=wanted):
        load_tiny("qwen", quantization="nf4", language_model="full")
    with pytest.raises(ConfigError, match=wanted):
        compose("train", ["recipe=quickstart", "backbone.quantization=nf4", "backbone.language_model=full"])


def test_error_without_bitsandbytes(load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
    with pytest.raises(ConfigError, match=r"backbone\.quantization=nf4: needs bitsandbytes.*geotune\[gpu\]"):
        load_tiny("qwen", quantization="nf4")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(recipe: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    result = train(recipe(**NF4, **{"backbone.dtype": "bf16", "trainer.accelerator": "gpu", "trainer.devices": 1}))
    assert result["train"]["train/loss"] > 0
    assert result["train"]["perf/peak_memory_gb"] > 0
