"""Images are written whole, in the format that their name says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from data_builders.imagery.writing import write_image


@pytest.mark.parametrize(("name", "file_format"), [("a.png", "PNG"), ("a.jpg", "JPEG")])
def test_the_suffix_decides_the_format_and_nothing_else_is_left(tmp_path: Path, name: str, file_format: str) -> None:
    path = tmp_path / "new" / name
    write_image(path, Image.new("RGB", (8, 8), "red"))
    assert [file.name for file in path.parent.iterdir()] == [name]
    with Image.open(path) as image:
        assert (image.format, image.size) == (file_format, (8, 8))
