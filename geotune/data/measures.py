"""Lengths and segments of training samples: measured once, by encoding every sample, and kept beside the dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geotune.data.cache import keep_newest, make_once
from geotune.data.image_sizes import KnownImage
from geotune.data.paths import Paths, number_by_appearance
from geotune.data.sample_file import SampleFile
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import Segment
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.system.digests import digest64
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar

MEASURE_VERSION = 4
"""Version of the measures; increase it when the same samples would be measured differently."""
KEPT_MEASURES = 8
"""Number of measures that are kept beside a dataset, each for one choice of samples and one processor."""
BLOCK_SAMPLES = 512
"""Number of samples that a process encodes at a time."""
FEWEST_BLOCKS = 24
"""Number of blocks per process that are worth the start of another process."""
COLUMNS = ("numbers", "lengths", "targets", "starts", "segments", "sizes", "is_image", "keys")
"""The arrays of a measure, one .npy file each:

- `numbers`, `lengths`, `targets`: number in the file, tokens and supervised tokens of each sample;
- `starts`, `segments`: the samples' `Paths`;
- `sizes`, `is_image`, `keys`: tokens, kind and digest of each distinct segment.
"""


@dataclass(frozen=True)
class Measure:
    """The measure of chosen samples of a file, made when it is first asked for."""

    source: SampleFile
    encoder: Encoder
    chosen: np.ndarray
    """Numbers of the samples in the file, ascending."""
    max_length: int
    """Samples of more tokens are rejected."""
    images: Mapping[str, KnownImage]
    """The images that the samples show, by the names that the records give them."""

    def folder(self) -> Path:
        """Return the folder that holds the `COLUMNS` and `summary.json`; measure the samples first if it is missing.

        Raises:
            BadRecord: A sample can't be encoded.
            ConfigError: Every sample is longer than `max_length`.
        """
        digest = hashlib.sha256(self.chosen.astype(np.int64).tobytes())
        sizes = sorted((name, image.width, image.height) for name, image in self.images.items())
        settings = (self.source.digest, self.encoder.fingerprint, self.max_length)
        digest.update(json.dumps([*settings, sizes]).encode())
        cache = self.source.folder.parent
        found = make_once(cache, "measure", MEASURE_VERSION, digest.hexdigest()[:16], self._write)
        keep_newest(cache, "measure", KEPT_MEASURES)
        return found

    def _write(self, folder: Path) -> None:
        """Measure the samples and write the result to `folder`."""
        source, rejected = self.source, list[tuple[str, str]]()
        parts: list[_MeasuredBlock] = []
        blocks = [self.chosen[at : at + BLOCK_SAMPLES] for at in range(0, len(self.chosen), BLOCK_SAMPLES)]
        measure_block = _BlockMeasurer(source, self.encoder, self.max_length)
        with (
            parallel_map(None, len(blocks), fewest=FEWEST_BLOCKS, chunk=2) as run,
            progress_bar("measuring samples", len(self.chosen)) as advance,
        ):
            names = source.image_names()
            jobs = ((block, self._images_of(block, names)) for block in blocks)
            for block, part in zip(blocks, run(measure_block, jobs), strict=True):
                rejected += part.rejected
                parts.append(part)
                advance(len(block))
        columns = _join(parts)
        if not len(columns["numbers"]):
            raise ConfigError(
                Problem("data.max_length", self.max_length, f"every sample of {source.path} is longer", "raise it")
            )
        for name, values in columns.items():
            np.save(folder / f"{name}.npy", values)
        (folder / "summary.json").write_text(json.dumps({"rejected": rejected}), encoding="utf-8")

    def _images_of(self, block: np.ndarray, names: Sequence[str]) -> dict[str, KnownImage]:
        """Return the images that the samples of a block show, by name."""
        return {names[number]: self.images[names[number]] for number in self.source.images_of(block).tolist()}


@dataclass
class _MeasuredBlock:
    """The measures of a block of samples; segments are numbered within the block."""

    numbers: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    paths: Paths
    sizes: np.ndarray
    is_image: np.ndarray
    keys: np.ndarray
    rejected: list[tuple[str, str]]
    """Id of each rejected sample, and the reason."""


@dataclass
class _Segments:
    """Numbers distinct segments in the order in which they first appear."""

    numbers: dict[Hashable, int] = field(default_factory=dict)
    """Number of each segment, by its key."""
    sizes: list[int] = field(default_factory=list)
    is_image: list[bool] = field(default_factory=list)

    def number(self, segment: Segment) -> int:
        """Return the number of a segment; a segment that was not seen before gets the next number."""
        number = self.numbers.setdefault(segment.key, len(self.numbers))
        if number == len(self.sizes):
            self.sizes.append(len(segment.ids))
            self.is_image.append(segment.kind == "image")
        return number


@dataclass(frozen=True)
class _BlockMeasurer:
    """Encodes and measures the samples of a block; a callable that can be sent to other processes."""

    source: SampleFile
    encoder: Encoder
    max_length: int

    def __call__(self, job: tuple[np.ndarray, dict[str, KnownImage]]) -> _MeasuredBlock:
        """Measure a block, given as the numbers of its samples and their images by name."""
        block, images = job
        numbers: list[int] = []
        lengths: list[int] = []
        targets: list[int] = []
        paths: list[list[int]] = []
        rejected: list[tuple[str, str]] = []
        segments = _Segments()
        noted: set[str] = set()
        for number in block.tolist():
            sample = self.source[number]
            placed = sample.in_folder(self.source.image_folder)
            try:
                for name, path in zip(sample.images, placed.images, strict=True):
                    if name not in noted:  # the encoder then does not open the file again
                        noted.add(name)
                        self.encoder.note_size(path, images[name].width, images[name].height)
            except BadRecord as error:
                raise error.at("", sample.id) from error
            encoded = self.encoder.encode(placed)
            assert encoded.targets > 0, "every sample supervises something"
            if encoded.length > self.max_length:
                rejected.append((sample.id, f"{encoded.length} tokens, data.max_length={self.max_length}"))
                continue
            numbers.append(number)
            lengths.append(encoded.length)
            targets.append(encoded.targets)
            paths.append([segments.number(segment) for segment in encoded.segments])
        self.encoder.forget_sizes()
        return _MeasuredBlock(
            np.array(numbers, np.int64),
            np.array(lengths, np.int64),
            np.array(targets, np.int64),
            Paths.of(paths),
            np.array(segments.sizes, np.int64),
            np.array(segments.is_image, bool),
            np.array([digest64(repr(key)) for key in segments.numbers], np.uint64),
            rejected,
        )


def _join(parts: Iterable[_MeasuredBlock]) -> dict[str, np.ndarray]:
    """Join all blocks to the `COLUMNS`; segments are numbered in the order in which they first appear in the file."""
    blocks = list(parts)
    keys = np.concatenate([block.keys for block in blocks])
    number, first = number_by_appearance(keys)
    offsets = np.cumsum([0, *(len(block.keys) for block in blocks)])
    segments = [number[block.paths.segments + offset] for block, offset in zip(blocks, offsets[:-1], strict=True)]
    counts = np.concatenate([block.paths.lengths for block in blocks])
    return {
        "numbers": np.concatenate([block.numbers for block in blocks]),
        "lengths": np.concatenate([block.lengths for block in blocks]),
        "targets": np.concatenate([block.targets for block in blocks]),
        "starts": np.concatenate([[0], np.cumsum(counts)]),
        "segments": np.concatenate(segments),
        "sizes": np.concatenate([block.sizes for block in blocks])[first],
        "is_image": np.concatenate([block.is_image for block in blocks])[first],
        "keys": keys[first],
    }
