"""Training samples: read strictly, encoded, measured; too long ones rejected with a reason.

Each sample is encoded once to know its length and its segments. What was found is kept beside the dataset,
memory-mapped, and found again as long as the records, the pictures and the backbone's processor are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from geotune.backbones.rendering import Encoded, Encoder, Segment
from geotune.data.collate import Batch, collate, collate_tree
from geotune.data.paths import Paths
from geotune.data.sample_file import Chosen, SampleFile, cached, forget
from geotune.data.sampler import MicroBatch
from geotune.errors import ConfigError
from geotune.parallel import parallel_map
from geotune.progress import progress_bar
from geotune.sample import IMAGE_TAG, BadRecord, Sample, Turn, check_image, resolve_image

MEASURE_VERSION = 1
"""Raise it when the same samples come to be measured otherwise."""
KEPT_MEASURES = 8
"""Selections and processors whose measures are kept beside a dataset."""
BLOCK = 512
"""Samples that one process encodes at a time."""
FEWEST_BLOCKS = 24
"""Blocks that make another process worth its start."""
COLUMNS = ("numbers", "lengths", "targets", "starts", "segments", "sizes", "pictures", "keys")

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass
class SampleDataset(Dataset[Batch]):
    """Samples that fit, with their sizes; an item is the batch of a `MicroBatch`."""

    samples: Sequence[Sample]
    folder: Path
    """What relative image names are relative to."""
    encoder: Encoder
    lengths: np.ndarray
    """Tokens of each sample."""
    targets: np.ndarray
    """Supervised tokens of each sample."""
    paths: Paths
    """Each sample as numbers of its segments; those with the same number are the same."""
    sizes: np.ndarray
    """Tokens of each segment."""
    pictures: np.ndarray
    """Whether a segment is a picture."""
    keys: np.ndarray
    """Digest of each segment, uint64."""
    places: np.ndarray
    """What the samples' questions are grouped by, as numbers."""
    tasks: np.ndarray
    """What each sample asks, as a number."""
    task_names: tuple[str, ...]
    """The tasks by number."""
    fingerprint: str
    """Identifies the samples and their order: ids, answers and sizes."""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """(id, reason) of what was left out."""
    prefix_tree: bool = True
    """Whether a batch is a prefix tree, or a row per sample."""
    mix: tuple[tuple[int, float], ...] = ()
    """Of several datasets, one behind the other: how many samples each has, and its weight."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, micro: MicroBatch) -> Batch:
        kept, broken = [], []
        for index in micro.indices:
            try:
                encoded = self.encoder.encode(self.samples[index], self.folder)
                if encoded.length != self.lengths[index]:
                    raise BadRecord(encoded.id, "one of its pictures has another size than when the run began")
                for path in encoded.images:
                    self.encoder.pixels(path)
            except BadRecord as error:
                broken.append((index, error.reason))
            else:
                kept.append(encoded)
        join = collate_tree if self.prefix_tree else collate
        # Every process runs every micro-batch, so that they keep step: with nothing left, some words teach nothing.
        shown = kept or [self._words_of(self.samples[broken[0][0]])]
        batch = join(shown, self.encoder, update_targets=micro.update_targets, update=micro.update)
        if not broken:
            return batch
        return replace(
            batch,
            ids=tuple(sample.id for sample in kept),
            left_out=tuple((self.samples[index].id, reason) for index, reason in broken),
            missing=int(sum(self.targets[index] for index, _ in broken)),
        )

    def _words_of(self, sample: Sample) -> Encoded:
        """`sample` without its pictures, and with nothing to supervise."""
        turns = tuple(Turn(turn.role, turn.text.replace(IMAGE_TAG, "")) for turn in sample.turns)
        encoded = self.encoder.encode(replace(sample, images=(), turns=turns), self.folder)
        return Encoded(sample.id, tuple(Segment("text", segment.ids) for segment in encoded.segments))

    @property
    def task_counts(self) -> dict[str, int]:
        """Samples of each task, of those that there are."""
        counts = np.bincount(self.tasks, minlength=len(self.task_names)).tolist()
        return {name: count for name, count in zip(self.task_names, counts, strict=True) if count}

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids, each read when it is asked for."""
        return _Ids(self.samples)


