"""Reading and writing samples: exact round trips, one clear error per bad record, and real image files."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from geotune.errors import BadRecord, ConfigError
from geotune.records import iter_records, read_samples, write_samples
from geotune.sample import Sample, Turn, sample_from_record, sample_to_record
from geotune.system.files import open_atomically
from geotune.system.images import check_image, load_image, resolve_image

unhurried = settings(deadline=None)  # machines share their cores
RECORD = {
    "id": "geox_index/CVGloable/13824_0/N/pose_fixed/full",
    "images": ["images/view,-27.38(1).jpg", "/data/map.png"],
    "conversations": [
        {"from": "human", "value": "<image>\n<image>\nWhich way?"},
        {"from": "gpt", "value": '{"direction": "N"}'},
    ],
    "system": "You are a geographer.",
    "task": "pose_fixed",
    "answer": "N",
    "source": "CVGloable",
    "place": "CVGloable/-27.385763,153.000247",
    "meta": '{"heading": 0}',
}
SAMPLE = Sample(
    id=str(RECORD["id"]),
    images=("images/view,-27.38(1).jpg", "/data/map.png"),
    turns=(Turn("user", "<image>\n<image>\nWhich way?"), Turn("assistant", '{"direction": "N"}')),
    system="You are a geographer.",
    task="pose_fixed",
    answer="N",
    source="CVGloable",
    place="CVGloable/-27.385763,153.000247",
    meta='{"heading": 0}',
)
GRE = {
    "image": "images/7.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhere is it?"},
        {"from": "gpt", "value": "<answer>..</answer>"},
    ],
    "gt_lat": 48.85,
    "gt_lon": 2.35,
}


def a_sample(name: str = "a", *, images: tuple[str, ...] = (), question: str = "Where?", **fields: Any) -> Sample:
    text = "<image>\n" * len(images) + question
    return Sample(id=name, images=images, turns=(Turn("user", text), Turn("assistant", "Here.")), **fields)


def a_record(**changes: Any) -> dict[str, Any]:
    record = {**sample_to_record(a_sample()), **changes}
    return {key: value for key, value in record.items() if value is not ...}


def says(*texts: str, first: str = "human") -> list[dict[str, str]]:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": speakers[i % 2], "value": text} for i, text in enumerate(texts)]


# Records


def test_a_sharegpt_record_and_back() -> None:
    assert sample_from_record(RECORD, where="here") == SAMPLE
    assert sample_to_record(SAMPLE) == RECORD
    assert list(sample_to_record(SAMPLE)) == list(RECORD)
    assert SAMPLE.prompt == "<image>\n<image>\nWhich way?"
    assert SAMPLE.response == '{"direction": "N"}'


def test_a_prompt_without_an_answer_has_an_empty_response() -> None:
    sample = Sample("a", (), (Turn("user", "Where?"),))
    assert (sample.prompt, sample.response) == ("Where?", "")
    with pytest.raises(BadRecord, match="end with the assistant"):
        sample_to_record(sample)


def test_a_gre_record_keeps_its_coordinates_in_meta() -> None:
    sample = sample_from_record(GRE, where="gre.json[0]", default_id="gre/0")
    assert sample.id == "gre/0"
    assert sample.images == ("images/7.jpg",)
    assert json.loads(sample.meta) == {"gt_lat": 48.85, "gt_lon": 2.35}
    assert sample_from_record(sample_to_record(sample), where="again") == sample


def test_messages_with_a_system_turn() -> None:
    record = {
        "id": 7,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "<image>Where?"},
            {"role": "assistant", "content": "Paris."},
        ],
        "images": ["a.jpg"],
        "system": None,
    }
    sample = sample_from_record(record, where="here")
    assert sample == Sample("7", ("a.jpg",), (Turn("user", "<image>Where?"), Turn("assistant", "Paris.")), "Be brief.")


def test_several_turns_share_the_images() -> None:
    turns = says("<image>One?", "Yes.", "<image> Two?", "No.")
    sample = sample_from_record(a_record(conversations=turns, images=["a", "b"]), where="here")
    assert [turn.role for turn in sample.turns] == ["user", "assistant"] * 2
    assert (sample.prompt, sample.response) == ("<image> Two?", "No.")


def test_columns_that_another_record_fills_may_be_null() -> None:
    assert sample_from_record(a_record(task=None, meta=None, images=None, image=None), where="here") == a_sample()
    turn = {"from": "human", "value": "Where?", "role": None}
    assert sample_from_record(a_record(conversations=[turn, *says("x", "Here.")[1:]]), where="here") == a_sample()


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


BAD_RECORDS = [
    ({"conversations": ...}, "no `conversations`"),
    ({"messages": []}, "both `conversations` and `messages`"),
    ({"conversations": "Where?"}, "must be a list of turns"),
    ({"conversations": []}, "they are: none"),
    ({"conversations": says("Where?")}, "they are: user"),
    ({"conversations": says("Where?", "Here.", "Sure?")}, "they are: user, assistant, user"),
    ({"conversations": says("Here.", "Where?", first="gpt")}, "they are: assistant, user"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}, "alternate"),
    ({"conversations": [*says("a"), {"from": "bot", "value": "b"}]}, "`from` of turn 2 is 'bot'; known: human, gpt"),
    ({"conversations": [*says("a"), {"from": "system", "value": "b"}]}, "`from` of turn 2 is 'system'"),
    ({"conversations": [*says("a"), {"from": "gpt", "value": 3}]}, "`value` of turn 2 is 3"),
    ({"conversations": [*says("a"), {"from": ["gpt"], "value": "b"}]}, "`from` of turn 2"),
    ({"conversations": [*says("a"), {"from": "gpt"}]}, "turn 2 is .* must hold `from` and `value`"),
    ({"conversations": [*says("a"), {"from": "gpt", "value": "b", "loss": 0}]}, "nothing else"),
    ({"conversations": ["a", "b"]}, "turn 1 is 'a'"),
    ({"conversations": says("  \n", "Here.")}, r"turn 1 \(user\) is empty"),
    ({"conversations": says("Where?", "")}, r"turn 2 \(assistant\) is empty"),
    ({"conversations": ..., "messages": says("a", "b")}, "must hold `role` and `content`"),
    ({"conversations": ..., "messages": [{"role": "user", "content": [{"type": "text"}]}]}, "`content` of turn 1"),
    ({"images": ["a.jpg"]}, "0 <image> in the turns, but 1 images"),
    ({"conversations": says("<image>Where?", "Here.")}, "1 <image> in the turns, but 0 images"),
    ({"conversations": says("Where?", "<image>"), "images": ["a.jpg"]}, "turn 2 is an answer and holds <image>"),
    ({"system": "See <image>."}, "system prompt holds <image>"),
    ({"conversations": says("<video>Where?", "Here.")}, "holds <video>"),
    ({"images": "a.jpg"}, "`images` is 'a.jpg'; it must be a list"),
    ({"images": [3], "conversations": says("<image>?", "!")}, r"`images\[0\]` is 3"),
    ({"images": [""], "conversations": says("<image>?", "!")}, r"`images\[0\]` is empty"),
    ({"images": ..., "image": ["a.jpg"]}, "`image` is .* must be one file name"),
    ({"image": "a.jpg"}, "both `image` and `images`"),
    ({"answer": 3}, "`answer` is 3; it must be a string"),
    ({"answer": True}, "`answer` is True"),
    ({"meta": {"a": 1}}, "`meta` is .* it must be a string"),
    ({"meta": "[1]"}, "`meta` is .* it must be a JSON object"),
    ({"meta": "{'a': 1}"}, "it must be a JSON object"),
    ({"meta": '{"a": NaN}'}, "NaN is not JSON"),
    ({"meta": '{"a": 1}', "a": 2}, "`a` stands both in the record and in its `meta`"),
    ({"spread": float("inf")}, "can't be kept in `meta`"),
    ({"id": ""}, "`id` is empty"),
    ({"id": ["a"]}, "`id` is .* it must be a string"),
    ({"id": True}, "`id` is True"),
    ({"answer": nested(500)}, r"`answer` is \[\[\[.*; it must be a string"),
    ({"extra": nested(5000)}, "can't be kept in `meta`"),
    ({"task": "half \ud800"}, "`task` holds half a character"),
    ({"conversations": [{"from": "system", "value": "x"}, *says("a", "b")], "system": "y"}, "two system prompts"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_RECORDS)
def test_a_bad_record_is_named_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRecord, match=reason) as caught:
        sample_from_record(a_record(**changes), where="data.jsonl:12", default_id="data/11")
    assert caught.value.where == "data.jsonl:12"
    named = "data/11" if not isinstance(changes.get("id", "a"), str) else changes.get("id", "a")
    assert caught.value.record_id == named
    assert str(caught.value).startswith("data.jsonl:12: ")
    assert isinstance(caught.value, ConfigError)


def test_bad_records_survive_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(BadRecord("a/1", "no image", "data.jsonl:3")))
    assert str(error) == "data.jsonl:3: record 'a/1': no image"
    assert (error.record_id, error.reason, error.where) == ("a/1", "no image", "data.jsonl:3")


TEXT = st.text(st.characters(codec="utf-8"), max_size=30).filter(
    lambda text: not any(tag in text for tag in ("<image>", "<video>", "<audio>"))
)
SAID = TEXT.filter(str.strip)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any sample that keeps the rules."""
    images = tuple(draw(st.lists(TEXT.filter(bool), max_size=4)))
    rounds = draw(st.integers(1, 3))
    asked = draw(st.lists(SAID, min_size=rounds, max_size=rounds))
    for _ in images:
        at = draw(st.integers(0, rounds - 1))
        asked[at] = draw(st.sampled_from(["<image>\n{}", "{}<image>"])).format(
            asked[at].replace("{", "(").replace("}", ")")
        )
    turns = [turn for text in asked for turn in (Turn("user", text), Turn("assistant", draw(SAID)))]
    meta = json.dumps(draw(st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=3)))
    system, task, answer, source, place = (draw(TEXT) for _ in range(5))
    return Sample(draw(TEXT.filter(bool)), images, tuple(turns), system, task, answer, source, place, meta)


