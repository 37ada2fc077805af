"""Predictions, and the JSON-lines file that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geotune.system.files import open_atomically
from geotune.system.strict_json import finite


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one sample of a suite, as its task reads and scores it."""

    suite: str
    id: str
    """Id of the sample."""
    task: str
    place: str
    source: str
    gold: str
    raw: str
    """Text of the answer; if the legal answers were scored, the explanation (if any) and the best legal answer."""
    answer: str | None
    """Parsed answer in the task's canonical form; None if the text holds no answer."""
    reason: str | None
    """Reason why there is no parsed answer; None if there is an answer."""
    score: float
    """Score in [0, 1]; 0 if there is no answer."""
    option_logprobs: tuple[float | None, ...] | None = None
    """Log-probability of each legal answer in the task's order, if they were scored; None if it is not finite."""
    repeat: int = 0
    """Number of the draw; 0 is the greedy answer, which gives every headline figure."""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one JSON line per prediction; the file appears complete or not at all."""
    with open_atomically(path) as file:
        for prediction in predictions:
            record = {name: getattr(prediction, name) for name in Prediction.__slots__}
            if prediction.option_logprobs is None:
                del record["option_logprobs"]
            if prediction.repeat == 0:
                del record["repeat"]
            # Escaped to ASCII, line separators and lone surrogates of a model's text can't break the line.
            file.write(json.dumps(finite(record), allow_nan=False) + "\n")


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Yield the predictions of a file in order. Raises ValueError, with file and line, at a broken line."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                logprobs = record.pop("option_logprobs", None)
                yield Prediction(**record, option_logprobs=None if logprobs is None else tuple(logprobs))
            except (TypeError, AttributeError, ValueError) as error:
                raise ValueError(f"{path}:{number}: not a prediction: {error}") from error
