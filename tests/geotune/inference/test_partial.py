"""A file of results that is interrupted at any moment and goes on: nothing is lost, nothing is asked twice."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geotune.backbones.base import Backbone
from geotune.config.composing import compose
from geotune.inference import loading, locating
from geotune.inference.loading import find_source, open_backbone
from geotune.inference.locating import Located
from geotune.inference.partial import PartialResults, partial_path, weights_digest
from geotune.locate import locate, main

Asked = list[str]
OUT = "out/places.csv"
PARTIAL = partial_path(Path(OUT))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with five photos of two sizes, of which one is broken."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Path("photos").mkdir()
    for name, width in (("a.png", 64), ("b.jpg", 96), ("c.png", 64), ("d.png", 96)):
        Image.fromarray(random.integers(0, 255, (64, width, 3), np.uint8)).save(f"photos/{name}")
    Path("photos/broken.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Names of the photos that were asked. A random model says nothing legible, so its words stand for numbers."""
    names: Asked = []
    own = locating.read_answers

    def numbers(text: str) -> str:
        return "{}, {}".format(*(byte / 4 for byte in sha256(text.encode()).digest()[:2]))

    def read_answers(photo: Path, texts: list[str]) -> Located:
        names.append(photo.name)
        return own(photo, [numbers(text) for text in texts])

    monkeypatch.setattr(locating, "read_answers", read_answers)
    return names


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model stays in memory between the commands of this file."""
    monkeypatch.setattr(loading, "open_backbone", lambda source, **changes: _opened(source.folder, **changes))


@cache
def _opened(folder: Path, **changes: Any) -> Backbone:
    return open_backbone(find_source(str(folder)), **changes)


@pytest.fixture
def arguments(qwen_path: Path) -> Callable[..., list[str]]:
    def of(*more: str, out: str = OUT) -> list[str]:
        model = (f"checkpoint={qwen_path}", "max_pixels=9216", "dtype=float32", "samples=4", "max_new_tokens=4")
        return ["image=photos", *model, f"out={out}", "batch_size=8", *more]

    return of


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Make the command stop after `count` photos, like Ctrl-C."""
    append = PartialResults.append

    def interrupted(self: PartialResults, *given: object) -> None:
        append(self, *given)  # type: ignore[arg-type]
        if len(self.path.read_bytes().splitlines()) > count:
            raise error

    monkeypatch.setattr(PartialResults, "append", interrupted)


