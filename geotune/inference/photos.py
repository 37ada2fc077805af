"""The photos that a user names: a file, or a folder with all that it holds and all that has to be left out."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from geotune.errors import ConfigError, Problem
from geotune.system.images import CAMERA_ENDINGS, IMAGE_ENDINGS

NO_IMAGE = "no image"
NO_FILE = "neither a file nor a folder"
HIDDEN = "hidden"
DANGLING = "link that leads nowhere"
UNREADABLE = "can't be read"
SEEN = "link to a folder that is read already"
SHOWN = 3
"""Number of names that a message lists."""
_ENDINGS = frozenset((*IMAGE_ENDINGS, *CAMERA_ENDINGS))
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
"""First bytes of JPEG, PNG, GIF and TIFF files."""
_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"))
"""Brands of HEIC and AVIF files, which begin like videos."""


@dataclass(frozen=True)
class FoundPhotos:
    """The photos below a name, and what else lies there."""

    photos: list[Path]
    """Images, sorted by path, whether they can be opened here or not."""
    left_out: Mapping[str, list[Path]] = field(default_factory=dict)
    """Files and folders that hold no photo or can't be looked into, by the reason."""

    def counts(self) -> dict[str, int]:
        """Return the number of files and folders left out, by reason."""
        return {reason: len(paths) for reason, paths in self.left_out.items()}

    def summary(self) -> str:
        """Return what is left out as one line, with the first names of each kind; empty if nothing is."""
        return "; ".join(f"{reason}: {len(paths):,} ({first_names(paths)})" for reason, paths in self.left_out.items())


def find_photos(image: str, own: Collection[Path] = ()) -> FoundPhotos:
    """Find the file `image`, or all images in the folder `image`, at any depth.

    A file is an image if its ending or its first bytes say so. Links are followed, and a folder that several paths
    reach is read once. Files and folders with a hidden name are left out, and so are the files `own`, which this
    command itself writes.

    Raises:
        ConfigError: there is no such file or folder, or the folder holds no image.
    """
    named = Path(image)
    if named.is_file():
        return FoundPhotos([named])
    if not named.is_dir():
        raise ConfigError(
            Problem("image", image, "there is no such file or folder", "name a photo or a folder of photos")
        )
    photos: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    skipped = {path.absolute() for path in own}
    for path, reason in _look_through(named):
        if reason is None:
            photos.append(path)
        elif path.absolute() not in skipped:
            left_out.setdefault(reason, []).append(path)
    found = FoundPhotos(sorted(photos), {reason: sorted(paths) for reason, paths in sorted(left_out.items())})
    if not photos:
        others = f"; it holds {found.summary()}" if left_out else ""
        raise ConfigError(Problem("image", image, f"this folder holds no image{others}", "name another folder"))
    return found


def _look_through(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield each file and each unusable folder below `root` with the reason to leave it out; None for an image.

    Linked folders come last, so that the photos of a folder that lies below `root` have their own paths.
    """
    seen: set[tuple[int, int]] = set()
    folders, linked = [root], list[Path]()
    while folders or linked:
        folder = folders.pop() if folders else linked.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                yield folder, SEEN
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:
            yield folder, UNREADABLE
            continue
        for entry in entries:
            path = folder / entry.name
            is_folder, reason = _assess(entry, path)
            if is_folder and reason is None:
                (linked if entry.is_symlink() else folders).append(path)
            elif not is_folder or reason is not None:
                yield path, reason
        linked.sort(reverse=True)


def _assess(entry: os.DirEntry[str], path: Path) -> tuple[bool, str | None]:
    """Return whether an entry is a folder, and the reason to leave it out, or None."""
    try:
        is_folder = entry.is_dir()
        if entry.name.startswith("."):
            return is_folder, HIDDEN if is_folder or _has_image_ending(path) else NO_IMAGE
        if is_folder:
            return True, None
        if not entry.is_file():
            return False, DANGLING if entry.is_symlink() else NO_FILE
        return False, None if _has_image_ending(path) or _begins_as_image(path) else NO_IMAGE
    except OSError:
        return False, DANGLING if entry.is_symlink() and not path.exists() else UNREADABLE


def _has_image_ending(path: Path) -> bool:
    return path.suffix.lower().removeprefix(".") in _ENDINGS


def _begins_as_image(path: Path) -> bool:
    """Whether the first bytes of a file are those of a photo, whatever its name."""
    with path.open("rb") as file:
        head = file.read(12)
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith(_BEGINNINGS) or webp or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)


def text_of(name: str | Path) -> str:
    r"""Return a file's name as valid Unicode: bytes that are no UTF-8 become escapes, `M\xfcnchen.jpg`."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def on_one_line(text: str) -> str:
    r"""Return a text for the terminal, with control characters as escapes such as `\n`."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def first_names(paths: Collection[Path]) -> str:
    """Return the first few names of `paths` for a message."""
    names = [on_one_line(text_of(path)) for path in list(paths)[:SHOWN]]
    return ", ".join([*names, "..."] if len(paths) > SHOWN else names)
