"""The reader of coordinates: every way of writing them, every way of failing to, and hostile text."""

from __future__ import annotations

import json
import pkgutil
import re
import sys
from importlib import import_module
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks import coordinate_reader, coordinates
from geotune.tasks.coordinate_reader import statements
from geotune.tasks.coordinates import (
    CoordinateError,
    Coordinates,
    check_coordinates,
    parse_coordinates,
    right_if_swapped,
)

E = CoordinateError
unhurried = settings(deadline=None)  # machines share their cores
LATS = st.floats(-90, 90)
LONS = st.floats(-180, 180)
PLACES = st.tuples(st.floats(-89.9999, 89.9999), st.floats(-179.9999, 179.9999)).filter(
    lambda place: f"{place[0]:.4f}".strip("-") != "0.0000" or f"{place[1]:.4f}".strip("-") != "0.0000"
)


def near(found: Coordinates | CoordinateError, lat: float, lon: float, tolerance: float = 1e-9) -> bool:
    return isinstance(found, Coordinates) and abs(found.lat - lat) <= tolerance and abs(found.lon - lon) <= tolerance


PARIS = (48.8566, 2.3522)
PARIS_TEXTS = [
    # named fields
    "lat: 48.8566, lon: 2.3522",
    "lon=2.3522 lat=48.8566",
    "latitude 48.8566 longitude 2.3522",
    "lat 48.8566 long 2.3522",
    "Lat. 48.8566, Long. 2.3522",
    "lng: 2.3522; LATITUDE: 48.8566",
    "LATITUDE=4.88566e1; LONGITUDE=2.3522e0",
    "lat1=48.8566 lon1=2.3522",
    "pred_lat: 48.8566, pred_lon: 2.3522",
    "latitude_deg: 48.8566, longitude_deg: 2.3522",
    "zone 5 lat 48.8566 lon 2.3522 zoom 17",
    "**Latitude:** 48.8566\n**Longitude:** 2.3522",
    "- Latitude: ~48.8566\n- Longitude: \u2248 2.3522",
    "latitude\n48.8566\nlongitude\n2.3522",
    "The latitude is approximately 48.8566 and the longitude is close to 2.3522.",
    "latitude 48.8566 (range 48.8-48.9), longitude 2.3522 (2.3-2.4)",
    "48.8566 latitude, 2.3522 longitude",
    "<lat>48.8566</lat><lon>2.3522</lon>",
    "<latitude>48.8566</latitude>\n<longitude>2.3522</longitude>",
    # JSON
    '{"latitude": 48.8566, "longitude": 2.3522}',
    '{"lng": "2.3522", "lat": "48.8566"}',
    "{'latitude': 48.8566, 'longitude': 2.3522}",
    "{latitude: 48.8566, longitude: 2.3522}",
    "{'lat': '48.8566\u00b0 N', 'long': '2.3522\u00b0 E'}",
    '{"a": {"coordinates": {"latitude": "approximately 48.8566", "longitude": "approximately 2.3522 degrees"}}}',
    '{"latitude": {"value": 48.8566}, "longitude": {"value": 2.3522}}',
    '```json\n{"latitude": 48.8566,\n "city": "Paris", "longitude": 2.3522}\n```',
    '"{\\"latitude\\": 48.8566, \\"longitude\\": 2.3522}"',
    '{"latitude": "N 48.8566", "longitude": "E 2.3522"}',
    '{"latitude": "48\\u00b051\'23.76\\" N", "longitude": "2\\u00b021\'7.92\\" E"}',
    '{"latitude": 48.8566, "longitude": 2.3522, "size": [1920, 1080], "why": "about 47 N, 3 E"}',
    '{"reasoning": "47 N, 3 E or so", "bbox": [1.5, 2.5, 3.5, 4.5], "lat": 48.8566, "lon": 2.3522}',
    # hemispheres
    "48.8566\u00b0 N, 2.3522\u00b0 E",
    "48.8566N 2.3522E",
    "48.8566n, 2.3522e",
    "N 48.8566 E 2.3522",
    "N48.8566E2.3522",
    "N48.8566\u00b0, E2.3522\u00b0",
    "N: 48.8566, E: 2.3522",
    "2.3522 E, 48.8566 N",
    "48.8566 degrees north, 2.3522 degrees east",
    "48.8566 North and 2.3522 East",
    "48.8566\u00b0 N latitude, 2.3522\u00b0 E longitude",
    "48.8566 N latitude 2.3522 E longitude",
    "Latitude: 48.8566\u00b0 N, Longitude: 2.3522\u00b0 E",
    "Latitude (N): 48.8566, Longitude (E): 2.3522",
    "north latitude 48.8566, east longitude 2.3522",
    "West 48.8566 N 2.3522 E",
    "$48.8566^\\circ \\text{N}, 2.3522^\\circ \\text{E}$",
    "\\boxed{48.8566^{\\circ} N, 2.3522^{\\circ} E}",
    "48.8566&deg; N, 2.3522&deg; E",
    "48,8566 N; 2,3522 E",
    "lat: 48,8566, lon: 2,3522",
    # degrees, minutes, seconds
    "48\u00b051'23.76\"N 2\u00b021'7.92\"E",
    "48\u00b0 51\u2032 23.76\u2033 N, 2\u00b0 21\u2032 7.92\u2033 E",
    "48\u00b051\u201923.76\u201dN, 2\u00b021\u20197.92\u201dE",
    "48\u00ba51'23.76''N 2\u00ba21'7.92''E",
    "48 deg 51 min 23.76 sec N, 2 deg 21 min 7.92 sec E",
    "48d51m23.76s N 2d21m7.92s E",
    "48:51:23.76 N 2:21:7.92 E",
    "48 51 23.76 N, 2 21 7.92 E",
    "48\u00b051'23.76 N, 2\u00b021'7.92 E",
    "N 48\u00b051'23.76\", E 2\u00b021'7.92\"",
    "latitude 48\u00b051'23.76\", longitude 2\u00b021'7.92\"",
    "48\u00b051.396'N, 2\u00b021.132'E",
    "(48\u00b051'23.76\"N, 2\u00b021'7.92\"E)",
    # a pair whose order stands beside it
    "(lat, lon): 48.8566, 2.3522",
    "(lon, lat) = (2.3522, 48.8566)",
    "Coordinates (latitude, longitude): (48.8566, 2.3522)",
    "LatLng(48.8566, 2.3522)",
    "lon/lat: 2.3522, 48.8566",
    "lat_lon: [48.8566, 2.3522]",
    "latitude,longitude\n48.8566,2.3522",
    "| Latitude | Longitude |\n|---|---|\n| 48.8566 | 2.3522 |",
    "latitude and longitude are 48.8566 and 2.3522, respectively",
    "48.8566, 2.3522 (lat, lon)",
    "2.3522, 48.8566 (longitude, latitude)",
    # the last of several
    "lat 1, lon 2. Then lat 48.8566, lon 2.3522",
    "I considered lon: 5. Final: lat: 48.8566, lon: 2.3522",
    '{"lat": 0, "lon": 0}\n{"lat": 48.8566, "lon": 2.3522}',
    "10 N, 20 E? No: latitude 48.8566, longitude 2.3522",
    "lat: 48.8566, lon: 2.3522 (48.8566, 2.3522)",
    '[{"lat": 1, "confidence": 0.2, "lon": 2}, {"lat": 48.8566, "confidence": 0.7, "lon": 2.3522}]',
    "geo:48.8566,2.3522",
    "lat 48.8566, lon 2.3522; at latitude 48 the bridge is 10 m long, 20 m wide; long: 5 km",
    "lat: 48.8566, lon: 2.3522\n- Latitude: the light suggests Europe.\n- Longitude: signs are French.",
    "<think>lat 1, lon 2</think> lat: 48.8566, lon: 2.3522",
    '<think>lat 1, lon 2</think><answer>{"lat": 48.8566, "lon": 2.3522}</answer>',
    "<answer>lat 1, lon 2</answer> no: <ANSWER>lat 48.8566, lon 2.3522</ANSWER>, not lat 3, lon 4",
    "<answer>lat: 48.8566, lon: 2.3522",
]


