"""Where photos were taken: the arithmetic of an estimate, and the command on real files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geotune.geo import geodesic_km
from geotune.inference.locating import Located, as_json, read_answers
from geotune.inference.results import as_table, format_km
from geotune.locate import main
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.estimates import FEWEST_FOR_RADIUS, estimate
from geotune.train import train

PARIS, LYON, NICE, TOKYO = (
    Coordinates(lat, lon) for lat, lon in ((48.857, 2.352), (45.764, 4.836), (43.71, 7.262), (35.68, 139.75))
)


def photo(path: Path, seed: int = 0) -> Path:
    """A synthetic photo: sky over a street with houses."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((96, 128, 3), dtype=np.uint8)
    pixels[:48] = (120, 170, 220)
    pixels[48:] = (90, 90, 90)
    for left in range(0, 128, 16):
        pixels[int(random.integers(16, 40)) : 56, left : left + 12] = random.integers(60, 220, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def apart_km(one: Coordinates, two: Coordinates) -> float:
    return geodesic_km(one.lat, one.lon, two.lat, two.lon)


def located(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """The JSON report of the command."""
    capsys.readouterr()
    assert main([*map(str, arguments), "format=json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return report


# Arithmetic


def test_estimate_is_the_medoid_and_its_radii() -> None:
    found = estimate([PARIS, TOKYO, LYON, NICE])
    assert found is not None
    assert found.at == LYON
    assert found.radius_50_km == pytest.approx(min(apart_km(LYON, PARIS), apart_km(LYON, NICE)))
    assert found.radius_90_km == pytest.approx(apart_km(LYON, TOKYO))


def test_estimate_across_the_date_line() -> None:
    found = estimate([Coordinates(0, 179.9), Coordinates(0, -179.9), Coordinates(0, 180.0), Coordinates(0, 180.0)])
    assert found is not None
    assert found.at == Coordinates(0, 180.0), "not longitude 60, the mean of the numbers"
    assert found.radius_90_km == pytest.approx(11.13, abs=0.01)


def test_radii_hold_the_share_they_state() -> None:
    random = np.random.default_rng(0)
    for count in (4, 5, 7, 10, 16, 20):
        answers = [Coordinates(lat, lon) for lat, lon in random.normal(40, 5, (count, 2))]
        found = estimate(answers)
        assert found is not None
        assert found.radius_50_km is not None
        assert found.radius_90_km is not None
        distances = np.array([apart_km(found.at, answer) for answer in answers])
        assert (distances <= found.radius_50_km + 1e-9).mean() >= 0.5
        assert (distances <= found.radius_90_km + 1e-9).mean() >= 0.9
        assert (distances < found.radius_90_km - 1e-9).mean() < 0.9
    assert estimate([]) is None


def test_few_answers_give_a_place_and_no_radius() -> None:
    for count in range(1, FEWEST_FOR_RADIUS):
        found = estimate([PARIS] * count)
        assert found is not None
        assert (found.at, found.radius_50_km, found.radius_90_km) == (PARIS, None, None)
    found = estimate([PARIS] * FEWEST_FOR_RADIUS)
    assert found is not None
    assert (found.radius_50_km, found.radius_90_km) == (0, 0)


def test_reading_answers() -> None:
    texts = [
        '{"latitude": 48.857, "longitude": 2.352}',
        "a wall",
        "",
        "48.86, 2.35",
        '{"latitude": 95, "longitude": 2}',
    ]
    found = read_answers(Path("a.jpg"), texts)
    assert list(found.answers) == [Coordinates(48.857, 2.352), Coordinates(48.86, 2.35)]
    assert found.read_rate == 0.4
    row = as_json(found)
    assert row["nearest_place"]["name"] == "Paris"
    assert row["nearest_place"]["distance_km"] < 1
    assert row["answers"] == [[48.857, 2.352], [48.86, 2.35]]
    assert sum(row["unread"].values()) == 3
    assert (row["radius_50_km"], row["radius_90_km"]) == (None, None)
    few = as_json(read_answers(Path("a.jpg"), ["a wall"]))
    assert few.keys() == row.keys(), "every row has the same keys"
    assert [few[name] for name in ("latitude", "longitude", "radius_50_km", "nearest_place")] == [None] * 4
    rounded = as_json(read_answers(Path("a.jpg"), ["-0.0000001, 2.123456789"]))
    assert str([rounded["latitude"], rounded["longitude"]]) == "[0.0, 2.123457]"


def test_table() -> None:
    rows = [
        read_answers(Path("[bold]a.jpg"), ['{"latitude": 48.857, "longitude": 2.352}'] * 4 + ["a wall"]),
        read_answers(Path("b.jpg"), ["a wall", "a wall"]),
        Located(Path("c.jpg"), error="can't be opened"),
    ]
    lines = as_table(rows, 160).splitlines()
    assert lines[2].split()[:8] == ["[bold]a.jpg", "48.8570,", "2.3520", "0.0", "km", "0.0", "km", "4/5"]
    assert lines[2].endswith("from Paris, France")
    assert "0/2" in lines[3]
    assert "no answer could be read" in lines[3]
    assert lines[4].endswith("can't be opened")
    assert len(lines) == 5
    lines = as_table([*rows, read_answers(Path("d.jpg"), ["48.857, 2.352", "a wall"])], 160).splitlines()
    assert lines[5].split()[:6] == ["d.jpg", "48.8570,", "2.3520", "-", "-", "1/2"]
    assert lines[6] == "-  no radius: fewer than 4 answers could be read"
    assert [format_km(km) for km in (0.42, 12.3, 1234.5, None)] == ["0.4 km", "12 km", "1,234 km", "-"]


def test_the_table_of_a_folder_fits_80_columns() -> None:
    folder = Path("/data/holiday photos")
    rows = [
        read_answers(folder / "2024" / "IMG_20240712_183501.jpg", ["48.857, 2.352"] * 4),
        read_answers(folder / "IMG_20240712_183502.jpg", ["35.68, 139.75"] * 4),
    ]
    lines = as_table(rows, 80).splitlines()
    assert lines[0] == f"photos in {folder}"
    assert max(map(len, lines)) <= 80
    for texts in (
        ("2024/IMG_20240712_183501.jpg", "48.8570, 2.3520"),
        ("IMG_20240712_183502.jpg", "35.6800, 139.7500"),
    ):
        assert any(all(text in line for text in texts) for line in lines)
    assert "Paris, France" in "".join(lines)
    assert str(folder) in as_table(rows[:1], 200), "the whole path of a single photo"


def test_the_table_shows_any_name_on_one_line() -> None:
    names = (b"M\xfcnchen.png", b"new\nline.png", b"\x1b[31mred.png", "東京.png".encode())
    rows = [Located(Path(os.fsdecode(name)), error="is empty") for name in names]
    shown = [line.split()[0] for line in as_table(rows, 160).splitlines()[2:]]
    assert shown == [r"M\xfcnchen.png", r"new\nline.png", r"\x1b[31mred.png", "東京.png"]


# The command


def test_the_tiny_default_on_a_synthetic_photo(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = photo(Path("my photo (1), a=b.jpg"))
    settings = ("samples=4", "max_new_tokens=30", "explain=false")
    report = located(capsys, f"image={file}", *settings)
    assert report["samples"] == 4
    (row,) = report["photos"]
    assert row["image"] == str(file)
    assert len(row["answers"]) + sum(row["unread"].values()) == 4
    assert row["read_rate"] == len(row["answers"]) / 4
    assert (row["latitude"] is None) == (row["answers"] == [])
    assert located(capsys, f"image={file}", *settings)["photos"] == [row], "the same again"
    caplog.set_level("INFO")
    caplog.clear()
    assert main([f"image={file}", *settings]) == 0
    assert str(file) in capsys.readouterr().out
    assert sum(message.startswith("radii: unmeasured") for message in caplog.messages) == 1


def test_a_photo_is_located_the_same_in_a_folder(
    tmp_path: Path, qwen_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a.png", "sub/b.jpg", "sub/c.png")
    files = [photo(tmp_path / "photos" / name, seed) for seed, name in enumerate(names)]
    (tmp_path / "photos" / "broken.png").write_bytes(b"not an image")
    model = (f"checkpoint={qwen_path}", "max_pixels=9216", "dtype=float32", "samples=3", "max_new_tokens=4")
    report = located(capsys, f"image={tmp_path / 'photos'}", *model, "batch_size=2")
    rows = {row["image"]: row for row in report["photos"]}
    assert list(rows) == sorted(map(str, [*files, tmp_path / "photos" / "broken.png"]))
    assert rows[str(tmp_path / "photos" / "broken.png")].keys() == {"image", "error"}
    assert located(capsys, f"image={files[1]}", *model)["photos"] == [rows[str(files[1])]]


def test_every_form_of_a_model_answers_alike(
    recipe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from geotune.export import main as export
    from geotune.inference import locating

    said: list[tuple[str, ...]] = []
    own = locating.read_answers

    def listen(file: Path, texts: list[str]) -> Located:
        said.append(tuple(texts))
        return own(file, texts)

    monkeypatch.setattr(locating, "read_answers", listen)
    file = photo(tmp_path / "photo.png")
    train(recipe("internvl", **{"trainer.max_steps": 2, "stage.warmup": 0}))
    assert export([f"checkpoint={tmp_path / 'run'}", f"out={tmp_path / 'out'}", "dtype=float32"]) == 0
    forms = ("run", "run/checkpoints/last", "out", "out/merged", "out/adapter")
    for form in forms:
        located(capsys, f"checkpoint={tmp_path / form}", f"image={file}", "samples=2", "max_new_tokens=5")
    assert len(said) == len(forms)
    assert len(set(said)) == 1
    assert len(said[0]) == 2


def test_mistakes(tmp_path: Path, qwen_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = photo(tmp_path / "photo.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    broken = tmp_path / "broken.png"
    broken.write_bytes(file.read_bytes()[:200])
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text('{"model_type"')
    for arguments, message in (
        ([f"image={tmp_path / 'none.jpg'}"], f"image={tmp_path / 'none.jpg'}: there is no such file or folder"),
        ([f"image={tmp_path / 'empty'}"], "holds no image"),
        ([f"image={broken}"], "no image can be used"),
        ([f"image={file}", f"checkpoint={tmp_path / 'none'}"], "there is no such folder"),
        ([f"image={file}", f"checkpoint={tmp_path / 'empty'}"], "holds neither a complete checkpoint nor a model"),
        ([f"image={file}", f"checkpoint={other}"], "holds a llama model; supported are qwen2_5_vl, internvl"),
        ([f"image={file}", f"checkpoint={half}"], "config.json can't be read"),
        ([f"image={file}", f"checkpoint={qwen_path}"], "give max_pixels=<number>"),
        ([f"image={file}", "samples=0"], "samples=0: must be at least 1"),
        ([f"image={file}", "temperature=0"], "temperature=0"),
        ([f"image={file}", "top_p=1.5"], "top_p=1.5"),
        ([f"image={file}", "accelerator=gpu"], "accelerator=gpu: this machine has no CUDA device"),
        ([], "image="),
        (["image="], "image="),
    ):
        capsys.readouterr()
        assert main([str(word) for word in arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
