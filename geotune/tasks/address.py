"""Address and coordinates of one photo, with a confidence, as IMAGEO-Bench (arXiv 2508.01608) asks for them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.geo import haversine_km
from geotune.tasks.base import GoldError, Parsed, Reason, Task, accepted, refused
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.final_answer import answer_span, without_open_thought
from geotune.tasks.geolocate import closeness, degrees, gold_coordinates, read_coordinates
from geotune.tasks.json_reading import JsonNode, Reading, Scalar, plain_punctuation, read_objects

NAMES = ("street", "city", "state", "country")
"""The parts of an address, in the order in which they are written."""
_PLACE_KEYS = (*NAMES, "latitude", "longitude", "coordinates")
_MAX_DEPTH = 5
_UNKNOWN = re.compile(
    r"\W*|(?:null|none|nil|nan|n/?a|unknown|unclear|unsure|uncertain|unspecified|undetermined)\W*"
    r"|(?:not|cannot|can't|unable) .*",
    re.IGNORECASE | re.DOTALL,
)
_CONFIDENCE = re.compile(r"[1-5](?:\.[0-9]{1,6})?(?![0-9.%])")

_COUNTRIES = {
    "united states": ("us", "usa", "america", "united states of america"),
    "united kingdom": ("uk", "gb", "great britain", "britain"),
    "united arab emirates": ("uae",),
    "south korea": ("korea", "republic of korea", "korea republic of"),
    "china": ("peoples republic of china", "prc"),
    "russia": ("russian federation",),
    "czechia": ("czech republic",),
    "turkey": ("türkiye", "turkiye"),
    "netherlands": ("holland",),
    "vietnam": ("viet nam",),
    "taiwan": ("taiwan roc", "republic of china"),
}
_COUNTRY_OF_ALIAS = {alias: country for country, aliases in _COUNTRIES.items() for alias in aliases}
_STATES = """
    AL Alabama,AK Alaska,AZ Arizona,AR Arkansas,CA California,CO Colorado,CT Connecticut,DE Delaware,
    DC District of Columbia,FL Florida,GA Georgia,HI Hawaii,ID Idaho,IL Illinois,IN Indiana,IA Iowa,KS Kansas,
    KY Kentucky,LA Louisiana,ME Maine,MD Maryland,MA Massachusetts,MI Michigan,MN Minnesota,MS Mississippi,MO Missouri,
    MT Montana,NE Nebraska,NV Nevada,NH New Hampshire,NJ New Jersey,NM New Mexico,NY New York,NC North Carolina,
    ND North Dakota,OH Ohio,OK Oklahoma,OR Oregon,PA Pennsylvania,RI Rhode Island,SC South Carolina,SD South Dakota,
    TN Tennessee,TX Texas,UT Utah,VT Vermont,VA Virginia,WA Washington,WV West Virginia,WI Wisconsin,WY Wyoming"""
_CODE_OF_STATE = {row.strip()[3:].lower(): row.strip()[:2].lower() for row in _STATES.split(",")}


def same_country(one: str, other: str) -> bool:
    """Equality of country names without case and punctuation; USA, U.S. and United States are one country."""
    return _country(one) == _country(other)


def same_state(one: str, other: str) -> bool:
    """Equality of state names without case and punctuation; a US state equals its two-letter code."""
    return _state(one) == _state(other)


def same_city(one: str, other: str) -> bool:
    """Equality of city names without case and punctuation."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold().replace("-", " ")
    return " ".join(re.sub(r"[^\w\s]", "", folded).split())


def _country(name: str) -> str:
    plain = _plain(name).removeprefix("the ")
    return _COUNTRY_OF_ALIAS.get(plain, plain)


def _state(name: str) -> str:
    plain = _plain(name)
    return _CODE_OF_STATE.get(plain, plain)


_SAME = {"city": same_city, "state": same_state, "country": same_country}


@dataclass(frozen=True)
class Address:
    """What is known of an address; None where nothing is. `confidence` is 1 (a guess) to 5 (certain)."""

    street: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    coordinates: Coordinates | None = None
    confidence: float | None = None

    def json(self) -> str:
        """The canonical answer: one JSON object with all seven keys, null for what is not known."""
        fields = [f'"{name}": {json.dumps(getattr(self, name), ensure_ascii=False)}' for name in NAMES]
        at = self.coordinates
        fields.append(f'"latitude": {degrees(at.lat) if at else "null"}')
        fields.append(f'"longitude": {degrees(at.lon) if at else "null"}')
        fields.append(f'"confidence": {"null" if self.confidence is None else f"{self.confidence:.6g}"}')
        return "{" + ", ".join(fields) + "}"