@pytest.mark.parametrize("text", PARIS_TEXTS)
def test_ways_to_write_a_place(text: str) -> None:
    assert near(parse_coordinates(text), *PARIS)
    assert near(parse_coordinates(text, pair_order="lat_lon"), *PARIS)


@pytest.mark.parametrize(
    ("text", "lat", "lon"),
    [
        ("33.8688\u00b0 S, 151.2093\u00b0 E", -33.8688, 151.2093),
        ("40.7128N 74.0060W", 40.7128, -74.006),
        ("S33.8688 W70.6693", -33.8688, -70.6693),
        ("N48,2E", 48, 2),
        ("N48,5 2,25E", 48.5, 2.25),
        ("-33.8688\u00b0 S, -70.6693\u00b0 W", -33.8688, -70.6693),
        ("latitude: \u221233.86, longitude: \u201370.5", -33.86, -70.5),
        ("lat=-.5 lon=+.25", -0.5, 0.25),
        ("Latitude 33 South, Longitude 70 West", -33, -70),
        ("southern latitude 33, western longitude 70", -33, -70),
        ("{'lat': \"33\u00b052'10\\\" S\", 'lon': \"70\u00b040'9\\\" W\"}", -(33 + 52 / 60 + 10 / 3600), -70.669167),
        ("lat: -0\u00b030'0\", lon: -0\u00b015'", -0.5, -0.25),
        ("lat: 90, lon: -180", 90, -180),
        ("latitude: 0, longitude: 10", 0, 10),
        ('{"latitude": 0.0, "longitude": -78.5}', 0, -78.5),
    ],
)
def test_signs_and_hemispheres(text: str, lat: float, lon: float) -> None:
    assert near(parse_coordinates(text), lat, lon, 1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", E.missing),
        ("I can't tell where this is.", E.missing),
        ("In 2010, 25 people lived at latitude unknown", E.missing),
        ('{"latitude": null, "longitude": null}', E.missing),
        ('{"latitude": "Unknown", "longitude": "Not specified"}', E.missing),
        ('{"latitude": "", "longitude": ""}', E.missing),
        ("Coordinates: Not specified", E.missing),
        ("lat: abc, lon: def", E.missing),
        ('lat 48, lon 2. Final: {"latitude": null, "longitude": null}', E.missing),
        ("lat 48.85, lon 2.35 <answer>no idea</answer>", E.missing),
        ("<think>lat 48, lon 2", E.missing),
        ("<think>lat 48, lon 2</think> no idea", E.missing),
        ("lat: 48.85", E.incomplete),
        ("48.85 N", E.incomplete),
        ("48.85 N, 2.35", E.incomplete),
        ("34 N, 35 N", E.incomplete),
        ("lat: 48.85, 2.35", E.incomplete),
        ('{"latitude": 48.85, "longitude": null}', E.incomplete),
        ('{"latitude": 48.85, "longitude": ', E.incomplete),
        ("lat: 1, lon: 2. No, lat: 3", E.incomplete),
        ('{"latitude": NaN, "longitude": 3}', E.not_a_number),
        ("lat: nan, lon: nan", E.not_a_number),
        ("lat: 2, lon: -inf", E.not_a_number),
        ("lat: Infinity, lon: 2", E.not_a_number),
        ("lat: 153.02, lon: -27.47", E.out_of_range),
        ("lat: 90.0001, lon: 0", E.out_of_range),
        ("lat: 0, lon: 181", E.out_of_range),
        ("100 N, 5 E", E.out_of_range),
        ("lat: 1e400, lon: 2", E.out_of_range),
        ("lat: " + "9" * 5000 + ", lon: 2", E.out_of_range),
        ("48\u00b075'N, 2\u00b00'E", E.out_of_range),
        ("48\u00b05'61\"N, 2\u00b00'E", E.out_of_range),
        ("lat: 0, lon: 0", E.null_island),
        ('{"latitude": "0.0", "longitude": -0.0}', E.null_island),
        ("lat 48, lon 2. Final: 0 N, 0 E", E.null_island),
        ("48.85, 2.35", E.ambiguous),
        ("(48, 2)", E.ambiguous),
        ("Answer: 48, 2", E.ambiguous),
        ("48.85 2.35", E.ambiguous),
        ('{"coordinates": [2.35, 48.85]}', E.ambiguous),
        ("lat 48.85, lon 2.35\nFinal: 3.5, 4.5", E.ambiguous),
        ("48.85, 2.35, 35.5", E.ambiguous),
        ("3.5, 4.5 km off", E.ambiguous),
        ("lat: 48.85 E, lon: 2.35 N", E.ambiguous),
        ("lat: -33.86 N, lon: 151 E", E.ambiguous),
        ("lat: 40-42, lon: 3", E.ambiguous),
        ("lat: 40 \u2013 42, lon: 3", E.ambiguous),
        ("lat: 40 to 42, lon: 3", E.ambiguous),
        ("lat: 48 51 24, lon: 2", E.ambiguous),
        ("lat: 48:51, lon: 2", E.ambiguous),
        ("lat: " + "9" * 500 + ",5e3, lon: 1e5,5", E.ambiguous),
        ("lat, lon: 48", E.ambiguous),
        ("(lat, lon): 48.85 E, 2.35 N", E.ambiguous),
    ],
)
def test_ways_to_fail(text: str, reason: CoordinateError) -> None:
    assert parse_coordinates(text) is reason


