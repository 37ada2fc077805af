"""Addresses in IMAGEO's fields: read from its nested form and from ours, without unknown parts, compared by name."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geotune.tasks import TASKS, GoldError, Parsed, Reason
from geotune.tasks.address import Address, AddressTask, _from_fields
from geotune.tasks.address_fields import canonical_fields, fields_of
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.final_answer import final_answer
from geotune.tasks.place_names import same_city, same_country, same_state

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
    assert read(json.dumps(imageo("4/5")))["confidence"] == 4
    for said in ("80%", "1e3", "1/10", "4-5", "3 out of 10", "1 %"):
        assert read(json.dumps(imageo(said)))["confidence"] is None, said
    assert read("City: Paris (or Lyon)")["city"] == "Paris (or Lyon)"
    assert read("City: Paris (the tower)")["city"] == "Paris"
    assert read(json.dumps({"city": "Rome", "coordinates": "lat 41.9, lon 12.5"}))["latitude"] == 41.9
    assert read("It lies at 41.9 N, 12.5 E.")["longitude"] == 12.5


NOTHING = [
    *("", "-", "?", "...", "N/A", "NA", "n.a.", "None", "none visible", "Not visible", "No GPS data available", "TBD"),
    *("unknown city", "Unknown (rural area)", "Cannot determine", "Could not be determined", "unidentified", "<city>"),
    *(
        "No street name visible",
        "Unclear from the image",
        "Unspecified",
        "Not enough information",
        "no address",
        "City",
    ),
    *(
        "Unknown, possibly Paris",
        "No visible street signs",
        "None identifiable",
        "insufficient data",
        "I don't know",
        "Hard to say",
        "string",
        "XXX",
        "to be determined",
        "未知",
        "(unknown)",
    ),
]
REAL = [
    "Unnamed Road",
    "No. 5 Road",
    "No Name Key",
    "Notting Hill",
    "None Torinese",
    "Unknownville",
    "Cannes",
    "Nantes",
]


@pytest.mark.parametrize("part", ["street", "city", "state"])
def test_placeholders_are_nothing_and_names_are_kept(part: str) -> None:
    for said in NOTHING:
        assert read(json.dumps({part: said, "country": "Cuba"}))[part] is None, said
        assert read(f"{part}: {said}\ncountry: Cuba")[part] is None, said
    for name in REAL:
        assert read(json.dumps({part: name})) == read(f"- **{part.title()}:** {name}"), name
        assert read(json.dumps({part: name}))[part] == name


def test_na_is_a_country_only() -> None:
    assert read('{"city": "NA", "state": "NA", "country": "NA"}') == {
        **dict.fromkeys(json.loads(GOLD)),
        "country": "Namibia",
    }
    assert read("Country: NA")["country"] == "Namibia"
    assert same_country("NA", "Namibia")
    assert TASK.parse('{"country": "n/a"}').answer is None
    assert json.loads(TASK.gold({**ROW, "country": "NA"}))["country"] == "Namibia"


PARIS = {"city": "Paris", "country": "France", "latitude": 48.8584, "longitude": 2.2945}


@pytest.mark.parametrize(
    "text",
    [
        "City: Paris\nCountry: France\nLatitude: 48.8584\nLongitude: 2.2945",
        "**Address**\n\n* City: Paris\n* Country: France\n* Coordinates:\n\t+ Lat: 48.8584\n\t+ Lng: 2.2945",
        "- **City**: Paris\n- **Country:** France\n- **Coordinates**: 48.8584\u00b0 N, 2.2945\u00b0 E",
        "1. Country: France\n2. City: Paris (the tower)\n3. Latitude: 48.8584\n4. Longitude: 2.2945",
        "city: 'Paris'\ncountry: \"France\"\ncoordinates:\n  latitude: 48.8584\n  longitude: 2.2945",
        "City: Paris, Country: France, Latitude: 48.8584, Longitude: 2.2945",
        "| City | Country | Latitude | Longitude |\n|---|---|---|---|\n| Paris | France | 48.8584 | 2.2945 |",
        "| Field | Value |\n|---|---|\n| City | Paris |\n| Country | France |\n| Lat | 48.8584 |\n| Lon | 2.2945 |",
        "City: Paris\nCountry: France. The signs tell so.\nLat: 48.8584\nLon: 2.2945\n\nAlternatives:\n- City: Lyon",
        '{"city": "Paris", "country": "France", "lat": 48.8584, "lng": 2.2945}',
        '{"city": "Paris", "country": "France", "lat": 48.8584, "long": 2.2945, "postal_code": 75007}',
        '{"town": "Paris", "country_name": "France", "coords": {"lat": "48.8584 N", "lon": "2.2945 E"}}',
        '{"confidence": "high", "best_guess": {"city": "Paris", "country": "France", "lat": 48.8584, "lon": 2.2945}}',
        '{"results": [{"city": "Paris", "country": "France", "lat": 48.8584, "lon": 2.2945}]}',
        '{"reasoning": {"country": "signs in French"}, "address": {"city": "Paris", "country": "France"}, '
        '"coordinates": {"latitude": 48.8584, "longitude": 2.2945}}',
        '{"city": "Paris", "country": "France", "lat": 48.8584, "lon": 2.2945, "alternative": {"city": "Lyon"}}',
    ],
)
def test_the_forms_of_an_address(text: str) -> None:
    assert read(text) == {**dict.fromkeys(json.loads(GOLD)), **PARIS}


def test_an_alternative_completes_nothing() -> None:
    fields = read('{"city": "Paris", "alternative": {"country": "Spain", "lat": 40.4, "lon": -3.7}}')
    assert fields == {**dict.fromkeys(fields), "city": "Paris"}
    assert read("City: Paris\nAlternatives:\n- Country: Spain")["country"] is None
    assert (
        read('{"city": "Paris", "latitude": "98.8", "longitude": "2.3", "alternative": {"lat": 1}}')["latitude"] is None
    )


LIMA = {"city": "Lima", "latitude": -12.0464, "longitude": -77.0301}


@pytest.mark.parametrize(
    "text",
    [
        "| City | Lima |\n| Latitude | -12.0464 |\n| Longitude | -77.0301 |",
        "| **City** | Lima |\n|---|---|\n| **Latitude** | -12.0464\u00b0 |\n| **Longitude** | -77.0301\u00b0 |",
        "| City | Latitude | Longitude |\n|---|---|---|\n| Lima | -12.0464 | -77.0301 |",
        "| City | Latitude | Longitude |\n| Lima | 12.0464 S | 77.0301 W |",
        "City: Lima\nLat/Lon: -12.0464, -77.0301",
        "City: Lima, Lat/Lon: -12.0464, -77.0301",
        "City: Lima\nCoordinates (lon, lat): -77.0301, -12.0464",
        "City (or town): Lima, Postal code: 15001\n- Latitude: -12.0464\n- Longitude: -77.0301\n- Elevation: 35 m",
        "City: Lima\nLatitude: 12.0464\nLongitude: 77.0301\nLatitude hemisphere: S\nLongitude hemisphere: W",
    ],
)
def test_signs_and_orders_of_listed_coordinates_count(text: str) -> None:
    assert read(text) == {**dict.fromkeys(json.loads(GOLD)), **LIMA}


@pytest.mark.parametrize(
    "key",
    ["photographer", "birthplace", "excluded", "not", "ruled_out", "nearest", "landmark", "second_guess", "notes"],
)
def test_objects_under_other_keys_are_no_answer(key: str) -> None:
    place = {"city": "Rome", "latitude": 41.9, "longitude": 12.5}
    assert TASK.parse(json.dumps({key: place})).answer is None
    assert read(json.dumps({"answer": {"country": "Peru"}, key: place})) == read('{"country": "Peru"}')
    assert read(json.dumps({"address": {"country": "Peru"}, key: place})) == read('{"country": "Peru"}')
    assert TASK.parse(f"City ({key}): Rome").answer is None


@pytest.mark.parametrize(
    "key", ["prediction", "best_guess", "Predicted Location", "mostLikelyPlace", "primary", "results", "photo_location"]
)
def test_objects_under_keys_of_an_answer_count(key: str) -> None:
    assert read(json.dumps({key: {"city": "Rome"}, "why": {"city": "a sign"}}))["city"] == "Rome"


def test_words_are_no_codes_of_countries() -> None:
    for code in ("no", "No", "in", "is"):
        assert TASK.parse(json.dumps({"country": code})).answer is None
        assert json.loads(TASK.gold({**ROW, "country": code.lower()}))["country"] == code.upper()
    assert same_country(read("Country: IN")["country"], "India")
    assert same_country(read("Country: de")["country"], "Germany")


def test_long_texts_take_little_time() -> None:
    for piece in ("\n", "city: ", "| city |\n", "lat: 1\n", '{"city": ', "city: a. ", "- * ", "no a ", "(", "unknown "):
        began = time.process_time()
        TASK.parse(piece * (100_000 // len(piece)) + "x")
        TASK.parse("city: " + piece * (100_000 // len(piece)))
        assert time.process_time() - began < 8, piece


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
        ('{"city": "Rome"} or {"city": "Oslo"}', Reason.CONTRADICTION),
        ("City: Rome\nCity: Oslo", Reason.CONTRADICTION),
        ("Closest city: Rome", Reason.NO_ANSWER),
        ("Rejected:\nCity: Rome", Reason.NO_ANSWER),
        ("Example:\nCity: Rome", Reason.NO_ANSWER),
        (f"It is not {GOLD}", Reason.NO_ANSWER),
        ('{"city": "Rome"} is wrong', Reason.NO_ANSWER),
        ('{"city": "Rome"}, {"city": "Oslo"}', Reason.CONTRADICTION),
        ('<answer>{"city": "Rome"}</answer> or <answer>{"city": "Oslo"}</answer>', Reason.CONTRADICTION),
        ("City: not visible\nCountry: N/A", Reason.NO_ANSWER),
        ("Country: " + "the signs are in Italian, " * 5, Reason.NO_ANSWER),
        ("| City | Country |\n|---|---|\n| Rome | Italy |\n| Oslo | Norway |", Reason.NO_ANSWER),
        ("<think>City: Rome</think>", Reason.NO_ANSWER),
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
        (same_country, "DEU", "Germany", True),
        (same_country, "Korea, Republic of", "South Korea", True),
        (same_country, "Tanzania, United Republic of", "TZ", True),
        (same_country, "Myanmar (Burma)", "Myanmar", True),
        (same_country, "de", "Deutschland", True),
        (same_country, "Réunion", "Reunion", True),
        (same_country, "Bosnia & Herzegovina", "Bosnia And Herzegovina", True),
        (same_country, "Bosnia-Herzegovina", "BA", True),
        (same_country, "Cote d\u2019Ivoire", "Ivory Coast", True),
        (same_country, "St. Lucia", "Saint Lucia", True),
        (same_country, "Congo", "DR Congo", False),
        (same_country, "Guinea", "Guinea-Bissau", False),
        (same_country, "Dominica", "Dominican Republic", False),
        (same_country, "North Korea", "South Korea", False),
        (same_state, "MN", "Minnesota", True),
        (same_state, "new york", "N.Y.", True),
        (same_state, "VA", "West Virginia", False),
        (same_city, "St. Paul", "ST PAUL", True),
        (same_city, "Winston-Salem", "Winston Salem", True),
        (same_city, "Paul", "St. Paul", False),
        (same_city, "St.Paul", "Saint Paul", True),
        (same_city, "Bogotá", "Bogota", True),
        (same_city, "Łódź", "Lodz", True),
        (same_city, "Tromsø", "Tromso", True),
        (same_city, "Düsseldorf", "Duesseldorf", True),
        (same_city, "Dusseldorf", "Düsseldorf", True),
        (same_city, "Gießen", "Giessen", True),
        (same_city, "İstanbul", "Istanbul", True),
        (same_city, "K\u0101ne\u02bbohe", "Kaneohe", True),
        (same_city, "The Hague", "Hague", True),
        (same_city, "City of Westminster", "Westminster", True),
        (same_city, "か", "が", False),
        (same_city, "करौली", "करेली", False),
        (same_city, "กรุงเทพ", "กรงเทพ", False),
        (same_city, "القُدس", "القدس", True),
        (same_city, "東京", "京都", False),
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


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="abcèéüøłñçßœ ABCÈÉÜØ'-&.", min_size=1).filter(lambda name: any(c.isalpha() for c in name)))
def test_a_name_equals_itself_without_accents(name: str) -> None:
    plain = unicodedata.normalize("NFD", name).encode("utf-8").decode()
    for same in (same_city, same_state, same_country):
        assert same(name, name.upper())
        assert same(name, plain)
        assert same(name.replace("&", " and "), name)
        assert not same(name, f"{name} xyzzy")


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


PARTS = ("street", "city", "state", "country")
NAMES_AND_OTHERS = (
    "Paris",
    "NA",
    "unknown",
    "null",
    "",
    " Rome ",
    "St. John's",
    "\u5317\u4eac",
    "N 48, E 2",
    "a: b",
    "]",
)
NAME_TEXTS = st.sampled_from((None, *NAMES_AND_OTHERS, "\\n", "48.8"))
DEGREES = st.sampled_from(("null", "48.85", "-2.5", "95.0", "0.0", "-181.25", "12", "1e5", '"48.5"'))
CONFIDENCES = st.sampled_from(("null", "4", "5.5", "..", ""))
BEFORE_JSON = st.lists(st.sampled_from(("Paris, I think.\n", "City: Rome\n", "{", "<think>", "[", '"', "\\", "or ")))


@settings(deadline=None, max_examples=300)
@given(st.tuples(*[NAME_TEXTS] * 4), DEGREES, DEGREES, CONFIDENCES, BEFORE_JSON)
def test_canonical_answers_are_read_without_analysis_as_with_it(
    names: tuple[str | None, ...], lat: str, lon: str, confidence: str, before: list[str]
) -> None:
    parts = [f'"{key}": {json.dumps(name, ensure_ascii=False)}' for key, name in zip(PARTS, names, strict=True)]
    answer = f'{{{", ".join(parts)}, "latitude": {lat}, "longitude": {lon}, "confidence": {confidence}}}'
    text = "".join(before) + answer
    if (fields := canonical_fields(text)) is not None:
        analysed = fields_of(final_answer(text))
        assert isinstance(analysed, dict)
        assert _from_fields(fields) == _from_fields(analysed)


def test_a_target_needs_no_analysis() -> None:
    address = Address("Main St", "Paris", None, "France", Coordinates(48.85, 2.35), 4)
    assert canonical_fields(f"It looks French.\n{address.json()}\n") is not None
    assert canonical_fields(Address(country="France").json()) == {"country": "France"}


@settings(deadline=None, max_examples=150)
@given(st.text() | st.text(alphabet="{}[]:,\"' \n1<answer>city") | ANSWERS.map(json.dumps))
def test_any_text_is_scored_within_bounds(text: str) -> None:
    parsed = TASK.parse(text)
    assert 0.0 <= TASK.score(parsed, GOLD) <= 1.0
    if parsed.answer is None:
        assert parsed.reason in set(Reason)
    else:
        assert TASK.parse(parsed.answer) == parsed
