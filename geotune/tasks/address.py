"""The task of giving a photo's address, coordinates and a confidence, as in IMAGEO-Bench (arXiv 2508.01608)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.geo import haversine_km
from geotune.tasks.base import GoldError, Parsed, Reason, Task, accepted, rejected
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.final_answer import final_answer
from geotune.tasks.geolocate import closeness, degrees, gold_coordinates, read_coordinates
from geotune.tasks.json_nodes import JsonNode, Reading, Scalar
from geotune.tasks.json_reading import read_spellings

NAMES = ("street", "city", "state", "country")
"""Parts of an address, in the order in which they are written."""
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


def same_country(a: str, b: str) -> bool:
    """Compare country names without case and punctuation; USA, U.S. and United States are one country."""
    return _country(a) == _country(b)


def same_state(a: str, b: str) -> bool:
    """Compare state names without case and punctuation; a US state equals its two-letter code."""
    return _state(a) == _state(b)


def same_city(a: str, b: str) -> bool:
    """Compare city names without case and punctuation."""
    return _plain(a) == _plain(b)


def _plain(name: str) -> str:
    """Return a name without case, punctuation and repeated spaces; hyphens become spaces."""
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
    """An address with coordinates; a part that is not known is None. `confidence` is 1 (a guess) to 5 (certain)."""

    street: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    coordinates: Coordinates | None = None
    confidence: float | None = None

    def json(self) -> str:
        """Return the canonical answer: one JSON object with all seven keys, null for each part that is not known."""
        fields = [f'"{name}": {json.dumps(getattr(self, name), ensure_ascii=False)}' for name in NAMES]
        at = self.coordinates
        fields.append(f'"latitude": {degrees(at.lat) if at else "null"}')
        fields.append(f'"longitude": {degrees(at.lon) if at else "null"}')
        fields.append(f'"confidence": {"null" if self.confidence is None else f"{self.confidence:.6g}"}')
        return "{" + ", ".join(fields) + "}"


@dataclass(frozen=True)
class AddressTask(Task):
    """Gives street, city, state, country, coordinates and confidence of a photo in one flat JSON object.

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
        """Return the canonical answer of a truth table's row.

        The row has a latitude and longitude and at least one of city, state and country; it may have a street. Raises
        `GoldError` otherwise.
        """
        names = {name: _known(str(record[name])) for name in NAMES if record.get(name) is not None}
        if not any(names.get(name) for name in _SAME):
            raise GoldError("no city, state or country")
        return _from_names(names, coordinates=gold_coordinates(record)).json()

    def json(self, answer: str) -> str:
        return self.address(answer).json()

    def address(self, answer: str) -> Address:
        """Return the address of a canonical answer; raises `ValueError` for any other text."""
        address = self._read(answer)
        if not isinstance(address, Address):
            raise ValueError(f"{self.name}: {answer!r} gives no address: {address}")
        return address

    def parse(self, text: str) -> Parsed:
        """Read the final answer, which needs one known name or coordinates; illegal coordinates count as not known."""
        if not text.strip():
            return rejected(Reason.EMPTY)
        address = self._read(text)
        return accepted(address.json()) if isinstance(address, Address) else rejected(address)

    def score(self, parsed: Parsed, gold: str) -> float:
        """Return the mean score over those parts of city, state, country and coordinates that the gold answer states.

        A name scores 1 if it is the same, else 0; coordinates score e^(-d/1492.7), d the great-circle distance in km.
        Street and confidence are not scored.
        """
        truth = self.address(gold)
        answered = self.address(parsed.answer) if parsed.answer is not None else Address()
        scores: list[float] = []
        for name, same in _SAME.items():
            if (true_name := getattr(truth, name)) is not None:
                answered_name = getattr(answered, name)
                scores.append(float(answered_name is not None and same(answered_name, true_name)))
        if (there := truth.coordinates) is not None:
            here = answered.coordinates
            scores.append(closeness(float(haversine_km(here.lat, here.lon, there.lat, there.lon))) if here else 0.0)
        if not scores:
            raise ValueError(f"{self.name}: gold {gold!r} states nothing that can be scored")
        return sum(scores) / len(scores)

    def _read(self, text: str) -> Address | Reason:
        """Read the address in the final JSON object of a text; without one, coordinates in plain words."""
        text = final_answer(text)
        incomplete = False
        for reading in read_spellings(text, frozenset((*_PLACE_KEYS, "confidence"))):
            final = reading.final_objects(_PLACE_KEYS, deep=True)
            if final:
                return Reason.CONTRADICTION if len(final) > 1 else _address(reading, final[0])
            incomplete = incomplete or final is not None
        if incomplete:
            return Reason.TRUNCATED
        at = read_coordinates(text)
        return Address(coordinates=at) if isinstance(at, Coordinates) else Reason.NO_ANSWER


def _address(reading: Reading, node: JsonNode) -> Address | Reason:
    """Read the address in a JSON object; each field is taken from the outermost level that holds it."""
    values: dict[str, set[str]] = {}
    level = [node]
    for _ in range(_MAX_DEPTH):
        level_values: dict[str, set[str]] = {}
        next_level: list[JsonNode] = []
        for member in (member for parent in level for member in parent.members()):
            if isinstance(member.value, Scalar):
                text = _known(reading.string(member.value))
                if member.key and text is not None:
                    level_values.setdefault(member.key, set()).add(text)
            elif isinstance(member.value, JsonNode) and member.value.is_object:
                next_level.append(member.value)
        values = level_values | values
        level = next_level
    if any(len(texts) > 1 for texts in values.values()):
        return Reason.CONTRADICTION
    fields = {key: texts.pop() for key, texts in values.items()}
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
    at = read_coordinates(text)
    return at if isinstance(at, Coordinates) else None


def _confidence(text: str) -> float | None:
    match = _CONFIDENCE.match(text)
    return float(match[0]) if match and float(match[0]) <= 5 else None


def _known(text: str) -> str | None:
    """Return the text stripped; None if it says that something is not known."""
    return None if _UNKNOWN.fullmatch(text.strip()) else text.strip()


ADDRESS = AddressTask("address", ("city", "country", "state", "street", "latitude", "longitude", "coordinates"))
