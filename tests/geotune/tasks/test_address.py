"""Addresses in IMAGEO's fields: read from its nested form and from ours, without unknown parts, compared by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geotune.tasks import TASKS, GoldError, Parsed, Reason
from geotune.tasks.address import Address, AddressTask, same_city, same_country, same_state
from geotune.tasks.coordinates import Coordinates

TASK = TASKS["address"]
ROW = {
    "street": "5 Elm St",
    "city": "St. Paul",
    "state": "MN",
    "country": "USA",
    "latitude": "44.95",
    "longitude": "-93.1",
}
GOLD = Address("5 Elm St", "St. Paul", "MN", "USA", Coordinates(44.95, -93.1)).json()


def imageo(confidence: Any = "4", latitude: Any = "44.95", longitude: Any = "-93.1", **address: Any) -> dict[str, Any]:
    """An answer in IMAGEO's own form."""
    return {
        "image_information": {"environment": "outdoor", "scene_type": "street", "setting": "urban"},
        "reasoning": {"text_and_signage": 'A sign says "City of St. Paul", {faded}.', "cultural_indicators": "none"},
        "reverse_geocoding": {
            "confidence": confidence,
            "address": {"street": "5 Elm St", "city": "St. Paul", "state": "MN", "country": "USA", **address},
            "coordinates": {"latitude": latitude, "longitude": longitude},
        },
    }


def read(text: str) -> dict[str, Any]:
    parsed = TASK.parse(text)
    assert parsed.answer is not None, parsed.reason
    fields: dict[str, Any] = json.loads(parsed.answer)
    return fields


def test_prompt_states_every_field() -> None:
    prompt = TASK.prompt(explain=False)
    assert prompt.startswith("<image>\nWhere")
    assert all(f'"{name}": ...' in prompt for name in json.loads(GOLD))
    assert TASK.parse(prompt) == Parsed(None, Reason.NO_ANSWER)


def test_gold() -> None:
    assert TASK.gold(ROW) == GOLD
    assert json.loads(TASK.gold({**ROW, "street": "", "state": "Unknown", "country": None})) == {
        **json.loads(GOLD),
        "street": None,
        "state": None,
        "country": None,
    }
    with pytest.raises(GoldError, match="no city, state or country"):
        TASK.gold({"latitude": 1, "longitude": 2, "street": "5 Elm St"})
    with pytest.raises(GoldError, match="out_of_range"):
        TASK.gold({**ROW, "latitude": "95"})


def test_imageo_form() -> None:
    expected = {**json.loads(GOLD), "confidence": 4}
    nested = json.dumps(imageo())
    for text in (
        nested,
        f"```json\n{json.dumps(imageo(), indent=2)}\n```",
        nested[:-2],
        repr(imageo()),
        f"Hm {{}} {nested}",
    ):
        assert read(text) == expected
    flat = {**imageo()["reverse_geocoding"]["address"], "latitude": 44.95, "longitude": -93.1, "confidence": 4}
    assert read(json.dumps(flat)) == expected
    assert read(f"{json.dumps({'city': 'Paris'})} No:\n{json.dumps(flat)}") == expected


def test_what_is_not_known_is_null() -> None:
    fields = read(
        json.dumps(imageo(None, None, "Unknown", street=None, city="", state="Not specified", country="Cuba"))
    )
    assert fields == {**dict.fromkeys(fields), "country": "Cuba"}
    fields = read(json.dumps(imageo(7, 95, 10, street="N/A")))
    assert (fields["confidence"], fields["latitude"], fields["street"], fields["city"]) == (
        None,
        None,
        None,
        "St. Paul",
    )
    assert read(json.dumps(imageo(0.5)))["confidence"] is None
    assert read(json.dumps(imageo("4.5 (the sign)")))["confidence"] == 4.5
    assert read(json.dumps(imageo("80%")))["confidence"] is None
    assert read(json.dumps({"city": "Rome", "coordinates": "lat 41.9, lon 12.5"}))["latitude"] == 41.9
    assert read("It lies at 41.9 N, 12.5 E.")["longitude"] == 12.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.EMPTY),
        ("In Rome.", Reason.NO_ANSWER),
        (json.dumps(dict.fromkeys(ROW)), Reason.NO_ANSWER),
        (
            json.dumps(imageo(5, "0", "0", street="", city="Unknown", state="Unknown", country="Unknown")),
            Reason.NO_ANSWER,
        ),
        ('{"city": "Rome", "city": "Oslo"}', Reason.CONTRADICTION),
        ('[{"city": "Rome"}, {"city": "Oslo"}]', Reason.CONTRADICTION),
        ('{"city": "Ro', Reason.TRUNCATED),
    ],
)
def test_refused(text: str, reason: Reason) -> None:
    assert TASK.parse(text) == Parsed(None, reason)


