"""Writes the images that builders make."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from geotune.system.files import open_atomically


def write_image(path: Path, image: Image.Image) -> None:
    """Write `image` as PNG or, for any other suffix, as JPEG; the file appears complete or not at all.

    Several processes may write the same image: each writes a file of its own, and the last rename wins.
    """
    with open_atomically(path, binary=True) as file:
        if path.suffix == ".png":
            image.save(file, format="PNG", compress_level=1)
        else:
            image.save(file, format="JPEG", quality=95, subsampling=0)
