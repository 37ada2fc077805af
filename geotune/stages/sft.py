"""Supervised fine-tuning: the negative log-likelihood of what the assistant says."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from geotune.encoding.collate import Batch
from geotune.stages.base import Stage


def nll_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood of `labels` (N,) under `logits` (N, V)."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")


class SFT(Stage):
    """Mean over all supervised tokens of an update, whichever rank or micro-batch holds them."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """The micro-batch's share of the update's mean."""
        nll = nll_sum(self.backbone(batch), batch.labels)
        # DDP averages over ranks and the trainer over micro-batches: undo both, divide by the update's own count.
        scale = self.trainer.world_size * self.trainer.accumulate_grad_batches / batch.update_targets
        return {"loss": nll * scale, "nll": nll.detach()}
