"""One answer to one question, and its file: JSON lines keyed by suite and sample id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geotune.system.files import open_atomically
from geotune.system.strict_json import finite


@dataclass(frozen=True, slots=True)
class Prediction:
    suite: str
    id: str
    """Of the sample."""
    task: str
    place: str
    source: str
    gold: str
    raw: str
    """What the answerer said; where legal answers were scored, the best one after the explanation if any."""
    answer: str | None
    """The parsed answer in the task's canonical form, or None."""
    reason: str | None
    """Why there is no answer, or None."""
    score: float
    """In [0, 1]; 0 when there is no answer."""
    option_logprobs: tuple[float | None, ...] | None = None
    """Where legal answers were scored: the log-probability of each, in the task's order; None for a non-finite one."""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one JSON line for each prediction; the file appears complete or not at all."""
    with open_atomically(path) as file:
        for prediction in predictions:
            record = {name: getattr(prediction, name) for name in Prediction.__slots__}
            if prediction.option_logprobs is None:
                del record["option_logprobs"]
            # ASCII keeps what a model may say in a line: line separators and lone surrogates.
            file.write(json.dumps(finite(record), allow_nan=False) + "\n")


def read_predictions(path: Path) -> Iterator[Prediction]:
    """The predictions of a file in its order; raises ValueError with file and line for a broken one."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                logprobs = record.pop("option_logprobs", None)
                yield Prediction(**record, option_logprobs=None if logprobs is None else tuple(logprobs))
            except (TypeError, AttributeError, ValueError) as error:
                raise ValueError(f"{path}:{number}: not a prediction: {error}") from error
