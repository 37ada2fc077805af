"""Transparent images stand on white, by whichever of the many ways a file states transparency."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geotune.system.images import image_facts, load_image

WHITE = (255, 255, 255)


def png(path: Path, pixels: bytes, depth: int, color: int, *, key: bytes = b"", palette: bytes = b"") -> Path:
    """Write a PNG file of a row of two pixels, of a bit depth and a color type that Pillow may not write itself."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, color, 0, 0, 0))]
    chunks += [chunk(name, content) for name, content in ((b"PLTE", palette), (b"tRNS", key)) if content]
    chunks += [chunk(b"IDAT", zlib.compress(b"\0" + pixels)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize(
    ("file", "first", "last"),
    [
        ({"pixels": b"\x40", "depth": 1, "color": 0, "key": b"\0\0"}, WHITE, WHITE),
        ({"pixels": b"\x80", "depth": 1, "color": 0, "key": b"\0\1"}, WHITE, (0, 0, 0)),
        ({"pixels": b"\x60", "depth": 2, "color": 0, "key": b"\0\1"}, WHITE, (170, 170, 170)),
        ({"pixels": b"\x34", "depth": 4, "color": 0, "key": b"\0\3"}, WHITE, (68, 68, 68)),
        ({"pixels": b"\3\7", "depth": 8, "color": 0, "key": b"\0\3"}, WHITE, (7, 7, 7)),
        ({"pixels": b"\3\5\3\6", "depth": 16, "color": 0, "key": b"\3\5"}, WHITE, (3, 3, 3)),
        ({"pixels": b"\1\2\3\4\5\6", "depth": 8, "color": 2, "key": b"\0\1\0\2\0\3"}, WHITE, (4, 5, 6)),
        (
            {"pixels": b"\1\0\2\0\3\0\4\0\5\0\6\0", "depth": 16, "color": 2, "key": b"\1\0\2\0\3\0"},
            WHITE,
            (4, 5, 6),
        ),
        ({"pixels": b"\0\1", "depth": 8, "color": 3, "key": b"\0", "palette": b"\1\2\3\4\5\6"}, WHITE, (4, 5, 6)),
        ({"pixels": b"\0\1", "depth": 8, "color": 3, "key": b"\0\xff", "palette": b"\1\2\3\4\5\6"}, WHITE, (4, 5, 6)),
        ({"pixels": b"\x10\0\x10\xff", "depth": 8, "color": 4}, WHITE, (16, 16, 16)),
        ({"pixels": b"\x10\0\0\0\x10\0\xff\xff", "depth": 16, "color": 4}, WHITE, (16, 16, 16)),
        ({"pixels": b"\1\2\3\0\1\2\3\xff", "depth": 8, "color": 6}, WHITE, (1, 2, 3)),
        ({"pixels": b"\1\0\2\0\3\0\0\0\1\0\2\0\3\0\xff\xff", "depth": 16, "color": 6}, WHITE, (1, 2, 3)),
    ],
    ids=lambda value: f"color {value['color']}, {value['depth']} bits" if isinstance(value, dict) else "",
)
def test_a_transparent_pixel_is_white(
    tmp_path: Path, file: dict[str, Any], first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    path = png(tmp_path / "a.png", **file)
    image = load_image(path)
    assert (image.mode, image.getpixel((0, 0)), image.getpixel((1, 0))) == ("RGB", first, last)
    assert image_facts(path)[2] == pytest.approx(np.asarray(image.convert("L")).mean(), abs=1)


@pytest.mark.parametrize(("name", "mode"), [("a.webp", "RGBA"), ("a.gif", "P"), ("a.tiff", "PA"), ("a.tiff", "RGBA")])
def test_other_formats(tmp_path: Path, name: str, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    if mode == "PA":
        image = image.convert("P").convert("PA")
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    image.save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as opened:
        assert opened.mode == mode
    loaded = load_image(tmp_path / name)
    assert (loaded.getpixel((0, 0)), loaded.getpixel((1, 0))) == (WHITE, (10, 20, 30))


def test_half_transparent_pixels_are_those_of_vllm_and_qwen(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    image.save(tmp_path / "a.png")
    theirs = Image.new("RGB", image.size, (255, 255, 255))
    theirs.paste(image, mask=image.split()[3])
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), np.asarray(theirs))


def test_an_opaque_image_keeps_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    opaque = np.concatenate([values, np.full((8, 8, 1), 255, np.uint8)], axis=-1)
    Image.fromarray(opaque).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), values)
