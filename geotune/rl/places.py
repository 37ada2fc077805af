"""The finest of city, region and country in which an answer is right, by names and by the gazetteer, without a network.

Names are compared without case, accents and punctuation, under all names of a country, and a city also with one letter
wrong. A name that is not stated is taken from the nearest town of the gazetteer. The gazetteer knows no regions, and
towns have suburbs: what no name decides is decided by distance, with the thresholds of the distance benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from geotune.gazetteer import Entry, entries, nearest_entry
from geotune.geo import haversine_km
from geotune.tasks.address import Address
from geotune.tasks.place_names import plain_city_names, same_city, same_country, same_state

Level = Literal["city", "region", "country"]
CITY_KM, REGION_KM = 25.0, 200.0
"""Distances in km within which two places count as one city's, and within one country as one region's."""
SHORTEST_FUZZY = 6
"""Letters of a city's name, of which one may be wrong."""


def finest_level(said: Address, truth: Address) -> Level | None:
    """Return the finest level in which `said` is right; None if not even the country is right or can be told.

    A level is right only if no coarser one is known to be wrong, except that coordinates alone within 25 km of the
    truth are in its city, on whichever side of a border the nearest town lies.
    """
    towns = () if said.city is None else _towns(said.city, said.country)
    found = [(town.lat, town.lon) for town in towns]
    points = [(said.coordinates.lat, said.coordinates.lon)] if said.coordinates is not None else found
    country = _same_country(_country(said, towns), _country(truth, ()))
    state = None if said.state is None or truth.state is None else same_state(said.state, truth.state)
    if said.city is None:
        city = _within(CITY_KM, points, truth)
        country = True if city and said.country is None else country
    else:
        # The name of another town that the gazetteer knows is no other name of the truth's.
        known = truth.city is not None and bool(_towns(truth.city))
        city = _is_named(said.city, truth.city) or (not known and _within(CITY_KM, found, truth))
    if city and country is not False and state is not False:
        return "city"
    if not country:
        return None
    in_region = _within(REGION_KM, points, truth) if state is None else state
    return "region" if in_region else "country"


def _country(address: Address, towns: Sequence[Entry]) -> str | None:
    """Return the stated country, or else that of its coordinates, or of every town of its city's name."""
    if address.country is not None:
        return address.country
    if address.coordinates is not None:
        return nearest_entry(address.coordinates.lat, address.coordinates.lon)[0].country
    countries = {town.country for town in towns}
    return countries.pop() if len(countries) == 1 else None


def _same_country(a: str | None, b: str | None) -> bool | None:
    return None if a is None or b is None else same_country(a, b)


def _within(limit_km: float, points: Sequence[tuple[float, float]], truth: Address) -> bool:
    """Return whether one of `points`, (lat, lon) in degrees, lies within `limit_km` of the truth's coordinates."""
    there = truth.coordinates
    return there is not None and any(haversine_km(*point, there.lat, there.lon) <= limit_km for point in points)


def _is_named(said: str, truth: str | None) -> bool:
    """Return whether two names are one city's; the name of another town is no misspelling."""
    if truth is None:
        return False
    if same_city(said, truth):
        return True
    pairs = ((a, b) for a in plain_city_names(said) for b in plain_city_names(truth))
    return any(min(len(a), len(b)) >= SHORTEST_FUZZY and _one_letter_apart(a, b) for a, b in pairs) and not _towns(said)


def _one_letter_apart(a: str, b: str) -> bool:
    """Return whether one letter more, less or other turns one text into the other."""
    short, long = sorted((a, b), key=len)
    if len(long) - len(short) > 1:
        return False
    at = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]


def _towns(name: str, country: str | None = None) -> tuple[Entry, ...]:
    """Return the towns of the gazetteer that have this name, in this country if one is given."""
    named = {town: None for plain in plain_city_names(name) for town in _by_name().get(plain, ())}
    return tuple(town for town in named if country is None or same_country(town.country, country))


@cache
def _by_name() -> Mapping[str, tuple[Entry, ...]]:
    """Return the towns of the gazetteer by the plain forms of their names."""
    named: dict[str, list[Entry]] = {}
    for town in entries():
        for plain in plain_city_names(town.name):
            named.setdefault(plain, []).append(town)
    return {plain: tuple(towns) for plain, towns in named.items()}
