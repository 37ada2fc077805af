"""Writes the images that builders make."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image


def write_image(path: Path, image: Image.Image) -> None:
    """Write `image` as PNG or, for any other suffix, as JPEG; the file appears complete or not at all.

    Several processes may write the same image: each writes a file of its own, and the last rename wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    if path.suffix == ".png":
        image.save(partial, format="PNG", compress_level=1)
    else:
        image.save(partial, format="JPEG", quality=95, subsampling=0)
    partial.replace(path)
