from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from data_builders.sources.photos import PhotoFolder
from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.tables import Row, plain_name
from geotune.errors import BadRecord, ConfigError
from geotune.system.images import check_image
from geotune.tasks.coordinates import Coordinates


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    return path


def row(*files: str, shared: bool = False) -> Row:
    return Row(plain_name(files[-1]), files, Coordinates(1, 2), {}, {}, shared)


def test_photos_are_found_at_any_depth_whatever_their_ending(tmp_path: Path) -> None:
    root = tmp_path / "a, b (c)"
    names = ["x/00/12.jpg", "y/13.jpg.jpg", "14.JPEG", "a.b.png", "sp ace/15.webp", "1.jpg"]
    made = {plain_name(name): image(root / name) for name in names}
    (root / "12.txt").write_text("no image")
    folder = PhotoFolder(root)
    for asked in (
        "12",
        "12.jpg",
        "13",
        "13.jpg",
        "14.jpg",
        "a.b",
        "15",
        "1",
        "old/x/00/12.png",
        "x/00/12.jpg",
        "00/12",
    ):
        assert folder.find(row(asked)) == made[plain_name(asked)]
    assert folder.find(row("old/name.jpg", "14")) == made["14"]
    bare = image(root / "x/without ending")
    assert folder.find(row("x/without ending")) == bare


def test_photos_that_cannot_be_told_are_rejected(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for name in ("a/1.jpg", "b/1.jpg", "2.jpg", "2.png"):
        image(root / name)
    secret = image(tmp_path / "secret.jpg")
    (root / "link.jpg").symlink_to(secret)
    (root / "inner.jpg").symlink_to(root / "2.jpg")
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "away").symlink_to(tmp_path, target_is_directory=True)
    image(Path(os.fsdecode(os.fsencode(root) + b"/\xff.jpg")))
    folder = PhotoFolder(root)
    assert folder.find(row("b/1.jpg")) == root / "b/1.jpg"
    assert folder.find(row("2.png")) == root / "2.png"
    assert folder.find(row("inner")) == root / "inner.jpg"
    assert folder.find(row("https://x.org/c/2.png")) == root / "2.png", "a download keeps its name"
    for name, reason in {
        "1.jpg": "ambiguous_image",
        "2": "ambiguous_image",
        "3": "missing_image",
        "dangling": "missing_image",
        "link": "outside_folder",
        "away/secret.jpg": "outside_folder",
        str(secret): "outside_folder",
        "../secret.jpg": "outside_folder",
        "..\\secret.jpg": "outside_folder",
        os.fsdecode(b"\xff.jpg"): "bad_file_name",
        "x" * 400: "missing_image",
        "https://x.org/3.jpg": "image_not_a_file",
        "data:image/png;base64,iVBORw0KGgo=": "image_not_a_file",
        "a/nul\0.jpg": "outside_folder",
    }.items():
        with pytest.raises(RejectedRecordError) as error:
            folder.find(row(name))
        assert error.value.reason == reason, name