@pytest.mark.usefixtures("asked")
def test_killed_anywhere_it_goes_on_to_the_same_file(
    arguments: Callable[..., list[str]], asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as kept:
        kept.setattr(PartialResults, "remove", lambda self: None)
        assert main(arguments()) == 0
    whole, lines = Path(OUT).read_bytes(), PARTIAL.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    assert sorted(asked) == ["a.png", "b.jpg", "c.png", "d.png"]
    rows = whole.decode("utf-8-sig").splitlines()[1:]
    assert [row.partition(",")[0] for row in rows] == [f"photos/{name}" for name in sorted(os.listdir("photos"))]
    for count, torn in (
        (0, b""),
        (0, lines[0][:9]),
        (1, b""),
        (2, lines[2][:-1]),
        (3, b'{"pho'),
        (4, b"\0" * 99),
        (6, b""),
    ):
        Path(OUT).unlink()
        PARTIAL.write_bytes(b"".join(lines[:count]) + torn)
        held = [json.loads(line)["row"] for line in lines[1:count]]
        asked.clear()
        assert main(arguments()) == 0
        assert Path(OUT).read_bytes() == whole, count
        assert not PARTIAL.exists()
        assert len(asked) <= 4 - sum("error" not in row for row in held) + 1, "at most one batch is asked again"


def test_an_interruption_writes_what_is_there(
    arguments: Callable[..., list[str]],
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as stopped:
        stop_after(3, stopped)
        with pytest.raises(KeyboardInterrupt):
            locate(compose("locate", arguments()))
    assert "2 of 5 photos located, 1 not readable, 2 not asked yet; the same command goes on" in caplog.text
    assert len(Path(OUT).read_bytes().splitlines()) == 4
    before = list(asked)
    capsys.readouterr()
    assert main(arguments()) == 0
    assert capsys.readouterr().out == f"{OUT}: 4 of 5 photos located, 1 not readable\n"
    assert sorted(asked) == ["a.png", "b.jpg", "c.png", "d.png"], "none twice"
    assert len(before) == 2
    assert os.listdir("out") == ["places.csv"]
    assert main(arguments()) == 2, "a complete file is not replaced unasked"
    assert f"out={OUT}: this file exists; set overwrite=true" in capsys.readouterr().err
    assert main(arguments("overwrite=true")) == 0
    # Nothing was answered before an interruption: nothing stays.
    stop_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        locate(compose("locate", arguments(out="out/none.csv")))
    assert os.listdir("out") == ["places.csv"]


def test_a_changed_photo_and_a_new_one_are_asked(
    arguments: Callable[..., list[str]], asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stopped:
        stop_after(4, stopped, MemoryError)
        with pytest.raises(MemoryError):
            locate(compose("locate", arguments()))
    assert PARTIAL.exists()
    first = list(asked)
    changed = first[0]
    Image.new("RGB", (64, 64), (0, 90, 0)).save(f"photos/{changed}")
    Path("photos/broken.png").write_bytes(Path("photos/a.png").read_bytes())
    Image.new("RGB", (64, 64), (0, 0, 90)).save("photos/new.png")
    asked.clear()
    assert main(arguments()) == 0
    left = {"a.png", "b.jpg", "c.png", "d.png"} - set(first)
    assert sorted(asked) == sorted({changed, "broken.png", "new.png", *left})


@pytest.mark.usefixtures("asked")
def test_answers_of_other_settings_are_refused(
    arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as stopped:
        stop_after(3, stopped)
        with pytest.raises(KeyboardInterrupt):
            locate(compose("locate", arguments()))
    before = PARTIAL.read_bytes()
    for more, difference in (
        ("seed=1", "seed was 0 and is 1"),
        ("explain=false", "explain was true and is false"),
        ("max_pixels=6272", "max_pixels was 9216 and is 6272"),
        ("image=photos/a.png", "image was"),
    ):
        capsys.readouterr()
        assert main(arguments(more)) == 2
        error = capsys.readouterr().err
        assert difference in error
        assert "repeat that command to go on with it, delete that file" in error
    with PARTIAL.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert main(arguments()) == 2
        assert "another process is writing" in capsys.readouterr().err
    assert PARTIAL.read_bytes() == before
    PARTIAL.write_text("my notes\n")
    assert main(arguments()) == 2
    assert "holds no results of this command" in capsys.readouterr().err
    assert PARTIAL.read_text() == "my notes\n"


@pytest.mark.usefixtures("asked")
def test_a_full_disk_is_told(
    arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as filled:
        filled.setattr("geotune.inference.partial.SYNC_SECONDS", 0.0)
        filled.setattr(os, "fsync", full)
        assert main(arguments()) == 2
    error = capsys.readouterr().err
    assert f"{PARTIAL} can't be written (No space left on device); free some space" in error
    assert "Traceback" not in error
    assert main(arguments()) == 0


def test_mistakes_in_out(arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder.csv").mkdir()
    Path("file").write_text("")
    for out, message in (
        ("places.json", "out=places.json: its ending names no form; give .jsonl, .csv, .geojson"),
        ("places", "its ending names no form"),
        ("folder.csv", "out=folder.csv: this is a folder; name a file"),
        ("file/places.csv", "this folder can't be written"),
        ("", "out="),
    ):
        assert main(arguments(out=out)) == 2
        assert message in capsys.readouterr().err


def test_weights_are_known_by_their_values() -> None:
    def model(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(300, 40), torch.nn.LayerNorm(40))

    assert weights_digest(model(0)) == weights_digest(model(0))
    assert weights_digest(model(0)) != weights_digest(model(1))
    assert weights_digest(model(0)) != weights_digest(model(0).bfloat16())
