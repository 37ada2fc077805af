"""Saved weights load strictly or not at all, and reproduce the logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from geotune.backbones.weights import ADAPTER_FILE, load_adapter, load_full, save_adapter, save_full, save_pretrained
from geotune.config.parts import LoraConfig
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError

FAMILIES = ("qwen", "internvl")


def shake(backbone: Any) -> None:
    """Change the trained weights, so that they have a visible effect."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.trained_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(use_dora=True, use_rslora=True)])
def test_reloaded_and_merged_adapters_give_the_same_logits(
    load_tiny: Callable[..., Any], batch_of: Callable[..., Batch], tmp_path: Path, family: str, lora: LoraConfig
) -> None:
    from peft import PeftModel

    backbone = load_tiny(family, lora=lora)
    plain = load_tiny(family, lora=lora)
    batch = batch_of(backbone)
    shake(backbone)
    with torch.no_grad():
        wanted = backbone(batch)
        assert (plain(batch) - wanted).abs().max() > 0.1
    save_adapter(backbone, tmp_path)
    load_adapter(plain, tmp_path)
    weights = {name: value.clone() for name, value in backbone.base.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(plain(batch), wanted)
        with backbone._merged_adapters():
            torch.testing.assert_close(backbone(batch), wanted, atol=2e-4, rtol=1e-4)
        assert torch.equal(backbone(batch), wanted)
    assert all(torch.equal(weights[name], value) for name, value in backbone.base.state_dict().items())
    stock = PeftModel.from_pretrained(type(backbone).model_class.from_pretrained(backbone.path), str(tmp_path))
    ours = backbone.model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in stock.state_dict().items())


def test_adapters_load_strictly(load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    backbone = load_tiny("qwen")
    save_adapter(backbone, tmp_path)
    file = tmp_path / ADAPTER_FILE
    state = load_file(file)
    first = min(state)
    for changed, message in (
        ({k: v for k, v in state.items() if k != first}, "lacks"),
        (state | {first.replace("layers.0", "layers.7"): state[first].clone()}, "unknown"),
        (state | {first: torch.zeros(1, 1)}, "has shape"),
    ):
        save_file(changed, file)
        with pytest.raises(ConfigError, match=message):
            load_adapter(backbone, tmp_path)
    save_file(state, file)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 64}))
    with pytest.raises(ConfigError, match=r"backbone\.lora\.alpha=32.*64"):
        load_adapter(backbone, tmp_path)
    with pytest.raises(ConfigError, match="no adapter_model"):
        load_adapter(backbone, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="set to lora"):
        load_adapter(load_tiny("qwen", language_model="frozen"), tmp_path)


def test_fully_trained_parts_round_trip(
    load_tiny: Callable[..., Any], batch_of: Callable[..., Batch], tmp_path: Path
) -> None:
    settings: Any = {"projector": "full", "language_model": "lora"}
    backbone, other = load_tiny("qwen", **settings), load_tiny("qwen", **settings)
    shake(backbone)
    save_adapter(backbone, tmp_path / "adapter")
    save_full(backbone, tmp_path / "model")
    assert set(load_file(tmp_path / "model" / "trained.safetensors")) == set(backbone.full_state())
    load_adapter(other, tmp_path / "adapter")
    load_full(other, tmp_path / "model")
    batch = batch_of(backbone)
    with torch.no_grad():
        assert torch.equal(backbone(batch), other(batch))
    with pytest.raises(ConfigError, match="another backbone"):
        load_full(load_tiny("qwen", projector="frozen", language_model="full"), tmp_path / "model")


def test_whole_folder_round_trip(load_tiny: Callable[..., Any], batch_of: Callable[..., Batch], tmp_path: Path) -> None:
    settings: Any = {"tower": "full", "projector": "full", "language_model": "full"}
    backbone = load_tiny("qwen", **settings)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
    save_pretrained(backbone, tmp_path)
    again = load_tiny("qwen", path=str(tmp_path), **settings)
    batch = batch_of(backbone, 3)
    with torch.no_grad():
        assert torch.equal(backbone(batch), again(batch))


def test_truncated_files_of_a_checkpoint(load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    for scope, save, load in (("lora", save_adapter, load_adapter), ("full", save_full, load_full)):
        backbone, folder = load_tiny("qwen", language_model=scope), tmp_path / scope
        save(backbone, folder)
        (weights,) = folder.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:5000])
        with pytest.raises(ConfigError, match=rf"{weights}: can't be read .*name another checkpoint"):
            load(backbone, folder)
