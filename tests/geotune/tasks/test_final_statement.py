"""Which of several statements holds, and what around a statement qualifies it."""

from __future__ import annotations

import pytest

from geotune.tasks.coordinates import CoordinateError, Coordinates, parse_coordinates

LIMA = Coordinates(-12.0464, -77.03)
NAIROBI_JSON = '{"latitude": -1.2921, "longitude": 36.8219}'
LIMA_JSON = '{"latitude": -12.0464, "longitude": -77.03}'

LIMA_HOLDS = [
    # the last one
    "It could be Nairobi (1.2921° S, 36.8219° E). The photo was taken in Lima (12.0464° S, 77.03° W).",
    "Candidates are Nairobi (-1.2921, 36.8219) and Kampala (0.3476, 32.5825). I pick Lima (-12.0464, -77.03).",
    "Nairobi (1.2921° S, 36.8219° E)? I think it is Lima (12.0464° S, 77.03° W).",
    f"Nairobi: -1.2921, 36.8219\n\n{LIMA_JSON}",
    f"1. Nairobi: -1.2921, 36.8219\n2. Kampala: 0.3476, 32.5825\n\n{LIMA_JSON}",
    f"1. The plates fit Nairobi (-1.2921, 36.8219).\n2. The church fits Lima.\n\n{LIMA_JSON}",
    "1. **Observation**: palms as in Nairobi (-1.2921, 36.8219)\n2. **Coordinates**: -12.0464, -77.03",
    "For Nairobi: Latitude: -1.2921, Longitude: 36.8219.\n\nCoordinates: -12.0464, -77.03",
    f"{NAIROBI_JSON} was my first guess. Now I say -12.0464, -77.03.",
    "Unlike Nairobi (-1.2921, 36.8219), this is at lat -12.0464, lon -77.03.",
    "It is not -1.2921, 36.8219 but -12.0464, -77.03.",
    # the first one
    "1. Lima: -12.0464, -77.03 (60%)\n2. Nairobi: -1.2921, 36.8219 (30%)",
    "Primary guess: -12.0464, -77.03. Secondary guess: -1.2921, 36.8219.",
    "Most likely: -12.0464, -77.03\nLess likely: -1.2921, 36.8219",
    "Lima: -12.0464, -77.03 (70%), Nairobi: -1.2921, 36.8219 (20%)",
    "The camera at -12.0464, -77.03 faces the tower (-12.0564, -77.04).",
    "Final answer: -12.0464, -77.03\n\n(The capital, at -1.2921, 36.8219, is far away.)",
    f"{LIMA_JSON}\n\nFor comparison, Nairobi lies at -1.2921, 36.8219.",
    f'{{"location": {LIMA_JSON}, "nearest_city": {NAIROBI_JSON}}}',
    '{"candidates": [{"rank": 1, "lat": -12.0464, "lon": -77.03}, {"rank": 2, "lat": 1.5, "lon": 2.5}]}',
    # a restatement
    "I think it is around -12.05, -77.03. Final answer: -12.0464, -77.0300",
    "Latitude: -12.0464, longitude: -77.03 (-12.0464, -77.03)",
    "-12.0464, -77.03 (12.0464° S, 77.03° W)",
    # around one
    "The photo was taken in Lima, the capital of Peru (-12.0464, -77.0300).",
    "The photo was taken in the eastern part of Lima (-12.0464, -77.0300).",
    "If I had to guess, I'd say -12.0464, -77.0300.",
    "I can't be certain, but -12.0464, -77.0300",
    "-12.0464, -77.0300, but I don't know the exact street.",
    "-12.0464, -77.0300 (Lima, South America)",
    "12.0464° S, 77.03° W \u2013 150 m above the sea",
    "At 16.5 m, 3.2 km from the sea, at -12.0464, -77.03",
]


@pytest.mark.parametrize("text", LIMA_HOLDS)
def test_the_statement_that_holds(text: str) -> None:
    assert parse_coordinates(text, pair_order="lat_lon") == LIMA


