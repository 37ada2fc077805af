"""A rebuild opens only the images that are new or have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from data_builders.imagery import prepare
from data_builders.imagery.ledger import FOLDER
from data_builders.imagery.prepare import prepare_images


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are opened, in order."""
    names: list[str] = []
    prepare_image = prepare.prepare_image

    def spy(path: Path, **settings: object) -> prepare.ImageFile:
        names.append(path.name)
        return prepare_image(path, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "prepare_image", spy)
    return names


def test_a_rebuild_opens_what_changed(tmp_path: Path, opened: list[str]) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("map", "view", "gone")]
    for path in paths[:2]:
        Image.new("RGB", (30, 30), "red").save(path)

    def run(max_pixels: int = 10_000) -> dict[Path, prepare.ImageFile]:
        opened.clear()
        crops = tmp_path / "out" / "crops"
        return prepare_images(paths, paths[:1], crops_root=crops, max_pixels=max_pixels, workers=1)

    first = run()
    assert sorted(opened) == ["gone.png", "map.png", "view.png"]
    assert (first[paths[0]].made, first[paths[2]].reason) == (9, "missing_image")
    again = run()
    assert opened == ["gone.png"]
    assert (again[paths[0]].made, again[paths[0]].crops) == (0, first[paths[0]].crops)
    assert again[paths[1]] == first[paths[1]]

    Image.new("RGB", (31, 30), "red").save(paths[1])
    crop = tmp_path / "out" / "crops" / first[paths[0]].crop("left")
    crop.unlink()
    assert run()[paths[0]].made == 1
    assert sorted(opened) == ["gone.png", "map.png", "view.png"]
    assert crop.exists()
    assert run(max_pixels=800)[paths[0]].reason == "image_too_large"


def test_a_cut_off_ledger_is_read_up_to_the_cut(tmp_path: Path, opened: list[str]) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 30)).save(path)
    settings = {"crops_root": tmp_path / "out" / "crops", "max_pixels": 10_000, "workers": 1}
    prepare_images([path], [], **settings)
    (ledger,) = (tmp_path / "out" / FOLDER).iterdir()
    ledger.write_text(ledger.read_text() + '{"path": "/half')
    opened.clear()
    assert prepare_images([path], [], **settings)[path].width == 30
    assert not opened
