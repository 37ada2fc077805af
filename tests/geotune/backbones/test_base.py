"""The logits of a backbone equal those of the library, one by one and in batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones.generation import generate
from geotune.encoding.collate import collate
from geotune.encoding.segments import Encoded
from geotune.sample import Sample, Turn

City = tuple[Path, list[Sample]]


def encode_all(backbone: Any, city: City) -> list[Encoded]:
    folder, samples = city
    return [backbone.encode(sample.in_folder(folder)) for sample in samples]


@torch.no_grad()
def test_logits_equal_the_librarys_one_by_one(backbone: Any, city: City, stock: Any) -> None:
    encoded = encode_all(backbone, city)[:8]
    batch = collate(encoded, backbone.encoder)
    ours = backbone(batch)
    start = 0
    for number, sample in enumerate(encoded):
        wanted = stock.logits(backbone, sample)
        inside = batch.logit_index[(batch.logit_index // batch.input_ids.shape[1]) == number] % batch.input_ids.shape[1]
        torch.testing.assert_close(ours[start : start + len(inside)], wanted[inside], atol=2e-5, rtol=1e-4)
        start += len(inside)
    assert start == len(ours) == sum(sample.targets for sample in encoded)


@torch.no_grad()
def test_padding_on_either_side_and_eager_attention(load_tiny: Callable[..., Any], backbone: Any, city: City) -> None:
    encoded = encode_all(backbone, city)[:6]
    right = collate(encoded, backbone.encoder)
    left = collate(encoded, backbone.encoder, side="left")
    assert right.attention is None
    assert left.attention is not None
    wanted = backbone(right)
    torch.testing.assert_close(backbone(left), wanted, atol=2e-5, rtol=1e-4)
    eager = load_tiny("qwen" if backbone.family == "qwen2_5_vl" else "internvl", attn="eager")
    torch.testing.assert_close(eager(right), wanted, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(eager(left), wanted, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_sample_without_images(backbone: Any) -> None:
    sample = Sample(id="t", images=(), turns=(Turn("user", "The map"), Turn("assistant", "north")), system="")
    encoded = backbone.encode(sample)
    batch = collate([encoded, encoded], backbone.encoder)
    assert batch.images == ()
    logits = backbone(batch)
    arguments = {"input_ids": batch.input_ids[:1], "attention_mask": torch.ones_like(batch.input_ids[:1])}
    stock = backbone.base(**arguments).logits[0][batch.logit_index[: len(logits) // 2]]
    torch.testing.assert_close(logits[: len(stock)], stock, atol=2e-5, rtol=1e-4)


def record_calls(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of images in each call of the tower."""
    calls: list[int] = []
    original = backbone.image_features

    def spy(pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        features: list[torch.Tensor] = original(pixels)
        calls.append(len(features))
        return features

    monkeypatch.setattr(backbone, "image_features", spy)
    return calls


def test_each_image_goes_through_the_tower_once(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    training = load_tiny("qwen", projector="full").train()
    calls = record_calls(training, monkeypatch)
    batch = collate([training.encode(sample) for sample in samples], training.encoder)
    assert len(batch.images) == 8  # six views and two maps
    training(batch)
    training(batch)
    assert calls == [8, 8]
    generate(training, samples[:12], max_new_tokens=1, batch_size=4)
    assert sum(calls[2:]) == 8
    training(batch)
    assert calls[-1] == 8, "features of a projector that trains must not outlive an evaluation"

    frozen = load_tiny("qwen").train()
    calls = record_calls(frozen, monkeypatch)
    frozen(batch).sum().backward()
    generate(frozen, samples, max_new_tokens=1, batch_size=4)
    frozen(batch).sum().backward()
    assert calls == [8]