DOUBTFUL = [
    # two are possible
    "Could be Avignon (43.9493, 4.8055) or Montelimar (44.5569, 4.7495).",
    "Either 43.9493, 4.8055 in Avignon or 44.5569, 4.7495 in Montelimar",
    "Possible locations: Avignon (43.9493, 4.8055); Montelimar (44.5569, 4.7495).",
    "Possible locations:\n- Avignon: 43.9493, 4.8055\n- Montelimar: 44.5569, 4.7495",
    "<answer>43.9493, 4.8055</answer> or <answer>44.5569, 4.7495</answer>",
    "[[43.9493, 4.8055], [44.5569, 4.7495]]",
    "1. Avignon: 43.9493, 4.8055 (40%)\n2. Montelimar: 44.5569, 4.7495 (60%)",
    "43.9493, 4.8055. Perhaps 44.5569, 4.7495",
    "43.9493, 4.8055 vs 44.5569, 4.7495",
    "Latitude: 48.8583 -> 49.5, longitude: 2.2944",
    "Latitude: 48.8583; 49.5, longitude: 2.2944",
    "latitude 48.8583, longitude 2.2944\nlatitude 40.7128, longitude -74.006",
    # it is denied, or only an alternative
    "43.9493, 4.8055 is wrong",
    "I doubt it is 43.9493, 4.8055",
    "Anywhere but 43.9493, 4.8055",
    "My secondary guess would be 43.9493, 4.8055.",
    "The tower is at 43.9493, 4.8055, but I cannot tell where this photo was taken.",
    f'{{"answer": "unknown", "nearest_city": {NAIROBI_JSON}}}',
    # a hemisphere, a sign or an order that is not understood
    "latitude: 33.8688\nHemisphere: austral\nlongitude: 151.2093",
    "Southern hemisphere, latitude 33.8688, longitude 151.2093",
    "Latitude: 33.8688 (below the equator), longitude: 151.2093",
    "Latitude: 33.8688-, longitude: 151.2093",
    "33.8688, 151.2093, negative",
    "Latitude: 48.8 N or S, longitude: 2.3",
    '{"latitude": 33.8688, # S\n "longitude": 70.6693 # W\n}',
    '{"coordinates": {"latitude": 33.8688, "longitude": 70.6693}, "hemisphere": "S"}',
    '{"latitude": {"value": 33.8688, "sign": "-"}, "longitude": 70.6693}',
    '{"latitude": 33.8688, "lat_sign": "-", "longitude": 70.6693}',
    "| Latitude | | Longitude | |\n|---|---|---|---|\n| 33.8688 | S | 70.6693 | W |",
    "| | Lat | Lon |\n|---|---|---|\n| std | 0.85 | 0.35 |",
    # bounds and errors
    '{"min": {"lat": 48.80, "lon": 2.20}, "max": {"lat": 48.90, "lon": 2.40}}',
    '{"top_left": {"lat": 48.90, "lon": 2.20}, "bottom_right": {"lat": 48.80, "lon": 2.40}}',
    '{"location": null, "error": {"latitude": 0.5, "longitude": 0.7}}',
    '{"start_lat": 48.8, "start_lon": 2.2, "end_lat": 48.9, "end_lon": 2.4}',
    "Change in latitude: 0.8, change in longitude: 0.3",
]


@pytest.mark.parametrize("text", DOUBTFUL)
def test_a_doubtful_statement_is_refused(text: str) -> None:
    assert isinstance(parse_coordinates(text, pair_order="lat_lon"), CoordinateError)


SYDNEY = Coordinates(-33.8688, 151.2093)
FIELDS = [
    "latitude: 33.8688\nHemisphere: S\nlongitude: 151.2093",
    "latitude: 33.8688, longitude: 151.2093\nHemispheres: S, E",
    "GPS Latitude Ref : South\nGPS Latitude : 33.8688\nGPS Longitude Ref : East\nGPS Longitude : 151.2093",
    '{"latitude": 33.8688, "lat_hem": "S", "longitude": 151.2093, "lonHem": "E"}',
    '{"latitude": 33.8688, "NS": "S", "longitude": 151.2093, "EW": "E"}',
    "lat,n_or_s,lon,e_or_w\n33.8688,S,151.2093,E",
    "| Lat (deg) | Lat (min) | Lon (deg) | Lon (min) | N/S |\n|-|-|-|-|-|\n| 33 | 52.128 | 151 | 12.558 | S |",
]


@pytest.mark.parametrize("text", FIELDS)
def test_hemispheres_in_fields_of_their_own(text: str) -> None:
    found = parse_coordinates(text)
    assert isinstance(found, Coordinates)
    assert (round(found.lat, 6), round(found.lon, 6)) == (SYDNEY.lat, SYDNEY.lon)
