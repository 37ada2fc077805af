"""Supervised fine-tuning on the negative log-likelihood of the assistant's answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from geotune.encoding.collate import Batch
from geotune.stages.base import Stage


def nll_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed negative log-likelihood of `labels` (N,) under `logits` (N, V), in nats."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")


class SFT(Stage):
    """Supervised fine-tuning; the loss of an update is the mean over its supervised tokens on all ranks."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Return the micro-batch's share of the update's mean loss, and its summed negative log-likelihood."""
        nll = self.backbone.over_logits(batch, nll_sum).sum()
        # DDP averages over ranks and the trainer over micro-batches. Undo both, and divide by the update's token count.
        scale = self.trainer.world_size * self.trainer.accumulate_grad_batches / batch.update_targets
        return {"loss": nll * scale, "nll": nll.detach()}