class _Ids(Sequence[str]):
    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.samples[index].id


def choose_samples(file: SampleFile, *, tasks: Sequence[str] | None, limit: int | None, seed: int) -> np.ndarray:
    """Numbers of the samples for `tasks`, at most `limit` (a seeded choice, in file order). Raises ConfigError."""
    numbers = np.arange(len(file))
    if tasks is not None:
        wanted = [number for number, name in enumerate(file.task_names) if name in set(tasks)]
        if not wanted:
            there = ", ".join(sorted(file.task_names))
            raise ConfigError(f"data.tasks={list(tasks)}: {file.path} holds none of them, only {there}")
        numbers = np.flatnonzero(np.isin(file.tasks, wanted))
    if limit is not None and limit < len(numbers):
        if limit < 1:
            raise ConfigError(f"data.limit={limit}: must be at least 1, or null for all samples")
        numbers = numbers[np.sort(np.random.default_rng([seed, 1]).choice(len(numbers), limit, replace=False))]
    return numbers


def load_dataset(
    file: Path,
    encoder: Encoder,
    *,
    tasks: Sequence[str] | None,
    limit: int | None,
    seed: int,
    max_length: int,
    max_image_pixels: int,
    prefix_tree: bool = True,
) -> SampleDataset:
    """The training set of `file`. Raises ConfigError: a bad record, a broken picture, nothing left to train on."""
    source = SampleFile(file)
    chosen = choose_samples(source, tasks=tasks, limit=limit, seed=seed)
    measure = _Measure(source, encoder, chosen, max_length, max_image_pixels)
    try:
        folder = measure.folder()
    except BadRecord as error:
        raise ConfigError(f"data.path={file}: {error}; correct the record or remove it") from error
    found = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    numbers = found["numbers"]
    return SampleDataset(
        Chosen(source, numbers),
        file.parent,
        encoder,
        found["lengths"],
        found["targets"],
        Paths(found["starts"], found["segments"]),
        found["sizes"],
        found["pictures"],
        found["keys"],
        source.groups[numbers],
        source.tasks[numbers],
        tuple(source.task_names),
        summary["fingerprint"],
        [(sample, reason) for sample, reason in summary["rejected"]],
        prefix_tree,
    )


