"""The data of a run: what a recipe says of it, and the Lightning data module that serves each rank's micro-batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from geotune.config.parts import DataConfig
from geotune.data.building import ensure_dataset
from geotune.data.dataset import SampleDataset, load_dataset, mix_datasets
from geotune.data.row_plan import RowPlan
from geotune.data.sample_file import SampleFile, check_tasks
from geotune.data.sampler import MicroBatch, UpdatePlan, UpdateSampler
from geotune.data.tree_plan import TreePlan
from geotune.encoding.collate import Batch
from geotune.encoding.encoder import Encoder
from geotune.errors import ConfigError, as_typed
from geotune.system.interruption import SIGNALS
from geotune.system.seeds import seed32

PROBED_UPDATES = 1000
"""Number of updates among whose micro-batches the longest is looked for."""


def _identity(batch: Any) -> Any:
    return batch


def _outlive_signals(in_use: Any, worker: int) -> None:
    """Have a worker leave signals to the main process, which may get them together with its workers.

    The main process finishes its update first. It ends its workers itself, if need be by SIGTERM.
    """

    def end(number: int, frame: Any) -> None:
        if not in_use.value:
            os._exit(0)

    for number in SIGNALS:
        signal.signal(number, end if number == signal.SIGTERM else signal.SIG_IGN)


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

    The samples of an update depend on the data, these settings, the seed and the update's number alone.
    """

    Config: ClassVar[type[DataConfig]] = DataConfig

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    def load(self, encoder: Encoder, *, seed: int) -> SampleDataset:
        """Load and check all data, and build what is missing. Returns the training set.

        Raises ConfigError if data is missing, bad or empty.
        """
        config = self.config
        files = [ensure_dataset(config.path, config.build, key="data.path")]
        files += [ensure_dataset(path, None, key="data.mix") for path in config.mix]
        check_tasks(config.tasks, [SampleFile(file) for file in files])
        parts = [load_dataset(file, encoder, config, seed=seed) for file in files]
        return mix_datasets(parts, [1.0, *config.mix.values()]) if config.mix else parts[0]

    @property
    def plan_name(self) -> str:
        """The settings of data that determine which samples an update holds; a resumed run must have the same."""
        config = self.config
        limits = ", ".join(f"{key}={getattr(config, key)}" for key in ("group_size", "max_tokens", "max_images"))
        return f"prefix_tree={as_typed(config.prefix_tree)}{f', {limits}' if config.prefix_tree else ''}, tasks evenly"

    def plan(self, data: SampleDataset, *, seed: int, accumulate: int, ranks: int) -> UpdatePlan:
        """Return the plan of updates of a training set that `load` made.

        accumulate: micro-batches per update and rank. Raises ConfigError if a sample exceeds the limits on a
        micro-batch.
        """
        config = self.config
        if not config.prefix_tree:
            return RowPlan(data.lengths, data.targets, config.batch_size, accumulate, ranks, seed, data.mix, data.tasks)
        return TreePlan(
            data.paths,
            data.sizes,
            data.is_image,
            data.targets,
            data.places,
            config.batch_size,
            accumulate,
            ranks,
            seed,
            config.group_size,
            config.max_tokens,
            config.max_images,
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
        self._in_use = torch.multiprocessing.get_context().Value("b", 0, lock=False)
        """1 while the workers of the loader are in use; they read it."""

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the workers of the loader outlive signals within the block, which may need them once more."""
        self._in_use.value = 1
        try:
            yield
        finally:
            self._in_use.value = 0

    def longest_batch(self, rank: int) -> Batch | None:
        """Return the micro-batch with the most tokens that a rank runs, among the first updates that are left.

        None: no update is left. The batch is for measuring memory, and is not always one that will be trained on.
        """
        micro_batch = self.longest_micro_batch(rank)
        return None if micro_batch is None else self.dataset[micro_batch]

    def longest_micro_batch(self, rank: int) -> MicroBatch | None:
        """Return the samples of the micro-batch of `longest_batch`."""
        updates = range(self.start, min(self.stop, self.start + PROBED_UPDATES))
        micro_batches = (each for number in updates for each in self.plan.micro_batches(number, rank))
        return max(micro_batches, key=lambda micro_batch: self.plan.tokens(micro_batch.indices), default=None)

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
            worker_init_fn=partial(_outlive_signals, self._in_use),
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            # A generator of its own, so that starting the loader does not change the random state of the run.
            generator=torch.Generator().manual_seed(seed32(self.seed)),
        )
