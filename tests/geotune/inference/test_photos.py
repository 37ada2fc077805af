"""What a folder of photos holds: images by their ending or content, linked folders, and all that is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from geotune.errors import BadRecord, ConfigError
from geotune.inference import photos
from geotune.inference.photos import find_photos, text_of
from geotune.system.images import load_image


def image(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(path, format=form)
    return path


def names(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "a.png", ".hidden/x.png", "._a.png", ".DS_Store", "notes.txt", "b/1.webp", "b/IMG_1.HEIC"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_photos(str(tmp_path))
    assert names(found.photos, tmp_path) == ["a.png", "b/1.webp", "b/2.JPG", "b/IMG_1.HEIC"]
    assert found.counts() == {"hidden": 2, "no image": 2}
    assert found.summary().startswith(f"hidden: 2 ({tmp_path / '._a.png'}, {tmp_path / '.hidden'}); no image: 2 (")
    assert find_photos(str(tmp_path / "notes.txt")).photos == [tmp_path / "notes.txt"], "what is named is tried"
    own = find_photos(str(tmp_path), own=[tmp_path / "notes.txt"])
    assert own.counts()["no image"] == 1, "the command's own file is nothing that is left out"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"])
def test_an_image_is_known_by_its_content(tmp_path: Path, form: str) -> None:
    for name in ("0a1b2c", "photo.jpg_large", "photo.txt"):
        path = image(tmp_path / name, form)
        assert load_image(path).size == (8, 8)
    assert len(find_photos(str(tmp_path)).photos) == 3


def test_videos_and_other_files_are_no_images(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0")
    (tmp_path / "sound.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    found = find_photos(str(tmp_path))
    assert (len(found.photos), found.counts()) == (1, {"no image": 3})


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    image(root / "z" / "own.png")
    image(tmp_path / "elsewhere" / "deep" / "far.png")
    image(tmp_path / "single.png")
    for link, target in (
        ("a", root / "z"),  # its photo has a path of its own
        ("more", tmp_path / "elsewhere"),
        ("more2", tmp_path / "elsewhere" / "deep"),
        ("z/up", root),
        ("one.png", tmp_path / "single.png"),
        ("lost.png", tmp_path / "nowhere.png"),
        ("lost", tmp_path / "nowhere"),
        ("circle", root / "circle"),
    ):
        (root / link).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    found = find_photos(str(root))
    assert names(found.photos, root) == ["more/deep/far.png", "one.png", "z/own.png"]
    assert names(found.left_out[photos.DANGLING], root) == ["circle", "lost", "lost.png"]
    assert names(found.left_out[photos.SEEN], root) == ["a", "more/back", "more2", "z/up"]
    link = tmp_path / "link"
    link.symlink_to(root)
    assert len(find_photos(str(link)).photos) == 3, "the folder itself may be a link"


def test_what_can_not_be_looked_into_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    scandir = os.scandir

    def refuse(folder: Path) -> object:  # a mode does not stop the tests' user where that is root
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_photos(str(tmp_path))
    assert found.counts() == {"can't be read": 1, "neither a file nor a folder": 1}
    with pytest.raises(ConfigError, match=r"this folder holds no image; it holds can't be read: 1"):
        find_photos(str(tmp_path / "closed"))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = image(tmp_path / os.fsdecode(b"M\xfcnchen.png"))
    found = find_photos(str(tmp_path))
    assert found.photos == [path]
    assert text_of(path) == str(tmp_path / r"M\xfcnchen.png")
    assert load_image(path).size == (8, 8)


def test_a_raw_photo_is_not_its_preview(tmp_path: Path) -> None:
    image(tmp_path / "1.dng", "TIFF")
    image(tmp_path / "2.NEF", "TIFF")
    for path in find_photos(str(tmp_path)).photos:
        with pytest.raises(BadRecord, match=rf"is {path.suffix[1:].upper()}, which can't be opened here; convert it"):
            load_image(path)
    assert load_image(image(tmp_path / "3.HEIC", "JPEG")).size == (8, 8), "a converted photo may keep its name"


def test_heic_is_read_with_its_library_and_told_without(tmp_path: Path) -> None:
    library = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    library.register_heif_opener()
    for name in ("IMG_1.HEIC", "renamed.jpg"):
        assert load_image(image(tmp_path / name, "HEIF")).size == (8, 8)
