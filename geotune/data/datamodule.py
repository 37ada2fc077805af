"""The data of a run: built when it is not there, loaded, and dealt out in updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from geotune.backbones.rendering import Encoder
from geotune.data.building import ensure_dataset
from geotune.data.collate import Batch
from geotune.data.dataset import SampleDataset, load_dataset
from geotune.data.sampler import Plan, UpdateSampler
from geotune.errors import ConfigError


def _as_it_is(batch: Any) -> Any:
    return batch


class GeoData(LightningDataModule):
    """Training samples, in updates that depend on seed and position alone.

    Args: see `geotune.config.DataConfig`.
    """

    dataset: SampleDataset
    """Set by `load`."""

    def __init__(
        self,
        path: str,
        batch_size: int,
        build: dict[str, Any] | None = None,
        num_workers: int = 0,
        tasks: Sequence[str] | None = None,
        limit: int | None = None,
        max_length: int = 4096,
        max_image_pixels: int = 50_000_000,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"data.batch_size={batch_size}: must be at least 1")
        self.path = path
        self.batch_size = batch_size
        self.build = build
        self.num_workers = num_workers
        self.tasks = tasks
        self.limit = limit
        self.max_length = max_length
        self.max_image_pixels = max_image_pixels
        self.seed = 0
        self.start = 0
        """First update of this process, from 0; above 0 when a run is resumed."""
        self.stop = 0
        """Update to stop before."""

    def load(self, encoder: Encoder, *, seed: int) -> SampleDataset:
        """Build what is missing, read and check everything, once. Raises ConfigError."""
        self.seed = seed
        self.dataset = load_dataset(
            ensure_dataset(self.path, self.build, key="data.path"),
            encoder,
            tasks=self.tasks,
            limit=self.limit,
            seed=seed,
            max_length=self.max_length,
            max_image_pixels=self.max_image_pixels,
        )
        return self.dataset

    def plan(self, *, accumulate: int, ranks: int) -> Plan:
        """How this data is dealt out."""
        lengths, targets = self.dataset.lengths.tolist(), self.dataset.targets.tolist()
        return Plan(lengths, targets, self.batch_size, accumulate, ranks, self.seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """The micro-batches of this rank, each a whole `Batch`."""
        assert self.trainer is not None
        plan = self.plan(accumulate=self.trainer.accumulate_grad_batches, ranks=self.trainer.world_size)
        sampler = UpdateSampler(plan, rank=self.trainer.global_rank, start=self.start, stop=self.stop)
        return DataLoader(
            self.dataset,
            sampler=sampler,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            # Its own generator: starting a loader must not move the run's random state.
            generator=torch.Generator().manual_seed(self.seed),
        )
