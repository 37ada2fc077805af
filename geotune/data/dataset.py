"""Training samples: read strictly, encoded, measured; too long ones rejected with a reason.

Each sample is encoded once to know its length and its segments. What was found is kept beside the dataset,
memory-mapped, and found again as long as the records, the images and the backbone's processor are the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from geotune.data.measures import COLUMNS, Measure
from geotune.data.paths import Paths
from geotune.data.sample_file import Chosen, SampleFile
from geotune.data.sampler import MicroBatch
from geotune.encoding.collate import Batch, collate, collate_tree
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import Encoded, Segment
from geotune.errors import BadRecord, ConfigError
from geotune.sample import IMAGE_TAG, Sample, Turn
from geotune.system.digests import fingerprint_of
from geotune.system.images import resolve_image


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
    is_image: np.ndarray
    """Whether a segment is an image."""
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
                    raise BadRecord(encoded.id, "one of its images has another size than when the run began")
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
        """`sample` without its images, and with nothing to supervise."""
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
    """The training set of `file`. Raises ConfigError: a bad record, a broken image, nothing left to train on."""
    source = SampleFile(file)
    chosen = choose_samples(source, tasks=tasks, limit=limit, seed=seed)
    measure = Measure(source, encoder, chosen, max_length, max_image_pixels)
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
        found["is_image"],
        found["keys"],
        source.groups[numbers],
        source.tasks[numbers],
        tuple(source.task_names),
        summary["fingerprint"],
        [(sample, reason) for sample, reason in summary["rejected"]],
        prefix_tree,
    )


class _Joined(Sequence[Sample]):
    """The samples of several datasets, one behind the other; their images by absolute names."""

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
        np.concatenate([part.is_image for part in parts])[first],
        distinct,
        np.concatenate(places),
        np.concatenate(tasks),
        tuple(names),
        fingerprint_of(mixed),
        [entry for part in parts for entry in part.rejected],
        parts[0].prefix_tree,
        tuple((len(part), weight) for part, weight in zip(parts, weights, strict=True)),
    )
