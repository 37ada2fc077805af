"""The index of a dataset file: where each record starts, and its task, group and images.

The index is stored in the dataset's cache folder: memory-mapped arrays, and the names of tasks and images as JSON. A
builder makes it while it writes the file (`IndexMaker`); for a file without an index, one strict pass makes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from geotune.data.cache import cache_folder, keep_newest, make_once
from geotune.data.paths import number_by_appearance
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.records import is_blank, parse_line, read_samples, write_samples
from geotune.sample import Sample
from geotune.system.digests import digest64
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar

NAMELESS = "\0"
"""Stands for the id of a record without an id."""
VERSION = 3
"""Version of the index; increase it when the same file would produce a different index."""
BLOCK_BYTES = 16 * 2**20
"""Size of the blocks in which a file is checked, in bytes."""
log = logging.getLogger(__name__)


def group_of(sample: Sample) -> str:
    """Return what the sample is grouped by: its place, else its first image, else its id."""
    return sample.place or (sample.images[0] if sample.images else sample.id)


def open_index(path: Path) -> tuple[Path, Path]:
    """Return the file that holds the records of `path` as lines, and the folder of its index, made if it is missing.

    The first is `path` itself, or a copy as JSON lines in the index of a `.json` file. Raises ConfigError if `path` is
    unreadable, holds no samples or holds a bad record.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(Problem("data.path", path, f"can't be read ({error.strerror})")) from error
    index = _stored_index(path, state, partial(_make_index, path))
    return _lines_of(path, index), index


def _stored_index(path: Path, state: os.stat_result, make: Callable[[Path], None]) -> Path:
    """Return the index folder of `path` in this state; `make` fills it if it is missing. Older ones are deleted."""
    folder = cache_folder(path)
    index = make_once(folder, "index", VERSION, f"{state.st_size}-{state.st_mtime_ns}", make)
    keep_newest(folder, "index", 1)
    return index


def _lines_of(path: Path, folder: Path) -> Path:
    """Return the file that holds the records of `path` as lines, given the folder of its index."""
    return path if path.suffix == ".jsonl" else folder / "records.jsonl"


def _make_index(path: Path, folder: Path) -> None:
    lines = _lines_of(path, folder)
    if lines != path:
        write_samples(lines, _read_strictly(path))
    index = _Index(lines, path.stem)
    if not (index.check_file() and index.write(folder)):
        # A record is bad, or two records have the same id. The sequential reader raises the error that names it.
        for _ in _read_strictly(path):
            pass
        raise AssertionError(f"{path}: two passes over the file disagree")


def _read_strictly(path: Path) -> Iterator[Sample]:
    try:
        yield from read_samples(path)
    except BadRecord as error:
        raise ConfigError(Problem("data.path", path, str(error), "correct the record or remove it")) from error
    except OSError as error:
        raise ConfigError(Problem("data.path", path, f"can't be read ({error})")) from error


@dataclass
class _Block:
    """The columns of the index for one block of a file; names are numbered within the block."""

    starts: np.ndarray
    """Byte at which each record starts in the file, int64 (records,)."""
    ids: np.ndarray
    """Digest of each record's id, 0 for a record without an id: uint64 (records,)."""
    tasks: list[str]
    """Names of the tasks."""
    task_of: np.ndarray
    """Number of each record's task: (records,)."""
    groups: np.ndarray
    """Digest of what each record is grouped by: uint64 (records,)."""
    images: list[str]
    """Names of the images."""
    image_of: np.ndarray
    """Numbers of the records' images, one record after the other."""
    image_counts: np.ndarray
    """Number of images of each record: (records,)."""
    is_bad: bool
    """Whether the block holds a bad record; the columns then end before it."""


class _BlockBuilder:
    """Collects the columns of a block record by record."""

    def __init__(self) -> None:
        self.starts, self.ids, self.groups = array("q"), array("Q"), array("Q")
        self.task_of, self.image_of, self.image_counts = array("l"), array("l"), array("l")
        self.tasks: dict[str, int] = {}
        self.images: dict[str, int] = {}

    def add(self, start: int, sample: Sample) -> None:
        """Add the record that starts at byte `start`."""
        self.starts.append(start)
        self.ids.append(0 if sample.id == NAMELESS else key_of(sample.id))
        # A record without place, images and id is a group of its own: its position makes the name unique.
        group = group_of(sample)
        self.groups.append(key_of(f"{NAMELESS}{start}" if group == NAMELESS else group))
        self.task_of.append(self.tasks.setdefault(sample.task, len(self.tasks)))
        self.image_of.extend(self.images.setdefault(name, len(self.images)) for name in sample.images)
        self.image_counts.append(len(sample.images))

    def block(self, *, is_bad: bool = False) -> _Block:
        """Return the records added so far as a block."""
        return _Block(
            np.array(self.starts, np.int64),
            np.array(self.ids, np.uint64),
            list(self.tasks),
            np.array(self.task_of, np.int64),
            np.array(self.groups, np.uint64),
            list(self.images),
            np.array(self.image_of, np.int64),
            np.array(self.image_counts, np.int64),
            is_bad,
        )


