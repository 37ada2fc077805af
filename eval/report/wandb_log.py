"""Logging of an evaluation to Weights & Biases: figures on their own step axis, predictions with images, maps."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from geotune.runs.figures import logged_figures
from geotune.runs.predictions import Prediction
from geotune.sample import IMAGE_TAG, Sample
from geotune.system.images import load_image, side_by_side
from geotune.training.wandb_logger import files_beside

if TYPE_CHECKING:
    from pathlib import Path

    from wandb import Run, Table

STEP = "eval/step"
TABLE = "eval/predictions"
ROWS_PER_TASK = 4
"""Predictions in the table for each suite and task."""
LONGEST_TEXT = 2000
"""Largest number of characters of an answer in the table."""


def log_evaluation(run: Run, result: Mapping[str, Any], table: Table | None, maps: Mapping[str, Path]) -> None:
    """Log the figures of an evaluation as `eval/<name>`, with its table of predictions and its maps if there are any.

    Args:
        run: W&B run to log to.
        result: the evaluation, as in `eval/step_<N>.json`.
        table: the table of `prediction_table`.
        maps: PNG files by suite, logged as `eval/<suite>/map`.
    """
    import wandb

    content: dict[str, Any] = {f"eval/{name}": value for name, value in logged_figures(result).items()}
    content["eval/seconds"] = result["seconds"]
    if table is not None:
        content[TABLE] = table
    content |= {f"eval/{suite}/map": wandb.Image(str(path)) for suite, path in maps.items()}
    run.define_metric(STEP, hidden=True)
    # Define each name by itself: Lightning has defined "*" with its own step, and an exact name precedes a pattern.
    for name in content:
        run.define_metric(name, step_metric=STEP)
    with files_beside(run):
        run.log({STEP: result["step"], **content})


def prediction_table(samples: Mapping[str, Sequence[Sample]], predictions: Sequence[Prediction]) -> Table:
    """Make a table of `ROWS_PER_TASK` predictions per suite and task, about the same samples at every step."""
    import wandb

    by_id = {(suite, sample.id): sample for suite, members in samples.items() for sample in members}
    table = wandb.Table(columns=["suite", "task", "images", "question", "gold", "answer", "score", "said", "id"])
    for prediction in examples(predictions, ROWS_PER_TASK):
        sample = by_id[prediction.suite, prediction.id]
        image = wandb.Image(side_by_side([load_image(path) for path in sample.images]), file_type="jpg")
        answer = prediction.answer if prediction.answer is not None else f"({prediction.reason})"
        table.add_data(
            prediction.suite,
            prediction.task,
            image,
            sample.prompt.replace(IMAGE_TAG, "").strip(),
            prediction.gold,
            answer,
            prediction.score,
            prediction.raw[:LONGEST_TEXT],
            prediction.id,
        )
    return table


def examples(predictions: Sequence[Prediction], n: int) -> list[Prediction]:
    """Choose `n` greedy predictions of each suite and task, by the ids of their samples alone."""
    groups: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if prediction.repeat == 0:
            groups[prediction.suite, prediction.task].append(prediction)
    return [
        prediction
        for members in groups.values()
        for prediction in sorted(members, key=lambda p: hashlib.blake2b(p.id.encode()).digest())[:n]
    ]
