"""Sizes of the images that samples show. Every image is decoded once, as a check, and its size is remembered.

The memory is the file `image_sizes.json` in the dataset's cache folder. An image is decoded again if its number of
bytes or its time of change differs from what is remembered, and all are if the file is damaged.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geotune.data.sample_file import SampleFile
from geotune.errors import BadRecord
from geotune.system.digests import fingerprint_of
from geotune.system.files import open_atomically
from geotune.system.images import check_image, resolve_image
from geotune.system.parallel import usable_cores
from geotune.system.progress import progress_bar

log = logging.getLogger(__name__)


class KnownImage(NamedTuple):
    """What is remembered of an image; width and height are in pixels."""

    size_bytes: int
    modified_ns: int
    width: int
    height: int


def known_images(source: SampleFile, chosen: np.ndarray, *, max_pixels: int) -> dict[str, KnownImage]:
    """Return every image that the samples `chosen` show, by the name that the records give it.

    Raises BadRecord for the first image, in the order of the samples, that is missing, broken or larger than
    `max_pixels`.
    """
    names = source.image_names()
    numbers = source.images_of(chosen).tolist()
    memory = source.folder.parent / "image_sizes.json"
    known = _read_memory(memory)
    folder = source.path.parent
    found: dict[str, KnownImage] = {}

    def check(number: int) -> KnownImage | BadRecord:
        name = names[number]
        try:
            return _check(resolve_image(folder, name), known.get(name), max_pixels)
        except BadRecord as error:
            return error

    # Threads are enough: decoding releases the interpreter's lock.
    with (
        ThreadPoolExecutor(max_workers=usable_cores()) as pool,
        progress_bar("checking images", len(numbers)) as advance,
    ):
        for number, verdict in zip(numbers, pool.map(check, numbers), strict=True):
            if isinstance(verdict, BadRecord):
                raise verdict.at("", _first_user(source, chosen, number))
            found[names[number]] = verdict
            advance(1)
    if found.items() - known.items():
        _write_memory(memory, known | found)
    return found


def _check(path: Path, known: KnownImage | None, max_pixels: int) -> KnownImage:
    """Return the entry of an image, decoded unless `known` is still true of it. Raises BadRecord."""
    try:
        state = path.stat()
    except OSError:
        check_image(path, max_pixels=None)  # raises BadRecord, which says what is wrong
        raise
    is_unchanged = known is not None and known[:2] == (state.st_size, state.st_mtime_ns)
    if known is not None and is_unchanged and known.width * known.height <= max_pixels:
        return known
    width, height = check_image(path, max_pixels=max_pixels)
    return KnownImage(state.st_size, state.st_mtime_ns, width, height)


def _write_memory(memory: Path, images: Mapping[str, KnownImage]) -> None:
    entries = json.dumps(images)
    with open_atomically(memory) as file:
        file.write(f'{{"digest": "{fingerprint_of(entries)}", "images": {entries}}}')


def _read_memory(memory: Path) -> dict[str, KnownImage]:
    """Return what is remembered of images, by name; nothing if the file is missing, damaged or of an older version."""
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
        if fingerprint_of(json.dumps(content["images"])) != content["digest"]:
            raise ValueError("it is not as it was written")
        return {name: KnownImage(*entry) for name, entry in content["images"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = "it is of an older version" if isinstance(error, KeyError) else str(error)
        log.warning("%s can't be used (%s); all images are checked again", memory, reason)
        if memory.is_dir():
            shutil.rmtree(memory)
        return {}


def _first_user(source: SampleFile, chosen: np.ndarray, image: int) -> str:
    """Return the id of the first chosen sample that shows an image."""
    users = np.searchsorted(source.image_starts, np.flatnonzero(source.image_numbers == image), "right") - 1
    return source[int(users[np.isin(users, chosen)][0])].id
