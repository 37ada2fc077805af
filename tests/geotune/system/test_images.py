"""Image files: where names lead, which files are refused, and pixels that stay as they are."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from geotune.errors import BadRecord
from geotune.system.images import check_image, load_image, resolve_image
from tests.geotune.samples import noisy_image


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """`photo("a.jpg", size, mode)` writes an image of noise to that name and returns its path."""
    return lambda name="a.jpg", *settings, **options: noisy_image(tmp_path / name, *settings, **options)


def test_resolve_image_stays_in_the_dataset_s_folder(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", tmp_path / "secret"
    (root / "images").mkdir(parents=True)
    outside.mkdir()
    (outside / "b.jpg").write_bytes(b"")
    (root / "images" / "a.jpg").write_bytes(b"")
    (root / "inside").symlink_to(root / "images")
    (root / "out").symlink_to(outside)
    (root / "b.jpg").symlink_to(outside / "b.jpg")
    (root / "circle").symlink_to(root / "circle")
    here = (root / "images" / "a.jpg").resolve()
    for name in ("images/a.jpg", "./images/a.jpg", "images/../images/a.jpg", "inside/a.jpg"):
        assert resolve_image(root, name) == here
    assert resolve_image(root, str(outside / "b.jpg")) == outside / "b.jpg"
    assert resolve_image(root, "not/yet there, (1).jpg") == root.resolve() / "not/yet there, (1).jpg"
    for name in (
        "../secret/b.jpg",
        "images/../../secret/b.jpg",
        "out/b.jpg",
        "b.jpg",
        "out/gone.jpg",
        "../data2/a.jpg",
    ):
        with pytest.raises(BadRecord, match="leaves the dataset's folder"):
            resolve_image(root, name)
    for name in ("circle/a.jpg", "nul\0.jpg", "\ud800.jpg"):
        with pytest.raises(BadRecord, match="can't be followed"):
            resolve_image(root, name)
    # A dataset that is itself reached through a link is a dataset all the same.
    (tmp_path / "link").symlink_to(root)
    assert resolve_image(tmp_path / "link", "images/a.jpg") == here


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.jpg", "RGB"),
        ("c.jpg", "CMYK"),
        ("a.png", "RGBA"),
        ("l.png", "L"),
        ("a.webp", "RGB"),
        ("a.bmp", "RGB"),
        ("a.gif", "L"),
        ("a.tiff", "RGB"),
    ],
)
def test_images_load_as_rgb(photo: Callable[..., Path], name: str, mode: str) -> None:
    path = photo(name, mode=mode)
    assert check_image(path, max_pixels=1200) == (40, 30)
    loaded = load_image(path)
    assert (loaded.mode, loaded.size) == ("RGB", (40, 30))


def test_lossless_images_keep_their_pixels(photo: Callable[..., Path]) -> None:
    path = photo("a.png")
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(load_image(path)), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_heeded(photo: Callable[..., Path], orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = photo("turned.png", exif=exif)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
    upright = load_image(path)
    assert check_image(path, max_pixels=None) == expected.size == ((30, 40) if orientation > 4 else (40, 30))
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(expected))
    assert ExifTags.Base.Orientation not in upright.getexif()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_orientation_is_heeded_beside_a_tag_that_can_t_be_written(photo: Callable[..., Path]) -> None:
    tags = b"\x02\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\x00\x01\x05\0\x01\0\0\0\x06\0\0\0"
    path = photo("phone.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0" + tags)
    assert load_image(path).size == (30, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"MM\0*\0\0\0\x08\xff\xff garbage", b"no TIFF header", b"II*\0"])
def test_unreadable_exif_beside_a_good_image_does_no_harm(photo: Callable[..., Path], exif: bytes) -> None:
    path = photo("exif.png", exif=b"Exif\0\0" + exif)
    assert check_image(path, max_pixels=None) == (40, 30)
    assert load_image(path).size == (40, 30)


def test_files_that_are_no_images(tmp_path: Path, photo: Callable[..., Path]) -> None:
    (tmp_path / "text.jpg").write_text("not found")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    expected = {
        "gone.jpg": "is missing",
        "text.jpg": "is no image in a known format",
        "empty.png": r"is empty \(0 bytes\)",
        "script.jpg": "is no image in a known format",
        "folder.jpg": "is not a file",
        "pipe.jpg": "is not a file",
        "a" * 300 + ".jpg": "can't be read",
        "nul\0.jpg": "is missing",
    }
    for name, reason in expected.items():
        for read in (load_image, lambda path: check_image(path, max_pixels=None)):
            with pytest.raises(BadRecord, match=reason):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tiff"])
def test_truncated_images(photo: Callable[..., Path], name: str) -> None:
    path = photo(name, (64, 64), "L" if name == "a.gif" else "RGB")
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BadRecord, match=r"can't be read|is no image"):
            check_image(path, max_pixels=None)
        with pytest.raises(BadRecord):
            load_image(path)


def test_images_over_the_stated_size(photo: Callable[..., Path]) -> None:
    path = photo()
    assert check_image(path, max_pixels=40 * 30) == (40, 30)
    with pytest.raises(BadRecord, match="has 40 x 30 pixels, more than the 1199 allowed"):
        check_image(path, max_pixels=40 * 30 - 1)


def test_sixteen_bits_of_gray_keep_their_brightness(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(np.tile(ramp, (4, 1))).save(path)
    np.testing.assert_array_equal(np.asarray(load_image(path))[0, :, 0], ramp // 256)
    assert check_image(path, max_pixels=None) == (256, 4)


def test_cmyk_keeps_its_colors(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK").save(path, quality=95)
    assert np.abs(np.asarray(load_image(path), int) - (200, 40, 60)).max() < 12


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_images_of_several_frames_are_rejected(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    for read in (load_image, lambda path: check_image(path, max_pixels=None)):
        with pytest.raises(BadRecord, match="is animated or has pages"):
            read(tmp_path / name)


def test_images_of_real_numbers_are_rejected(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "heights.tiff")
    with pytest.raises(BadRecord, match="real numbers"):
        load_image(tmp_path / "heights.tiff")


def test_an_image_of_200_megapixels_is_rejected_by_its_header(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.new("L", (1, 1)).save(whole, "PNG")
    head = b"IHDR" + struct.pack(">II", 20_000, 10_000) + bytes([8, 0, 0, 0, 0])
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (tmp_path / "vast.png").write_bytes(whole.getvalue()[:8] + chunk + whole.getvalue()[33:])
    with pytest.raises(BadRecord, match=r"200000000 pixels.*allowed$"):
        check_image(tmp_path / "vast.png", max_pixels=50_000_000)


def test_a_decompression_bomb_is_rejected_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (300, 300)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadRecord, match="can't be read"):
        load_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_image_loads_or_is_a_bad_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]))
    path = tmp_path_factory.getbasetemp() / f"damaged.{form.lower()}"
    Image.effect_mandelbrot((16, 12), (-2, -1, 1, 1), 20).save(path, form)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        width, height = check_image(path, max_pixels=10_000)
    except BadRecord:
        return
    assert load_image(path).size == (width, height)
