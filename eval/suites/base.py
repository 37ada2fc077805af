"""The interface of a suite, and the base of suites that read their samples from a dataset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast, get_args

from eval.suites.subset import balanced_subset
from geotune.config.options import Options
from geotune.config.parts import AnswerMode
from geotune.config.rules import at_least, is_builder
from geotune.data.building import ensure_dataset
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.records import read_samples
from geotune.runs.predictions import Prediction
from geotune.runs.suite_results import SuiteResult
from geotune.sample import Sample
from geotune.system.image_names import missing_image
from geotune.system.images import resolve_image
from geotune.tasks import Task, get_task

log = logging.getLogger(__name__)

ANSWER_MODES: tuple[AnswerMode, ...] = get_args(AnswerMode)
"""Ways to answer a question; `eval.evaluator.Evaluator` says what they mean."""


class Suite(Protocol):
    """A benchmark: it loads samples, and measures the predictions on them.

    `eval.suites.conformance.check_suite` checks a suite of your own against this contract. A suite may have two more
    attributes, both None unless it sets them (`DrawingSuite` says what a suite with draws has beside them):

    - `headline`: name below the suite of the figure that stands for it as a whole, as `mean_accuracy`. The headline of
      a recipe's first suite decides which checkpoint is the best, and is the default metric of a sweep. Set it on the
      class, so that it is known before anything is measured.
    - `answer_mode`: one of `ANSWER_MODES`, for a suite that is not asked in the evaluator's mode.
    """

    def load(self, key: str) -> list[Sample]:
        """Load at least one question, task by task, with unique ids, gold answers and absolute image paths.

        The questions and their order are the same each time. key: position of the suite in the config, for error
        messages. Raises ConfigError for a mistake of the user.
        """
        ...

    def measure(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> SuiteResult:
        """Measure the answers to questions of this suite.

        A pure function: it changes nothing, reads no files, draws no random numbers, and gives the same result for
        the same arguments and for the pairs of them in any order. The kind, the headline and the columns never change.
        A prediction without an answer (its text could not be read, or the question was never answered) counts as
        wrong and stays in every denominator. A figure that has no value, such as an accuracy over no answers, is None,
        never NaN or infinite; `SuiteResult` says what else the figures and rows must be.

        samples: at least one of those that `load` gave. predictions: one for each sample, in the order of `samples`.
        """
        ...


class DrawingSuite(Suite, Protocol):
    """A suite that measures drawn answers beside the greedy one.

    A suite without the attribute `draws`, or with `draws` = 0, is asked greedily alone, and its `measure` gets two
    arguments. Otherwise each question is asked once more per draw, whatever the answer mode, and has a text read by its
    task. The random numbers of a draw are a function of the suite's attribute `seed` (0 unless it has one), the id of
    the sample and the number of the draw.
    """

    draws: int
    """Answers to draw for each question; 0 for none."""
    draw_temperature: float
    """Temperature of the draws, above 0."""

    def measure(
        self,
        samples: Sequence[Sample],
        predictions: Sequence[Prediction],
        draws: Sequence[Sequence[Prediction]] = (),
    ) -> SuiteResult:
        """Measure the answers as `Suite.measure` does.

        predictions: the greedy answers. draws: for each sample the predictions of its draws, the repeats 1 to `draws`,
        in the order of `samples`; empty without draws.
        """
        ...


def measured_by(
    suite: Suite,
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    draws: Sequence[Sequence[Prediction]] = (),
) -> SuiteResult:
    """Have a suite measure predictions, with the draws for each sample if it has any.

    A function of its arguments alone, so that the same outcomes give the same figures at any time:
    `geotune.runs.reading` makes predictions and draws of outcomes.
    """
    if not draw_count(suite):
        return suite.measure(samples, predictions)
    return cast(DrawingSuite, suite).measure(samples, predictions, draws)


def draw_count(suite: Suite) -> int:
    """Return how many answers a suite has drawn for each question, beside the greedy one."""
    return int(getattr(suite, "draws", 0))


@dataclass(kw_only=True)
class DatasetSuite(Options):
    """Loads the samples of some tasks from one dataset of sharegpt records."""

    path: str
    """Dataset: a .jsonl or .json file, or the folder of a built dataset."""
    build: dict[str, Any] | None = None
    """Builder (`_target_` and its fields) that makes the dataset if it is missing; one that was built with other fields
    is refused, and build.overwrite=true replaces it."""
    samples_per_task: int | None = None
    """Number of questions per task, balanced over gold answers and spread over places; null: all."""
    seed: int = 0
    """Seed of the choice of questions."""
    answer_mode: AnswerMode | None = None
    """How answers are found: `generate`, `choice` or `explain_choice`; null: as the evaluator's `answer_mode` says."""
    headline: ClassVar[str | None] = None
    """Name of the figure that stands for the whole suite."""

    def check(self) -> Iterator[Problem]:
        remedy = "ask at least 1 question per task, or set null for all"
        yield from at_least("samples_per_task", self.samples_per_task, 1, remedy)
        yield from is_builder("build", self.build)

    def load_tasks(self, tasks: Sequence[str], key: str, *, needed: Sequence[str] = ()) -> list[Sample]:
        """Load the chosen samples of `tasks`, in that order, with absolute image paths, and log what is left out.

        needed: tasks of which there must be a sample. Raises ConfigError.
        """
        path = ensure_dataset(self.path, self.build, key=f"{key}.path")
        by_task: dict[str, list[Sample]] = {name: [] for name in tasks}
        others: Counter[str] = Counter()
        try:
            for sample in read_samples(path):
                if sample.task in by_task:
                    self.check_gold(sample, get_task(sample.task), f"{key}.path={path}")
                    by_task[sample.task].append(sample)
                else:
                    others[sample.task or "(no task)"] += 1
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
        if missing := [name for name in needed if not by_task[name]]:
            present = ", ".join(sorted({*others, *(name for name in tasks if by_task[name])}))
            text = f"{path} holds no sample of {', '.join(missing)}, only of {present}"
            raise ConfigError(Problem(f"{key}.tasks", list(needed), text, "leave these tasks out"))
        beyond = sum(map(len, by_task.values())) - len(chosen)
        left_out = [f"{beyond:,} beyond samples_per_task={self.samples_per_task}"] * bool(beyond)
        left_out += [f"{count:,} of {name}" for name, count in others.items()]
        if left_out:
            log.info("suite %s: not asked are %s", key.rpartition(".")[2], ", ".join(left_out))
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
                raise missing_image(path.absolute()).at("", sample.id)
            checked.add(name)
