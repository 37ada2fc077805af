"""A model's own predictions -> judge samples, which ask whether a prediction about a photo is right.

The samples serve the first stage of GRE's reinforcement learning (RL-I, arXiv 2505.18700).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_builders.builder import Builder
from data_builders.writer import DatasetWriter
from geotune.config.rules import at_least
from geotune.data.building import ensure_dataset
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.geo import haversine_km
from geotune.records import iter_json, read_samples
from geotune.sample import Sample, Turn
from geotune.system.images import resolve_image
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.coordinates import Coordinates, parse_coordinates
from geotune.tasks.geolocate import GEOLOCATE
from geotune.tasks.judge import JUDGE

_THOUGHT_TAG = re.compile(r"<\s?/?\s?(?:think(?:ing)?|answer)\s?>", re.IGNORECASE)
_TEXT_FIELDS = ("id", "task", "place", "source", "gold", "raw")


@dataclass(frozen=True, slots=True)
class _Judged:
    """One prediction with its verdict."""

    id: str
    place: str
    source: str
    raw: str
    answer: str
    distance_km: float
    correct: bool


@dataclass
class GreJudge(Builder):
    """Builder of judge samples from as many right predictions as wrong ones, drawn by a seed.

    A prediction is right if its coordinates lie within `threshold_km` of the truth. Predictions without an answer
    can't be judged, and those of draws are left out; the report counts both. The same predictions in any order give the
    same samples.

    Raises:
        ConfigError: The predictions do not exist, have no truth or answer another task; the dataset lacks their
            photos; all of them are right or all are wrong.
    """

    version: ClassVar[int] = 1
    """Increase it when the same settings would produce different records."""

    predictions: Path
    """File predictions/step_<N>.jsonl of a run, with predictions for the task geolocate."""
    data: str
    """Dataset that the predictions were made on: a .jsonl or .json file, or the folder of a built dataset."""
    threshold_km: float = 25.0
    """Largest distance to the truth in km at which a prediction counts as right."""
    reasoning: bool = True
    """Whether the judge sees the reasoning that precedes the predicted answer."""
    suite: str | None = None
    """Suite whose predictions are used, others being skipped and counted; null: all, which must answer geolocate."""
    samples: int | None = None
    """Largest number of samples, half of them right; null: as many as can be balanced."""
    seed: int = 0
    """Seed of the draw of predictions."""

    def check(self) -> Iterator[Problem]:
        if not self.threshold_km > 0:
            yield Problem("threshold_km", self.threshold_km, "must be more than 0")
        yield from at_least("samples", self.samples, 2, "it takes one right and one wrong prediction")

    def check_inputs(self) -> Iterator[Problem]:
        if not self.predictions.is_file():
            remedy = "give a predictions/step_<N>.jsonl of a run"
            yield Problem("predictions", self.predictions, "there is no such file", remedy)

    def build(self, writer: DatasetWriter) -> None:
        """Write the balanced samples, and report how many predictions were right, wrong or not usable."""
        counts: Counter[str] = Counter()
        judged: dict[bool, list[_Judged]] = {True: [], False: []}
        for prediction in self._read(counts):
            judged[prediction.correct].append(prediction)
        counts |= Counter({"correct": len(judged[True]), "incorrect": len(judged[False])})
        half = min(len(judged[True]), len(judged[False]))
        if not half:
            raise ConfigError(
                Problem(
                    "threshold_km",
                    self.threshold_km,
                    f"{len(judged[True])} predictions are right and {len(judged[False])} wrong, so they can't be "
                    "balanced",
                    "choose another threshold_km or other predictions",
                )
            )
        half = half if self.samples is None else min(half, self.samples // 2)
        chosen = [item for verdict in (True, False) for item in sorted(judged[verdict], key=self._order)[:half]]
        photos = self._photos({item.id for item in chosen})
        numbers: Counter[str] = Counter()
        # Right and wrong predictions are mixed: the order must not tell the verdict.
        for item in sorted(chosen, key=lambda item: (item.id, self._order(item))):
            sample = self._sample(item, photos[item.id], numbers[item.id])
            numbers[item.id] += 1
            try:
                writer.write(sample)
            except BadRecord as error:
                writer.reject(sample.id, "invalid_record", error.reason)
        writer.audit["predictions"] = {**dict(sorted(counts.items())), "threshold_km": self.threshold_km}
        distances = sorted(item.distance_km for verdict in judged for item in judged[verdict])
        writer.audit["distance_km"] = {
            f"p{share}": round(distances[min(len(distances) * share // 100, len(distances) - 1)], 3)
            for share in (10, 25, 50, 75, 90)
        }

    def _order(self, item: _Judged) -> bytes:
        """A sort key that depends only on the seed and the prediction, so that the file's order does not matter."""
        return hashlib.blake2b(f"{self.seed}/{item.id}/{item.raw}".encode(errors="replace"), digest_size=16).digest()

    def _read(self, counts: Counter[str]) -> Iterator[_Judged]:
        """Every prediction that can be judged, with its verdict; the others are added to `counts`."""
        for where, record in iter_json(self.predictions, ".jsonl"):
            if isinstance(record, BadRecord):
                raise ConfigError(
                    Problem("predictions", where, f"not a prediction ({record.reason})", "fix or remove the line")
                )
            self._check(record, where)
            counts["read"] += 1
            if self.suite is not None and record.get("suite") != self.suite:
                counts["of_other_suites"] += 1
                continue
            if record.get("repeat", 0) != 0:
                counts["draws"] += 1
                continue
            if record["task"] != GEOLOCATE.name:
                raise ConfigError(
                    Problem(
                        "predictions",
                        where,
                        f"it answers the task {record['task']!r}, but only {GEOLOCATE.name} can be judged by distance",
                        "choose a suite with suite=, or other predictions",
                    )
                )
            gold = parse_coordinates(record["gold"])
            if not isinstance(gold, Coordinates):
                raise ConfigError(
                    Problem(
                        "predictions",
                        where,
                        f"{record['id']} has no true coordinates ({gold})",
                        "make the predictions on a dataset that has them",
                    )
                )
            answer = parse_coordinates(record["answer"]) if isinstance(record.get("answer"), str) else None
            if not isinstance(answer, Coordinates):
                counts["no_answer"] += 1
                continue
            distance = float(haversine_km(answer.lat, answer.lon, gold.lat, gold.lon))
            yield _Judged(
                record["id"],
                record["place"],
                record["source"],
                record["raw"],
                record["answer"],
                distance,
                distance <= self.threshold_km,
            )
        if not counts["read"] - counts["of_other_suites"]:
            of_suite = "" if self.suite is None else f" of the suite {self.suite!r}"
            raise ConfigError(
                Problem("predictions", self.predictions, f"the file has no prediction{of_suite}", "give another file")
            )

    def _check(self, record: dict[str, Any], where: str) -> None:
        """Raise ConfigError if a record lacks a field of predictions."""
        for key in _TEXT_FIELDS:
            if not isinstance(record.get(key), str):
                raise ConfigError(
                    Problem(
                        "predictions",
                        where,
                        f"not a prediction, {key}={record.get(key)!r:.60}",
                        "give a file that an evaluation wrote",
                    )
                )

    def _photos(self, wanted: set[str]) -> dict[str, str]:
        """Paths of the photos of the samples `wanted`, by the samples' ids."""
        path = ensure_dataset(self.data, None, key="data")
        photos: dict[str, str] = {}
        try:
            for sample in read_samples(path):
                if sample.id in wanted and sample.images:
                    photos[sample.id] = str(resolve_image(path.parent, sample.images[0]).absolute())
        except BadRecord as error:
            raise ConfigError(Problem("data", path, str(error), "fix or rebuild the dataset")) from error
        if missing := sorted(wanted - photos.keys()):
            raise ConfigError(
                Problem(
                    "data",
                    path,
                    f"it lacks {len(missing)} of the predicted samples ({', '.join(missing[:3])}, ...)",
                    "give the dataset that the predictions were made on",
                )
            )
        return photos

    def _sample(self, item: _Judged, photo: str, number: int) -> Sample:
        """The sample of one prediction; `number` distinguishes the predictions for one photo."""
        verdict = "true" if item.correct else "false"
        reasoning = _THOUGHT_TAG.sub("", GEOLOCATE.answer_prefix(item.raw)).strip() if self.reasoning else ""
        meta = {
            "predicted_answer": item.answer,
            "distance_km": round(item.distance_km, 3),
            "threshold_km": self.threshold_km,
            "predictions": self.predictions.name,
        }
        return Sample(
            id=f"gre_judge/{self.predictions.stem}/{item.id}/judge/{number}",
            images=(photo,),
            turns=(
                Turn("user", JUDGE.prompt(explain=False, reasoning=reasoning, predicted=item.answer)),
                Turn("assistant", JUDGE.target(verdict)),
            ),
            system=SYSTEM_PROMPT,
            task=JUDGE.name,
            answer=verdict,
            source=item.source,
            place=item.place,
            meta=json.dumps(meta),
        )
