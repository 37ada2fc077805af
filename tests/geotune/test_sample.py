"""Samples and sharegpt records: exact round trips, and one clear error per bad record."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.errors import BadRecord, ConfigError
from geotune.sample import Sample, Turn, sample_from_record, sample_to_record
from tests.geotune.samples import GRE, a_record, a_sample, samples, says

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


def test_a_sharegpt_record_and_back() -> None:
    assert sample_from_record(RECORD, where="here") == SAMPLE
    assert sample_to_record(SAMPLE) == RECORD
    assert list(sample_to_record(SAMPLE)) == list(RECORD)
    assert SAMPLE.prompt == "<image>\n<image>\nWhich way?"
    assert SAMPLE.response == '{"direction": "N"}'


def test_names_of_images_become_paths() -> None:
    sample = Sample("a", ("b.jpg", "c/../d.jpg", "/e.jpg"), (Turn("user", "?"),))
    placed = sample.in_folder(Path("data"))
    assert placed.images == ("data/b.jpg", "data/c/../d.jpg", "/e.jpg")
    assert placed == replace(sample, images=placed.images)
    assert sample.in_folder("").images == sample.images


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


def test_images_in_the_form_of_hugging_face_and_by_file_address() -> None:
    images = [{"path": "a.jpg", "bytes": None}, {"path": "b.jpg"}, "file:///photos/c%20d.jpg"]
    record = a_record(images=images, conversations=says("<image><image><image>Where?", "Here."))
    assert sample_from_record(record, where="here").images == ("a.jpg", "b.jpg", "/photos/c d.jpg")
    record = a_record(images=None, image={"path": "a.jpg", "bytes": None}, conversations=says("<image>Where?", "Here."))
    assert sample_from_record(record, where="here").images == ("a.jpg",)


def test_what_only_looks_like_a_foreign_image() -> None:
    """Text that mentions HTML, brackets or images is text, and so is anything in an answer."""
    question = "<image> Is <b>this</b> [1] an image (a < b, <5 km) of <imagery>?"
    record = a_record(images=["a.jpg"], image_id="3", photo=True, conversations=says(question, "See ![it](b.jpg)."))
    assert sample_from_record(record, where="here").prompt == question


def test_an_image_that_could_not_be_read_back_is_not_written() -> None:
    turns = (Turn("user", "<image>Where?"), Turn("assistant", "Here."))
    for name, said in (("file:///a.jpg", "give the path alone"), ("https://x.org/a.jpg", "download it")):
        with pytest.raises(BadRecord, match=said):
            sample_to_record(Sample("a", (name,), turns))


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
    ({"conversations": [{"role": "user", "content": "a"}]}, "belong in `messages`"),
    ({"conversations": ..., "messages": says("a", "b")}, "belong in `conversations`"),
    ({"conversations": ..., "query": "Where?"}, "no `conversations` and no `messages`.*the record holds id, .*, query"),
    ({"images": "a.jpg"}, "`images` is 'a.jpg'; it must be a list"),
    (
        {"images": [{"bytes": "iVBOR", "path": None}], "conversations": says("<image>?", "!")},
        r"`images\[0\]` is {'bytes'",
    ),
    (
        {"images": [{"bytes": "iVBOR", "path": None}], "conversations": says("<image>?", "!")},
        "write it to a file and name the file",
    ),
    (
        {"images": [{"image_url": {"url": "https://x.org/a.jpg"}}], "conversations": says("<image>?", "!")},
        "not the name of the image's file; download it and name the file",
    ),
    (
        {"images": [{"bytes": "iVBOR", "path": "a.jpg"}], "conversations": says("<image>?", "!")},
        "the name of the image",
    ),
    (
        {"images": ..., "image": {"url": "https://x.org/a.jpg"}, "conversations": says("<image>?", "!")},
        "`image` is {'url'",
    ),
    (
        {"images": ..., "image": "https://x.org/a.jpg", "conversations": says("<image>?", "!")},
        "download it and name the file",
    ),
    ({"images": ["gs://x/a.jpg"], "conversations": says("<image>?", "!")}, "download it and name the file"),
    ({"image_path": "a.jpg"}, "`image_path` holds an image under a name that is not read; name the key `images`"),
    ({"imgUrl": "https://x.org/a.jpg"}, "`imgUrl` holds an image"),
    ({"media": [{"type": "image"}]}, "`media` holds an image"),
    ({"images": [3], "conversations": says("<image>?", "!")}, r"`images\[0\]` is 3"),
    ({"images": [""], "conversations": says("<image>?", "!")}, r"`images\[0\]` is empty"),
    ({"images": ..., "image": ["a.jpg"]}, "`image` is .* must be one file name"),
    ({"image": "a.jpg"}, "both `image` and `images`"),
    *[
        (
            {"conversations": says(f"{mark} Where?", "Here.")},
            "turn 1 holds .*; write <image> instead, and name the file",
        )
        for mark in (
            *(
                "Picture 1: <img>a.jpg</img>",
                '<img src="a.jpg">',
                "<|vision_start|><|image_pad|><|vision_end|>",
                "<image_1>",
            ),
            *("<|image_1|>", "<image 2>", "<image_placeholder>", "<IMG_CONTEXT>", "[IMG]", "![a photo](a.jpg)"),
        )
    ],
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
