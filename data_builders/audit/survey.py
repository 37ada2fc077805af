"""Collects statistics of the samples of a build while they are written, in memory that barely grows with their number.

The audit reads these entries of a sample's `meta`, each of which may be missing: `lat` and `lon` of the photo in
degrees, `capture_time` of the photo and `map_time` of its map (YYYY, YYYY-MM or YYYY-MM-DD), and `map_scales` (a name
per map, such as zoom18).
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
from geotune.tasks import get_task, is_task

PER_GROUP = 240
"""Number of samples per task and source that the audit examines closely."""
MAX_POINTS = 4000
"""Largest number of places on the page's map."""
MAX_OPTIONS = 16
"""A task that geotune does not know counts as open-ended if it has more different answers than this."""
_COORDINATES = re.compile(r"(-?\d+\.\d+),(-?\d+\.\d+)$")
"""End of a place's name, as the record format defines it."""
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?")


@dataclass(frozen=True)
class AuditSample:
    """A sample that the audit examines closely, with its `meta` decoded."""

    sample: Sample
    meta: dict[str, Any]

    @property
    def point(self) -> tuple[float, float] | None:
        """(lat, lon) of the photo in degrees; None if the record does not have them."""
        return _point(self.sample, self.meta)


@dataclass(frozen=True)
class ScaleTable:
    """Counts of the questions of a task and source by the scales of their maps."""

    maps: int
    """Number of maps that a question shows."""
    counts: np.ndarray
    """Counts of shape (fold, scales, answer)."""


class BottomK:
    """A bottom-k sample: keeps the `size` items with the smallest keys, whatever the order in which they arrive."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._heap: list[tuple[int, Any]] = []
        self._keys: set[int] = set()

    def wants(self, key: int) -> bool:
        """Whether an item with this key would be kept."""
        return key not in self._keys and (len(self._heap) < self.size or -key > self._heap[0][0])

    def add(self, key: int, item: Any) -> None:
        """Keep an item whose key is wanted."""
        if len(self._heap) >= self.size:
            gone, _ = heapq.heapreplace(self._heap, (-key, item))
            self._keys.discard(-gone)
        else:
            heapq.heappush(self._heap, (-key, item))
        self._keys.add(key)

    @property
    def items(self) -> list[Any]:
        """The items, in the order of their keys."""
        return [item for _, item in sorted(self._heap, key=lambda entry: -entry[0])]


class Survey:
    """Statistics of the samples of a build; memory grows by about 30 bytes per sample.

    per_group: number of samples per task and source that the audit examines closely.
    """

    def __init__(self, per_group: int = PER_GROUP) -> None:
        self.tasks: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)
        """Counts of the answers by task; of an open-ended task, only the first different answers are counted."""
        self.open: set[str] = set()
        """Open-ended tasks among those that geotune does not know."""
        self.scales: Counter[tuple[str, str, int, str, str]] = Counter()
        """Counts by (task, source, fold, scales of the maps, answer)."""
        self.gaps: Counter[int] = Counter()
        """Counts by months from the photo to its map, negative if the map is older."""
        self._examined: dict[tuple[str, str], BottomK] = defaultdict(lambda: BottomK(per_group))
        self._points = BottomK(MAX_POINTS)
        self._questions = array("Q")
        self._answered = array("Q")
        self._places = array("Q")
        self._place = ""

    def add(self, sample: Sample) -> None:
        """Add one sample to the statistics."""
        meta = json.loads(sample.meta)
        self.tasks[sample.task] += 1
        self.sources[sample.source] += 1
        answers = self.answers[sample.task]
        if sample.answer in answers or len(answers) < MAX_OPTIONS:
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
        group = self._examined[sample.task, sample.source]
        key = digest64(sample.id)
        if group.wants(key):
            group.add(key, AuditSample(sample, meta))

    @staticmethod
    def options(task: str) -> tuple[str, ...]:
        """The legal answers of a task; empty if geotune does not know the task or its answers are open-ended."""
        return get_task(task).options if is_task(task) else ()

    def options_of(self, task: str) -> list[str]:
        """The answers of a task to choose from: the legal ones and those that occur. Empty for an open-ended task."""
        if task in self.open or (is_task(task) and not self.options(task)):
            return []
        return sorted({*self.options(task), *self.answers[task]})

    @property
    def examined(self) -> dict[tuple[str, str], list[AuditSample]]:
        """By task and source, the samples that the audit examines closely."""
        return {name: group.items for name, group in sorted(self._examined.items())}

    @property
    def points(self) -> list[tuple[float, float, str]]:
        """(lat, lon, source) of at most MAX_POINTS places."""
        return self._points.items

    @property
    def n_places(self) -> int:
        """Number of different places."""
        return len(np.unique(np.frombuffer(self._places, np.uint64))) if self._places else 0

    def duplicates(self) -> dict[str, int]:
        """Number of samples that repeat the images and prompt of an earlier one, and of these with another answer."""
        if not self._questions:
            return {"repeated_questions": 0, "contradictions": 0}
        asked = len(np.unique(np.frombuffer(self._questions, np.uint64)))
        answered = len(np.unique(np.frombuffer(self._answered, np.uint64)))
        return {"repeated_questions": len(self._questions) - asked, "contradictions": answered - asked}

    def scale_tables(self) -> dict[tuple[str, str], ScaleTable]:
        """By task and source, the counts of the questions that name the scales of their maps."""
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
    """(lat, lon) from the record's `meta`, or else from the end of its place."""
    lat, lon = meta.get("lat"), meta.get("lon")
    if isinstance(lat, int | float) and isinstance(lon, int | float):
        return float(lat), float(lon)
    found = _COORDINATES.search(sample.place)
    return (float(found[1]), float(found[2])) if found else None


def _months(map_time: Any, capture_time: Any) -> int | None:
    """Months from the photo's date to the map's; None if a date is missing. A year alone stands for its June."""
    dates = [_DATE.match(value) if isinstance(value, str) else None for value in (map_time, capture_time)]
    if dates[0] is None or dates[1] is None:
        return None
    of_map, of_photo = (int(date[1]) * 12 + int(date[2] or 6) for date in (dates[0], dates[1]))
    return of_map - of_photo
