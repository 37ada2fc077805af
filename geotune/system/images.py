"""Image files: paths, checks and pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from geotune.errors import BadRecord, shortened
from geotune.system.file_kinds import binary_kind
from geotune.system.image_names import missing_image

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened. Pillow knows others that are no photos or run programs, such as PostScript."""
IMAGE_ENDINGS = ("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff")
"""Endings of the names of images that are opened."""
CAMERA_ENDINGS = (
    *("heic", "heics", "heif", "heifs", "hif", "avif", "avifs", "jp2", "j2k", "jpf", "jpx", "jxl", "jxr"),
    *("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "rwl", "raf", "pef", "srw", "raw"),
    *("3fr", "iiq", "x3f", "gpr", "mrw", "kdc", "dcr", "erf"),
)
"""Endings of the names of images that phones and cameras write and that are not opened."""
_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow's decoders raise on truncated or malformed files."""
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that makes an image upright, by its EXIF orientation."""


def resolve_image(dataset_dir: str | Path, name: str) -> Path:
    """Return the path of an image: a relative name below the dataset's folder with links resolved, or an absolute name.

    Raises BadRecord for a relative name that leads out of the folder. The file need not exist.
    """
    path = Path(name)
    if path.is_absolute():
        return path
    try:
        root = Path(dataset_dir).resolve()
        resolved = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, no file name
        raise BadRecord("", f"image {shortened(name)} can't be followed: {error}") from None
    if not resolved.is_relative_to(root):
        raise BadRecord("", f"image {name!r} leaves the dataset's folder {root}; name it by its absolute path")
    return resolved


def foreign_format(path: Path) -> str | None:
    """Return the format of an image that can't be opened, by its ending and its content; None if it may be opened.

    A raw photo begins like a TIFF file, whose first image is often only a thumbnail, so its ending decides. Any other
    file may have a wrong ending, so its content decides.
    """
    with path.open("rb") as file:
        head = file.read(12)
    ending = path.suffix.lower().removeprefix(".")
    if head[4:8] == b"ftyp":
        return {b"avi": "AVIF", b"crx": "CR3"}.get(head[8:11], "HEIC")
    if ending not in CAMERA_ENDINGS or head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")):
        return None
    return ending.upper()


def check_image(path: str | Path, *, max_pixels: int | None) -> tuple[int, int]:
    """Decode an image completely and return its width and height, in pixels, as `load_image` returns it.

    Raises BadRecord if the file is missing, empty, truncated, animated, no image in a known format, made of
    floating-point values, or of more than `max_pixels`.
    """
    return _decoded(Path(path), max_pixels).size


def image_facts(path: str | Path) -> tuple[int, int, float]:
    """Return width and height in pixels and mean brightness (0 to 255) of an image. Raises BadRecord.

    It is fast, because a JPEG is decoded at a fraction of its size, and the EXIF orientation is ignored.
    """
    path = Path(path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            image.draft("L", (64, 64))
            small = image.convert("L").resize((32, 32), Image.Resampling.BOX)
    except (*_IMAGE_ERRORS, UnidentifiedImageError) as error:
        raise BadRecord("", f"image {path} can't be read: {error}", code="broken_image") from None
    return width, height, sum(small.tobytes()) / 1024


def load_image(path: str | Path, *, max_pixels: int | None = None) -> Image.Image:
    """Return the image in RGB, 8 bits per channel, upright by its EXIF orientation. Raises BadRecord."""
    image = _decoded(Path(path), max_pixels)
    if image.mode.startswith("I"):  # 16 bits of gray, of which Pillow's conversion would keep the lowest eight
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    return image.convert("RGB")


def _decoded(path: Path, max_pixels: int | None) -> Image.Image:
    """Return the decoded, upright image in its own mode. Raises BadRecord."""
    try:
        if not path.is_file():
            raise missing_image(path)
        if not path.stat().st_size:
            raise BadRecord("", f"image {path} is empty (0 bytes)", code="broken_image")
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if max_pixels is not None and width * height > max_pixels:
                size = f"{width} x {height} pixels, more than the {max_pixels} allowed"
                raise BadRecord("", f"image {path} has {size}", code="image_too_large")
            # The MPO files of phones hold a second view for depth; the first one is the photo.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise BadRecord(
                    "", f"image {path} is animated or has pages; save the one that is meant", code="broken_image"
                )
            if image.mode.startswith("F"):
                raise BadRecord(
                    "",
                    f"image {path} holds real numbers, no colors; save it with 8 bits a channel",
                    code="broken_image",
                )
            image.load()
            return _upright(image)
    except BadRecord:
        raise
    except UnidentifiedImageError:
        known, foreign = ", ".join(_FORMATS), foreign_format(path)
        why = f"is {foreign}, which can't be opened here; convert it" if foreign else "is no image in a known format"
        with path.open("rb") as file:
            if (kind := binary_kind(file.read(64))) is not None and kind.treatment == "fetch":
                text = f"image {path} is {kind.what}; run `git lfs pull` in its folder"
                raise BadRecord("", text, code="broken_image") from None
        raise BadRecord("", f"image {path} {why} ({known})", code="broken_image") from None
    except Image.DecompressionBombError as error:  # Pillow's own limit may be lower than ours
        why = f"can't be read: {error.args[0]} More pixels than allowed"
        raise BadRecord("", f"image {path} {why}", code="image_too_large") from None
    except _IMAGE_ERRORS as error:
        raise BadRecord("", f"image {path} can't be read: {error}", code="broken_image") from None


def _upright(image: Image.Image) -> Image.Image:
    """Return an upright copy without EXIF. Pillow's `exif_transpose` fails on EXIF that it can't write."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _IMAGE_ERRORS:  # unreadable EXIF does not make the image unusable
        orientation = None
    turn = _TURNS.get(orientation)
    upright = image.copy() if turn is None else image.transpose(turn)
    upright.info.pop("exif", None)
    return upright
