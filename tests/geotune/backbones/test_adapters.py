"""Exactly the requested parameters train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from geotune.backbones.adapters import Parts, apply_scopes, lora_targets
from geotune.config.parts import LoraConfig
from geotune.encoding.collate import Batch
from geotune.errors import ConfigError

FAMILIES = ("qwen", "internvl")
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def trainable(backbone: Any) -> dict[str, nn.Parameter]:
    return {name: p for name, p in backbone.base.named_parameters() if p.requires_grad}


def loss_of(backbone: Any, batch: Batch) -> torch.Tensor:
    return nn.functional.cross_entropy(backbone(batch), batch.labels)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("target", "layers"),
    [
        ("all-linear", LINEAR),
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", LINEAR - {"q_proj", "k_proj", "v_proj", "o_proj"}),
    ],
)
def test_lora_reaches_the_language_model_alone(
    load_tiny: Callable[..., Any], family: str, target: Any, layers: set[str]
) -> None:
    backbone = load_tiny(family, lora=LoraConfig(target=target))
    names = list(trainable(backbone))
    assert all(name.startswith("model.language_model.layers.") and ".lora_" in name for name in names)
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names} == layers
    assert len(names) == 2 * 2 * len(layers)  # two layers, A and B


def test_count_of_trainable_parameters(load_tiny: Callable[..., Any]) -> None:
    per_layer = 8 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
    outputs = 32 + 16 + 16 + 32 + 48 + 48 + 32
    plain = load_tiny("qwen").trainable_summary()
    assert sum(count for _, count in plain) == 2 * per_layer
    assert all("*" in pattern for pattern, _ in plain)
    dora = load_tiny("qwen", lora=LoraConfig(use_dora=True)).trainable_summary()
    assert sum(count for _, count in dora) == 2 * (per_layer + outputs)


def test_rslora_scales_by_the_root_of_the_rank(load_tiny: Callable[..., Any]) -> None:
    for rslora, scale in ((False, 32 / 8), (True, 32 / 8**0.5)):
        backbone = load_tiny("qwen", lora=LoraConfig(use_rslora=rslora))
        layer = backbone.base.model.language_model.layers[0].self_attn.q_proj
        assert layer.scaling["default"] == pytest.approx(scale)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(use_dora=True)])
def test_frozen_tower_builds_no_graph_and_every_adapter_learns(
    load_tiny: Callable[..., Any], batch_of: Callable[..., Batch], family: str, lora: LoraConfig
) -> None:
    backbone = load_tiny(family, lora=lora, gradient_checkpointing=True).train()
    batch = batch_of(backbone)
    assert not backbone._distinct_image_features(batch).requires_grad
    assert not any(
        module.training for name, module in backbone.base.named_modules() if backbone.parts.part_of(name) == "tower"
    )
    optimizer = torch.optim.SGD(trainable(backbone).values(), lr=0.1)
    loss_of(backbone, batch).backward()
    optimizer.step()
    # lora_A has no gradient while lora_B is zero: it has one from the second step on.
    optimizer.zero_grad()
    loss_of(backbone, batch).backward()
    for name, parameter in trainable(backbone).items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in backbone.parameters() if not p.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scope", ["lora", "full"])
def test_projector_trains_behind_a_frozen_tower(
    load_tiny: Callable[..., Any], batch_of: Callable[..., Batch], family: str, scope: Any
) -> None:
    backbone = load_tiny(family, projector=scope, language_model="frozen").train()
    entered: list[bool] = []
    projector = backbone.base.get_submodule(backbone.parts.projector)
    projector.register_forward_pre_hook(lambda module, args: entered.append(args[0].requires_grad))
    loss_of(backbone, batch_of(backbone)).backward()
    assert entered == [False]
    parameters = trainable(backbone)
    assert parameters
    assert all(backbone.parts.part_of(name) == "projector" for name in parameters)
    assert all(p.grad is not None for p in parameters.values())


def test_everything_trains_in_full(load_tiny: Callable[..., Any], batch_of: Callable[..., Batch]) -> None:
    backbone = load_tiny("qwen", tower="full", projector="full", language_model="full").train()
    assert not backbone.has_adapter
    assert all(p.requires_grad for p in backbone.parameters())
    loss_of(backbone, batch_of(backbone)).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_adapters_in_the_tower_when_asked_for(load_tiny: Callable[..., Any], batch_of: Callable[..., Batch]) -> None:
    backbone = load_tiny("qwen", tower="lora", language_model="full").train()
    parts = {(backbone.parts.part_of(name), ".lora_" in name) for name in trainable(backbone)}
    assert parts == {("tower", True), ("language_model", False)}
    assert "lm_head.weight" not in dict(backbone.base.named_modules())
    loss_of(backbone, batch_of(backbone)).backward()
    assert all(p.grad is not None for p in trainable(backbone).values())


def test_trainable_parameters_stay_in_float32_with_bf16(
    load_tiny: Callable[..., Any], batch_of: Callable[..., Batch]
) -> None:
    for settings in ({}, {"projector": "full"}):
        backbone = load_tiny("qwen", dtype="bf16", **settings).train()
        kinds = {p.requires_grad: p.dtype for p in backbone.parameters()}
        assert kinds == {True: torch.float32, False: torch.bfloat16}
        logits = backbone(batch_of(backbone))
        assert logits.dtype == torch.float32
        exact = load_tiny("qwen")(batch_of(backbone))
        assert (logits.softmax(-1) - exact.softmax(-1)).abs().max() < 0.1


class Decoy(nn.Module):
    """A model whose tower has layers of the same names as the language model, as in Qwen and InternVL."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                name: nn.ModuleDict({"q_proj": nn.Linear(4, 4), "gate_proj": nn.Linear(4, 4)})
                for name in ("visual", "visual_extra", "language_model")
            }
        )
        self.lm_head = nn.Linear(4, 4)


def test_layers_are_matched_by_full_names() -> None:
    parts = Parts(tower="model.visual", projector="model.visual.merger", language_model="model.language_model")
    scopes: Any = {"tower": "frozen", "projector": "frozen", "language_model": "lora"}
    names = lora_targets(Decoy(), parts, scopes, LoraConfig())
    assert names == ["model.language_model.q_proj", "model.language_model.gate_proj"]
    assert parts.part_of("model.visual.merger.mlp") == "projector"
    assert parts.part_of("model.visual_extra") is None
    with pytest.raises(ConfigError, match=r"lora\.target=all-linear: no linear layer of the projector"):
        lora_targets(Decoy(), parts, {**scopes, "projector": "lora"}, LoraConfig())


def test_a_match_in_the_tower_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from geotune.backbones import adapters

    parts = Parts(tower="model.visual", projector="model.visual.merger", language_model="model.language_model")
    scopes: Any = {"tower": "frozen", "projector": "frozen", "language_model": "lora"}
    # A list of bare names, as many recipes have it, would also match layers of the tower.
    monkeypatch.setattr(adapters, "lora_targets", lambda *_: ["q_proj"])
    monkeypatch.setattr(adapters, "expected_count", lambda *_: 64)
    model = Decoy()
    model.config = None  # type: ignore[assignment]
    model.prepare_inputs_for_generation = None  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"not asked for"):
        apply_scopes(model, parts, scopes, LoraConfig())
