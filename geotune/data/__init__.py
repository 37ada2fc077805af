"""From samples on disk to the batches of a run."""
