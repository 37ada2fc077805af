"""The task of giving a photo's address, coordinates and a confidence, as in IMAGEO-Bench (arXiv 2508.01608)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from geotune.geo import haversine_km
from geotune.tasks.address_fields import PLACE_KEYS, canonical_fields, fields_of
from geotune.tasks.base import GoldError, Parsed, Reason, Task, accepted, rejected
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.final_answer import final_answer
from geotune.tasks.geolocate import closeness, degrees, gold_coordinates, read_coordinates
from geotune.tasks.place_names import known_name, same_city, same_country, same_state

NAMES = ("street", "city", "state", "country")
"""Parts of an address, in the order in which they are written."""
_SAME = {"city": same_city, "state": same_state, "country": same_country}
_CONFIDENCE = re.compile(r"([1-5](?:\.[0-9]{1,6})?)(?:\s?/\s?5|\sout of 5)?(?:[.!]|\s*[(,;:\u2013\u2014]\D*|\s-\s\D*)?")


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

    IMAGEO's own nested form (`reverse_geocoding`, `address`, `coordinates`) is read as well, and so are lists of lines
    that begin with a label ("City: Paris") and tables.
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
        names = {name: str(record[name]) for name in NAMES if record.get(name) is not None}
        if len(names.get("country", "")) == 2:  # a code, which a table may hold in lower case
            names["country"] = names["country"].upper()
        if not any(known_name(names.get(name, ""), name) for name in _SAME):
            raise GoldError("no city, state or country")
        return replace(_from_fields(names), coordinates=gold_coordinates(record)).json()

    def json(self, answer: str) -> str:
        return self.address(answer).json()

    def address(self, answer: str) -> Address:
        """Return the address of a canonical answer; raises `ValueError` for any other text."""
        address = self._read(answer)
        if not isinstance(address, Address):
            raise ValueError(f"{self.name}: {answer!r} gives no address: {address}")
        return address

    def coordinates(self, answer: str) -> Coordinates | None:
        """Return the coordinates of a canonical answer; None if it gives names alone."""
        return self.address(answer).coordinates

    def parse(self, text: str) -> Parsed:
        """Read the final answer, which needs one known name or coordinates.

        Coordinates that are illegal, or that leave doubt about what they mean, count as not known beside names: the
        names are read, the coordinates are null and score 0.
        """
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
        """Read the address in the final JSON object of a text; without one, in labelled lines and words."""
        fields = canonical_fields(text) or fields_of(final_answer(text))
        if isinstance(fields, Reason):
            return fields
        address = _from_fields(fields)
        known = address.coordinates or any(getattr(address, name) for name in NAMES)
        return address if known else Reason.NO_ANSWER


def _from_fields(fields: Mapping[str, str]) -> Address:
    """Return the address that the texts of an answer's fields state."""
    street, city, state, country = (known_name(fields.get(name, ""), name) for name in NAMES)
    stated = fields.get("coordinates")
    at = read_coordinates(stated) if stated else None
    confidence = _CONFIDENCE.fullmatch(fields.get("confidence", ""))
    return Address(
        street,
        city,
        state,
        country,
        at if isinstance(at, Coordinates) else None,
        float(confidence[1]) if confidence and float(confidence[1]) <= 5 else None,
    )


ADDRESS = AddressTask("address", PLACE_KEYS)
