"""The stage: supervised fine-tuning with label smoothing (arXiv 1512.00567), which has one option of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from geotune.config.parts import StageConfig
from geotune.encoding.collate import Batch
from geotune.errors import Problem
from geotune.stages.base import StepOutput
from geotune.stages.sft import SFT


@dataclass
class SmoothConfig(StageConfig):
    """Options of `SmoothSFT`: those of every stage, and one more."""

    smoothing: float = 0.1
    """Share of the probability that the target spreads over the whole vocabulary."""

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        if not 0 <= self.smoothing < 1:
            yield Problem("smoothing", self.smoothing, "must be at least 0 and below 1")


class SmoothSFT(SFT):
    """Learns targets that leave a little probability to every token; reports the smoothed loss beside the plain one."""

    Config = SmoothConfig
    config: SmoothConfig

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        def both(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            plain = F.cross_entropy(logits, labels, reduction="sum")
            smooth = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.config.smoothing)
            return torch.stack([plain.detach(), smooth])

        plain, smooth = self.backbone.over_logits(batch, both).view(-1, 2).sum(0)
        loss = smooth * self.share_of_update(batch)
        return {
            "loss": loss,
            "sums": {"nll": plain.detach(), "smooth": smooth.detach(), "targets": len(batch.labels)},
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        smooth = sums["smooth"] / sums["targets"] if sums["targets"] else math.nan
        return {**super().metrics(sums), "smooth_loss": smooth}
