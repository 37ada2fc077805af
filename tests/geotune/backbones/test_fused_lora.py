"""The fused LoRA layer has the outputs and gradients of PEFT's own layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from geotune.backbones.fused_lora import FusedLinear, Siblings, fixed_adapters
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FusedLinear, "is_plain", lambda layer: False)
        return outcome(backbone, batch)


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

    monkeypatch.setattr("geotune.backbones.fused_lora._LoraProducts.apply", refuse)
    plain = load_tiny("qwen").train()
    batch = collate([plain.encode(sample.in_folder(folder)) for sample in samples[:2]], plain.encoder)
    with pytest.raises(AssertionError, match="fused"):
        plain(batch)
    with plain.model.disable_adapter():
        plain(batch)
    for lora in (LoraConfig(dropout=0.1), LoraConfig(use_dora=True)):
        load_tiny("qwen", lora=lora).train()(batch)
    generate(plain, [samples[0].in_folder(folder)], max_new_tokens=2, batch_size=1)


def projections(backbone: Any, batch: Any) -> int:
    """Matrix products of a forward pass of the language model."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        backbone(batch)
    return sum(event.count for event in profiler.key_averages() if event.key in ("aten::mm", "aten::addmm"))


def test_layers_with_one_input_share_the_first_product(load_tiny: Callable[..., Any], city: City) -> None:
    """Queries, keys and values need one product with A instead of three; gate and up one instead of two."""
    folder, samples = city
    backbone = load_tiny("qwen").train()
    batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:2]], backbone.encoder)
    backbone(batch)  # image features are cached from now on
    together = projections(backbone, batch)
    for module in backbone.modules():
        if isinstance(module, FusedLinear):
            module.siblings = Siblings([module])
    layers = backbone.base.config.get_text_config().num_hidden_layers
    assert projections(backbone, batch) == together + layers * (2 + 1)


def test_a_changed_adapter_is_cast_anew_however_it_was_changed(load_tiny: Callable[..., Any], city: City) -> None:
    folder, samples = city
    backbone = load_tiny("qwen", dtype="bf16").train()
    batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:2]], backbone.encoder)
    adapter = next(module.adapter[1] for module in backbone.modules() if isinstance(module, FusedLinear))
    seen = [backbone(batch).detach()]
    for change in (
        lambda: adapter.data.fill_(0.5),  # counts as no change of the parameter itself
        torch.optim.SGD([adapter], lr=1.0).step,
        lambda: setattr(adapter, "data", torch.full_like(adapter, 2.0)),
    ):
        backbone.zero_grad()
        adapter.grad = torch.ones_like(adapter)
        change()  # type: ignore[no-untyped-call]
        seen.append(backbone(batch).detach())
        assert all(not torch.equal(seen[-1], before) for before in seen[:-1])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_other_passes_before_the_backward_pass_change_no_gradient(
    checkpointing: bool, load_tiny: Callable[..., Any], city: City
) -> None:
    """Two forward passes and one with a kept copy's weights, then the backward pass: recomputed or not."""
    folder, samples = city
    backbone = load_tiny("qwen", dtype="bf16", gradient_checkpointing=checkpointing).train()
    randomize_adapters(backbone)
    encoded = [backbone.encode(sample.in_folder(folder)) for sample in samples[:4]]
    first, second = (collate(part, backbone.encoder) for part in (encoded[:2], encoded[2:]))
    backbone.keep_copy("reference")
    for parameter in backbone.trained_parameters().values():
        parameter.data.add_(0.01)
    expected = [outcome(backbone, batch)[1] for batch in (first, second)]
    backbone.zero_grad()
    losses = [nll_sum(backbone(batch), batch.labels) for batch in (first, second)]
    with backbone.weights_of("reference"):
        backbone(first)
    sum(losses).backward()  # type: ignore[union-attr]
    for name, parameter in backbone.trained_parameters().items():
        wanted = expected[0][f"model.base_model.model.{name}"] + expected[1][f"model.base_model.model.{name}"]
        torch.testing.assert_close(parameter.grad, wanted, rtol=2e-2, atol=1e-2 * float(wanted.abs().max()) + 1e-6)


def test_an_evaluation_casts_the_adapters_once_and_computes_the_same(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, samples = city
    parts = dict.fromkeys(("tower", "projector", "language_model"), "lora")
    backbone = load_tiny("qwen", dtype="bf16", lora=LoraConfig(r=3, alpha=7), **parts)
    batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:2]], backbone.encoder)
    wanted = []
    for _ in range(2):
        randomize_adapters(backbone)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.data *= 1 + len(wanted)
        with torch.no_grad():
            wanted.append(backbone(batch))
        checks: list[FusedLinear] = []
        is_plain = FusedLinear.is_plain
        with monkeypatch.context() as patch, backbone.evaluation_mode():
            patch.setattr(FusedLinear, "is_plain", lambda layer: checks.append(layer) or is_plain(layer))  # noqa: B023
            assert torch.equal(backbone(batch), wanted[-1])
            assert not checks
    assert not torch.equal(*wanted), "each evaluation has the adapters of its beginning"
    _, gradients = outcome(backbone.train(), batch)
    assert any("lora_A" in name for name in gradients), "training goes on as before"


def test_one_layer_alone_computes_the_same_while_adapters_are_fixed(load_tiny: Callable[..., Any]) -> None:
    backbone = load_tiny("qwen", dtype="bf16")
    randomize_adapters(backbone)
    attention = backbone.base.model.language_model.layers[0].self_attn
    x = torch.randn(2, 3, attention.q_proj.in_features, dtype=torch.bfloat16)
    with torch.no_grad():
        wanted = [layer(x.clone()) for layer in (attention.k_proj, attention.v_proj, attention.q_proj)]
        with fixed_adapters(backbone.base):
            found = [layer(x.clone()) for layer in (attention.k_proj, attention.v_proj, attention.q_proj)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