@pytest.mark.parametrize(
    ("same", "one", "other", "equal"),
    [
        (same_country, "USA", "United States", True),
        (same_country, "U.S.", "the United States of America", True),
        (same_country, "UK", "united kingdom", True),
        (same_country, "T\u00fcrkiye", "Turkey", True),
        (same_country, "Niger", "Nigeria", False),
        (same_state, "MN", "Minnesota", True),
        (same_state, "new york", "N.Y.", True),
        (same_state, "VA", "West Virginia", False),
        (same_city, "St. Paul", "ST PAUL", True),
        (same_city, "Winston-Salem", "Winston Salem", True),
        (same_city, "Paul", "St. Paul", False),
    ],
)
def test_names(same: Any, one: str, other: str, equal: bool) -> None:
    assert same(one, other) is same(other, one) is equal


def test_score_is_the_mean_over_what_gold_states() -> None:
    def score(answer: dict[str, Any], gold: str = GOLD) -> float:
        return TASK.score(TASK.parse(json.dumps(answer)), gold)

    assert score(imageo()) == 1.0
    assert score(imageo(street="elsewhere", confidence=1)) == 1.0
    assert score(imageo(state="Minnesota", country="United States")) == 1.0
    assert score(imageo(city="Duluth")) == 0.75
    assert score(imageo(latitude=None)) == 0.75
    assert score({"country": "us"}) == 0.25
    assert score({"latitude": 44.95, "longitude": -93.1}) == 0.25
    assert score({"country": "us"}, Address(country="USA").json()) == 1.0
    assert TASK.score(Parsed(None, Reason.EMPTY), GOLD) == 0.0
    with pytest.raises(ValueError, match="nothing that can be scored"):
        score(imageo(), Address(street="5 Elm St").json())
    with pytest.raises(ValueError, match="gives no address: no_answer"):
        TASK.target("somewhere")


NAMES = st.none() | st.text(min_size=1, max_size=20).filter(lambda name: "<image>" not in name)


@settings(deadline=None, max_examples=200)
@given(
    NAMES,
    NAMES,
    NAMES,
    NAMES,
    st.none() | st.tuples(st.floats(1, 90), st.floats(-180, 180)),
    st.sampled_from([None, 1, 2.5]),
)
def test_targets_are_read_back(
    street: str | None,
    city: str | None,
    state: str | None,
    country: str | None,
    at: tuple[float, float] | None,
    confidence: float | None,
) -> None:
    answer = Address(street, city, state, country, Coordinates(*at) if at else None, confidence).json()
    parsed = TASK.parse(answer)
    assume(parsed.answer is not None)  # nothing but unknowns
    assert parsed.answer is not None
    assert isinstance(TASK, AddressTask)
    for explanation in (None, "A {red} sign, city of dreams."):
        assert TASK.parse(TASK.target(parsed.answer, explanation)) == parsed
    assert TASK.answer_prefix(TASK.target(parsed.answer, "A sign.")) == "A sign.\n"
    assert 0.0 <= TASK.score(parsed, GOLD) <= 1.0


ANSWERS = st.recursive(
    st.none() | st.text(max_size=12),
    lambda inner: st.dictionaries(st.sampled_from([*ROW, "address", "confidence", "x"]), inner) | st.lists(inner),
    max_leaves=10,
)


@settings(deadline=None, max_examples=150)
@given(st.text() | st.text(alphabet="{}[]:,\"' \n1<answer>city") | ANSWERS.map(json.dumps))
def test_any_text_is_scored_within_bounds(text: str) -> None:
    parsed = TASK.parse(text)
    assert 0.0 <= TASK.score(parsed, GOLD) <= 1.0
    if parsed.answer is None:
        assert parsed.reason in set(Reason)
    else:
        assert TASK.parse(parsed.answer) == parsed