@dataclass(frozen=True)
class _Measure:
    """Lengths and segments of chosen samples of a file, found once and kept."""

    source: SampleFile
    encoder: Encoder
    chosen: np.ndarray
    max_length: int
    max_image_pixels: int

    def folder(self) -> Path:
        """Where the columns are. Raises ConfigError, BadRecord."""
        pictures = self._pictures()
        digest = hashlib.sha256(self.chosen.astype(np.int64).tobytes())
        settings = (MEASURE_VERSION, self.source.digest, self.encoder.fingerprint, self.max_length)
        digest.update(json.dumps([*settings, sorted(pictures.items())]).encode())
        cache = self.source.folder.parent
        found = cached(cache, digest.hexdigest()[:16], "measure", lambda folder: self._write(folder, pictures))
        forget(cache, "measure", keep=KEPT_MEASURES)
        return found

    def _pictures(self) -> dict[str, Size]:
        """Size of every picture by the name that records have for it; all are decoded once, and again if they change.

        Raises BadRecord for the first, in sample order, that is missing, broken or too large.
        """
        names = self.source.picture_names()
        numbers = self.source.pictures_of(self.chosen).tolist()
        memory = self.source.folder.parent / "pictures.json"
        known = _known_pictures(memory)
        found: dict[str, tuple[int, int, int, int]] = {}
        folder = self.source.path.parent

        def check(number: int) -> tuple[int, int, int, int] | BadRecord:
            name = names[number]
            try:
                path = resolve_image(folder, name)
                try:
                    state = path.stat()
                except OSError:
                    check_image(path, max_pixels=None)  # says what is wrong
                    raise
                before = known.get(name)
                if before and before[:2] == (state.st_size, state.st_mtime_ns):
                    width, height = before[2:]
                    if width * height <= self.max_image_pixels:
                        return before
                width, height = check_image(path, max_pixels=self.max_image_pixels)
                return state.st_size, state.st_mtime_ns, width, height
            except BadRecord as error:
                return error

        # Decoding releases the interpreter's lock.
        with (
            ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool,
            progress_bar("checking pictures", len(numbers)) as advance,
        ):
            for number, verdict in zip(numbers, pool.map(check, numbers), strict=True):
                if isinstance(verdict, BadRecord):
                    raise verdict.at("", self._user(number))
                found[names[number]] = verdict
                advance(1)
        if found.items() - known.items():
            memory.write_text(json.dumps(known | found), encoding="utf-8")
        return {name: verdict[2:] for name, verdict in found.items()}

    def _user(self, picture: int) -> str:
        """Id of the first chosen sample that shows a picture."""
        source = self.source
        users = np.searchsorted(source.picture_starts, np.flatnonzero(source.picture_numbers == picture), "right") - 1
        return source[int(users[np.isin(users, self.chosen)][0])].id

    def _write(self, folder: Path, pictures: Mapping[str, Size]) -> None:
        source, rejected = self.source, list[tuple[str, str]]()
        parts: list[_Encoded] = []
        fingerprint = hashlib.sha256()
        blocks = [self.chosen[at : at + BLOCK] for at in range(0, len(self.chosen), BLOCK)]
        work = _Work(source, self.encoder, self.max_length)
        with (
            parallel_map(None, len(blocks), fewest=FEWEST_BLOCKS, chunk=2) as run,
            progress_bar("measuring samples", len(self.chosen)) as advance,
        ):
            names = source.picture_names()
            jobs = ((block, self._sizes_for(block, names, pictures)) for block in blocks)
            for block, part in zip(blocks, run(work, jobs), strict=True):
                rejected += part.rejected
                fingerprint.update(part.stated)
                parts.append(part)
                advance(len(block))
        columns = _joined(parts)
        if not len(columns["numbers"]):
            raise ConfigError(f"data.max_length={self.max_length}: every sample of {source.path} is longer; raise it")
        for name, values in columns.items():
            np.save(folder / f"{name}.npy", values)
        summary = {"fingerprint": fingerprint.hexdigest()[:16], "rejected": rejected}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")

    def _sizes_for(self, block: np.ndarray, names: Sequence[str], pictures: Mapping[str, Size]) -> dict[str, Size]:
        return {names[number]: pictures[names[number]] for number in self.source.pictures_of(block).tolist()}