BARE_PAIRS = [
    "48.85, 2.35",
    "(48.85, 2.35)",
    "[\n  48.85,\n  2.35\n]",
    '["48.85", "2.35"]',
    "48.85 2.35",
    "48.85/2.35",
    "Answer: 48.85, 2.35.",
    "<answer>48.85, 2.35</answer>",
    "I think it is 48.85\u00b0, 2.35\u00b0 in Paris",
    "In 2010, 25 people. Coordinates: 48.85, 2.35 (12 to 18 km off)",
    "1.5, 2.5 at first, then 48.85, 2.35",
    "lat 1, lon 2. Final answer: 48.85, 2.35",
    "\\boxed{48.85, 2.35}",
]


@pytest.mark.parametrize("text", BARE_PAIRS)
def test_a_bare_pair_needs_an_order(text: str) -> None:
    assert near(parse_coordinates(text, pair_order="lat_lon"), 48.85, 2.35)
    assert parse_coordinates(text) is E.ambiguous


@pytest.mark.parametrize("text", ["153.02, -27.47", "(153, -27)", "lat: 153.02, lon: -27.47", "153.02 N, 27.47 W"])
def test_coordinates_in_the_wrong_order_are_out_of_range(text: str) -> None:
    assert parse_coordinates(text, pair_order="lat_lon") is E.out_of_range


