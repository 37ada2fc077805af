"""Answers of an endpoint: which of them are valid geo-captions, and what is written of those."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from data_builders.sources.geocaption_form import (
    OUTLINE,
    InvalidCaptionError,
    check_reply,
    json_schema,
    read_reply,
    write_caption,
)
from geotune.tasks.coordinates import Coordinates


def fill(outline: Any, at: Coordinates) -> Any:
    if isinstance(outline, dict):
        return {key: getattr(at, key[:3]) if value == "number" else fill(value, at) for key, value in outline.items()}
    return [fill(outline[0], at)] * 2 if isinstance(outline, list) else "Grey asphalt; not 48.1 N, see 12 lamps."


def completion(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"model": "gpt-test-2026", "choices": [choice], **more}


def test_the_schema_is_the_papers_and_strict() -> None:
    schema = json_schema()
    thinking = schema["properties"]["thinking"]
    assert list(schema["properties"]) == ["thinking", "answer"]
    near = thinking["properties"]["1km_analysis"]["properties"]
    assert list(near["road_engineering"]["properties"]) == [
        "surface_materials",
        "line_markings",
        "guardrails",
        "lighting",
        "drainage",
    ]
    eliminated = thinking["properties"]["elimination_similar_regions"]["items"]["properties"]
    assert eliminated["reasons"] == {"type": "array", "items": {"type": "string"}}
    assert schema["properties"]["answer"]["properties"]["coordinates"]["properties"]["latitude"] == {"type": "number"}

    def objects(node: Any) -> Iterator[dict[str, Any]]:
        if node.get("type") == "object":
            yield node
        for inner in (*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])):
            yield from objects(inner)

    assert len(list(objects(schema))) == 13
    for node in objects(schema):
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])


AT = Coordinates(48.85, 2.35)


def caption(change: Any = None) -> str:
    filled = fill(OUTLINE, AT)
    if change:
        change(filled)
    return json.dumps(filled)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (caption()[:-1], "not_json"),
        ("", "not_json"),
        ("[" * 100_000, "not_json"),
        (json.dumps([caption()]), "wrong_schema"),
        (caption(lambda c: c["answer"].pop("coordinates")), "wrong_schema"),
        (caption(lambda c: c.update(more=1)), "wrong_schema"),
        (caption(lambda c: c["thinking"].update({"25km_analysis": "hills"})), "wrong_schema"),
        (caption(lambda c: c["thinking"]["vehicles_traffic"].update(vehicle_types=" ")), "wrong_schema"),
        (caption(lambda c: c["thinking"]["vehicles_traffic"].update(vehicle_types="<image>")), "wrong_schema"),
        (caption(lambda c: c["thinking"]["vehicles_traffic"].update(vehicle_types="\ud800")), "wrong_schema"),
        (caption(lambda c: c["thinking"].update(elimination_similar_regions=[])), "wrong_schema"),
        (caption(lambda c: c["answer"]["coordinates"].update(latitude="48.85")), "wrong_schema"),
        (caption(lambda c: c["answer"]["coordinates"].update(latitude=float("nan"))), "wrong_schema"),
        (caption(lambda c: c["answer"]["coordinates"].update(latitude=True)), "wrong_schema"),
        (caption(lambda c: c["answer"]["coordinates"].update(latitude=2.35, longitude=48.85)), "wrong_place"),
        (caption(lambda c: c["answer"]["coordinates"].update(latitude=48.87)), "wrong_place"),
        (caption(lambda c: c["answer"]["coordinates"].update(latitude=0, longitude=0)), "wrong_place"),
        (
            caption(
                lambda c: c["answer"]["final_location_confirmation"].update(
                    accuracy_assessment="It agrees with the provided coordinates."
                )
            ),
            "tells_that_it_was_told",
        ),
    ],
)
def test_answers_that_are_no_geo_caption(text: str, reason: str) -> None:
    with pytest.raises(InvalidCaptionError) as error:
        check_reply(read_reply(json.dumps(completion(text))), AT)
    assert error.value.reason == reason
    assert error.value.detail


def test_a_near_answer_takes_the_tables_coordinates() -> None:
    near = caption(lambda c: c["answer"]["coordinates"].update(latitude=48.8501, longitude=2.3499))
    text = write_caption(check_reply(read_reply(json.dumps(completion(near))), AT), AT)
    assert json.loads(text) == json.loads(caption())


def test_tokens_of_thinking_count() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 100}
    assert read_reply(json.dumps(completion("x", usage=usage))).tokens_out == 90
