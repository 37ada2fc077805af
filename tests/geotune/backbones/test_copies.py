"""A frozen copy of the trained weights: it computes what the model did, and leaves the model that trains alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed import HashStore
from torch.distributed.device_mesh import init_device_mesh

from geotune.backbones.generation import generate
from geotune.backbones.placement import shard
from geotune.backbones.weights import save_weights
from geotune.config.parts import LoraConfig
from geotune.encoding.collate import Batch, collate
from geotune.errors import ConfigError
from geotune.sample import Sample

City = tuple[Path, list[Sample]]
SETTINGS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "checkpointed adapters": {"gradient_checkpointing": True},
    "dora": {"lora": LoraConfig(use_dora=True)},
    "bf16": {"dtype": "bf16"},
    "everything": {"tower": "full", "projector": "full", "language_model": "full"},
    "checkpointed everything": {"language_model": "full", "projector": "full", "gradient_checkpointing": True},
    "adapters everywhere": {"tower": "lora", "projector": "lora", "lora": LoraConfig(target="all-linear")},
}


@pytest.fixture(params=SETTINGS)
def trained(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    """A backbone whose adapters, if any, have been trained a little."""
    torch.manual_seed(0)
    backbone = load_tiny("qwen", **SETTINGS[request.param]).train()
    change(backbone)
    return backbone


def change(backbone: Any) -> None:
    """What an optimizer does: change all trained weights in place."""
    with torch.no_grad():
        for parameter in backbone.trained_parameters().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    backbone.clear_feature_cache()


@pytest.fixture
def batch(city: City, load_tiny: Callable[..., Any]) -> Batch:
    encoder = load_tiny("qwen").encoder
    return collate([encoder.encode(sample.in_folder(city[0])) for sample in city[1][:4]], encoder)


def gradients(backbone: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in backbone.trained_parameters().items()}


def test_the_copy_computes_what_the_model_did(trained: Any, batch: Batch) -> None:
    wanted = trained.token_logprobs(batch).detach()
    trained.keep_copy("start")
    change(trained)
    own = trained.token_logprobs(batch).detach()
    assert not torch.allclose(own, wanted, atol=1e-3)
    for _ in range(2):
        with trained.weights_of("start"):
            found = trained.token_logprobs(batch)
            assert not found.requires_grad
        assert torch.equal(found, wanted)
        assert torch.equal(trained.token_logprobs(batch), own)


def test_a_reference_between_forward_and_backward_changes_no_gradient(trained: Any, batch: Batch) -> None:
    trained.keep_copy("start")
    change(trained)
    trained.token_logprobs(batch).sum().backward()
    wanted = gradients(trained)
    assert any(gradient.any() for gradient in wanted.values())
    trained.zero_grad()
    loss = trained.token_logprobs(batch).sum()
    with trained.weights_of("start"):
        trained.token_logprobs(batch)
    loss.backward()
    found = gradients(trained)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


def test_everything_is_restored_after_an_error(trained: Any, batch: Batch) -> None:
    trained.keep_copy("start")
    change(trained)
    trained.token_logprobs(batch).sum().backward()
    parameters = dict(trained.named_parameters())
    before = {name: (p.data_ptr(), p.clone(), p.requires_grad, p.grad) for name, p in parameters.items()}
    with pytest.raises(ZeroDivisionError), trained.weights_of("start"):
        raise ZeroDivisionError
    assert dict(trained.named_parameters()) == parameters
    for name, (pointer, value, requires_grad, grad) in before.items():
        parameter = parameters[name]
        assert (parameter.data_ptr(), parameter.requires_grad) == (pointer, requires_grad)
        assert torch.equal(parameter, value)
        assert parameter.grad is grad
    with pytest.raises(KeyError, match="finish"), trained.weights_of("finish"):
        pass


def test_a_copy_is_never_saved(trained: Any, tmp_path: Path) -> None:
    def saved(folder: Path) -> dict[str, bytes]:
        save_weights(trained, folder)
        return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

    def names() -> list[list[str]]:
        return [list(trained.state_dict()), [n for n, _ in trained.named_parameters()], list(trained.full_state())]

    plain, known = saved(tmp_path / "plain"), names()
    trained.keep_copy("start")
    assert saved(tmp_path / "copied") == plain
    assert names() == known


def test_a_copy_moves_with_the_backbone(load_tiny: Callable[..., Any], batch: Batch) -> None:
    backbone = load_tiny("qwen")
    wanted = backbone.token_logprobs(batch).detach()
    backbone.keep_copy("start")
    change(backbone)
    backbone.double()
    parameter = next(iter(backbone.trained_parameters().values()))
    with backbone.weights_of("start"):
        assert parameter.dtype == torch.float64
        torch.testing.assert_close(backbone.token_logprobs(batch), wanted, atol=1e-4, rtol=1e-4)
    backbone.to("meta")
    parameter = next(iter(backbone.trained_parameters().values()))
    with backbone.weights_of("start"):
        assert parameter.device.type == "meta"


def test_a_copy_replaces_an_earlier_one_and_there_may_be_several(load_tiny: Callable[..., Any], batch: Batch) -> None:
    backbone = load_tiny("qwen")
    seen = []
    for name in ("a", "b", "a"):
        change(backbone)
        backbone.keep_copy(name)
        seen.append(backbone.token_logprobs(batch).detach())
    for name, wanted in (("b", seen[1]), ("a", seen[2])):
        with backbone.weights_of(name):
            assert torch.equal(backbone.token_logprobs(batch), wanted)


def test_answers_of_the_copy(load_tiny: Callable[..., Any], city: City) -> None:
    """Generation merges float32 adapters and caches image features; both belong to the copy inside its context."""
    samples = [sample.in_folder(city[0]) for sample in city[1][:3]]
    for settings in ({}, {"projector": "full", "tower": "full"}):
        backbone = load_tiny("qwen", **settings)
        change(backbone)
        old = generate(backbone, samples, max_new_tokens=8, batch_size=4)
        backbone.keep_copy("start")
        for _ in range(3):
            change(backbone)
        new = generate(backbone, samples, max_new_tokens=8, batch_size=4)
        assert new != old
        with backbone.weights_of("start"):
            assert generate(backbone, samples, max_new_tokens=8, batch_size=4) == old
        assert generate(backbone, samples, max_new_tokens=8, batch_size=4) == new
        with (
            backbone.evaluation_mode(),
            pytest.raises(AssertionError, match="evaluation_mode"),
            backbone.weights_of("start"),
        ):
            pass
        assert generate(backbone, samples, max_new_tokens=8, batch_size=4) == new


def test_features_of_a_projector_that_trains_belong_to_their_weights(
    load_tiny: Callable[..., Any], batch: Batch
) -> None:
    backbone = load_tiny("qwen", tower="frozen", projector="full", language_model="frozen")
    wanted = backbone.token_logprobs(batch).detach()
    backbone.keep_copy("start")
    change(backbone)
    with backbone.evaluation_mode():
        own = backbone.token_logprobs(batch)
        with backbone.weights_of("start"):
            assert torch.equal(backbone.token_logprobs(batch), wanted)
        assert torch.equal(backbone.token_logprobs(batch), own)


def test_an_outer_autocast_keeps_no_cast_of_other_weights(load_tiny: Callable[..., Any], batch: Batch) -> None:
    backbone = load_tiny("qwen", dtype="bf16", language_model="full").train()
    wanted = backbone.token_logprobs(batch).detach()
    backbone.keep_copy("start")
    change(backbone)
    own = backbone.token_logprobs(batch).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(backbone.token_logprobs(batch), own)
        with backbone.weights_of("start"):
            assert torch.equal(backbone.token_logprobs(batch), wanted)
        assert torch.equal(backbone.token_logprobs(batch), own)


@contextmanager
def one_process() -> Iterator[Any]:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()


def test_sharded_weights_are_refused(load_tiny: Callable[..., Any]) -> None:
    """Also if the copy was made before they were sharded."""
    backbone = load_tiny("internvl")
    backbone.keep_copy("start")
    message = r"trainer\.strategy: .*sharded.*deepspeed_zero2"
    with one_process() as mesh:
        shard(backbone, mesh)
        with pytest.raises(ConfigError, match=message), backbone.weights_of("start"):
            pass
        with pytest.raises(ConfigError, match=message):
            backbone.keep_copy("later")
    partitioned = load_tiny("qwen")
    next(iter(partitioned.trained_parameters().values())).ds_id = 0  # as DeepSpeed's ZeRO-3 marks it
    with pytest.raises(ConfigError, match="sharded"):
        partitioned.keep_copy("start")
