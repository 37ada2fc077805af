"""What a build learns of its records as they pass: counts, and a sample of them, whatever their number.

Records say what the audit asks for in `meta`: `lat` and `lon` (degrees) of the photo, `capture_time` of the photo and
`map_time` of its map (YYYY, YYYY-MM or YYYY-MM-DD), `map_scales` (a word per map: zoom18). Each may be missing.
"""

from __future__ import annotations

import heapq
import json
import re
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_builders.audit.rules import FOLDS, fold_of
from geotune.sample import Sample
from geotune.system.digests import digest64
from geotune.tasks import TASKS

PER_GROUP = 240
"""Questions of a task and source that are looked at closely."""
POINTS = 4000
"""Places on the map."""
CLOSED = 16
"""A task that geotune does not know and that has more different answers than this has no options to choose from."""
_COORDINATES = re.compile(r"(-?\d+\.\d+),(-?\d+\.\d+)$")
"""How a place ends, by contract."""
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?")


@dataclass(frozen=True)
class Looked:
    """A question that is looked at closely."""

    sample: Sample
    meta: dict[str, Any]

    @property
    def point(self) -> tuple[float, float] | None:
        """(lat, lon) of the photo, where the record says them."""
        return _point(self.sample, self.meta)


@dataclass(frozen=True)
class ScaleTable:
    """Counts of questions by the scales of their maps."""

    maps: int
    """How many maps a question shows."""
    counts: np.ndarray
    """(fold, scales, answer)."""


class Smallest:
    """The `size` items whose keys are smallest: a sample that depends neither on order nor on how it was come by."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held: list[tuple[int, Any]] = []
        self._keys: set[int] = set()

    def wants(self, key: int) -> bool:
        """Whether an item of this key would be kept."""
        return key not in self._keys and (len(self._held) < self.size or -key > self._held[0][0])

    def add(self, key: int, item: Any) -> None:
        """Keep an item that is wanted."""
        if len(self._held) >= self.size:
            gone, _ = heapq.heapreplace(self._held, (-key, item))
            self._keys.discard(-gone)
        else:
            heapq.heappush(self._held, (-key, item))
        self._keys.add(key)

    @property
    def items(self) -> list[Any]:
        """By key."""
        return [item for _, item in sorted(self._held, key=lambda entry: -entry[0])]


class Survey:
    """Counts of the records of a build; memory does not grow with them but by some 30 bytes each."""

    def __init__(self) -> None:
        self.tasks: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)
        """By task; of a task with an open answer, the first few."""
        self.open: set[str] = set()
        """Tasks whose answers are no options."""
        self.scales: Counter[tuple[str, str, int, str, str]] = Counter()
        """(task, source, fold, scales of the maps, answer)."""
        self.gaps: Counter[int] = Counter()
        """Months from the photo to its map, or back."""
        self._looked: dict[tuple[str, str], Smallest] = defaultdict(lambda: Smallest(PER_GROUP))
        self._points = Smallest(POINTS)
        self._questions = array("Q")
        self._answered = array("Q")
        self._places = array("Q")
        self._place = ""

    def add(self, sample: Sample) -> None:
        """Count one record."""
        meta = json.loads(sample.meta)
        self.tasks[sample.task] += 1
        self.sources[sample.source] += 1
        answers = self.answers[sample.task]
        if sample.answer in answers or len(answers) < CLOSED:
            answers[sample.answer] += 1
        elif not self.options(sample.task):
            self.open.add(sample.task)
        question = digest64("\0".join((*sample.images, sample.prompt)))
        self._questions.append(question)
        self._answered.append(digest64(f"{question}\0{sample.response}"))
        if sample.place != self._place:
            self._place = sample.place
            key = digest64(sample.place)
            self._places.append(key)
            if (point := _point(sample, meta)) is not None and self._points.wants(key):
                self._points.add(key, (*point, sample.source))
        if scales := meta.get("map_scales"):
            key_of = (sample.task, sample.source, fold_of(sample.place or sample.id))
            self.scales[(*key_of, " ".join(map(str, scales)), sample.answer)] += 1
        if (gap := _months(meta.get("map_time"), meta.get("capture_time"))) is not None:
            self.gaps[gap] += 1
        chosen = self._looked[sample.task, sample.source]
        key = digest64(sample.id)
        if chosen.wants(key):
            chosen.add(key, Looked(sample, meta))

    @staticmethod
    def options(task: str) -> tuple[str, ...]:
        """The legal answers of a task that has such."""
        return TASKS[task].options if task in TASKS else ()

    def options_of(self, task: str) -> list[str]:
        """Answers to choose from: the legal ones, else those that were given; none of an open task."""
        if task in self.open or (task in TASKS and not self.options(task)):
            return []
        return sorted({*self.options(task), *self.answers[task]})

    @property
    def looked(self) -> dict[tuple[str, str], list[Looked]]:
        """By task and source, the questions that are looked at closely."""
        return {group: chosen.items for group, chosen in sorted(self._looked.items())}

    @property
    def points(self) -> list[tuple[float, float, str]]:
        """(lat, lon, source) of places, some thousands at most."""
        return self._points.items

    @property
    def n_places(self) -> int:
        """Different places."""
        return len(np.unique(np.frombuffer(self._places, np.uint64))) if self._places else 0

    def duplicates(self) -> dict[str, int]:
        """Questions (the same images and words) that stand there before, and those of them with another answer."""
        if not self._questions:
            return {"repeated_questions": 0, "contradictions": 0}
        asked = len(np.unique(np.frombuffer(self._questions, np.uint64)))
        answered = len(np.unique(np.frombuffer(self._answered, np.uint64)))
        return {"repeated_questions": len(self._questions) - asked, "contradictions": answered - asked}

    def scale_tables(self) -> dict[tuple[str, str], ScaleTable]:
        """By task and source, the questions whose maps say a scale."""
        tables: dict[tuple[str, str], Counter[tuple[int, str, str]]] = defaultdict(Counter)
        for (task, source, fold, scale, answer), count in self.scales.items():
            if self.options_of(task):
                tables[task, source][fold, scale, answer] += count
        found = {}
        for group, counts in sorted(tables.items()):
            options = self.options_of(group[0])
            values = sorted({scale for _, scale, _ in counts})
            table = np.zeros((FOLDS, len(values), len(options)))
            for (fold, scale, answer), count in counts.items():
                table[fold, values.index(scale), options.index(answer)] += count
            found[group] = ScaleTable(max(len(value.split()) for value in values), table)
        return found


def _point(sample: Sample, meta: dict[str, Any]) -> tuple[float, float] | None:
    lat, lon = meta.get("lat"), meta.get("lon")
    if isinstance(lat, int | float) and isinstance(lon, int | float):
        return float(lat), float(lon)
    found = _COORDINATES.search(sample.place)
    return (float(found[1]), float(found[2])) if found else None


def _months(map_time: Any, capture_time: Any) -> int | None:
    """Months between two dates; a year alone is its middle."""
    found = [_DATE.match(value) if isinstance(value, str) else None for value in (map_time, capture_time)]
    if found[0] is None or found[1] is None:
        return None
    there, here = (int(date[1]) * 12 + int(date[2] or 6) for date in (found[0], found[1]))
    return there - here
