"""Compiled norms, rotary positions and MLPs: the results of the plain ones, and no graph per shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft.tuners.lora.layer import Linear as LoraLinear
from torch._dynamo.utils import counters
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

from geotune.backbones import kernels
from geotune.backbones.kernels import LEAST_ROWS, compiles, swiglu, use_kernels
from geotune.config.parts import LoraConfig
from geotune.encoding.collate import collate, collate_tree
from geotune.sample import Sample
from tests.geotune.backbones.test_fused_lora import outcome, randomize_adapters

City = tuple[Path, list[Sample]]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]
PARTS = dict.fromkeys(("tower", "projector", "language_model"), "lora")


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative distance."""
    return float((found.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ["qwen", "internvl"])
def test_logits_and_gradients_are_those_of_the_plain_modules(
    family: str, device: str, load_tiny: Callable[..., Any], city: City
) -> None:
    """In float32 to its rounding; in bf16 not farther from the exact ones than those of the plain modules."""
    folder, samples = city

    def found(dtype: str, mode: str, join: Any = collate) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(0)  # PEFT draws A
        backbone = load_tiny(family, dtype=dtype, kernels=mode, lora=LoraConfig(r=3, alpha=7), **PARTS).train()
        randomize_adapters(backbone)
        encoded = [backbone.encode(sample.in_folder(folder)) for sample in samples[:4]]
        return outcome(backbone.to(device), join(encoded, backbone.encoder).to(device))

    exact, exact_gradients = found("float32", "off")
    for join in (collate, collate_tree):
        logits, gradients = found("float32", "compile", join)
        if join is collate:
            torch.testing.assert_close(logits, exact, atol=1e-4 * float(exact.abs().max()), rtol=0)
        assert gradients.keys() == exact_gradients.keys()
        for name, gradient in exact_gradients.items():
            assert float((gradients[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name
    (plain, plain_gradients), (logits, gradients) = (found("bf16", mode) for mode in ("off", "compile"))
    assert error(logits, exact) <= 1.2 * error(plain, exact)
    flat, plain_flat, exact_flat = (
        torch.cat([each[name].flatten() for name in exact_gradients])
        for each in (gradients, plain_gradients, exact_gradients)
    )
    assert error(flat, exact_flat) <= 1.2 * error(plain_flat, exact_flat)


@pytest.mark.parametrize("device", DEVICES)
def test_fifty_shapes_compile_no_more_graphs_than_two(device: str, load_tiny: Callable[..., Any], city: City) -> None:
    folder, samples = city
    backbone = load_tiny("qwen", attn="sdpa", kernels="compile", tower="lora").train().to(device)
    encoded = [backbone.encode(sample.in_folder(folder)) for sample in samples]
    graphs, shapes = [], set()
    for number in range(50):
        join = collate if number % 2 else collate_tree
        batch = join(encoded[number % 11 : number % 11 + 2 + number // 2 % 5], backbone.encoder).to(device)
        shapes.add(tuple(batch.input_ids.shape))
        outcome(backbone, batch)
        with torch.no_grad():
            backbone(batch)
        graphs.append(counters["stats"]["unique_graphs"])
    assert len(shapes) >= 25
    assert graphs[-1] == graphs[1], "a shape was compiled for itself"


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Whether compiling works is found out anew, before and after."""
    compiles.cache_clear()
    kernels.compiled.cache_clear()
    yield
    compiles.cache_clear()
    kernels.compiled.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_without_a_compiler_the_plain_modules_run_and_this_is_said_once(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: Any, **_: Any) -> Any:
        def call(*_: Any) -> Any:
            raise RuntimeError("no working C++ compiler found\nand more")

        return call

    monkeypatch.setattr("torch.compile", broken)
    folder, samples = city
    results = []
    with caplog.at_level(logging.WARNING):
        for mode in ("compile", "off"):
            torch.manual_seed(0)
            backbone = load_tiny("qwen", kernels=mode).train()
            batch = collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:2]], backbone.encoder)
            results.append(backbone(batch))
            backbone(batch)
    assert torch.equal(*results)
    said = [record.message for record in caplog.records if "torch.compile" in record.message]
    assert said == [
        "torch.compile does not work here (no working C++ compiler found): norms, rotary positions and MLPs run"
        " uncompiled"
    ]


def test_few_rows_and_other_devices_are_not_compiled(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` compiles on CUDA alone."""
    folder, samples = city

    def refuse(function: Any) -> Any:
        raise AssertionError("compiled")

    automatic, forced = (load_tiny("qwen", kernels=mode).train() for mode in ("auto", "compile"))
    batch = collate([automatic.encode(samples[0].in_folder(folder))], automatic.encoder)
    assert compiles("cpu")
    monkeypatch.setattr(kernels, "compiled", refuse)
    automatic(batch)
    with pytest.raises(AssertionError, match="compiled"):
        forced(batch)
    mlp = next(module for module in forced.modules() if hasattr(module, "gate_proj") and hasattr(module, "act_fn"))
    size = mlp.gate_proj.in_features
    mlp(torch.zeros(1, LEAST_ROWS - 1, size))
    with pytest.raises(AssertionError, match="compiled"):
        mlp(torch.zeros(1, LEAST_ROWS, size))


def test_every_norm_attention_and_mlp_of_the_families_is_compiled(load_tiny: Callable[..., Any]) -> None:
    """A module that stays plain would only be slower, and nobody would see it."""
    for family, expected in (("qwen", {"Norm", "MLP", "Attention"}), ("internvl", {"Norm", "MLP", "Attention"})):
        backbone = load_tiny(family, kernels="compile")
        text = backbone.base.model.language_model
        names = [type(module).__name__ for module in text.modules()]
        assert all(name.startswith("Compiled") for name in names if name.endswith(tuple(expected)))
        assert {ending for ending in expected if any(name.endswith(ending) for name in names)} == expected
    tower = [type(module).__name__ for module in load_tiny("qwen", kernels="compile").base.model.visual.modules()]
    assert {name for name in tower if name.startswith("Compiled")} == {
        "CompiledQwen2_5_VLRMSNorm",
        "CompiledQwen2_5_VLMLP",
        "CompiledWindowAttention",
    }


def test_swiglu_in_bf16_rounds_once() -> None:
    torch.manual_seed(0)
    gate, up = torch.randn(2, 100, 8, dtype=torch.bfloat16)
    exact = torch.nn.functional.silu(gate.double()) * up.double()
    torch.testing.assert_close(swiglu(gate, up), exact.to(torch.bfloat16), atol=1e-9, rtol=2**-8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [40, 44])
def test_an_mlp_of_any_size_is_that_of_the_plain_module(size: int, device: str) -> None:
    """Sizes that are no multiple of 8 are padded, without a trace in results, gradients and names."""
    config = SimpleNamespace(hidden_size=24, intermediate_size=size, hidden_act="silu")
    torch.manual_seed(0)
    module: Any = Qwen2_5_VLMLP(config, bias=True).to(device)
    rows = torch.randn(2, LEAST_ROWS, 24, device=device, requires_grad=True)
    inputs = [rows, *module.parameters()]
    wanted = module(rows)
    expected = torch.autograd.grad(wanted.square().sum(), inputs)
    names = list(module.state_dict())
    use_kernels(module, None)
    assert [layer is own for layer, own in zip(module._projections(), module.children(), strict=False)] == (
        [size == 40] * 3
    )
    found = module(rows)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    gradients = torch.autograd.grad(found.square().sum(), inputs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)
    assert list(module.state_dict()) == names


@pytest.mark.parametrize("device", DEVICES)
def test_layers_with_adapters_are_not_padded(device: str) -> None:
    config = SimpleNamespace(hidden_size=24, intermediate_size=44, hidden_act="silu")
    module: Any = Qwen2_5_VLMLP(config, bias=True)
    module.up_proj = LoraLinear(module.up_proj, "default", PeftConfig(r=2), r=2, lora_alpha=4)
    module.to(device)
    use_kernels(module, None)
    assert module._projections() == [module.gate_proj, module.up_proj, module.down_proj]
    module(torch.randn(LEAST_ROWS, 24, device=device))
