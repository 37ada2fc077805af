"""The training set: samples that are read strictly, measured, and encoded when a micro-batch asks for them.

Samples that are too long are rejected with a reason. The measures of the others (`geotune.data.measures`) are kept
beside the dataset and memory-mapped; they are reused as long as records, images and the backbone's processor are the
same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from torch.utils.data import Dataset

from geotune.config.parts import DataConfig
from geotune.data.image_sizes import KnownImage, known_images
from geotune.data.measures import COLUMNS, Measure
from geotune.data.paths import Paths
from geotune.data.sample_file import ChosenSamples, SampleFile, check_tasks
from geotune.data.sampler import MicroBatch
from geotune.encoding.collate import Batch, collate, collate_tree
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import Encoded, Segment
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.runs.identity import fingerprint_of_facts
from geotune.sample import IMAGE_TAG, Sample, Turn


@dataclass
class SampleDataset(Dataset[Batch]):
    """The samples of a training set, with their lengths and segments.

    An item is the collated `Batch` of a `MicroBatch`.
    """

    samples: Sequence[Sample]
    """The samples, with the paths of their images."""
    encoder: Encoder
    lengths: np.ndarray
    """Tokens of each sample: (samples,)."""
    targets: np.ndarray
    """Supervised tokens of each sample: (samples,)."""
    paths: Paths
    """The segments of each sample, by number."""
    sizes: np.ndarray
    """Tokens of each segment: (segments,)."""
    is_image: np.ndarray
    """Whether each segment is an image: (segments,)."""
    keys: np.ndarray
    """Digest of each segment: uint64 (segments,)."""
    places: np.ndarray
    """Number of the place (or other group) of each sample: (samples,)."""
    tasks: np.ndarray
    """Number of each sample's task in `task_names`: (samples,)."""
    task_names: tuple[str, ...]
    facts: dict[str, str]
    """What tells the training set from others: the part `data` of an identity (`geotune.runs.identity`)."""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Id of each rejected sample, and the reason."""
    prefix_tree: bool = True
    """Whether a batch is one prefix tree; otherwise it has one row per sample."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Number of the file's samples that are left out: those of other `tasks`, those beyond `limit`, and those that are
    `too_long`."""
    mix: tuple[tuple[int, float], ...] = ()
    """Number of samples and weight of each dataset, in the order of the samples; empty for a single dataset."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, micro: MicroBatch) -> Batch:
        """Return the batch of a micro-batch; unreadable samples are left out and listed in it."""
        kept, unreadable = [], []
        for index in micro.indices:
            try:
                encoded = self.encoder.encode(self.samples[index])
                if encoded.length != self.lengths[index]:
                    raise BadRecord(encoded.id, "one of its images has another size than when the run began")
                for path in encoded.images:
                    self.encoder.pixels(path)
            except BadRecord as error:
                unreadable.append((index, error.reason))
            else:
                kept.append(encoded)
        join = collate_tree if self.prefix_tree else collate
        # Every rank must run every micro-batch. If no sample is readable, this one runs text that supervises nothing.
        encoded_samples = kept or [self.unsupervised_text(self.samples[unreadable[0][0]])]
        batch = join(encoded_samples, self.encoder, update_targets=micro.update_targets, update=micro.update)
        if not unreadable:
            return batch
        return replace(
            batch,
            ids=tuple(sample.id for sample in kept),
            unreadable=tuple((self.samples[index].id, reason) for index, reason in unreadable),
            unreadable_targets=int(sum(self.targets[index] for index, _ in unreadable)),
        )

    def unsupervised_text(self, sample: Sample) -> Encoded:
        """Encode `sample` without its images and without supervision."""
        turns = tuple(Turn(turn.role, turn.text.replace(IMAGE_TAG, "")) for turn in sample.turns)
        encoded = self.encoder.encode(replace(sample, images=(), turns=turns))
        return Encoded(sample.id, tuple(Segment("text", segment.ids) for segment in encoded.segments))

    @property
    def chosen(self) -> list[ChosenSamples]:
        """The samples, by the file that holds them."""
        samples = self.samples
        return samples.parts if isinstance(samples, _ConcatenatedSamples) else [cast(ChosenSamples, samples)]

    @property
    def task_counts(self) -> dict[str, int]:
        """Number of samples of each task that occurs."""
        counts = np.bincount(self.tasks, minlength=len(self.task_names)).tolist()
        return {name: count for name, count in zip(self.task_names, counts, strict=True) if count}

    @property
    def fingerprint(self) -> str:
        """Digest of `facts`."""
        return fingerprint_of_facts(self.facts)

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids; each is read from the file when it is asked for."""
        return _Ids(self.samples)


class _Ids(Sequence[str]):
    """The ids of samples, read lazily."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.samples[index].id


