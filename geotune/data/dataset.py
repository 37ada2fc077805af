"""Training samples: read strictly, encoded, measured; too long ones rejected with a reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from geotune.backbones.rendering import Encoded, Encoder, Segment
from geotune.data.collate import Batch, collate, collate_tree
from geotune.data.sampler import MicroBatch
from geotune.errors import ConfigError
from geotune.sample import BadRecord, Sample, check_image, read_samples


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
    paths: Sequence[tuple[int, ...]]
    """Each sample as numbers of its segments; those with the same number are the same."""
    sizes: np.ndarray
    """Tokens of each segment."""
    pictures: np.ndarray
    """Whether a segment is a picture."""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """(id, reason) of what was left out."""
    prefix_tree: bool = True
    """Whether a batch is a prefix tree, or a row per sample."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, micro: MicroBatch) -> Batch:
        encoded = [self.encoder.encode(self.samples[index], self.folder) for index in micro.indices]
        reasons = [self._unreadable(sample) for sample in encoded]
        broken = [(sample, reason) for sample, reason in zip(encoded, reasons, strict=True) if reason]
        kept = [sample for sample, reason in zip(encoded, reasons, strict=True) if not reason]
        join = collate_tree if self.prefix_tree else collate
        # Every process runs every micro-batch, so that they keep step: with nothing left, some words teach nothing.
        batch = join(
            kept or [words_of(broken[0][0])], self.encoder, update_targets=micro.update_targets, update=micro.update
        )
        if not broken:
            return batch
        return replace(
            batch,
            ids=tuple(sample.id for sample in kept),
            left_out=tuple((sample.id, reason) for sample, reason in broken),
            missing=sum(sample.targets for sample, _ in broken),
        )

    def _unreadable(self, encoded: Encoded) -> str:
        """Why a picture of `encoded` can't be read now; empty when all can."""
        try:
            for path in encoded.images:
                self.encoder.pixels(path)
        except BadRecord as error:
            return error.reason
        return ""

    @property
    def places(self) -> list[str]:
        """What the samples' questions are grouped by: the place, else the first picture, else nothing."""
        return [sample.place or (sample.images[0] if sample.images else sample.id) for sample in self.samples]

    @property
    def fingerprint(self) -> str:
        """Identifies the samples and their order: ids, answers and sizes."""
        digest = hashlib.sha256()
        for sample, length in zip(self.samples, self.lengths, strict=True):
            digest.update(json.dumps([sample.id, sample.answer, int(length)]).encode())
        return digest.hexdigest()[:16]


def words_of(encoded: Encoded) -> Encoded:
    """`encoded` without its pictures, and with nothing to supervise."""
    words = (Segment("text", segment.ids) for segment in encoded.segments if segment.kind != "image")
    return Encoded(encoded.id, tuple(words))


def load_samples(file: Path, *, tasks: Sequence[str] | None, limit: int | None, seed: int) -> list[Sample]:
    """The samples of `file` for `tasks`, at most `limit` (a seeded choice, in file order). Raises ConfigError."""
    try:
        samples = list(read_samples(file))
    except BadRecord as error:
        raise ConfigError(f"data.path={file}: {error}; correct the record or remove it") from error
    except OSError as error:
        raise ConfigError(f"data.path={file}: can't be read ({error})") from error
    if not samples:
        raise ConfigError(f"data.path={file}: holds no samples; build it again or name another file")
    if tasks is not None:
        kept = [sample for sample in samples if sample.task in set(tasks)]
        if not kept:
            there = ", ".join(sorted({sample.task for sample in samples}))
            raise ConfigError(f"data.tasks={list(tasks)}: {file} holds none of them, only {there}")
        samples = kept
    if limit is not None and limit < len(samples):
        if limit < 1:
            raise ConfigError(f"data.limit={limit}: must be at least 1, or null for all samples")
        chosen = np.sort(np.random.default_rng([seed, 1]).choice(len(samples), limit, replace=False))
        samples = [samples[index] for index in chosen]
    return samples


def check_images(samples: Iterable[Sample], folder: Path, encoder: Encoder, *, max_pixels: int) -> None:
    """Decode every distinct picture once, and tell `encoder` its size.

    Raises BadRecord for the first, in sample order, that is missing, broken, larger than `max_pixels` or of a shape
    that the backbone refuses.
    """
    users: dict[str, str] = {}
    for sample in samples:
        for name in sample.images:
            try:
                users.setdefault(encoder.locate(folder, name), sample.id)
            except BadRecord as error:
                raise error.at("", sample.id) from error

    def check(path: str) -> tuple[int, int] | BadRecord:
        try:
            return check_image(path, max_pixels=max_pixels)
        except BadRecord as error:
            return error

    # Decoding releases the interpreter's lock.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for (path, user), size in zip(users.items(), pool.map(check, users), strict=True):
            try:
                if isinstance(size, BadRecord):
                    raise size
                encoder.note_size(path, *size)
            except BadRecord as error:
                raise error.at("", user) from error


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
    folder = file.parent
    samples = load_samples(file, tasks=tasks, limit=limit, seed=seed)
    kept: list[Sample] = []
    lengths: list[int] = []
    targets: list[int] = []
    numbers: dict[Hashable, int] = {}
    paths: list[tuple[int, ...]] = []
    sizes: list[int] = []
    pictures: list[bool] = []
    rejected: list[tuple[str, str]] = []
    try:
        check_images(samples, folder, encoder, max_pixels=max_image_pixels)
        for sample in samples:
            encoded = encoder.encode(sample, folder)
            assert encoded.targets > 0, "every sample supervises something"
            if encoded.length > max_length:
                rejected.append((sample.id, f"{encoded.length} tokens, data.max_length={max_length}"))
                continue
            kept.append(sample)
            lengths.append(encoded.length)
            targets.append(encoded.targets)
            path = []
            for segment in encoded.segments:
                path.append(numbers.setdefault(segment.key, len(numbers)))
                if path[-1] == len(sizes):
                    sizes.append(len(segment.ids))
                    pictures.append(segment.kind == "image")
            paths.append(tuple(path))
    except BadRecord as error:
        raise ConfigError(f"data.path={file}: {error}; correct the record or remove it") from error
    if not kept:
        raise ConfigError(f"data.max_length={max_length}: every sample of {file} is longer; raise it")
    return SampleDataset(
        kept,
        folder,
        encoder,
        np.array(lengths),
        np.array(targets),
        paths,
        np.array(sizes),
        np.array(pictures),
        rejected,
        prefix_tree,
    )
