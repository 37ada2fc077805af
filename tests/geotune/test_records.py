"""Dataset files: exact round trips, one clear error per bad record, whole files or none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geotune.errors import BadRecord, ConfigError
from geotune.records import iter_records, read_samples, write_samples
from geotune.sample import Sample, Turn, sample_to_record
from tests.geotune.samples import GRE, a_record, a_sample, noisy_image, samples


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """`photo("a.jpg", size, mode)` writes an image of noise to that name and returns its path."""
    return lambda name="a.jpg", *settings, **options: noisy_image(tmp_path / name, *settings, **options)


@settings(deadline=None, max_examples=40)
@given(
    sets=st.lists(samples(), max_size=5, unique_by=lambda sample: sample.id),
    suffix=st.sampled_from([".json", ".jsonl"]),
)
def test_files_round_trip(tmp_path_factory: pytest.TempPathFactory, sets: list[Sample], suffix: str) -> None:
    path = tmp_path_factory.mktemp("files") / f"data{suffix}"
    assert write_samples(path, iter(sets)) == len(sets)
    assert list(read_samples(path)) == sets
    text = path.read_text(encoding="utf-8")
    parsed = json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.split("\n")[:-1]]
    assert parsed == [sample_to_record(sample) for sample in sets]


def test_records_without_an_id_get_a_stable_one(tmp_path: Path) -> None:
    (tmp_path / "gre_cot.json").write_text(json.dumps([GRE, GRE]))
    (tmp_path / "lines.jsonl").write_text(f"{json.dumps(GRE)}\n\n{json.dumps(GRE)}\n")
    assert [sample.id for sample in read_samples(tmp_path / "gre_cot.json")] == ["gre_cot/0", "gre_cot/1"]
    assert [sample.id for sample in read_samples(tmp_path / "lines.jsonl")] == ["lines/0", "lines/1"]


def line(**changes: Any) -> str:
    return json.dumps(a_record(**changes))


def test_jsonl_reports_each_bad_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [line(), "{", line(id="b", answer=2), line(), "[1]", '{"id": 1, "id": 2}', '{"id": NaN}', line(id="c")]
    path.write_bytes("\n".join(lines).encode() + b'\n{"id": "\xff"}\n' + b'{"a":' * 100_000 + b"\n\r\n" + b"9" * 5000)
    found = list(iter_records(path))
    assert [record.id for record in found if isinstance(record, Sample)] == ["a", "c"]
    errors = [str(record) for record in found if isinstance(record, BadRecord)]
    expected = [
        (2, "data/1", "not JSON: Expecting property name"),
        (3, "b", "`answer` is 2"),
        (4, "a", f"this id is taken: {path}:1 has it too"),
        (5, "data/4", "a record is a JSON object; this is [1]"),
        (6, "data/5", "key 'id' comes twice"),
        (7, "data/6", "NaN is not JSON"),
        (9, "data/8", "not UTF-8 at byte 8"),
        (10, "data/9", "nested too deeply"),
        (12, "data/10", "Exceeds the limit"),
    ]
    assert len(errors) == len(expected)
    for error, (number, name, reason) in zip(errors, expected, strict=True):
        assert error.startswith(f"{path}:{number}: record {name!r}: ")
        assert reason in error
    reader = read_samples(path)
    assert next(reader).id == "a"
    with pytest.raises(BadRecord, match=r"data\.jsonl:2: record 'data/1'"):
        next(reader)


def test_json_reports_each_bad_element_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    elements = [line(), line(id="b", answer=2), '{"id": "c", "id": "c"}', "3", line(id="d"), line()]
    path.write_text("\ufeff [\n" + " ,\n".join(elements) + "\n]\n", encoding="utf-8")
    found = list(iter_records(path))
    assert [record.id for record in found if isinstance(record, Sample)] == ["a", "d"]
    errors = [str(record) for record in found if isinstance(record, BadRecord)]
    assert [error.split(": ")[0] for error in errors] == [f"{path}[{index}]" for index in (1, 2, 3, 5)]
    assert "key 'id' comes twice" in errors[1]
    assert f"{path}[0] has it too" in errors[3]


@pytest.mark.parametrize(
    ("text", "good", "reason"),
    [
        ("", 0, "one array of records"),
        ('{"id": 1}', 0, "name JSON lines .jsonl"),
        ("[" + line() + ",]", 1, "Expecting value at line 1"),
        ("[\n" + line() + ",\n" + line()[:-5], 1, "at line 3; the rest of the file can't be read"),
        ("[" + line() + " " + line(id="b") + "]", 1, "Expecting ',' or ']'"),
        ("[" + line() + "] more", 1, "text after the end of the array"),
        ("[] more", 0, "text after the end of the array"),
        ("[" * 100_000, 0, "the rest of the file can't be read"),
        ("[" + "9" * 5000 + "]", 0, "the rest of the file can't be read"),
    ],
)
def test_a_broken_array_gives_what_stands_before_the_break(tmp_path: Path, text: str, good: int, reason: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text)
    *samples_before, error = iter_records(path)
    assert len(samples_before) == good
    assert all(isinstance(sample, Sample) for sample in samples_before)
    assert isinstance(error, BadRecord)
    assert reason in str(error)


def test_an_array_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(b'["\xff"]')
    (error,) = iter_records(path)
    assert str(error) == f"{path}: not UTF-8 at byte 2"


def test_no_such_file_and_no_such_format(tmp_path: Path) -> None:
    for name, reason in (("gone.jsonl", "no such dataset file"), ("data.csv", r"ends in \.jsonl or \.json")):
        with pytest.raises(ConfigError, match=reason) as caught:
            list(read_samples(tmp_path / name))
        assert not isinstance(caught.value, BadRecord)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match="no such dataset file"):
        list(read_samples(tmp_path / "folder.json"))
    with pytest.raises(ConfigError, match=r"ends in \.jsonl or \.json"):
        write_samples(tmp_path / "data.csv", [])


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "data.jsonl"
    write_samples(path, [a_sample()])
    before = path.read_bytes()
    bad = Sample("b", (), (Turn("user", "Where?"),))
    for broken, reason in (([a_sample("c"), bad], "record 'b'"), ([a_sample("c"), a_sample("c")], "id is taken")):
        with pytest.raises(BadRecord, match=reason):
            write_samples(path, broken)

    def interrupted() -> Any:
        yield a_sample("d")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(path, interrupted())
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["data.jsonl"]


def test_writing_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.jsonl").mkdir()
    for path in (tmp_path / "file" / "data.jsonl", tmp_path / "folder.jsonl"):
        with pytest.raises(ConfigError, match="can't be written"):
            write_samples(path, [a_sample()])


def test_reading_with_images_checked(tmp_path: Path, photo: Callable[..., Path]) -> None:
    photo("images/good.jpg")
    absolute = photo("elsewhere.png")
    photo("images/large.png", (100, 100))
    photo("images/cut.jpg").write_bytes(photo("images/good.jpg").read_bytes()[:200])
    (tmp_path / "images/link.jpg").symlink_to(Path(__file__))
    names = {
        "good": ("images/good.jpg", str(absolute)),
        "cut": ("images/good.jpg", "images/cut.jpg"),
        "gone": ("images/gone.jpg",),
        "out": ("../secret.jpg",),
        "link": ("images/link.jpg",),
        "large": ("images/large.png",),
    }
    path = tmp_path / "data.jsonl"
    write_samples(path, [a_sample(name, images=images) for name, images in names.items()])
    assert len(list(read_samples(path))) == 6
    good, *bad = iter_records(path, check_images=True, max_image_pixels=2000)
    assert isinstance(good, Sample)
    reasons = {error.record_id: error.reason for error in bad if isinstance(error, BadRecord)}
    assert list(reasons) == ["cut", "gone", "out", "link", "large"]
    for name, words in zip(reasons, ("can't be read", "missing", "leaves", "leaves", "more than"), strict=True):
        assert words in reasons[name]
    with pytest.raises(BadRecord, match=r"data\.jsonl:2: record 'cut': image .*cut\.jpg can't be read"):
        list(read_samples(path, check_images=True))


def test_each_image_is_decoded_once(
    tmp_path: Path, photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo("a.jpg")
    write_samples(tmp_path / "data.json", [a_sample(str(i), images=("a.jpg", "a.jpg")) for i in range(5)])
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: opened.append(args) or real(*args, **kwargs))
    assert len(list(read_samples(tmp_path / "data.json", check_images=True))) == 5
    assert len(opened) == 1
