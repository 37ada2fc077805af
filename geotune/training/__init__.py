"""Everything around the training loop: trainer, strategies, checkpoints, evaluation, monitoring, and the summary."""
