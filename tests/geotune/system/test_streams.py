"""Output that can't be shown or that nobody reads never ends the work; output that is lost is told."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from geotune.system.streams import OutputLostError, check_output, make_streams_tolerant

TEXT = "M\udcfcnchen · Zürich … 😀"


def stream(file: io.RawIOBase, encoding: str, *, buffered: bool = True) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(file) if buffered else file,  # type: ignore[arg-type]
        encoding=encoding,
        errors="strict",
        write_through=not buffered,
    )


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make standard output a stream over a file, and then tolerant."""
    opened: list[TextIO] = []

    def arrange(file: io.RawIOBase | None, encoding: str = "utf-8", *, buffered: bool = True) -> None:
        made = None if file is None else stream(file, encoding, buffered=buffered)
        monkeypatch.setattr(sys, "stdout", made)
        make_streams_tolerant()
        opened.append(sys.stdout)

    yield arrange
    for file in opened:
        file.close()


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "ascii", "cp1252", "koi8-r"])
@pytest.mark.parametrize("buffered", [True, False])
def test_what_an_encoding_lacks_is_escaped_and_json_stays_valid(
    output: Callable[..., None], tmp_path: Path, encoding: str, buffered: bool
) -> None:
    output(io.FileIO(tmp_path / "out", "w"), encoding, buffered=buffered)
    print(json.dumps({"name": TEXT}, ensure_ascii=False))
    check_output()
    written = (tmp_path / "out").read_bytes().decode(encoding)
    assert json.loads(written) == {"name": TEXT}
    assert ("Zürich" in written) == (encoding not in ("ascii", "koi8-r"))


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_went_away_is_no_error(output: Callable[..., None], buffered: bool) -> None:
    read, write = os.pipe()
    output(io.FileIO(write, "w"), buffered=buffered)
    os.close(read)
    for _ in range(3):
        print("line " * 10_000, flush=True)
    check_output()
    assert sys.stdout.fileno() == write
    assert not sys.stdout.isatty()
    assert sys.stdout.name == write


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_is_lost_on_a_full_disk_is_told(output: Callable[..., None]) -> None:
    output(io.FileIO("/dev/full", "w"))
    print("result", flush=True)  # the work goes on
    with pytest.raises(OutputLostError, match="No space left"):
        check_output()


def test_a_closed_stream_becomes_the_null_device(output: Callable[..., None]) -> None:
    output(None)
    print("nobody reads this")
    check_output()


def test_other_streams_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    make_streams_tolerant()
    assert sys.stdout is text
    check_output()


def test_made_tolerant_once(output: Callable[..., None], tmp_path: Path) -> None:
    output(io.FileIO(tmp_path / "out", "w"))
    once = sys.stdout
    make_streams_tolerant()
    assert sys.stdout is once
