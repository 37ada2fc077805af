"""The index of a dataset file: where each record begins, its task, its place and its images."""

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

from geotune.data.cache import cache_folder, cached, forget
from geotune.errors import BadRecord, ConfigError
from geotune.records import parse_line, read_samples, write_samples
from geotune.sample import Sample
from geotune.system.digests import digest64
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar

NAMELESS = "\0"
"""Stands for the id of a record that has none."""
VERSION = 2
"""Raise it when the same file comes to give another index."""
BLOCK_BYTES = 16 * 2**20
"""Bytes of a file that one process checks at a time."""
log = logging.getLogger(__name__)


def group_of(sample: Sample) -> str:
    """What questions are grouped by: the place, else the first image, else nothing."""
    return sample.place or (sample.images[0] if sample.images else sample.id)


def indexed(path: Path) -> tuple[Path, Path]:
    """The file of lines to read, and the folder of its index."""
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(f"data.path={path}: can't be read ({error.strerror})") from error
    index = _kept(path, state, partial(_make_index, path))
    lines = index / "records.jsonl"
    return (lines if lines.exists() else path), index


def _kept(path: Path, state: os.stat_result, make: Callable[[Path], None]) -> Path:
    """The folder of the index of `path` in this state, made by `make` unless it is there."""
    folder = cache_folder(path)
    index = cached(folder, f"{VERSION}-{state.st_size}-{state.st_mtime_ns}", "index", make)
    forget(folder, "index", keep=1)
    return index


def _make_index(path: Path, folder: Path) -> None:
    lines = path
    if path.suffix != ".jsonl":
        lines = folder / "records.jsonl"
        write_samples(lines, _strictly(path))
    index = _Index(lines, path.stem)
    if not (index.check() and index.write(folder)):
        # Something is wrong with a record, or a record has no id of its own and one given to it: the slow reader says.
        for _ in _strictly(path):
            pass
        raise AssertionError(f"{path}: two passes over the file disagree")


def _strictly(path: Path) -> Iterator[Sample]:
    try:
        yield from read_samples(path)
    except BadRecord as error:
        raise ConfigError(f"data.path={path}: {error}; correct the record or remove it") from error
    except OSError as error:
        raise ConfigError(f"data.path={path}: can't be read ({error})") from error


@dataclass
class _Block:
    """What the records of a part of a file say."""

    starts: np.ndarray
    ids: np.ndarray
    """Digests, uint64; 0 for a record without an id."""
    tasks: list[str]
    task_of: np.ndarray
    groups: np.ndarray
    """Digests, uint64."""
    images: list[str]
    image_of: np.ndarray
    image_counts: np.ndarray
    bad: bool


class _Seen:
    """Gathers what records say, one by one."""

    def __init__(self) -> None:
        self.starts, self.ids, self.groups = array("q"), array("Q"), array("Q")
        self.task_of, self.image_of, self.image_counts = array("l"), array("l"), array("l")
        self.tasks: dict[str, int] = {}
        self.images: dict[str, int] = {}

    def add(self, begin: int, sample: Sample) -> None:
        """A record that begins at byte `begin`."""
        self.starts.append(begin)
        self.ids.append(0 if sample.id == NAMELESS else _digest(sample.id))
        # A record without a place, an image and an id stands alone: its position tells it from others.
        group = group_of(sample)
        self.groups.append(_digest(f"{NAMELESS}{begin}" if group == NAMELESS else group))
        self.task_of.append(self.tasks.setdefault(sample.task, len(self.tasks)))
        self.image_of.extend(self.images.setdefault(name, len(self.images)) for name in sample.images)
        self.image_counts.append(len(sample.images))

    def block(self, *, bad: bool = False) -> _Block:
        """What has been added, or that it is `bad`."""
        return _Block(
            np.array(self.starts, np.int64),
            np.array(self.ids, np.uint64),
            list(self.tasks),
            np.array(self.task_of, np.int64),
            np.array(self.groups, np.uint64),
            list(self.images),
            np.array(self.image_of, np.int64),
            np.array(self.image_counts, np.int64),
            bad,
        )


