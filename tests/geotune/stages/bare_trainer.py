"""A Lightning trainer that only trains, for gradients and losses without a run around them."""

from __future__ import annotations

from lightning.pytorch import Callback, Trainer


def bare_trainer(*callbacks: Callback, accumulate: int) -> Trainer:
    """Return a trainer for one process on the CPU. accumulate: micro-batches of an update."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        accumulate_grad_batches=accumulate,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
    )
