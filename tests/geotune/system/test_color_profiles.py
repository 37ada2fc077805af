"""Colors of embedded profiles in the images that builders write; loading alone leaves them as they are."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from data_builders.imagery.prepare import prepare_image
from data_builders.imagery.satellite import tile_folder
from geotune.system.images import load_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DISPLAY_P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
"""Primaries of Display P3, adapted to D50; its tone curve is that of sRGB."""
WHITE_D50 = (0.9642, 1.0, 0.8249)


def fixed(values: tuple[float, ...]) -> bytes:
    """Numbers as ICC profiles store them, with 16 bits behind the point."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def display_p3() -> bytes:
    """The profile of sRGB with the primaries of Display P3."""
    profile = bytearray(SRGB)
    (count,) = struct.unpack(">I", profile[128:132])
    for at in range(132, 132 + 12 * count, 12):
        name, offset, _ = struct.unpack(">4sII", profile[at : at + 12])
        if name in DISPLAY_P3:
            profile[offset + 8 : offset + 20] = fixed(DISPLAY_P3[name])
    return bytes(profile)


def profile(space: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A minimal ICC profile."""
    connection = b"Lab " if b"A2B0" in tags else b"XYZ "
    head = struct.pack(">I4sI4s4s4s12s4s", 0, b"lcms", 0x02100000, kind, space, connection, b"", b"acsp").ljust(
        68, b"\0"
    )
    head += fixed(WHITE_D50)
    table, content, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value = value.ljust(-(-len(value) // 4) * 4, b"\0")
        table += struct.pack(">4sII", name, offset + len(content), len(value))
        content += value
    whole = head.ljust(128, b"\0") + table + content
    return struct.pack(">I", len(whole)) + whole[4:]


def linear_gray() -> bytes:
    """Profile of gray values that are proportional to light."""
    white = b"XYZ \0\0\0\0" + fixed(WHITE_D50)
    return profile(b"GRAY", b"mntr", {b"wtpt": white, b"kTRC": b"curv\0\0\0\0\0\0\0\0"})


def black_inks() -> bytes:
    """Profile of a printer on which any full ink is black."""
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed((1, 0, 0, 0, 1, 0, 0, 0, 1)) + bytes(range(256)) * 4
    lut += b"".join(bytes([0 if any(inks) else 255, 128, 128]) for inks in itertools.product((0, 1), repeat=4))
    return profile(b"CMYK", b"prtr", {b"A2B0": lut + bytes(range(256)) * 3})


def in_srgb(p3: tuple[int, ...]) -> np.ndarray:
    """A color of Display P3 in sRGB, by the definitions of both."""
    light = np.asarray(p3) / 255
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    primaries = {b"r": (0.43607, 0.22249, 0.01392), b"g": (0.38515, 0.71687, 0.09708), b"b": (0.14307, 0.06061, 0.7141)}
    light = np.linalg.solve(np.array([*primaries.values()]).T, np.array([*DISPLAY_P3.values()]).T @ light)
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def write(path: Path, mode: str, color: Any, icc: bytes, size: int = 16) -> Path:
    Image.new(mode, (size, size), color).save(path, icc_profile=icc)
    return path


@pytest.mark.parametrize("color", [(200, 100, 50), (30, 120, 60), (128, 128, 128), (255, 0, 0)])
def test_display_p3_becomes_srgb_only_when_asked(tmp_path: Path, color: tuple[int, int, int]) -> None:
    path = write(tmp_path / "a.png", "RGB", color, display_p3())
    assert load_image(path).getpixel((0, 0)) == color
    converted = load_image(path, srgb=True)
    np.testing.assert_allclose(converted.getpixel((0, 0)), in_srgb(color), atol=2)
    assert "icc_profile" not in converted.info


def test_values_of_srgb_and_of_no_profile_stay_exactly(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for icc in (SRGB, None):
        noise.save(tmp_path / "a.png", icc_profile=icc)
        np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png", srgb=True)), np.asarray(noise))


def test_other_modes(tmp_path: Path) -> None:
    gray = load_image(write(tmp_path / "gray.png", "L", 128, linear_gray()), srgb=True)
    np.testing.assert_allclose(gray.getpixel((0, 0)), (188, 188, 188), atol=1)
    inks = write(tmp_path / "inks.tiff", "CMYK", (255, 0, 0, 0), black_inks())
    assert load_image(inks).getpixel((0, 0)) == (0, 255, 255)
    np.testing.assert_allclose(load_image(inks, srgb=True).getpixel((0, 0)), (0, 0, 0), atol=2)
    half = load_image(write(tmp_path / "half.png", "RGBA", (200, 100, 50, 128), display_p3()), srgb=True)
    np.testing.assert_allclose(half.getpixel((0, 0)), (in_srgb((200, 100, 50)) * 128 + 255 * 127) / 255, atol=2)
    clear = load_image(write(tmp_path / "clear.png", "RGBA", (200, 100, 50, 0), display_p3()), srgb=True)
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("RGB", (4, 4), (200, 100, 50)).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png", icc_profile=display_p3())
    np.testing.assert_allclose(
        load_image(tmp_path / "p.png", srgb=True).getpixel((0, 0)), in_srgb((200, 100, 50)), atol=3
    )


@pytest.mark.parametrize(("mode", "icc"), [("RGB", b"no profile"), ("CMYK", SRGB), ("RGB", linear_gray())])
def test_a_profile_that_does_not_fit_is_left_out_and_said(
    tmp_path: Path, mode: str, icc: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / f"{len(icc)}.tiff", mode, 30, icc)
    expected = load_image(path)
    assert load_image(path, srgb=True).tobytes() == expected.tobytes()
    load_image(path, srgb=True)
    assert [path.name in record.getMessage() for record in caplog.records] == [True]


def test_builders_write_srgb_on_white(tmp_path: Path) -> None:
    tile = write(tmp_path / "1.png", "RGBA", (200, 100, 50, 255), display_p3())
    pixels = tile_folder(tmp_path, "1.png")(0, 0, 0)
    np.testing.assert_allclose(pixels[0, 0], in_srgb((200, 100, 50)), atol=2)
    write(tile, "LA", (0, 0), b"")
    assert tile_folder(tmp_path, "1.png")(0, 0, 0).min() == 255
    source = write(tmp_path / "map.png", "RGB", (200, 100, 50), display_p3(), size=30)
    made = prepare_image(source, crops_root=tmp_path / "crops", max_pixels=10**6)
    with Image.open(tmp_path / "crops" / made.crop("center")) as crop:
        np.testing.assert_allclose(crop.getpixel((0, 0)), in_srgb((200, 100, 50)), atol=2)
        assert "icc_profile" not in crop.info
