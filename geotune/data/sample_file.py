"""Random access to the samples of a dataset file of any size.

The file's index (`geotune.data.index`) is memory-mapped, and a record is parsed only when its sample is asked for. The
dataset file itself is not changed.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geotune.config.wording import near
from geotune.data.index import open_index
from geotune.data.paths import number_by_appearance
from geotune.errors import ConfigError, Problem
from geotune.records import parse_line
from geotune.sample import Sample


class SampleFile(Sequence[Sample]):
    """The samples of a `.jsonl` or `.json` file, by number, as the file has them.

    Raises ConfigError if there is no such file, if it holds no samples, or for the first bad record.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        lines, folder = open_index(self.path)
        self.lines = lines
        """The file that holds one record per line: `path` itself, or a copy of a `.json` array as lines."""
        self.starts = np.load(folder / "starts.npy", mmap_mode="r")
        """Where each record starts in `lines`, and where the last one ends, in bytes: int64 (samples + 1,)."""
        self.tasks = np.load(folder / "tasks.npy", mmap_mode="r")
        """Number of each sample's task in `task_names`: int32 (samples,)."""
        self.groups = np.load(folder / "groups.npy", mmap_mode="r")
        """Number of each sample's group (`group_of`), in the order in which groups appear: int32 (samples,)."""
        self.group_keys = np.load(folder / "group_keys.npy", mmap_mode="r")
        """Digest (`key_of`) of each group, by its number: uint64 (groups,)."""
        self.image_starts = np.load(folder / "image_starts.npy", mmap_mode="r")
        """Where the images of each sample start in `image_numbers`, and where the last ones end: (samples + 1,)."""
        self.image_numbers = np.load(folder / "image_numbers.npy", mmap_mode="r")
        """Numbers of the samples' images in `image_names()`, one sample after the other: int32."""
        found = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.task_names: list[str] = found["tasks"]
        self.image_folder = self.path.parent.absolute()
        """Folder that relative names of images are relative to."""
        self.digest: str = found["digest"]
        """Digest of the file of records."""
        self.folder = folder
        """Folder of the index."""
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
        """Return the names of all distinct images, as the records give them, by number."""
        return list(json.loads((self.folder / "images.json").read_text(encoding="utf-8")))

    def images_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers of the distinct images of some samples, in the order in which these samples show them."""
        images = self.image_numbers[_positions(self.image_starts, numbers)]
        _, first = number_by_appearance(images)
        return np.asarray(images[first])

    @property
    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            with self.lines.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


class ChosenSamples(Sequence[Sample]):
    """Some of the samples of a file, given by their numbers, with the paths of their images."""

    def __init__(self, file: SampleFile, numbers: np.ndarray) -> None:
        self.file = file
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self.file[int(self.numbers[index])].in_folder(self.file.image_folder)


def check_tasks(tasks: Sequence[str] | None, files: Sequence[SampleFile]) -> None:
    """Raise ConfigError unless each of `tasks` (None: all) has a sample in one of the files."""
    known = {name for file in files for name in file.task_names}
    missing = [name for name in tasks or () if name not in known]
    if not missing:
        return
    held = ", ".join(name or "(no task)" for name in sorted(known))
    where = " and ".join(str(file.path) for file in files)
    meant = " ".join(filter(None, (near(name, known) for name in missing)))
    text = f"{where} {'holds' if len(files) == 1 else 'hold'} no sample of {', '.join(missing)}, only {held}"
    raise ConfigError(Problem("data.tasks", list(tasks or ()), text, meant))


def _positions(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the positions `starts[n]` to `starts[n + 1]` for each n of `numbers`, one range after the other."""
    first, counts = starts[numbers], starts[numbers + 1] - starts[numbers]
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(counts.sum())
