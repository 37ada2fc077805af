"""Checks images and cuts maps into crops in parallel; crops that exist already are reused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_builders.imagery.ledger import open_ledger
from geotune.errors import BadRecord, ConfigError
from geotune.imagery.crops import CROPS, crop_box
from geotune.system.images import check_image, load_image
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar

# Part of every crop's name: change it when the crops of one map would come out differently.
CROP_VERSION = b"crops 1: 2/3 x 2/3, one size, png\n"
# What an image's check amounts to: change it when one that passed would come to be refused.
CHECK_VERSION = 1


@dataclass(frozen=True)
class ImageFile:
    """What is known of one image after the check. `reason` is empty when it is usable."""

    path: Path
    width: int = 0
    height: int = 0
    crops: str = ""
    """Folder of its nine crops, relative to the crops' root; empty when none were asked for."""
    digest: str = ""
    """Of the file's content; empty when no crops were asked for."""
    made: int = 0
    """How many crops had to be cut."""
    reason: str = ""
    """Why it can't be used: missing_image, broken_image or image_too_large."""
    detail: str = ""

    def crop(self, name: str) -> str:
        """Path of a crop relative to the crops' root."""
        return f"{self.crops}/{name}.png"


def prepare_image(path: Path, *, crops_root: Path | None, max_pixels: int) -> ImageFile:
    """Decode one image fully, and cut its nine crops when `crops_root` is given.

    Crops are named by the map's content, so a rebuild finds them, a changed map gets new ones, and a map that several
    index files or paths share is cut once. They are PNG: a second lossy compression would differ with the crop's
    offset to the first one's blocks.
    """
    if not path.is_file():
        return ImageFile(path, reason="missing_image", detail=str(path))
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
        return ImageFile(path, reason=reason_word(error), detail=str(error))
    return ImageFile(path, width, height, folder, digest, len(missing))


def _cut(path: Path, folder: Path, names: Sequence[str]) -> None:
    image = load_image(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        # Another process may cut the same map: each writes its own file and the last rename wins with equal content.
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        image.crop(crop_box(name, *image.size)).save(temporary, format="PNG", compress_level=1)
        temporary.replace(folder / f"{name}.png")


def prepare_images(
    paths: Iterable[Path],
    maps: Iterable[Path],
    *,
    crops_root: Path,
    max_pixels: int,
    workers: int | None = None,
) -> dict[Path, ImageFile]:
    """Check every image, and cut those of `maps`, in `workers` processes (None: one per usable core).

    What an earlier build into the same folder found out about an image that has not changed since is taken from there.

    Raises:
        ConfigError: `crops_root` can't be written.
    """
    to_cut = set(maps)
    to_check = set(paths) - to_cut
    check = partial(prepare_image, crops_root=None, max_pixels=max_pixels)
    cut = partial(prepare_image, crops_root=crops_root, max_pixels=max_pixels)
    found: dict[Path, ImageFile] = {}
    try:
        with open_ledger(crops_root.parent) as ledger:
            for path in to_cut | to_check:
                root = crops_root if path in to_cut else None
                known = _known(ledger.find(path), path, root, max_pixels)
                if known is not None:
                    found[path] = known
            jobs = [(job, sorted(some - found.keys())) for job, some in ((cut, to_cut), (check, to_check))]
            new = sum(len(some) for _, some in jobs)
            with parallel_map(workers, new) as run, progress_bar("images", new + len(found)) as advance:
                for _ in tuple(found):
                    advance()
                for job, some in jobs:
                    for image in run(job, some):
                        found[image.path] = image
                        if not image.reason:
                            ledger.note(image.path, **_entry(image))
                        advance()
    except OSError as error:
        raise ConfigError(f"out: can't write crops to {crops_root} ({error.strerror})") from error
    return found


def _entry(image: ImageFile) -> dict[str, Any]:
    facts = {name: getattr(image, name) for name in ("width", "height", "crops", "digest")}
    return {**facts, "check": CHECK_VERSION, "cut": CROP_VERSION.decode()}


def _known(entry: Mapping[str, Any] | None, path: Path, crops_root: Path | None, max_pixels: int) -> ImageFile | None:
    """The image as an earlier build found it, if that says all that is asked and its crops are still there."""
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


def reason_word(error: BadRecord) -> str:
    """A word to count by, for what `check_image` says in a sentence."""
    return "image_too_large" if error.reason.endswith("allowed") else "broken_image"
