"""Backbones of both families, and the results of stock transformers to compare with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.encoding.collate import Batch, collate
from geotune.encoding.segments import Encoded
from geotune.sample import Sample


@pytest.fixture(scope="module", params=["qwen", "internvl"])
def backbone(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    return load_tiny(request.param)


class StockModel:
    """The library's own forward pass and generation for one sample, with the library's positions and masks."""

    def arguments(self, backbone: Any, encoded: Encoded) -> dict[str, Any]:
        """Arguments of the library's model for one sample."""
        batch = collate([encoded], backbone.encoder)
        arguments = {"input_ids": batch.input_ids, "attention_mask": torch.ones_like(batch.input_ids)}
        if batch.pixels:
            arguments |= backbone.encoder.pixel_values(batch.pixels)
            arguments.pop("tiles", None)
        if backbone.family == "qwen2_5_vl":
            arguments["mm_token_type_ids"] = (batch.input_ids == backbone.encoder.image_token_id).int()
        return arguments

    def logits(self, backbone: Any, encoded: Encoded) -> torch.Tensor:
        """Logits (T, vocabulary)."""
        logits: torch.Tensor = backbone.base(**self.arguments(backbone, encoded)).logits[0]
        return logits

    def tokens(self, backbone: Any, prompt: Encoded, count: int) -> list[int]:
        """At most `count` greedily generated tokens."""
        arguments = self.arguments(backbone, prompt)
        never = backbone.never_drawn.tolist()
        made = backbone.base.generate(**arguments, max_new_tokens=count, do_sample=False, suppress_tokens=never)
        tokens: list[int] = made[0, arguments["input_ids"].shape[1] :].tolist()
        return tokens

    def generate(self, backbone: Any, prompt: Encoded, count: int) -> str:
        """Text of at most `count` greedily generated tokens."""
        return str(backbone.tokenizer.decode(self.tokens(backbone, prompt, count), skip_special_tokens=True))


@pytest.fixture(scope="session")
def stock() -> StockModel:
    return StockModel()


@pytest.fixture(scope="session")
def batch_of(city: tuple[Path, list[Sample]]) -> Callable[..., Batch]:
    """`batch_of(backbone, count)`: the first samples of the city as one batch of rows."""
    folder, samples = city

    def make(backbone: Any, count: int = 4) -> Batch:
        return collate([backbone.encode(sample.in_folder(folder)) for sample in samples[:count]], backbone.encoder)

    return make