@pytest.mark.parametrize("ending", ["HEIC", "heif", "avif", "DNG", "CR2", "nef", "jp2", "heics"])
def test_names_of_a_phone_find_their_converted_photos(tmp_path: Path, ending: str) -> None:
    for name in ("a/IMG_1.jpg", "b/IMG_1.png", "IMG_2.jfif", f"IMG_3.{ending}.jpg", "IMG_4.jpe"):
        image(tmp_path / name)
    (tmp_path / f"IMG_2.{ending}").write_bytes(b"\0\0\0\x18ftypheic")
    folder = PhotoFolder(tmp_path)
    for asked, found in {
        f"a/IMG_1.{ending}": "a/IMG_1.jpg",
        f"b\\IMG_1.{ending}": "b/IMG_1.png",
        f"IMG_2.{ending}": "IMG_2.jfif",
        f"IMG_3.{ending}": f"IMG_3.{ending}.jpg",
        f"old/IMG_4.{ending}": "IMG_4.jpe",
        "IMG_4.JPG": "IMG_4.jpe",
    }.items():
        assert folder.find(row(asked)) == tmp_path / found, asked
    with pytest.raises(RejectedRecordError) as error:
        folder.find(row(f"IMG_1.{ending}"))
    assert error.value.reason == "ambiguous_image"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0", "1.HEIC is HEIC, which can't be opened here"),
        ("1.avif", b"\0\0\0\x18ftypavif\0\0\0\0", "1.avif is AVIF"),
        ("1.NEF", b"II*\0\x08\0\0\0", "1.NEF is NEF"),  # like a TIFF, of which Pillow would read the thumbnail
    ],
)
def test_a_photo_that_cannot_be_opened_says_so(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    image(tmp_path / "2.jpg")
    (tmp_path / name).write_bytes(content)
    for asked in ("1", name, "1.jpg", f"elsewhere/{name}", f"./{name}"):
        with pytest.raises(RejectedRecordError) as error:
            PhotoFolder(tmp_path).find(row(asked))
        assert error.value.reason == "undecodable_image"
        assert said in error.value.detail
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(ConfigError, match="none of its images can be opened"):
        PhotoFolder(tmp_path)


def test_a_photo_with_a_wrong_ending_is_judged_by_its_content(tmp_path: Path) -> None:
    image(tmp_path / "2.jpg")
    image(tmp_path / "1.HEIC")
    assert PhotoFolder(tmp_path).find(row("1.HEIC")) == tmp_path / "1.HEIC"
    (tmp_path / "3.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(BadRecord, match=r"3.jpg is HEIC, which can't be opened here; convert it"):
        check_image(PhotoFolder(tmp_path).find(row("3.jpg")), max_pixels=None)


def test_folders_without_images_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        PhotoFolder(tmp_path / "none")
    with pytest.raises(ConfigError, match="this folder has no image"):
        PhotoFolder(tmp_path)


@pytest.mark.parametrize(
    ("files", "asked", "found"),
    [
        ("b/1.jpg", "a/1.jpg", ""),
        ("b/1.jpg", "a/b/1.jpg", "b/1.jpg"),
        ("a/b/1.jpg", "b/1.jpg", "a/b/1.jpg"),
        ("c/b/1.jpg", "a/b/1.jpg", ""),
        ("1.jpg", "a/b/1.png", "1.jpg"),
        ("a/1.jpg", "https://x.org/c/1.jpg", "a/1.jpg"),
        ("x/1.jpg", "/home/me/x/1.jpg", "x/1.jpg"),
        ("a/1.jpg b/1.jpg", "b/1.jpg", "b/1.jpg"),
        ("a/1.jpg b/1.jpg", "c/1.jpg", ""),
        ("a/1.jpg", "./1.jpg", "a/1.jpg"),
    ],
)
def test_a_photo_of_another_folder_is_another_photo(tmp_path: Path, files: str, asked: str, found: str) -> None:
    for name in files.split():
        image(tmp_path / name)
    folder = PhotoFolder(tmp_path)
    if found:
        assert folder.find(row(asked)) == tmp_path / found
        return
    with pytest.raises(RejectedRecordError, match=r"is another photo's path") as error:
        folder.find(row(asked))
    assert error.value.reason == "missing_image"


def test_names_that_several_rows_share_are_taken_exactly(tmp_path: Path) -> None:
    image(tmp_path / "1.jpg")
    image(tmp_path / "x/b/2.jpg")
    folder = PhotoFolder(tmp_path)
    assert folder.find(row("1.jpg", shared=True)) == tmp_path / "1.jpg"
    assert folder.find(row("b/2.jpg", shared=True)) == tmp_path / "x/b/2.jpg"
    for name in ("1.png", "a/1.jpg", "a/2.jpg"):
        with pytest.raises(RejectedRecordError):
            folder.find(row(name, shared=True))


@pytest.mark.parametrize(("on_disk", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_unicode_form_find_their_photo(tmp_path: Path, on_disk: str, asked: str) -> None:
    made = image(tmp_path / unicodedata.normalize(on_disk, "Zürich/é.jpg"))
    image(tmp_path / "e.jpg")
    folder = PhotoFolder(tmp_path)
    for name in ("é", "é.jpg", "é.png"):
        assert folder.find(row(unicodedata.normalize(asked, name))) == made
