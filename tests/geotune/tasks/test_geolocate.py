"""Coordinates of a photo: the form of the answer, gold answers from all kinds of records, and the score."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks import TASKS, GoldError, Parsed, Reason
from geotune.tasks.coordinates import CoordinateError, Coordinates
from geotune.tasks.geolocate import GeolocateTask, coordinates_json

TASK = TASKS["geolocate"]
LAT, LON = st.floats(-90, 90), st.floats(-180, 180)
WORDS = st.text(alphabet="abcdefghijkl mnopqrtuvxyz,.!\n")  # no hemispheres, no numbers


def test_prompt_states_form_and_order() -> None:
    for explain in (False, True):
        prompt = TASK.prompt(explain=explain)
        assert prompt.startswith("<image>\nWhere")
        assert prompt.count("<image>") == 1
        assert '{"latitude": ..., "longitude": ...}' in prompt
        assert "latitude first" in prompt
        assert TASK.parse(prompt).answer is None


@pytest.mark.parametrize(
    ("record", "gold"),
    [
        ({"GroundImage": {"real_location": "-27.38576305,153.00024686"}}, (-27.385763, 153.000247)),
        ({"gt_lat": 48.85, "gt_lon": 2}, (48.85, 2.0)),
        ({"latitude": "40.4575882", "longitude": "-93.40678406"}, (40.457588, -93.406784)),
        ({"LAT": "1e-5", "LON": -180}, (0.00001, -180.0)),
        ({"true_lat": 0.0, "true_lon": 12.5}, (0.0, 12.5)),
        ({"gt_lat": 48.85, "gt_long": 2, "lat": 1, "lng": 1}, (48.85, 2.0)),
        ({"true_latitude": 48.85, "TRUE_LONG": 2}, (48.85, 2.0)),
        ({"lat": "48.85 N", "long": "2.5 W", "pred_lat": 3, "pred_lon": 4}, (48.85, -2.5)),
    ],
)
def test_gold(record: dict[str, Any], gold: tuple[float, float]) -> None:
    answer = TASK.gold(record)
    assert json.loads(answer) == {"latitude": gold[0], "longitude": gold[1]}
    assert "e" not in answer.replace("latitude", "").replace("longitude", "")
    assert TASK.parse(TASK.target(answer)).answer == answer


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "missing GroundImage.real_location"),
        ({"gt_lat": 100.0, "gt_lon": 0.0}, "coordinates out_of_range"),
        ({"latitude": "", "longitude": ""}, "coordinates missing"),
        ({"latitude": 0, "longitude": 0}, "coordinates null_island"),
        ({"GroundImage": {"real_location": "nowhere"}}, "coordinates missing"),
    ],
)
def test_records_without_coordinates(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(GoldError) as error:
        TASK.gold(record)
    assert error.value.reason == reason


@settings(deadline=None, max_examples=100)
@given(LAT, LON, WORDS)
def test_targets_are_read_back(lat: float, lon: float, explanation: str) -> None:
    parsed = TASK.parse(json.dumps({"latitude": lat, "longitude": lon}))
    if parsed.answer is None:  # both within half a unit of the sixth decimal of zero
        assert parsed.reason == CoordinateError.null_island
        assert max(abs(lat), abs(lon)) < 1e-6
        return
    assert parsed.answer is not None
    read = json.loads(parsed.answer)
    assert read["latitude"] == pytest.approx(lat, abs=5.1e-7)
    assert read["longitude"] == pytest.approx(lon, abs=5.1e-7)
    for said in (None, explanation):
        assert TASK.parse(TASK.target(parsed.answer, said)) == parsed
    assert TASK.answer_prefix(TASK.target(parsed.answer, explanation)) == TASK.target(
        parsed.answer, explanation
    ).replace(parsed.answer, "")
    assert TASK.score(parsed, parsed.answer) == 1.0


def test_reading() -> None:
    answer = '{"latitude": 48.8566, "longitude": 2.3522}'
    for text in (
        "48.8566, 2.3522",
        "{'longitude': '2.3522', 'latitude': '48.8566'}",
        '```json\n{"latitude": 48.8566, "longitude": 2.3522}\n```',
        'First (1, 2), then {"latitude": 48.8566, "longitude": 2.3522}',
        "<think>10, 10</think><answer>48.8566, 2.3522</answer>",
    ):
        assert TASK.parse(text) == Parsed(answer, None)
    assert TASK.parse(" ") == Parsed(None, Reason.EMPTY)
    assert TASK.parse("nowhere") == Parsed(None, CoordinateError.missing)
    assert TASK.parse('{"latitude": 91, "longitude": 0}') == Parsed(None, CoordinateError.out_of_range)
    assert TASK.parse('{"latitude": 1e-9, "longitude": 0}') == Parsed(None, CoordinateError.null_island)


def test_score_is_geoscore() -> None:
    assert isinstance(TASK, GeolocateTask)
    gold = coordinates_json(Coordinates(0.0, 10.0))
    east = Parsed(coordinates_json(Coordinates(0.0, 20.0)), None)
    distance_km = 6371.0 * math.pi / 18
    assert TASK.distance_km(east, gold) == pytest.approx(distance_km)
    assert TASK.score(east, gold) == pytest.approx(math.exp(-distance_km / 1492.7))
    assert TASK.score(Parsed(coordinates_json(Coordinates(0.0, -170.0)), None), gold) == pytest.approx(0.0, abs=2e-6)
    assert TASK.score(Parsed(None, Reason.EMPTY), gold) == 0.0
    assert TASK.distance_km(Parsed(None, Reason.EMPTY), gold) is None
    with pytest.raises(ValueError, match="out_of_range"):
        TASK.score(east, '{"latitude": 91, "longitude": 0}')
    with pytest.raises(ValueError, match="no coordinates"):
        TASK.target("somewhere")


@settings(deadline=None, max_examples=200)
@given(st.text() | st.text(alphabet="{}[]:,=\"' \nlatiudeong<answer>/NSEW.-+0123456789"))
def test_any_text_is_scored_within_bounds(text: str) -> None:
    parsed = TASK.parse(text)
    assert 0.0 <= TASK.score(parsed, '{"latitude": 1.0, "longitude": 2.0}') <= 1.0
    if parsed.answer is None:
        assert parsed.reason in {*Reason, *CoordinateError}