class IndexMaker:
    """Makes the index of a file of records while the file is written, so that it need not be read again for that."""

    def __init__(self) -> None:
        self._builder = _BlockBuilder()
        self._size = 0

    def add(self, sample: Sample, line: str) -> None:
        """Add the record that is written next: `line` is its text, including the line break."""
        self._builder.add(self._size, sample)
        self._size += len(line.encode())

    def keep(self, path: Path) -> None:
        """Store the index of the finished file `path`.

        Failing to store it is not an error: a warning is logged, and the index is made when the file is first opened.
        """

        def make(folder: Path) -> None:
            index = _Index(path, path.stem)
            index.append(self._builder.block())
            assert index.write(folder), f"{path}: two records have the same id"

        try:
            state = path.stat()
            if state.st_size == self._size:  # else another process has written the file since
                _stored_index(path, state, make)
        except (OSError, ConfigError) as error:
            log.warning(
                "%s: its index can't be stored (%s); the first training reads the whole file to make it", path, error
            )


class _Index:
    """The columns of the index of a whole file, joined from blocks."""

    def __init__(self, path: Path, stem: str) -> None:
        self.path = path
        self.stem = stem
        """Prefix of the ids that records without an id are given."""
        self.tasks: dict[str, int] = {}
        self.images: dict[str, int] = {}
        self.columns: dict[str, list[np.ndarray]] = {
            name: [np.zeros(0, np.int64)]
            for name in ("starts", "ids", "groups", "tasks", "image_counts", "image_numbers")
        }

    def check_file(self) -> bool:
        """Append the whole file, in blocks that several processes check; return False if a record is bad."""
        blocks = list(_cut_into_blocks(self.path, self.path.stat().st_size))
        check = partial(_check_block, self.path)
        with (
            parallel_map(None, len(blocks), fewest=2, chunk=1) as run,
            progress_bar(f"checking {self.path.name}", len(blocks)) as advance,
        ):
            for block in run(check, blocks):
                if block.is_bad:
                    return False
                self.append(block)
                advance()
        return True

    def append(self, block: _Block) -> None:
        """Append the next block of the file."""
        columns = self.columns
        columns["starts"].append(block.starts)
        columns["ids"].append(block.ids)
        columns["groups"].append(block.groups)
        columns["tasks"].append(_renumber(block.tasks, self.tasks)[block.task_of])
        columns["image_counts"].append(block.image_counts)
        columns["image_numbers"].append(_renumber(block.images, self.images)[block.image_of])

    def write(self, folder: Path) -> bool:
        """Write the index to `folder`; return False, and write nothing, if two records have the same id.

        Raises ConfigError if there are no records.
        """
        columns = self.columns
        joined = {name: np.concatenate(parts[1:] or parts) for name, parts in columns.items()}
        if not len(joined["starts"]):
            raise ConfigError(
                Problem("data.path", self.path, "holds no samples", "build it again or name another file")
            )
        ids = joined["ids"]
        nameless = ids == 0
        ids[nameless] = [key_of(f"{self.stem}/{number}") for number in np.flatnonzero(nameless)]
        if len(np.unique(ids)) < len(ids):
            return False
        groups, first = number_by_appearance(joined["groups"])
        arrays = {
            "starts": np.append(joined["starts"], self.path.stat().st_size),
            "tasks": joined["tasks"].astype(np.int32),
            "groups": groups,
            "group_keys": joined["groups"][first],
            "image_starts": np.concatenate([[0], np.cumsum(joined["image_counts"])]),
            "image_numbers": joined["image_numbers"].astype(np.int32),
        }
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values)
        (folder / "images.json").write_text(json.dumps(list(self.images)), encoding="utf-8")
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
        (folder / "index.json").write_text(json.dumps({"tasks": list(self.tasks), "digest": digest}), encoding="utf-8")
        return True


def _renumber(names: Iterable[str], numbers: dict[str, int]) -> np.ndarray:
    """Return the number of each of a block's names in the whole file; `numbers` gains the names that are new."""
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _cut_into_blocks(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the blocks of a file, in bytes; each holds whole lines and about `BLOCK_BYTES`."""
    start = 0
    with path.open("rb") as file:
        while start < size:
            file.seek(min(start + BLOCK_BYTES, size))
            file.readline()
            yield start, file.tell()
            start = file.tell()


def key_of(text: str) -> int:
    """Return a digest of `text` that is never 0, because 0 stands for a record without an id."""
    return digest64(text) or 1


def _check_block(path: Path, span: tuple[int, int]) -> _Block:
    """Parse the records of a block, strictly, up to the first bad one."""
    builder = _BlockBuilder()
    with path.open("rb") as file:
        file.seek(span[0])
        position = span[0]
        while position < span[1]:
            line = file.readline()
            start, position = position, position + len(line)
            if is_blank(line):
                continue
            try:
                builder.add(start, parse_line(line, where="", default_id=NAMELESS))
            except BadRecord:
                return builder.block(is_bad=True)
    return builder.block()