class IndexMaker:
    """The index of a file of lines, made while the file is written, so that nobody has to read it for that."""

    def __init__(self) -> None:
        self._seen = _Seen()
        self._size = 0

    def add(self, sample: Sample, line: str) -> None:
        """A record, as it is written behind those before it, line break included."""
        self._seen.add(self._size, sample)
        self._size += len(line.encode())

    def keep(self, path: Path) -> None:
        """Keep the index of what was added beside the file that it has become, where that can be.

        It is found anew when the file is opened without one.
        """

        def make(folder: Path) -> None:
            index = _Index(path, path.stem)
            index.take(self._seen.block())
            assert index.write(folder), f"{path}: an id stands twice"

        try:
            state = path.stat()
            if state.st_size == self._size:  # else another process has written it since
                _kept(path, state, make)
        except (OSError, ConfigError) as error:
            log.warning("%s: its index can't be kept (%s); the first training reads the whole file", path, error)


class _Index:
    """What is known of a file of lines, put together from its parts."""

    def __init__(self, path: Path, stem: str) -> None:
        self.path = path
        self.stem = stem
        self.tasks: dict[str, int] = {}
        self.images: dict[str, int] = {}
        self.columns: dict[str, list[np.ndarray]] = {
            name: [np.zeros(0, np.int64)]
            for name in ("starts", "ids", "groups", "tasks", "image_counts", "image_numbers")
        }

    def check(self) -> bool:
        """Take the whole file, in blocks that several processes check; False when a record is bad."""
        blocks = list(_cut(self.path, self.path.stat().st_size))
        check = partial(_check_block, self.path)
        with (
            parallel_map(None, len(blocks), fewest=2, chunk=1) as run,
            progress_bar(f"checking {self.path.name}", len(blocks)) as advance,
        ):
            for block in run(check, blocks):
                if block.bad:
                    return False
                self.take(block)
                advance()
        return True

    def take(self, block: _Block) -> None:
        """Add the next part."""
        columns = self.columns
        columns["starts"].append(block.starts)
        columns["ids"].append(block.ids)
        columns["groups"].append(block.groups)
        columns["tasks"].append(_renumber(block.tasks, self.tasks)[block.task_of])
        columns["image_counts"].append(block.image_counts)
        columns["image_numbers"].append(_renumber(block.images, self.images)[block.image_of])

    def write(self, folder: Path) -> bool:
        """Write the index; False when an id stands twice."""
        columns = self.columns
        joined = {name: np.concatenate(parts[1:] or parts) for name, parts in columns.items()}
        if not len(joined["starts"]):
            raise ConfigError(f"data.path={self.path}: holds no samples; build it again or name another file")
        ids = joined["ids"]
        nameless = ids == 0
        ids[nameless] = [_digest(f"{self.stem}/{number}") for number in np.flatnonzero(nameless)]
        if len(np.unique(ids)) < len(ids):
            return False
        _, first, group = np.unique(joined["groups"], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int32)
        rank[np.argsort(first)] = np.arange(len(first))
        arrays = {
            "starts": np.append(joined["starts"], self.path.stat().st_size),
            "tasks": joined["tasks"].astype(np.int32),
            "groups": rank[group],
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


def _renumber(names: Iterable[str], known: dict[str, int]) -> np.ndarray:
    """Numbers in `known` of a block's own names, added where they are new."""
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _cut(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Parts of a file of lines, each of whole lines and about a block long."""
    start = 0
    with path.open("rb") as file:
        while start < size:
            file.seek(min(start + BLOCK_BYTES, size))
            file.readline()
            yield start, file.tell()
            start = file.tell()


def _digest(text: str) -> int:
    """A digest of `text` that is never 0, which stands for a record without an id."""
    return digest64(text) or 1


def _check_block(path: Path, span: tuple[int, int]) -> _Block:
    seen = _Seen()
    with path.open("rb") as file:
        file.seek(span[0])
        at = span[0]
        while at < span[1]:
            line = file.readline()
            begin, at = at, at + len(line)
            if not line.strip() or line == b"\xef\xbb\xbf\n":
                continue
            try:
                seen.add(begin, parse_line(line, where="", default_id=NAMELESS))
            except BadRecord:
                return seen.block(bad=True)
    return seen.block()
