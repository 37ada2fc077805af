"""Log-probabilities in chunks of tokens equal those of all tokens at once, and no tensor holds all logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from geotune.backbones import output_head
from geotune.backbones.output_head import OutputHead, label_logprobs
from geotune.encoding.collate import Batch, collate, collate_tree
from geotune.sample import Sample
from geotune.stages.sft import nll_sum

City = tuple[Path, list[Sample]]
SCOPES: dict[str, dict[str, Any]] = {
    "adapters": {},
    "tied head trains": {"language_model": "full"},
    "head trains": {"language_model": "full", "family": "internvl"},
}


def batch_for(backbone: Any, city: City, join: Callable[..., Batch] = collate) -> Batch:
    return join([backbone.encode(sample.in_folder(city[0])) for sample in city[1]], backbone.encoder)


def gradients(backbone: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    backbone.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in backbone.trained_parameters().items() if p.grad is not None}


def weights_like(logprobs: torch.Tensor) -> torch.Tensor:
    """A weight per token, as advantages have, so that tokens can't be mixed up."""
    return torch.linspace(-1, 1, len(logprobs), dtype=logprobs.dtype)


@pytest.fixture(params=SCOPES)
def trained(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    settings = dict(SCOPES[request.param])
    backbone = load_tiny(settings.pop("family", "qwen"), **settings).train()
    for name, parameter in backbone.trained_parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return backbone


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("join", [collate, collate_tree])
def test_chunks_equal_the_whole(
    trained: Any, city: City, monkeypatch: pytest.MonkeyPatch, temperature: float, join: Callable[..., Batch]
) -> None:
    batch = batch_for(trained, city, join)
    wanted = (trained(batch) / temperature).log_softmax(-1).gather(1, batch.labels[:, None]).squeeze(1)
    wanted_gradients = gradients(trained, (wanted * weights_like(wanted)).sum())
    for chunk in (len(wanted), len(wanted) - 1, 7):
        monkeypatch.setattr(output_head, "CHUNK_TOKENS", chunk)
        found = trained.token_logprobs(batch, temperature)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        found_gradients = gradients(trained, (found * weights_like(found)).sum())
        assert found_gradients.keys() == wanted_gradients.keys() != set()
        for name, gradient in found_gradients.items():
            scale = float(wanted_gradients[name].abs().max())
            torch.testing.assert_close(gradient, wanted_gradients[name], atol=1e-5 * scale, rtol=1e-4)


def test_chunks_equal_the_whole_in_double_precision(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients differ by the order of sums alone. The log-probabilities themselves are float32."""
    backbone = load_tiny("qwen", language_model="full").double().train()
    batch = batch_for(backbone, city)

    def run(chunk: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        monkeypatch.setattr(output_head, "CHUNK_TOKENS", chunk)
        found = backbone.token_logprobs(batch)
        return found.detach(), gradients(backbone, (found * weights_like(found)).sum())

    whole, whole_gradients = run(10**6)
    chunks, chunk_gradients = run(9)
    torch.testing.assert_close(chunks, whole, atol=1e-7, rtol=1e-7)
    for name, gradient in chunk_gradients.items():
        torch.testing.assert_close(gradient, whole_gradients[name], atol=1e-10, rtol=1e-10)


def test_one_chunk_is_the_old_loss_bit_for_bit(trained: Any, city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_for(trained, city)
    old = nll_sum(trained(batch), batch.labels)
    wanted = gradients(trained, old)
    new = trained.over_logits(batch, nll_sum).sum()
    assert torch.equal(new, old)
    found = gradients(trained, new)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    monkeypatch.setattr(output_head, "CHUNK_TOKENS", 11)
    several = trained.over_logits(batch, nll_sum).sum()
    torch.testing.assert_close(several, old, atol=0, rtol=1e-6)


def test_nothing_is_supervised(trained: Any, city: City) -> None:
    folder, samples = city
    batch = collate([trained.encode(samples[0].in_folder(folder), answer=False)], trained.encoder)
    logprobs = trained.token_logprobs(batch)
    assert logprobs.shape == (0,)
    assert all(not gradient.any() for gradient in gradients(trained, logprobs.sum()).values())


class LargestTensor(TorchDispatchMode):
    """Notes the largest number of elements of a tensor that has the vocabulary as a dimension."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in self._tensors(out):
            if self.vocabulary in tensor.shape:
                self.rows = max(self.rows, tensor.numel() // self.vocabulary)
        return out

    def _tensors(self, value: Any) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            for part in value:
                yield from self._tensors(part)


def test_no_tensor_holds_all_logits(load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither forward nor backward makes a tensor of more rows than a chunk; the head's weight has 32 columns."""
    backbone = load_tiny("internvl", language_model="full").train()
    batch = batch_for(backbone, city)
    vocabulary, width = backbone.base.lm_head.weight.shape
    assert len(batch.labels) > 2 * width > 40
    rows = {}
    for chunk in (len(batch.labels), 5):
        monkeypatch.setattr(output_head, "CHUNK_TOKENS", chunk)
        with LargestTensor(vocabulary) as largest:
            backbone.token_logprobs(batch).sum().backward()
        rows[chunk] = largest.rows
        backbone.zero_grad()
    assert rows == {len(batch.labels): len(batch.labels), 5: width}


def test_bfloat16(load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass of a chunk computes under the autocast of its forward pass."""
    backbone = load_tiny("qwen", dtype="bf16", projector="full").train()
    batch = batch_for(backbone, city)
    wanted = label_logprobs(backbone(batch), batch.labels)
    wanted_gradients = gradients(backbone, wanted.sum())
    monkeypatch.setattr(output_head, "CHUNK_TOKENS", 16)
    found = backbone.token_logprobs(batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=2e-2, rtol=2e-2)
    found_gradients = gradients(backbone, found.sum())
    for name, gradient in found_gradients.items():
        scale = float(wanted_gradients[name].abs().max())
        torch.testing.assert_close(gradient, wanted_gradients[name], atol=3e-2 * scale + 1e-6, rtol=3e-2)


def test_only_a_linear_layer_becomes_an_output_head() -> None:
    layer = torch.nn.Linear(2, 3)
    wanted = layer(torch.ones(4, 2))
    output_head.use_output_head(layer)
    assert isinstance(layer, OutputHead)
    assert torch.equal(layer(torch.ones(4, 2)), wanted)
    with pytest.raises(AssertionError, match="Embedding"):
        output_head.use_output_head(torch.nn.Embedding(2, 3))
