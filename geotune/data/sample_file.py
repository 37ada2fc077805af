"""A dataset file as samples by number: checked once, then read from where each lies, however many there are.

What a reader must know beforehand (where each record begins, its task, its place, its images) is kept in a folder
beside the file, memory-mapped: noted while a builder writes it, or found in one strict pass over a file that comes from
elsewhere or has changed since. The file itself stays what it is: sharegpt records.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geotune.data.index import indexed
from geotune.records import parse_line
from geotune.sample import Sample


class SampleFile(Sequence[Sample]):
    """The samples of a `.jsonl` or `.json` file.

    Raises ConfigError: no such file, a bad record (the first), no samples.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        lines, folder = indexed(self.path)
        self.lines = lines
        """The records, one a line: the file itself, or what a `.json` array was turned into."""
        self.starts = np.load(folder / "starts.npy", mmap_mode="r")
        """Where each record begins, and where the last ends, int64 (samples + 1,)."""
        self.tasks = np.load(folder / "tasks.npy", mmap_mode="r")
        """Number of each sample's task, int32."""
        self.groups = np.load(folder / "groups.npy", mmap_mode="r")
        """Number of what each sample is grouped by, in the order in which they first appear, int32."""
        self.image_starts = np.load(folder / "image_starts.npy", mmap_mode="r")
        self.image_numbers = np.load(folder / "image_numbers.npy", mmap_mode="r")
        """Images of the samples one after the other, by number, int32; `image_starts` says where each begins."""
        found = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.task_names: list[str] = found["tasks"]
        self.digest: str = found["digest"]
        """Of the records."""
        self.folder = folder
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]  # never sliced
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(number)
        line = self._bytes[self.starts[number] : self.starts[number + 1]]
        return parse_line(line, where=str(self.path), default_id=f"{self.path.stem}/{number}")

    def image_names(self) -> list[str]:
        """Every distinct image as the records name it, by number."""
        return list(json.loads((self.folder / "images.json").read_text(encoding="utf-8")))

    def images_of(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of the distinct images of some samples, in the order in which these show them."""
        spans = _spans(self.image_starts, numbers)
        shown, first = np.unique(self.image_numbers[spans], return_index=True)
        return np.asarray(shown[np.argsort(first)])

    @property
    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            with self.lines.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


class Chosen(Sequence[Sample]):
    """Some samples of a file, by number."""

    def __init__(self, file: SampleFile, numbers: np.ndarray) -> None:
        self.file = file
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self.file[int(self.numbers[index])]


def _spans(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Positions of all that the spans of `numbers` hold, one after the other."""
    first, counts = starts[numbers], starts[numbers + 1] - starts[numbers]
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(counts.sum())
