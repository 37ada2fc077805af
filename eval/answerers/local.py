"""The answerer that asks a backbone on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from geotune.backbones.generation import generate, score_options
from geotune.sample import Sample

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


class LocalAnswerer:
    """Asks `backbone` in batches of `batch_size`; the caller sets eval mode and disables gradients."""

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        self.backbone = backbone
        self.batch_size = batch_size

    def generate(self, samples: Sequence[Sample], max_new_tokens: int) -> list[str]:
        return generate(self.backbone, list(samples), max_new_tokens=max_new_tokens, batch_size=self.batch_size)

    def score_options(
        self, samples: Sequence[Sample], options: Sequence[Sequence[str]], prefix: Sequence[str] | None
    ) -> list[list[float]]:
        return score_options(
            self.backbone,
            list(samples),
            [list(texts) for texts in options],
            prefix=None if prefix is None else list(prefix),
            batch_size=self.batch_size,
        )