@pytest.mark.parametrize(
    "text", ["built in 1889, 300 m tall", "rules 1, 2, 3", "2 5", "24/7", "on 2024-05-01, 3 people"]
)
def test_numbers_in_passing_are_no_pair(text: str) -> None:
    assert parse_coordinates(text, pair_order="lat_lon") is E.missing


def test_a_stated_order_takes_precedence_over_that_of_the_prompt() -> None:
    assert near(parse_coordinates("(lon, lat): 2.35, 48.85", pair_order="lat_lon"), 48.85, 2.35)
    assert near(parse_coordinates("2.35 E, 48.85 N", pair_order="lat_lon"), 48.85, 2.35)


def test_small_islands_of_the_gulf_of_guinea_are_not_null_island() -> None:
    assert near(parse_coordinates("lat: 0.0001, lon: 0"), 0.0001, 0)
    assert near(parse_coordinates("lat: 0, lon: 6.6"), 0, 6.6)


def test_null_text_has_no_coordinates() -> None:
    assert parse_coordinates("null") is E.missing
    assert parse_coordinates("None") is E.missing


@pytest.mark.parametrize(
    ("lat", "lon", "expected"),
    [
        (1.0, 2.0, Coordinates(1.0, 2.0)),
        (0.0, -0.0, E.null_island),
        (float("nan"), 1.0, E.not_a_number),
        (1.0, float("inf"), E.out_of_range),
        (90.5, 0.0, E.out_of_range),
        (-90.0, 180.0, Coordinates(-90.0, 180.0)),
    ],
)
def test_check_coordinates(lat: float, lon: float, expected: Coordinates | CoordinateError) -> None:
    assert check_coordinates(lat, lon) == expected