@unhurried
@given(samples())
def test_records_round_trip(sample: Sample) -> None:
    record = sample_to_record(sample)
    assert sample_from_record(json.loads(json.dumps(record)), where="here") == sample
    assert all(isinstance(record[key], str) for key in ("id", "system", "task", "answer", "source", "place", "meta"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "image", "images", "conversations", "messages", "system", "answer", "meta", "gt_lat"])
TURN = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "system", "x"]), "value": st.text(max_size=9) | JSON}
)


@unhurried
@given(st.dictionaries(KEYS, JSON | st.lists(TURN, max_size=4), max_size=9))
def test_any_record_is_a_sample_or_a_bad_record(record: dict[str, Any]) -> None:
    try:
        sample = sample_from_record(record, where="here")
    except BadRecord:
        return
    assert sample_from_record(sample_to_record(sample), where="there") == sample


# Files


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
    with open_atomically(tmp_path / "note.txt") as file:
        file.write("two\nlines\n")
        assert not (tmp_path / "note.txt").exists()
    assert (tmp_path / "note.txt").read_bytes() == b"two\nlines\n"


# Images


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Writes a noisy image and returns its path."""

    def write(name: str = "a.jpg", size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> Path:
        channels = len(Image.new(mode, (1, 1)).getbands())
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.squeeze(), mode).save(path, **options)
        return path

    return write


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


def test_images_that_are_none(tmp_path: Path, photo: Callable[..., Path]) -> None:
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


def test_sixteen_bits_of_grey_keep_their_brightness(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(np.tile(ramp, (4, 1))).save(path)
    np.testing.assert_array_equal(np.asarray(load_image(path))[0, :, 0], ramp // 256)
    assert check_image(path, max_pixels=None) == (256, 4)


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK").save(path, quality=95)
    assert np.abs(np.asarray(load_image(path), int) - (200, 40, 60)).max() < 12


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_images_of_several_frames_are_refused(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    for read in (load_image, lambda path: check_image(path, max_pixels=None)):
        with pytest.raises(BadRecord, match="is animated or has pages"):
            read(tmp_path / name)


def test_images_of_real_numbers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "heights.tiff")
    with pytest.raises(BadRecord, match="real numbers"):
        load_image(tmp_path / "heights.tiff")


def test_a_image_of_200_megapixels_is_refused_by_its_header(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.new("L", (1, 1)).save(whole, "PNG")
    head = b"IHDR" + struct.pack(">II", 20_000, 10_000) + bytes([8, 0, 0, 0, 0])
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (tmp_path / "vast.png").write_bytes(whole.getvalue()[:8] + chunk + whole.getvalue()[33:])
    with pytest.raises(BadRecord, match=r"200000000 pixels.*allowed$"):
        check_image(tmp_path / "vast.png", max_pixels=50_000_000)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (300, 300)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadRecord, match="can't be read"):
        load_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_image_is_a_image_or_a_bad_record(
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
