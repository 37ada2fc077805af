"""A dataset file as samples by number: checked once, then read from where each lies, however many there are.

What a reader must know beforehand (where each record begins, its task, its place, its pictures) is kept in a folder
beside the file, memory-mapped: noted while a builder writes it, or found in one strict pass over a file that comes from
elsewhere or has changed since. The file itself stays what it is: sharegpt records.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geotune.errors import ConfigError
from geotune.parallel import parallel_map
from geotune.progress import progress_bar
from geotune.sample import BadRecord, Sample, parse_line, read_samples, write_samples

CACHE = ".geotune"
"""Folder beside a dataset that holds what was found out about it; may be deleted at any time."""
NAMELESS = "\0"
"""Stands for the id of a record that has none."""
VERSION = 1
"""Raise it when the same file comes to give another index."""
BLOCK = 16 * 2**20
"""Bytes of a file that one process checks at a time."""

log = logging.getLogger(__name__)


def group_of(sample: Sample) -> str:
    """What questions are grouped by: the place, else the first picture, else nothing."""
    return sample.place or (sample.images[0] if sample.images else sample.id)


class SampleFile(Sequence[Sample]):
    """The samples of a `.jsonl` or `.json` file.

    Raises ConfigError: no such file, a bad record (the first), no samples.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        lines, folder = _indexed(self.path)
        self.lines = lines
        """The records, one a line: the file itself, or what a `.json` array was turned into."""
        self.starts = np.load(folder / "starts.npy", mmap_mode="r")
        """Where each record begins, and where the last ends, int64 (samples + 1,)."""
        self.tasks = np.load(folder / "tasks.npy", mmap_mode="r")
        """Number of each sample's task, int32."""
        self.groups = np.load(folder / "groups.npy", mmap_mode="r")
        """Number of what each sample is grouped by, in the order in which they first appear, int32."""
        self.picture_starts = np.load(folder / "picture_starts.npy", mmap_mode="r")
        self.picture_numbers = np.load(folder / "picture_numbers.npy", mmap_mode="r")
        """Pictures of the samples one after the other, by number, int32; `picture_starts` says where each begins."""
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

    def picture_names(self) -> list[str]:
        """Every distinct picture as the records name it, by number."""
        return list(json.loads((self.folder / "pictures.json").read_text(encoding="utf-8")))

    def pictures_of(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of the distinct pictures of some samples, in the order in which these show them."""
        spans = _spans(self.picture_starts, numbers)
        shown, first = np.unique(self.picture_numbers[spans], return_index=True)
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


# The cache


def cache_folder(path: Path) -> Path:
    """Where to keep what is known of the dataset file `path`: beside it, else in the user's own cache."""
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (path.parent / CACHE / path.name, user / "geotune" / name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    raise ConfigError(f"data.path={path}: neither its folder nor {user} can be written; set XDG_CACHE_HOME")


def cached(folder: Path, key: str, prefix: str, make: Callable[[Path], None]) -> Path:
    """`folder`/<prefix>-<key>, made by `make` in one piece when it is not there; others of `prefix` go.

    Of several processes that ask, one makes it.
    """
    from filelock import FileLock

    wanted = folder / f"{prefix}-{key}"
    if wanted.is_dir():
        return wanted
    with FileLock(folder / f"{prefix}.lock"):
        if not wanted.is_dir():
            partial_ = Path(tempfile.mkdtemp(dir=folder, prefix=f".{prefix}-"))
            try:
                make(partial_)
                partial_.replace(wanted)
            finally:
                shutil.rmtree(partial_, ignore_errors=True)
    return wanted


def forget(folder: Path, prefix: str, keep: int) -> None:
    """Delete all but the newest `keep` entries of `prefix`."""
    entries = sorted(folder.glob(f"{prefix}-*"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[keep:]:
        shutil.rmtree(entry, ignore_errors=True)


def _indexed(path: Path) -> tuple[Path, Path]:
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
    pictures: list[str]
    picture_of: np.ndarray
    picture_counts: np.ndarray
    bad: bool


class _Seen:
    """Gathers what records say, one by one."""

    def __init__(self) -> None:
        self.starts, self.ids, self.groups = array("q"), array("Q"), array("Q")
        self.task_of, self.picture_of, self.picture_counts = array("l"), array("l"), array("l")
        self.tasks: dict[str, int] = {}
        self.pictures: dict[str, int] = {}

    def add(self, begin: int, sample: Sample) -> None:
        """A record that begins at byte `begin`."""
        self.starts.append(begin)
        self.ids.append(0 if sample.id == NAMELESS else _digest(sample.id))
        # A record without a place, a picture and an id stands alone: its position tells it from others.
        group = group_of(sample)
        self.groups.append(_digest(f"{NAMELESS}{begin}" if group == NAMELESS else group))
        self.task_of.append(self.tasks.setdefault(sample.task, len(self.tasks)))
        self.picture_of.extend(self.pictures.setdefault(name, len(self.pictures)) for name in sample.images)
        self.picture_counts.append(len(sample.images))

    def block(self, *, bad: bool = False) -> _Block:
        """What has been added, or that it is `bad`."""
        return _Block(
            np.array(self.starts, np.int64),
            np.array(self.ids, np.uint64),
            list(self.tasks),
            np.array(self.task_of, np.int64),
            np.array(self.groups, np.uint64),
            list(self.pictures),
            np.array(self.picture_of, np.int64),
            np.array(self.picture_counts, np.int64),
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
        self.pictures: dict[str, int] = {}
        self.columns: dict[str, list[np.ndarray]] = {
            name: [np.zeros(0, np.int64)]
            for name in ("starts", "ids", "groups", "tasks", "picture_counts", "picture_numbers")
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
        columns["picture_counts"].append(block.picture_counts)
        columns["picture_numbers"].append(_renumber(block.pictures, self.pictures)[block.picture_of])

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
            "picture_starts": np.concatenate([[0], np.cumsum(joined["picture_counts"])]),
            "picture_numbers": joined["picture_numbers"].astype(np.int32),
        }
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values)
        (folder / "pictures.json").write_text(json.dumps(list(self.pictures)), encoding="utf-8")
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
            file.seek(min(start + BLOCK, size))
            file.readline()
            yield start, file.tell()
            start = file.tell()


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


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