@dataclass(frozen=True)
class AddressTask(Task):
    """Street, city, state, country, coordinates and confidence in one flat JSON object.

    IMAGEO's own nested form (`reverse_geocoding`, `address`, `coordinates`) is read as well.
    """

    def question(self) -> str:
        return "Where was this photo taken?"

    def form(self) -> str:
        keys = ", ".join(f'"{name}": ...' for name in (*NAMES, "latitude", "longitude", "confidence"))
        return (
            f"{{{keys}}}, null where you cannot tell, decimal degrees, south and west negative, "
            "confidence from 1 (a guess) to 5 (certain)."
        )

    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        """From a row of a truth table: street, city, state, country where it has them, latitude, longitude."""
        names = {name: _known(str(record[name])) for name in NAMES if record.get(name) is not None}
        if not any(names.get(name) for name in _SAME):
            raise GoldError("no city, state or country")
        return _from_names(names, coordinates=gold_coordinates(record)).json()

    def json(self, answer: str) -> str:
        return self.address(answer).json()

    def address(self, answer: str) -> Address:
        """The fields of a canonical answer; raises `ValueError` for anything else."""
        found = self._read(answer)
        if not isinstance(found, Address):
            raise ValueError(f"{self.name}: {answer!r} gives no address: {found}")
        return found

    def parse(self, text: str) -> Parsed:
        """An answer needs one known name or coordinates; coordinates that are not legal count as not known."""
        if not text.strip():
            return refused(Reason.EMPTY)
        found = self._read(text)
        return accepted(found.json()) if isinstance(found, Address) else refused(found)

    def score(self, parsed: Parsed, gold: str) -> float:
        """Mean over what the gold answer states of city, state and country (1 if the same, else 0) and coordinates
        (e^(-d/1492.7), d the great-circle distance in km). Street and confidence are not scored."""
        there = self.address(gold)
        here = self.address(parsed.answer) if parsed.answer is not None else Address()
        parts: list[float] = []
        for name, same in _SAME.items():
            if (wanted := getattr(there, name)) is not None:
                given = getattr(here, name)
                parts.append(float(given is not None and same(given, wanted)))
        if (to := there.coordinates) is not None:
            at = here.coordinates
            parts.append(closeness(float(haversine_km(at.lat, at.lon, to.lat, to.lon))) if at else 0.0)
        if not parts:
            raise ValueError(f"{self.name}: gold {gold!r} states nothing that can be scored")
        return sum(parts) / len(parts)

    def _read(self, text: str) -> Address | Reason:
        text = without_open_thought(text)
        since, _ = answer_span(text)
        torn = False
        for version in dict.fromkeys((text, plain_punctuation(text))):
            reading = read_objects(version, frozenset((*_PLACE_KEYS, "confidence")))
            final = reading.last(_PLACE_KEYS, since, deep=True)
            if final:
                return Reason.CONTRADICTION if len(final) > 1 else _address(reading, final[0])
            torn = torn or final is not None
        if torn:
            return Reason.TRUNCATED
        at = read_coordinates(text)
        return Address(coordinates=at) if isinstance(at, Coordinates) else Reason.NO_ANSWER


def _address(reading: Reading, node: JsonNode) -> Address | Reason:
    """The address in one JSON object, from the level nearest to its root on which each field stands."""
    found: dict[str, set[str]] = {}
    level = [node]
    for _ in range(_MAX_DEPTH):
        here: dict[str, set[str]] = {}
        inner: list[JsonNode] = []
        for member in (member for parent in level for member in parent.members()):
            if isinstance(member.value, Scalar):
                text = _known(reading.string(member.value))
                if member.key and text is not None:
                    here.setdefault(member.key, set()).add(text)
            elif isinstance(member.value, JsonNode) and member.value.is_object:
                inner.append(member.value)
        found = here | found
        level = inner
    if any(len(said) > 1 for said in found.values()):
        return Reason.CONTRADICTION
    fields = {key: said.pop() for key, said in found.items()}
    address = _from_names(fields, _coordinates(fields), _confidence(fields.get("confidence", "")))
    known = address.coordinates or any(getattr(address, name) for name in NAMES)
    return address if known else Reason.NO_ANSWER


def _from_names(
    fields: Mapping[str, str | None], coordinates: Coordinates | None, confidence: float | None = None
) -> Address:
    street, city, state, country = (fields.get(name) for name in NAMES)
    return Address(street, city, state, country, coordinates, confidence)


def _coordinates(fields: Mapping[str, str]) -> Coordinates | None:
    if "latitude" in fields and "longitude" in fields:
        text = json.dumps({key: fields[key] for key in ("latitude", "longitude")}, ensure_ascii=False)
    else:
        text = fields.get("coordinates", "")
    found = read_coordinates(text)
    return found if isinstance(found, Coordinates) else None


def _confidence(text: str) -> float | None:
    match = _CONFIDENCE.match(text)
    return float(match[0]) if match and float(match[0]) <= 5 else None


def _known(text: str) -> str | None:
    return None if _UNKNOWN.fullmatch(text.strip()) else text.strip()


ADDRESS = AddressTask("address", ("city", "country", "state", "street", "latitude", "longitude", "coordinates"))
