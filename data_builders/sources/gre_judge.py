"""A model's own predictions -> judge samples: a photo, what the model said of it, right or wrong.

Closes the loop to the first stage of GRE's reinforcement learning (RL-I, arXiv 2505.18700).
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
from geotune.data.building import ensure_dataset
from geotune.errors import BadRecord, ConfigError
from geotune.geo import haversine_km
from geotune.records import iter_json, read_samples
from geotune.sample import Sample, Turn
from geotune.system.images import resolve_image
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.coordinates import Coordinates, parse_coordinates
from geotune.tasks.geolocate import GEOLOCATE
from geotune.tasks.judge import JUDGE

_TAG = re.compile(r"<\s?/?\s?(?:think(?:ing)?|answer)\s?>", re.IGNORECASE)
_FIELDS = ("id", "task", "place", "source", "gold", "raw")


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
    """Builder of judge samples: as many right predictions as wrong ones, drawn by seed.

    A prediction is right when its coordinates lie within `threshold_km` of the truth. Predictions without an answer
    can't be judged and are counted. The same predictions, in any order, give the same samples.

    Raises:
        ConfigError: predictions that are not there, hold no truth or answer another task; photos
            that the dataset lacks; predictions that are all right or all wrong.
    """

    version: ClassVar[int] = 1

    predictions: Path
    """A run's predictions/step_<N>.jsonl, made on a dataset of the task geolocate."""
    data: str
    """The dataset that the predictions were made on: a .jsonl or .json file, or the folder of a built dataset."""
    threshold_km: float = 25.0
    """Up to this distance a prediction counts as right."""
    reasoning: bool = True
    """Whether the judge sees what the model said before its answer."""
    suite: str | None = None
    """Which suite's predictions to take; null: all that answer geolocate, the others are counted."""
    samples: int | None = None
    """At most this many samples, half of them right; null: as many as balance allows."""
    seed: int = 0
    """Of the choice of predictions."""

    def __post_init__(self) -> None:
        self.predictions = Path(self.predictions)
        if not self.predictions.is_file():
            raise ConfigError(
                f"predictions={self.predictions}: there is no such file; name a predictions/step_<N>.jsonl"
            )
        if not self.threshold_km > 0:
            raise ConfigError(f"threshold_km={self.threshold_km}: must be positive")
        if self.samples is not None and self.samples < 2:
            raise ConfigError(f"samples={self.samples}: ask for at least 2, one right and one wrong")

    def build(self, writer: DatasetWriter) -> None:
        """Write the balanced samples and count what became of every prediction."""
        counts: Counter[str] = Counter()
        judged: dict[bool, list[_Judged]] = {True: [], False: []}
        for prediction in self._read(counts):
            judged[prediction.correct].append(prediction)
        counts |= Counter({"correct": len(judged[True]), "incorrect": len(judged[False])})
        half = min(len(judged[True]), len(judged[False]))
        if not half:
            raise ConfigError(
                f"threshold_km={self.threshold_km}: {len(judged[True])} predictions are right and {len(judged[False])} "
                "wrong, so nothing balances; choose another threshold_km or other predictions"
            )
        half = half if self.samples is None else min(half, self.samples // 2)
        chosen = [item for verdict in (True, False) for item in sorted(judged[verdict], key=self._order)[:half]]
        photos = self._photos({item.id for item in chosen})
        numbers: Counter[str] = Counter()
        # Right and wrong mixed, in an order that says nothing of the verdict.
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
        """A rank that depends on the seed and on the prediction alone, so that the file's order does not matter."""
        return hashlib.blake2b(f"{self.seed}/{item.id}/{item.raw}".encode(errors="replace"), digest_size=16).digest()

    def _read(self, counts: Counter[str]) -> Iterator[_Judged]:
        """Every prediction that can be judged."""
        for where, record in iter_json(self.predictions, ".jsonl"):
            if isinstance(record, BadRecord):
                raise ConfigError(f"predictions={where}: not a prediction ({record.reason}); mend or remove the line")
            self._check(record, where)
            counts["read"] += 1
            if self.suite is not None and record.get("suite") != self.suite:
                counts["of_other_suites"] += 1
                continue
            if record["task"] != GEOLOCATE.name:
                raise ConfigError(
                    f"predictions={where}: answers the task {record['task']!r}, and only {GEOLOCATE.name} can be "
                    "judged by distance; choose the suite with suite=, or other predictions"
                )
            gold = parse_coordinates(record["gold"])
            if not isinstance(gold, Coordinates):
                raise ConfigError(
                    f"predictions={where}: {record['id']} has no true coordinates ({gold}); predict on "
                    "a dataset with truth"
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
            raise ConfigError(f"predictions={self.predictions}: holds no prediction{self._of_suite}")

    @property
    def _of_suite(self) -> str:
        return "" if self.suite is None else f" of the suite {self.suite!r}"

    def _check(self, record: dict[str, Any], where: str) -> None:
        for key in _FIELDS:
            if not isinstance(record.get(key), str):
                raise ConfigError(
                    f"predictions={where}: not a prediction, {key}={record.get(key)!r:.60}; "
                    "name a file that an evaluation wrote"
                )

    def _photos(self, wanted: set[str]) -> dict[str, str]:
        """The photo of each sample by its id."""
        path = ensure_dataset(self.data, None, key="data")
        photos: dict[str, str] = {}
        try:
            for sample in read_samples(path):
                if sample.id in wanted and sample.images:
                    photos[sample.id] = str(resolve_image(path.parent, sample.images[0]).absolute())
        except BadRecord as error:
            raise ConfigError(f"data={path}: {error}; mend or rebuild the dataset") from error
        if missing := sorted(wanted - photos.keys()):
            raise ConfigError(
                f"data={path}: lacks {len(missing)} of the predicted samples ({', '.join(missing[:3])}, ...); "
                "name the dataset that the predictions were made on"
            )
        return photos

    def _sample(self, item: _Judged, photo: str, number: int) -> Sample:
        verdict = "true" if item.correct else "false"
        reasoning = _TAG.sub("", GEOLOCATE.answer_prefix(item.raw)).strip() if self.reasoning else ""
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