def _known_pictures(memory: Path) -> dict[str, tuple[int, int, int, int]]:
    """What is remembered of pictures by name: bytes, time of change, width, height."""
    try:
        return {name: tuple(entry) for name, entry in json.loads(memory.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError):
        return {}


@dataclass
class _Encoded:
    """Measures of a block of samples; segments are numbered within it."""

    numbers: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    """Segments of each sample."""
    segments: np.ndarray
    sizes: np.ndarray
    pictures: np.ndarray
    keys: np.ndarray
    stated: bytes
    """What the fingerprint is made of."""
    rejected: list[tuple[str, str]]


@dataclass(frozen=True)
class _Work:
    """Encodes a block of samples; travels to other processes."""

    source: SampleFile
    encoder: Encoder
    max_length: int

    def __call__(self, job: tuple[np.ndarray, dict[str, Size]]) -> _Encoded:
        block, pictures = job
        folder = self.source.path.parent
        encoder = self.encoder
        numbers: list[int] = []
        lengths: list[int] = []
        targets: list[int] = []
        known: dict[Hashable, int] = {}
        paths: list[list[int]] = []
        sizes: list[int] = []
        shown: list[bool] = []
        stated: list[bytes] = []
        rejected: list[tuple[str, str]] = []
        noted: set[str] = set()
        for number in block.tolist():
            sample = self.source[number]
            self._note(sample, pictures, noted)
            encoded = encoder.encode(sample, folder)
            assert encoded.targets > 0, "every sample supervises something"
            if encoded.length > self.max_length:
                rejected.append((sample.id, f"{encoded.length} tokens, data.max_length={self.max_length}"))
                continue
            numbers.append(number)
            lengths.append(encoded.length)
            targets.append(encoded.targets)
            stated.append(json.dumps([sample.id, sample.answer, encoded.length]).encode())
            path = []
            for segment in encoded.segments:
                path.append(known.setdefault(segment.key, len(known)))
                if path[-1] == len(sizes):
                    sizes.append(len(segment.ids))
                    shown.append(segment.kind == "image")
            paths.append(path)
        encoder.forget_sizes()
        flat = Paths.of(paths)
        return _Encoded(
            np.array(numbers, np.int64),
            np.array(lengths, np.int64),
            np.array(targets, np.int64),
            flat.lengths,
            flat.segments,
            np.array(sizes, np.int64),
            np.array(shown, bool),
            np.array([_digest(key) for key in known], np.uint64),
            b"".join(stated),
            rejected,
        )

    def _note(self, sample: Sample, pictures: Mapping[str, Size], noted: set[str]) -> None:
        """Tell the encoder the sizes of a sample's pictures, so that it need not open them."""
        for name in sample.images:
            if name not in noted:
                noted.add(name)
                try:
                    self.encoder.note_size(self.encoder.locate(self.source.path.parent, name), *pictures[name])
                except BadRecord as error:
                    raise error.at("", sample.id) from error


def _digest(key: Hashable) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")


def _joined(parts: Iterable[_Encoded]) -> dict[str, np.ndarray]:
    """The columns of all blocks; segments are numbered in the order in which they first appear."""
    blocks = list(parts)
    keys = np.concatenate([part.keys for part in blocks])
    distinct, first, code = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(distinct), np.int32)
    rank[np.argsort(first)] = np.arange(len(distinct), dtype=np.int32)
    number, first = rank[code], np.sort(first)
    offsets = np.cumsum([0, *(len(part.keys) for part in blocks)])
    segments = [number[part.segments + offset] for part, offset in zip(blocks, offsets[:-1], strict=True)]
    counts = np.concatenate([part.counts for part in blocks])
    return {
        "numbers": np.concatenate([part.numbers for part in blocks]),
        "lengths": np.concatenate([part.lengths for part in blocks]),
        "targets": np.concatenate([part.targets for part in blocks]),
        "starts": np.concatenate([[0], np.cumsum(counts)]),
        "segments": np.concatenate(segments),
        "sizes": np.concatenate([part.sizes for part in blocks])[first],
        "pictures": np.concatenate([part.pictures for part in blocks])[first],
        "keys": keys[first],
    }


# Several datasets


class _Joined(Sequence[Sample]):
    """The samples of several datasets, one behind the other; their pictures by absolute names."""

    def __init__(self, parts: Sequence[SampleDataset]) -> None:
        self.parts = [(part.samples, part.folder) for part in parts]
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.ends, index, "right"))
        samples, folder = self.parts[part]
        sample = samples[index - (int(self.ends[part - 1]) if part else 0)]
        return replace(sample, images=tuple(str(resolve_image(folder, name)) for name in sample.images))


def mix_datasets(parts: Sequence[SampleDataset], weights: Sequence[float]) -> SampleDataset:
    """Several datasets as one, each visited as often per epoch as its weight says."""
    keys = np.concatenate([part.keys for part in parts])
    distinct, first, code = np.unique(keys, return_index=True, return_inverse=True)
    segments, places, offset, known = list[np.ndarray](), list[np.ndarray](), 0, 0
    for part in parts:
        segments.append(code[offset + part.paths.segments].astype(np.int32))
        places.append(known + part.places)
        offset += len(part.keys)
        known += int(part.places.max()) + 1
    names = list(dict.fromkeys(name for part in parts for name in part.task_names))
    tasks = [np.array([names.index(name) for name in part.task_names])[part.tasks] for part in parts]
    mixed = json.dumps([[part.fingerprint, weight] for part, weight in zip(parts, weights, strict=True)])
    lengths = np.concatenate([part.paths.lengths for part in parts])
    return SampleDataset(
        _Joined(parts),
        parts[0].folder,
        parts[0].encoder,
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.targets for part in parts]),
        Paths(np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(segments)),
        np.concatenate([part.sizes for part in parts])[first],
        np.concatenate([part.pictures for part in parts])[first],
        distinct,
        np.concatenate(places),
        np.concatenate(tasks),
        tuple(names),
        hashlib.sha256(mixed.encode()).hexdigest()[:16],
        [entry for part in parts for entry in part.rejected],
        parts[0].prefix_tree,
        tuple((len(part), weight) for part, weight in zip(parts, weights, strict=True)),
    )
