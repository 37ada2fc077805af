"""The interface of a suite, and the base of suites that read their samples from a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eval.suites.subset import balanced_subset
from geotune.config.options import Options
from geotune.config.rules import at_least, is_builder
from geotune.data.building import ensure_dataset
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.records import read_samples
from geotune.runs.predictions import Prediction
from geotune.sample import Sample
from geotune.system.images import resolve_image
from geotune.tasks import Task, get_task


class Suite(Protocol):
    """A benchmark: it loads samples, and computes figures from the predictions on them."""

    def load(self, key: str) -> list[Sample]:
        """Load the questions, task by task, with absolute image paths.

        key: position of the suite in the config, for error messages. Raises ConfigError.
        """
        ...

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Compute the suite's entry in an evaluation's JSON from at least one prediction."""
        ...


@dataclass(kw_only=True)
class DatasetSuite(Options):
    """Loads the samples of some tasks from one dataset of sharegpt records."""

    path: str
    """Dataset: a .jsonl or .json file, or the folder of a built dataset."""
    build: dict[str, Any] | None = None
    """Builder (`_target_` and its fields) that makes the dataset if it is missing or if the builder's fields change."""
    samples_per_task: int | None = None
    """Number of questions per task, balanced over gold answers and spread over places; null: all."""
    seed: int = 0
    """Seed of the choice of questions."""

    def check(self) -> Iterator[Problem]:
        remedy = "ask at least 1 question per task, or set null for all"
        yield from at_least("samples_per_task", self.samples_per_task, 1, remedy)
        yield from is_builder("build", self.build)

    def load_tasks(self, tasks: Sequence[str], key: str) -> list[Sample]:
        """Load the chosen samples of `tasks`, in that order, with absolute image paths; raises ConfigError."""
        path = ensure_dataset(self.path, self.build, key=f"{key}.path")
        by_task: dict[str, list[Sample]] = {name: [] for name in tasks}
        try:
            for sample in read_samples(path):
                if sample.task in by_task:
                    self.check_gold(sample, get_task(sample.task), f"{key}.path={path}")
                    by_task[sample.task].append(sample)
            chosen = [sample for name in tasks for sample in self._subset(by_task[name], get_task(name))]
            _check_images(chosen, path.parent)
            chosen = [sample.in_folder(path.parent.absolute()) for sample in chosen]
        except BadRecord as error:
            raise ConfigError(Problem(f"{key}.path", path, str(error), "fix or rebuild the dataset")) from error
        except OSError as error:
            raise ConfigError(Problem(f"{key}.path", path, f"can't be read ({error.strerror or error})")) from error
        if not chosen:
            raise ConfigError(
                Problem(
                    f"{key}.path", path, f"holds no sample of {', '.join(tasks)}", "choose another dataset or tasks"
                )
            )
        return chosen

    def check_gold(self, sample: Sample, task: Task, where: str) -> None:
        """Raise ConfigError if the task cannot score the gold answer."""
        if task.options and sample.answer not in task.options:
            raise ConfigError(
                f"{where}: {sample.id} has the gold answer {sample.answer!r}; "
                f"{task.name} knows {', '.join(task.options)}; rebuild the dataset"
            )

    def _subset(self, samples: list[Sample], task: Task) -> list[Sample]:
        """Choose `samples_per_task` samples of one task, sorted by their images."""
        n = len(samples) if self.samples_per_task is None else self.samples_per_task
        subset = balanced_subset(samples, n, self.seed, balance=bool(task.options))
        # Questions about the same images stand side by side, because a backbone encodes an image once per batch.
        return sorted(subset, key=lambda sample: (sample.images, sample.id))


def _check_images(samples: Sequence[Sample], folder: Path) -> None:
    """Raise BadRecord for the first image that leaves the dataset's `folder` by a relative name, or does not exist."""
    checked: set[str] = set()
    for sample in samples:
        for name in sample.images:
            if name in checked:
                continue
            try:
                path = resolve_image(folder, name)
            except BadRecord as error:
                raise error.at("", sample.id) from None
            if not path.is_file():
                raise BadRecord(sample.id, f"the image {path.absolute()} does not exist")
            checked.add(name)
