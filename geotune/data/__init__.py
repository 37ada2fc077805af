"""Loads samples from disk and groups them into the micro-batches of a training run."""
