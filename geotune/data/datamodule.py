"""The data of a run: what a recipe says of it, and the Lightning data module that serves each rank's micro-batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from geotune.data.building import ensure_dataset
from geotune.data.dataset import SampleDataset, load_dataset, mix_datasets
from geotune.data.row_plan import RowPlan
from geotune.data.sampler import MicroBatch, UpdatePlan, UpdateSampler
from geotune.data.tree_plan import TreePlan
from geotune.encoding.collate import Batch
from geotune.encoding.encoder import Encoder
from geotune.errors import ConfigError, Problem, as_typed


def _identity(batch: Any) -> Any:
    return batch


class _Reporting(Dataset[Batch | ConfigError]):
    """A dataset that returns a mistake of the user instead of raising it.

    The loader would wrap an error of a worker process in the text of its traceback.
    """

    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, micro: MicroBatch) -> Batch | ConfigError:
        try:
            return self.dataset[micro]
        except ConfigError as error:
            return error


class GeoData:
    """The settings of the training samples: `load` makes the training set, `plan` its updates.

    The samples of an update depend on the data, these settings, the seed and the update's number alone. See
    `geotune.config.parts.DataConfig` for the arguments. Raises ConfigError for a setting that is out of range.
    """

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
        max_bad_samples: int = 10,
        prefix_tree: bool = True,
        group_size: int = 13,
        max_tokens: int | None = None,
        max_images: int | None = None,
        mix: dict[str, float] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(Problem("data.batch_size", batch_size, "must be at least 1"))
        for key, value in (("group_size", group_size), ("max_tokens", max_tokens), ("max_images", max_images)):
            if value is not None and value < 1:
                raise ConfigError(Problem(f"data.{key}", value, "must be at least 1"))
            if key != "group_size" and value is not None and not prefix_tree:
                raise ConfigError(
                    Problem(f"data.{key}", value, "needs data.prefix_tree=true", "without it set data.batch_size")
                )
        for other, weight in (mix or {}).items():
            if not 0 < weight < math.inf:
                raise ConfigError(
                    Problem(f"data.mix.{other}", weight, "give a weight above 0, or leave the dataset out")
                )
        self.path = path
        self.mix = mix or {}
        self.batch_size = batch_size
        self.build = build
        self.num_workers = num_workers
        self.tasks = tasks
        self.limit = limit
        self.max_length = max_length
        self.max_image_pixels = max_image_pixels
        self.max_bad_samples = max_bad_samples
        self.prefix_tree = prefix_tree
        self.group_size = group_size
        self.max_tokens = max_tokens
        self.max_images = max_images

    def load(self, encoder: Encoder, *, seed: int) -> SampleDataset:
        """Load and check all data, and build what is missing. Returns the training set.

        Raises ConfigError if data is missing, bad or empty.
        """
        first = self._load_file(ensure_dataset(self.path, self.build, key="data.path"), encoder, seed)
        others = [self._load_file(ensure_dataset(path, None, key="data.mix"), encoder, seed) for path in self.mix]
        return mix_datasets([first, *others], [1.0, *self.mix.values()]) if others else first

    def _load_file(self, file: Path, encoder: Encoder, seed: int) -> SampleDataset:
        return load_dataset(
            file,
            encoder,
            tasks=self.tasks,
            limit=self.limit,
            seed=seed,
            max_length=self.max_length,
            max_image_pixels=self.max_image_pixels,
            prefix_tree=self.prefix_tree,
        )

    @property
    def plan_name(self) -> str:
        """The settings of data that determine which samples an update holds; a resumed run must have the same."""
        limits = f", {self.group_size=}, {self.max_tokens=}, {self.max_images=}".replace("self.", "")
        return f"prefix_tree={as_typed(self.prefix_tree)}{limits if self.prefix_tree else ''}, tasks evenly"

    def plan(self, data: SampleDataset, *, seed: int, accumulate: int, ranks: int) -> UpdatePlan:
        """Return the plan of updates of a training set that `load` made.

        accumulate: micro-batches per update and rank. Raises ConfigError if a sample exceeds the limits on a
        micro-batch.
        """
        if not self.prefix_tree:
            return RowPlan(data.lengths, data.targets, self.batch_size, accumulate, ranks, seed, data.mix, data.tasks)
        return TreePlan(
            data.paths,
            data.sizes,
            data.is_image,
            data.targets,
            data.places,
            self.batch_size,
            accumulate,
            ranks,
            seed,
            self.group_size,
            self.max_tokens,
            self.max_images,
            data.mix,
            data.tasks,
        )


class TrainingData(LightningDataModule):
    """Serves the micro-batches of a run, of each rank its own.

    Args:
        dataset: The training set.
        plan: Its updates.
        seed: Seed of the run.
        start: The first update to serve, counted from 0; above 0 in a resumed run.
        stop: The update to stop before.
        num_workers: Number of worker processes that load images.
    """

    def __init__(
        self, dataset: SampleDataset, plan: UpdatePlan, *, seed: int, start: int, stop: int, num_workers: int
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.plan = plan
        self.seed = seed
        self.start = start
        self.stop = stop
        self.num_workers = num_workers

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raise the ConfigError that a data worker returned in place of a micro-batch."""
        if isinstance(batch, ConfigError):
            raise batch
        return batch

    def train_dataloader(self) -> DataLoader[Batch | ConfigError]:
        """Return the loader of this rank's micro-batches; each item is a collated `Batch`."""
        assert self.trainer is not None
        sampler = UpdateSampler(self.plan, rank=self.trainer.global_rank, start=self.start, stop=self.stop)
        return DataLoader(
            _Reporting(self.dataset),
            sampler=sampler,
            batch_size=None,
            collate_fn=_identity,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            # A generator of its own, so that starting the loader does not change the random state of the run.
            generator=torch.Generator().manual_seed(self.seed),
        )
