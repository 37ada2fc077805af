"""Image files: paths, checks and pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from geotune.errors import BadRecord, shortened
from geotune.system.color_profiles import to_srgb
from geotune.system.file_kinds import binary_kind
from geotune.system.image_names import missing_image, name_on_disk

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats that are opened. Pillow knows others that are no photos or run programs, such as PostScript."""
IMAGE_ENDINGS = ("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff")
"""Endings of the names of images that are opened."""
CAMERA_ENDINGS = (
    *("heic", "heics", "heif", "heifs", "hif", "avif", "avifs", "jp2", "j2k", "jpf", "jpx", "jxl", "jxr"),
    *("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "rwl", "raf", "pef", "srw", "raw"),
    *("3fr", "iiq", "x3f", "gpr", "mrw", "kdc", "dcr", "erf"),
)
"""Endings of the names of images that phones and cameras write and that not every tool opens."""
STRIP_HEIGHT = 160
"""Height in pixels of images that are shown side by side."""
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
_KEY_SCALES = {"1": 255, "L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}
"""Factor from a PNG file's samples to 8 bits, by the raw mode in which Pillow decodes them; 1 for any other."""


def resolve_image(dataset_dir: str | Path, name: str) -> Path:
    """Return the path of an image: a relative name below the dataset's folder with links resolved, or an absolute name.

    A name in another Unicode form than the file's own (composed or decomposed) finds the file. Raises BadRecord for a
    relative name that leads out of the folder. The file need not exist.
    """
    path = Path(name)
    if path.is_absolute():
        return name_on_disk(path)
    try:
        root = Path(dataset_dir).resolve()
        resolved = name_on_disk(root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, no file name
        raise BadRecord("", f"image {shortened(name)} can't be followed: {error}") from None
    if not resolved.is_relative_to(root):
        raise BadRecord("", f"image {name!r} leaves the dataset's folder {root}; name it by its absolute path")
    return resolved


def foreign_format(path: Path) -> str | None:
    """Return the format of an image that not every tool opens, by its ending and its content; None for any other.

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
        with _opened(path) as image:
            width, height = image.size
            _scale_key(image)
            image.draft("L", (64, 64))
            small = _on_white(_eight_bits(image)).convert("L").resize((32, 32), Image.Resampling.BOX)
    except (*_IMAGE_ERRORS, UnidentifiedImageError) as error:
        raise BadRecord("", f"image {path} can't be read: {error}", code="broken_image") from None
    return width, height, sum(small.tobytes()) / 1024


def load_image(path: str | Path, *, max_pixels: int | None = None, srgb: bool = False) -> Image.Image:
    """Return the image in RGB, 8 bits per channel, upright by its EXIF orientation, on white where it is transparent.

    srgb: convert the colors of an embedded profile to sRGB, for images that are written anew. Training, evaluation and
    locating take the values as they are stored, because inference servers do. Raises BadRecord.
    """
    image = _eight_bits(_decoded(Path(path), max_pixels))
    if not srgb:
        return _on_white(image)
    converted = _on_white(to_srgb(image, str(path)))
    converted.info.pop("icc_profile", None)  # else it would be written into the new file
    return converted


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a decoded image with 8 bits per channel; of 16 bits of gray, Pillow's conversion would keep the lowest."""
    if not image.mode.startswith("I"):
        return image
    gray = np.asarray(image).clip(0, 65535)
    eight = Image.fromarray((gray // 256).astype(np.uint8))
    if (key := image.info.get("transparency")) is not None:
        eight.putalpha(Image.fromarray(np.where(gray == key, 0, 255).astype(np.uint8)))
    eight.info["icc_profile"] = image.info.get("icc_profile")
    return eight


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image in RGB; what lies below transparent pixels is white.

    The arithmetic is that of vLLM (`rgba_to_rgb`) and of qwen_vl_utils (`to_rgb`), for every kind of transparency.
    """
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _scale_key(image: ImageFile.ImageFile) -> None:
    """Scale the transparent color of an opened PNG file to 8 bits, as its pixels will be; Pillow leaves it as stored.

    The color of 16-bit gray stays as it is, because those pixels stay so.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode == "P" or key is None or not image.tile:
        return
    arguments = image.tile[0].args or ("",)
    scale = _KEY_SCALES.get(arguments if isinstance(arguments, str) else arguments[0], 1)
    image.info["transparency"] = tuple(int(v * scale) for v in key) if isinstance(key, tuple) else int(key * scale)


def _decoded(path: Path, max_pixels: int | None) -> Image.Image:
    """Return the decoded, upright image in its own mode. Raises BadRecord."""
    try:
        if not path.is_file():
            raise missing_image(path)
        if not path.stat().st_size:
            raise BadRecord("", f"image {path} is empty (0 bytes)", code="broken_image")
        if path.suffix.lower().removeprefix(".") in CAMERA_ENDINGS:
            _refuse_raw(path)
        with _opened(path) as image:
            width, height = image.size
            if max_pixels is not None and width * height > max_pixels:
                size = f"{width} x {height} pixels, more than the {max_pixels} allowed"
                raise BadRecord("", f"image {path} has {size}", code="image_too_large")
            # The MPO and HEIC files of phones hold more views, for depth; the first one is the photo.
            if image.format not in ("MPO", "HEIF") and getattr(image, "n_frames", 1) > 1:
                raise BadRecord(
                    "", f"image {path} is animated or has pages; save the one that is meant", code="broken_image"
                )
            if image.mode.startswith("F"):
                raise BadRecord(
                    "",
                    f"image {path} holds real numbers, no colors; save it with 8 bits a channel",
                    code="broken_image",
                )
            _scale_key(image)
            image.load()
            return _upright(image)
    except BadRecord:
        raise
    except UnidentifiedImageError:
        raise _unknown(path) from None
    except Image.DecompressionBombError as error:  # Pillow's own limit may be lower than ours
        why = f"can't be read: {error.args[0]} More pixels than allowed"
        raise BadRecord("", f"image {path} {why}", code="image_too_large") from None
    except _IMAGE_ERRORS as error:
        raise BadRecord("", f"image {path} can't be read: {error}", code="broken_image") from None


def _opened(path: Path) -> ImageFile.ImageFile:
    """Open an image in a known format, or in HEIC if the library for it is installed. Raises what Pillow raises."""
    try:
        return Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        if foreign_format(path) != "HEIC" or not _opens_heic():
            raise
        return Image.open(path, formats=("HEIF",))


@cache
def _opens_heic() -> bool:
    """Make Pillow open HEIC files, and return whether the library for it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _refuse_raw(path: Path) -> None:
    """Raise BadRecord for a raw photo, of which Pillow would open the small preview as if it were the photo."""
    if foreign_format(path) not in (None, "AVIF", "HEIC"):
        raise _unknown(path)


def _unknown(path: Path) -> BadRecord:
    """Return the error for an image in a format that is not opened; it names the format where that is known."""
    with path.open("rb") as file:
        kind = binary_kind(file.read(64))
    if kind is not None and kind.treatment == "fetch":
        return BadRecord("", f"image {path} is {kind.what}; run `git lfs pull` in its folder", code="broken_image")
    foreign = foreign_format(path)
    why = f"is {foreign}, which can't be opened here; convert it" if foreign else "is no image in a known format"
    library = ", or install the extra geotune[heif]" if foreign == "HEIC" and not _opens_heic() else ""
    return BadRecord("", f"image {path} {why}{library} ({', '.join(_FORMATS)})", code="broken_image")


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


def side_by_side(images: Sequence[Image.Image], height: int = STRIP_HEIGHT, gap: int = 4) -> Image.Image:
    """Join images in one row on white, scaled to the same `height`, in their order: the ground view, then its maps."""
    scaled = [image.resize((max(1, round(image.width * height / image.height)), height)) for image in images]
    strip = Image.new("RGB", (max(1, sum(image.width for image in scaled) + gap * (len(scaled) - 1)), height), "white")
    left = 0
    for image in scaled:
        strip.paste(image, (left, 0))
        left += image.width + gap
    return strip
