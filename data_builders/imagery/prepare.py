"""Checks images and cuts maps into crops in parallel; existing crops are reused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_builders.imagery.ledger import open_ledger
from data_builders.imagery.writing import write_image
from geotune.errors import ABSENT, BadRecord, ConfigError, Problem
from geotune.imagery.crops import CROPS, crop_box
from geotune.system.image_names import missing_image
from geotune.system.images import check_image, load_image
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar

CROP_VERSION = b"crops 2: 2/3 x 2/3, one size, png, srgb on white\n"
"""Part of the digest in every crop's path: change it when the crops of a map would come out differently."""
CHECK_VERSION = 1
"""Increase it when an image that passed the check would now be rejected."""


@dataclass(frozen=True)
class ImageFile:
    """The result of checking one image. `reason` is empty if the image is usable."""

    path: Path
    width: int = 0
    height: int = 0
    crops: str = ""
    """Folder of its nine crops, relative to the crops' root; empty if no crops were requested."""
    digest: str = ""
    """Digest of the file's content; empty if no crops were requested."""
    made: int = 0
    """Number of crops that were cut, not reused."""
    reason: str = ""
    """Why the image is rejected: missing_image, broken_image or image_too_large."""
    detail: str = ""
    """The reason in a sentence."""

    def crop(self, name: str) -> str:
        """Path of a crop, relative to the crops' root."""
        return f"{self.crops}/{name}.png"


def prepare_image(path: Path, *, crops_root: Path | None, max_pixels: int) -> ImageFile:
    """Decode one image fully and, if `crops_root` is given, cut its nine crops.

    The path of a crop holds a digest of the map's content: a rebuild finds the crops again, a changed map gets new
    ones, and a map that several index files or paths share is cut once. Crops are PNG files, because the artifacts of
    a second lossy compression would depend on the crop's offset to the blocks of the first.
    """
    if not path.is_file():
        return ImageFile(path, reason="missing_image", detail=missing_image(path).reason)
    try:
        width, height = check_image(path, max_pixels=max_pixels)
        if crops_root is None:
            return ImageFile(path, width, height)
        digest = hashlib.blake2b(CROP_VERSION + path.read_bytes(), digest_size=16).hexdigest()
        folder = f"{digest[:2]}/{digest}"
        missing = [name for name in CROPS if not (crops_root / folder / f"{name}.png").exists()]
        if missing:
            _cut(path, crops_root / folder, missing)
    except BadRecord as error:
        return ImageFile(path, reason=error.code, detail=str(error))
    return ImageFile(path, width, height, folder, digest, len(missing))


def _cut(path: Path, folder: Path, names: Sequence[str]) -> None:
    image = load_image(path, srgb=True)
    for name in names:
        write_image(folder / f"{name}.png", image.crop(crop_box(name, *image.size)))


def prepare_images(
    paths: Iterable[Path],
    maps: Iterable[Path],
    *,
    crops_root: Path,
    max_pixels: int,
    workers: int | None = None,
) -> dict[Path, ImageFile]:
    """Check every image and cut those of `maps`. Returns the results by path.

    An image that has not changed since an earlier build into the same folder is not opened again: its result comes
    from that build's ledger.

    Args:
        paths: Images to check; those that are also in `maps` are checked once.
        maps: Images to check and cut.
        crops_root: Folder of all crops.
        max_pixels: Images with more pixels are rejected.
        workers: Number of processes; None for one per usable core.

    Raises:
        ConfigError: `crops_root` can't be written.
    """
    to_cut = set(maps)
    to_check = set(paths) - to_cut
    check = partial(prepare_image, crops_root=None, max_pixels=max_pixels)
    cut = partial(prepare_image, crops_root=crops_root, max_pixels=max_pixels)
    results: dict[Path, ImageFile] = {}
    try:
        with open_ledger(crops_root.parent) as ledger:
            for path in to_cut | to_check:
                root = crops_root if path in to_cut else None
                known = _known(ledger.find(path), path, root, max_pixels)
                if known is not None:
                    results[path] = known
            jobs = [(job, sorted(images - results.keys())) for job, images in ((cut, to_cut), (check, to_check))]
            new = sum(len(images) for _, images in jobs)
            with parallel_map(workers, new) as run, progress_bar("images", new + len(results)) as advance:
                advance(len(results))
                for job, images in jobs:
                    for image in run(job, images):
                        results[image.path] = image
                        if not image.reason:
                            ledger.note(image.path, **_entry(image))
                        advance()
    except OSError as error:
        raise ConfigError(Problem("out", ABSENT, f"can't write crops to {crops_root} ({error.strerror})")) from error
    return results


def _entry(image: ImageFile) -> dict[str, Any]:
    """The facts about an image that the ledger keeps."""
    facts = {name: getattr(image, name) for name in ("width", "height", "crops", "digest")}
    return {**facts, "check": CHECK_VERSION, "cut": CROP_VERSION.decode()}


def _known(entry: Mapping[str, Any] | None, path: Path, crops_root: Path | None, max_pixels: int) -> ImageFile | None:
    """Return an earlier build's result for an image, if it answers this request and its crops still exist."""
    if entry is None or entry["check"] != CHECK_VERSION or entry["width"] * entry["height"] > max_pixels:
        return None
    if crops_root is None:
        return ImageFile(path, entry["width"], entry["height"])
    folder = crops_root / entry["crops"]
    if not entry["crops"] or entry["cut"] != CROP_VERSION.decode() or not folder.is_dir():
        return None
    if not {f"{name}.png" for name in CROPS} <= set(os.listdir(folder)):
        return None
    return ImageFile(path, entry["width"], entry["height"], entry["crops"], entry["digest"])
