"""Lengths and segments of training samples, found once and kept beside the dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geotune.data.cache import cached, forget
from geotune.data.paths import Paths
from geotune.data.sample_file import SampleFile
from geotune.encoding.encoder import Encoder
from geotune.errors import BadRecord, ConfigError
from geotune.sample import Sample
from geotune.system.digests import digest64
from geotune.system.images import check_image, resolve_image
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar

MEASURE_VERSION = 2
"""Raise it when the same samples come to be measured otherwise."""
KEPT_MEASURES = 8
"""Selections and processors whose measures are kept beside a dataset."""
BLOCK_SAMPLES = 512
"""Samples that one process encodes at a time."""
FEWEST_BLOCKS = 24
"""Blocks that make another process worth its start."""
COLUMNS = ("numbers", "lengths", "targets", "starts", "segments", "sizes", "is_image", "keys")
Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Measure:
    """Lengths and segments of chosen samples of a file, found once and kept."""

    source: SampleFile
    encoder: Encoder
    chosen: np.ndarray
    max_length: int
    max_image_pixels: int

    def folder(self) -> Path:
        """Where the columns are. Raises ConfigError, BadRecord."""
        image_sizes = self._image_sizes()
        digest = hashlib.sha256(self.chosen.astype(np.int64).tobytes())
        settings = (MEASURE_VERSION, self.source.digest, self.encoder.fingerprint, self.max_length)
        digest.update(json.dumps([*settings, sorted(image_sizes.items())]).encode())
        cache = self.source.folder.parent
        found = cached(cache, digest.hexdigest()[:16], "measure", lambda folder: self._write(folder, image_sizes))
        forget(cache, "measure", keep=KEPT_MEASURES)
        return found

    def _image_sizes(self) -> dict[str, Size]:
        """Size of every image by the name that records have for it; all are decoded once, and again if they change.

        Raises BadRecord for the first, in sample order, that is missing, broken or too large.
        """
        names = self.source.image_names()
        numbers = self.source.images_of(self.chosen).tolist()
        memory = self.source.folder.parent / "images.json"
        known = _known_images(memory)
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
            progress_bar("checking images", len(numbers)) as advance,
        ):
            for number, verdict in zip(numbers, pool.map(check, numbers), strict=True):
                if isinstance(verdict, BadRecord):
                    raise verdict.at("", self._user(number))
                found[names[number]] = verdict
                advance(1)
        if found.items() - known.items():
            memory.write_text(json.dumps(known | found), encoding="utf-8")
        return {name: verdict[2:] for name, verdict in found.items()}

    def _user(self, image: int) -> str:
        """Id of the first chosen sample that shows an image."""
        source = self.source
        users = np.searchsorted(source.image_starts, np.flatnonzero(source.image_numbers == image), "right") - 1
        return source[int(users[np.isin(users, self.chosen)][0])].id

    def _write(self, folder: Path, image_sizes: Mapping[str, Size]) -> None:
        source, rejected = self.source, list[tuple[str, str]]()
        parts: list[_Encoded] = []
        fingerprint = hashlib.sha256()
        blocks = [self.chosen[at : at + BLOCK_SAMPLES] for at in range(0, len(self.chosen), BLOCK_SAMPLES)]
        work = _Work(source, self.encoder, self.max_length)
        with (
            parallel_map(None, len(blocks), fewest=FEWEST_BLOCKS, chunk=2) as run,
            progress_bar("measuring samples", len(self.chosen)) as advance,
        ):
            names = source.image_names()
            jobs = ((block, self._sizes_for(block, names, image_sizes)) for block in blocks)
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

    def _sizes_for(self, block: np.ndarray, names: Sequence[str], image_sizes: Mapping[str, Size]) -> dict[str, Size]:
        return {names[number]: image_sizes[names[number]] for number in self.source.images_of(block).tolist()}


def _known_images(memory: Path) -> dict[str, tuple[int, int, int, int]]:
    """What is remembered of images by name: bytes, time of change, width, height."""
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
    is_image: np.ndarray
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
        block, image_sizes = job
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
            self._note(sample, image_sizes, noted)
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
            np.array([digest64(repr(key)) for key in known], np.uint64),
            b"".join(stated),
            rejected,
        )

    def _note(self, sample: Sample, image_sizes: Mapping[str, Size], noted: set[str]) -> None:
        """Tell the encoder the sizes of a sample's images, so that it need not open them."""
        for name in sample.images:
            if name not in noted:
                noted.add(name)
                try:
                    self.encoder.note_size(self.encoder.image_path(self.source.path.parent, name), *image_sizes[name])
                except BadRecord as error:
                    raise error.at("", sample.id) from error


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
        "is_image": np.concatenate([part.is_image for part in blocks])[first],
        "keys": keys[first],
    }
