from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from data_builders.sources.photos import PhotoFolder
from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.tables import Row, plain_name
from geotune.errors import ConfigError
from geotune.tasks.coordinates import Coordinates


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    return path


def row(*files: str) -> Row:
    return Row(plain_name(files[-1]), files, Coordinates(1, 2), {}, {})


def test_photos_are_found_at_any_depth_whatever_their_ending(tmp_path: Path) -> None:
    root = tmp_path / "a, b (c)"
    names = ["x/00/12.jpg", "y/13.jpg.jpg", "14.JPEG", "a.b.png", "sp ace/15.webp", "1.jpg"]
    made = {plain_name(name): image(root / name) for name in names}
    (root / "12.txt").write_text("no image")
    folder = PhotoFolder(root)
    for asked in ("12", "12.jpg", "13", "13.jpg", "14.jpg", "a.b", "15", "1", "elsewhere/00/12.png", "x/00/12.jpg"):
        assert folder.find(row(asked)) == made[plain_name(asked)]
    assert folder.find(row("old/name.jpg", "14")) == made["14"]


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


def test_folders_without_images_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        PhotoFolder(tmp_path / "none")
    with pytest.raises(ConfigError, match="this folder has no image"):
        PhotoFolder(tmp_path)
