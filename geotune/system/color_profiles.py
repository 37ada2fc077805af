"""Colors of embedded profiles (Display P3, Adobe RGB, CMYK inks), converted to sRGB."""

from __future__ import annotations

import io
import logging
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}
"""Mode of the values that a profile describes, by the profile's color space."""
_SAME = 1
"""Largest difference of 8-bit values at which a profile counts as sRGB itself."""
log = logging.getLogger(__name__)


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Return a decoded image in sRGB. An image without a profile stays as it is.

    A profile that can't be read, or that is made for another kind of image, is left out with a warning, which names the
    image `name` and comes once for each profile.
    """
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        space = _color_space(profile)
        colors, alpha = _split(image, space)
        if colors.mode != _MODES.get(space):
            raise ValueError(f"it describes {space} values, and the image has {image.mode} values")
        transform = _transform(profile, colors.mode)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _warn(profile, name, str(error))
        return image
    if transform is None:
        return image
    converted = ImageCms.applyTransform(colors, transform)
    assert converted is not None, "the transform does not work in place"
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _split(image: Image.Image, space: str) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors of an image in the mode that a profile of `space` describes, and its alpha channel or None.

    The mode stays another one if a conversion would have to guess what the values mean.
    """
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if space == "RGB" and image.mode not in ("CMYK", "LAB"):
        return image.convert("RGB"), alpha
    if space == "GRAY" and image.mode in ("1", "L", "LA"):
        return image.convert("L"), alpha
    return image, alpha


@lru_cache(maxsize=64)
def _color_space(profile: bytes) -> str:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB, or None for a profile that is sRGB itself."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode != "RGB":
        return transform
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform))
    difference = np.abs(moved.astype(int) - colors).max()
    return None if difference <= _SAME else transform


@lru_cache(maxsize=64)
def _warn(profile: bytes, name: str, why: str) -> None:
    log.warning("%s: its color profile is left out (%s)", name, why)