def test_the_swap_diagnostic() -> None:
    brisbane = (-27.47, 153.02)
    swapped = ["153.02, -27.47", "lat: 153.02, lon: -27.47", '{"latitude": 153.021, "longitude": -27.469}']
    others = ["-27.47, 153.02", "lat: 10, lon: 20", "nothing", "lat: 153.02", "lat: 0, lon: 0"]
    assert [right_if_swapped(text, *brisbane, within_km=25) for text in swapped + others] == [True] * 3 + [False] * 5
    assert right_if_swapped(Coordinates(20.0, 10.0), 10.0, 20.0, within_km=1)
    assert not right_if_swapped(Coordinates(10.0, 20.0), 10.0, 20.0, within_km=1)
    assert not right_if_swapped(E.out_of_range, 10.0, 20.0, within_km=1)
    # On the diagonal a swap changes nothing.
    assert not right_if_swapped(Coordinates(10.0, 10.0), 10.0, 10.0, within_km=1)


# Round trips

NAMES = st.sampled_from(
    [("lat", "lon"), ("latitude", "longitude"), ("Lat", "Lng"), ("LATITUDE", "LONG"), ("latitude", "long")]
)


@unhurried
@given(LATS, LONS, NAMES, st.booleans(), st.sampled_from(["json", "fenced", "quoted", "dict", "plain", "answer"]))
def test_named_fields_round_trip(lat: float, lon: float, names: tuple[str, str], lat_first: bool, form: str) -> None:
    fields: dict[str, float | str] = {names[0]: lat, names[1]: lon}
    if not lat_first:
        fields = dict(reversed(fields.items()))
    text = {
        "json": json.dumps({"answer": {"place": "a town", **fields}}),
        "fenced": f"Here it is:\n```json\n{json.dumps(fields, indent=2)}\n```\nGood luck!",
        "quoted": json.dumps({name: str(value) for name, value in fields.items()}),
        "dict": str(fields),
        "plain": ", ".join(f"{name}: {value}" for name, value in fields.items()),
        "answer": f"<think>lat: 1, lon: 1</think><answer>{json.dumps(fields)}</answer>",
    }[form]
    assert parse_coordinates(text) == check_coordinates(lat, lon)


HEMISPHERE_FORMS = ["{0}{1}, {2}{3}", "{1} {0} {3} {2}", "{0}\u00b0 {1} {2}\u00b0 {3}", "{2} {3}, {0} {1}"]


@unhurried
@given(PLACES, st.sampled_from(HEMISPHERE_FORMS))
def test_hemispheres_round_trip(place: tuple[float, float], form: str) -> None:
    lat, lon = round(place[0], 4), round(place[1], 4)
    text = form.format(f"{abs(lat):.4f}", "NS"[lat < 0], f"{abs(lon):.4f}", "EW"[lon < 0])
    assert near(parse_coordinates(text), lat, lon)


@unhurried
@given(PLACES, st.sampled_from(["\u00b0'\"", "\u00b0\u2032\u2033", "\u00ba\u2019\u201d", "d'\""]), st.booleans())
def test_degrees_minutes_seconds_round_trip(place: tuple[float, float], marks: str, hemispheres: bool) -> None:
    written = []
    for value, letters in zip(place, ("NS", "EW"), strict=True):
        seconds = round(abs(value) * 3600, 2)
        angle = f"{int(seconds // 3600)}{marks[0]}{int(seconds // 60 % 60)}{marks[1]}{seconds % 60:.2f}{marks[2]}"
        written.append(f"{angle}{letters[value < 0]}" if hemispheres else f"{'-' * (value < 0)}{angle}")
    text = "{} {}" if hemispheres else "lat: {}, lon: {}"
    text = text.format(*written)
    if "60.00" not in text:  # two decimals of 59.999 seconds
        assert near(parse_coordinates(text), *place, 2e-6)


@unhurried
@given(LATS, LONS)
def test_pairs_round_trip_only_with_an_order(lat: float, lon: float) -> None:
    text = f"({lat}, {lon})"
    assert parse_coordinates(text, pair_order="lat_lon") == check_coordinates(lat, lon)
    assert parse_coordinates(text) is E.ambiguous


@unhurried
@given(LONS, LATS)
def test_never_a_silent_swap(lat: float, lon: float) -> None:
    """An illegal latitude is rejected, even if the two numbers would be legal in the other order."""
    found = parse_coordinates(f'{{"latitude": {lat}, "longitude": {lon}}}')
    assert found == check_coordinates(lat, lon)


# Hostile text

