"""Digests of the contents of images, kept by path, size and time of change so that each file is read once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from geotune.system.digests import fingerprint_of
from geotune.system.strict_json import write_json

READERS = 8
"""Number of threads that read; they wait for the disk most of the time."""
log = logging.getLogger(__name__)

Entry = tuple[int, int, str]
"""Size in bytes, time of change in nanoseconds, and digest of a file."""


def content_digest(images: Iterable[str], cache: Path) -> str:
    """Return a digest of the contents of images, whatever their names and order.

    cache: JSON file of the digests that are known, which is extended; one that can't be read or written is left out,
    and every image is then read. Raises OSError if an image can't be read.
    """
    known = _read(cache)
    paths = sorted({str(Path(image).absolute()) for image in images})
    with ThreadPoolExecutor(READERS) as pool:
        entries = dict(zip(paths, pool.map(lambda path: _entry(path, known.get(path)), paths), strict=True))
    if entries.items() - known.items():
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, {path: list(entry) for path, entry in (known | entries).items()})
        except OSError as error:
            log.warning("%s can't be written (%s): the images are read again next time", cache, error.strerror)
    return fingerprint_of("".join(sorted(digest for _, _, digest in entries.values())))


def _entry(path: str, known: Entry | None) -> Entry:
    status = Path(path).stat()
    if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
        return known
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    return status.st_size, status.st_mtime_ns, digest


def _read(cache: Path) -> dict[str, Entry]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        return {str(path): (int(size), int(changed), str(digest)) for path, (size, changed, digest) in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        log.warning("%s can't be read: all images are read again", cache)
        return {}