def choose_samples(file: SampleFile, *, tasks: Sequence[str] | None, limit: int | None, seed: int) -> np.ndarray:
    """Return the numbers of the samples of `tasks` (None: all), ascending; at most `limit`, chosen at random by `seed`.

    Raises ConfigError if the file holds none of the tasks, or if the limit is below 1.
    """
    numbers = np.arange(len(file)) if tasks is None else np.flatnonzero(_is_of(file, tasks))
    if not len(numbers):
        check_tasks(tasks, [file])
    if limit is not None and limit < len(numbers):
        if limit < 1:
            raise ConfigError(Problem("data.limit", limit, "must be at least 1, or null for all samples"))
        numbers = numbers[np.sort(np.random.default_rng([seed, 1]).choice(len(numbers), limit, replace=False))]
    return numbers


def _is_of(file: SampleFile, tasks: Sequence[str]) -> np.ndarray:
    """Return whether each sample of a file is of one of the tasks: bool (samples,)."""
    return np.isin(file.tasks, [number for number, name in enumerate(file.task_names) if name in set(tasks)])


def load_dataset(file: Path, encoder: Encoder, config: DataConfig, *, seed: int) -> SampleDataset:
    """Load the training set in `file` as the options of the data say; their `path` and `mix` are not looked at.

    Raises ConfigError for a bad record or an unreadable image, and if no sample is left to train on.
    """
    source = SampleFile(file)
    of_tasks = len(source) if config.tasks is None else int(_is_of(source, config.tasks).sum())
    chosen = choose_samples(source, tasks=config.tasks, limit=config.limit, seed=seed)
    try:
        images = known_images(source, chosen, max_pixels=config.max_image_pixels)
        folder = Measure(source, encoder, chosen, config.max_length, images).folder()
    except BadRecord as error:
        raise ConfigError(Problem("data.path", file, str(error), "correct the record or remove it")) from error
    found = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    numbers = found["numbers"]
    return SampleDataset(
        ChosenSamples(source, numbers),
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
        facts_of(source, numbers, found["lengths"], images),
        [(sample, reason) for sample, reason in summary["rejected"]],
        config.prefix_tree,
        {
            "tasks": len(source) - of_tasks,
            "limit": of_tasks - len(chosen),
            "too_long": len(summary["rejected"]),
        },
    )


class _ConcatenatedSamples(Sequence[Sample]):
    """The samples of several datasets, one dataset after the other."""

    def __init__(self, parts: Sequence[SampleDataset]) -> None:
        self.parts = [cast(ChosenSamples, part.samples) for part in parts]
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.ends, index, "right"))
        return self.parts[part][index - (int(self.ends[part - 1]) if part else 0)]


def facts_of(
    source: SampleFile, numbers: np.ndarray, lengths: np.ndarray, images: Mapping[str, KnownImage]
) -> dict[str, str]:
    """Return what tells a training set from others, without reading records or images again.

    numbers, lengths: number in the file and tokens of each sample that is trained on. images: those that the samples
    show, which count by their names and byte sizes.
    """
    names = "\0".join(f"{name}\0{images[name].size_bytes}" for name in sorted(images))
    size = sum(image.size_bytes for image in images.values())
    return {
        "file of records": f"{len(source):,} records ({source.digest[:12]})",
        "choice of samples": f"{len(numbers):,} samples ({_digest_of(numbers)})",
        "tokens": f"{int(lengths.sum()):,} in all ({_digest_of(lengths)})",
        "images": f"{len(images):,} files of {size:,} bytes ({_short_digest(names.encode('utf-8', 'surrogatepass'))})",
    }


def _digest_of(numbers: np.ndarray) -> str:
    return _short_digest(np.ascontiguousarray(numbers, np.int64).tobytes())


def _short_digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def mix_datasets(parts: Sequence[SampleDataset], weights: Sequence[float]) -> SampleDataset:
    """Join several datasets to one, in which an epoch visits each sample of a dataset as often as its weight says.

    Samples of different datasets share segments with the same content, but never a place.
    """
    keys = np.concatenate([part.keys for part in parts])
    distinct, first, code = np.unique(keys, return_index=True, return_inverse=True)
    segments, places, segment_offset, place_offset = list[np.ndarray](), list[np.ndarray](), 0, 0
    for part in parts:
        segments.append(code[segment_offset + part.paths.segments].astype(np.int32))
        places.append(place_offset + part.places)
        segment_offset += len(part.keys)
        place_offset += int(part.places.max()) + 1
    names = list(dict.fromkeys(name for part in parts for name in part.task_names))
    tasks = [np.array([names.index(name) for name in part.task_names])[part.tasks] for part in parts]
    facts = dict(parts[0].facts)
    for number, (part, weight) in enumerate(zip(parts[1:], weights[1:], strict=True), 1):
        facts |= {
            f"mixed dataset {number}, {name}": text for name, text in (part.facts | {"weight": str(weight)}).items()
        }
    lengths = np.concatenate([part.paths.lengths for part in parts])
    return SampleDataset(
        _ConcatenatedSamples(parts),
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
        facts,
        [entry for part in parts for entry in part.rejected],
        parts[0].prefix_tree,
        left_out={reason: sum(part.left_out[reason] for part in parts) for reason in parts[0].left_out},
        mix=tuple((len(part), weight) for part, weight in zip(parts, weights, strict=True)),
    )