WORDS = r"""
lat lon long latitude longitude latlon lat1 deg min to and is km word 1st N S E W n s north West nan -inf null
: = , ; / " ' ` { } ( ) [ ] - . + ° 48.85 2 2.35 0 1e400 e9 99 ٣ ² İ
<answer> </answer> <think> </think> \ \" \u00b0 \u \text{ ^\circ
"""
PIECES = st.sampled_from([*WORDS.split(), "not known", *"\u2032\u2033\u2212\u2013\ud800\0\n "])


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(
        st.text(),
        st.text("NnSEWw0159.,;:-=/'\"\u00b0\u2032()[]{}~ \nlatonge", max_size=25),
        st.lists(PIECES, max_size=40).map("".join),
        st.lists(PIECES, max_size=40).map(" ".join),
    )
)
def test_any_text_gives_coordinates_in_range_or_a_reason(text: str) -> None:
    for order in ("lat_lon", None):
        found = parse_coordinates(text, pair_order=order)  # type: ignore[arg-type]
        if isinstance(found, Coordinates):
            assert -90 <= found.lat <= 90
            assert -180 <= found.lon <= 180
            assert (found.lat, found.lon) != (0, 0)
        else:
            assert isinstance(found, CoordinateError)
        right_if_swapped(text, 48.85, 2.35, within_km=1)


RUNS = r"""
lat|lat |lat: 1 |lat, lon |lat(|{lat: 9, lon: 9}|long |9|9,|9, 9 |9 N |N 9 |9 lat, |1 1 1 |9°|9°9'|9°9'9"|9:|9:9:|1e|1e1
|.|.9|-|--9|\|\u00b|{|(((((9|[9,|<|</a|<answer>|<think>|'|"|*|a|1st|not | |
"""
HOSTILE = [run or "\n" for run in RUNS.replace("\n", "").split("|")]


MODULES = [
    import_module(f"{coordinate_reader.__name__}.{module.name}")
    for module in pkgutil.iter_modules(coordinate_reader.__path__)
] + [coordinates]


def steps(text: str) -> int:
    """Lines of Python that reading `text` takes, in the reader's own code."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename not in [module.__file__ for module in MODULES]:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse_coordinates(text, pair_order="lat_lon")
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("piece", HOSTILE)
def test_work_grows_with_the_length_of_hostile_text(piece: str) -> None:
    """Twice the text takes at most about twice the work, and 100 kB are read to the end."""
    once, twice = (steps((piece * 2000)[:length]) for length in (1000, 2000))
    assert twice <= 2.5 * once + 200
    hostile = piece * (100_000 // len(piece))
    assert near(parse_coordinates(f"{hostile} </think> lat: 1, lon: 2"), 1, 2)
    assert isinstance(parse_coordinates(hostile, pair_order="lat_lon"), Coordinates | CoordinateError)


def repeats(pattern):
    """Yield for each unbounded repetition of a parsed pattern whether it can backtrack."""
    for code, argument in pattern:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            _, most, body = argument
            if most == codes.MAXREPEAT:
                yield code is not codes.POSSESSIVE_REPEAT
            yield from repeats(body)
        elif code is codes.SUBPATTERN:
            yield from repeats(argument[-1])
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from repeats(branch)
        elif code in (codes.ASSERT, codes.ASSERT_NOT):
            yield from repeats(argument[1])
        elif code is codes.ATOMIC_GROUP:
            yield from repeats(argument)


def test_no_pattern_can_backtrack_without_bound() -> None:
    patterns = {
        name: value for module in MODULES for name, value in vars(module).items() if isinstance(value, re.Pattern)
    }
    assert {"_TOKEN", "_STATEMENT", "_LATEX", "_FORMAT", "_FIELD"} <= patterns.keys()
    for name, pattern in patterns.items():
        assert not any(repeats(parser.parse(pattern.pattern, pattern.flags))), name
    # On the string of kinds every repetition is bounded: a match looks at a fixed number of tokens.
    statement = statements._STATEMENT
    assert parser.parse(statement.pattern, statement.flags).getwidth()[1] < 128


def test_the_check_for_backtracking_sees_it() -> None:
    assert any(repeats(parser.parse(r"(?:a|(b*)+)c")))
    assert not any(repeats(parser.parse(r"(?:a++b{0,3})?c")))
