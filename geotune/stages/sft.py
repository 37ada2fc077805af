"""Supervised fine-tuning on the negative log-likelihood of the assistant's answers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812

from geotune.encoding.collate import Batch
from geotune.stages.base import Stage, StepOutput
from geotune.system.ranks import reduce_figures


def nll_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed negative log-likelihood of `labels` (N,) under `logits` (N, V), in nats."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")


class SFT(Stage):
    """Supervised fine-tuning; the loss of an update is the mean over its supervised tokens on all ranks."""

    _planned_targets = 0
    """Supervised tokens that the current update was planned with, over all processes."""
    _unreadable_targets = 0
    """Supervised tokens of the unreadable samples of the current update, in this process."""

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """Return the micro-batch's share of the update's mean loss; sums: loss in nats, supervised tokens."""
        nll = self.backbone.over_logits(batch, nll_sum).sum()
        loss = nll * self.share_of_update(batch)
        return {"loss": loss, "sums": {"nll": nll.detach(), "targets": len(batch.labels)}}

    def share_of_update(self, batch: Batch) -> float:
        """Return the factor that makes a sum over the supervised tokens of `batch` its share of the update's mean.

        To be called once per micro-batch.
        """
        self._planned_targets = batch.update_targets
        self._unreadable_targets += batch.unreadable_targets
        # DDP averages over ranks and the trainer over micro-batches. Undo both, and divide by the update's token count.
        return self.trainer.world_size * self.trainer.accumulate_grad_batches / batch.update_targets

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the mean loss per supervised token, in nats."""
        return {"loss": sums["nll"] / sums["targets"] if sums["targets"] else math.nan}

    def gradient_scale(self) -> float | None:
        """Return what makes the gradient the mean over the supervised tokens that were there.

        The loss was divided by the planned number. How many of them were missing is known only at the end.
        """
        unreadable = int(reduce_figures(self.trainer, {"targets": self._unreadable_targets})["targets"])
        self._unreadable_targets = 0
        if not unreadable:
            return None
        remaining = self._planned_targets - unreadable
        return self._planned_targets / remaining if remaining else math.nan
