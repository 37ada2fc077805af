"""The geo-caption of GeoLocSFT (arXiv 2506.01277): its JSON schema, how it is asked for, which answers are valid."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.geo import haversine_km
from geotune.tasks import get_task
from geotune.tasks.coordinates import Coordinates, check_coordinates
from geotune.tasks.geolocate import coordinates_json, degrees

FORM_VERSION = 1
"""Part of every question's key: raise it when what is asked changes, and photos are asked anew."""
TEXT, NUMBER = "string", "number"
OUTLINE: dict[str, Any] = {
    "thinking": {
        "25km_analysis": {"terrain_characteristics": TEXT, "climate_features": TEXT, "regional_development": TEXT},
        "1km_analysis": {
            "road_engineering": {
                "surface_materials": TEXT,
                "line_markings": TEXT,
                "guardrails": TEXT,
                "lighting": TEXT,
                "drainage": TEXT,
            },
            "vegetation": {"tree_species": TEXT, "herbaceous_plants": TEXT, "vegetation_management": TEXT},
        },
        "buildings_infrastructure": {
            "architectural_styles": TEXT,
            "municipal_facilities": TEXT,
            "transportation_facilities": TEXT,
        },
        "vehicles_traffic": {"vehicle_types": TEXT, "traffic_patterns": TEXT},
        "terrain_soil": {"terrain_details": TEXT, "soil_characteristics": TEXT},
        "elimination_similar_regions": [{"eliminated_region": TEXT, "reasons": [TEXT]}],
    },
    "answer": {
        "coordinates": {"latitude": NUMBER, "longitude": NUMBER, "region": TEXT},
        "final_location_confirmation": {
            "confirmed_location": TEXT,
            "decisive_features": [TEXT],
            "accuracy_assessment": TEXT,
        },
    },
}
"""Keys of a geo-caption; a list holds any number of what it shows."""

SYSTEM = (
    "You write training examples for a model that learns to tell from a photo where it was taken. "
    "You are told where the photo was taken, so that the reasoning ends at the right place; the model will not be."
)
INSTRUCTIONS = """The photo was taken at latitude {lat}, longitude {lon}{names}.

Describe as JSON what in this photo tells where it was taken, from the wide view (25 km: terrain, climate, \
development) to the near one (1 km: roads, vegetation, then buildings, vehicles, soil), and which similar regions it \
rules out.
- State only what can be seen; where an aspect can't be seen, write "not visible".
- Reason from the image alone. Never say or hint that the place was given, and give no coordinates before the answer.
- Eliminate two or three regions that look alike, each for reasons that can be seen.
- answer.coordinates repeats latitude {lat} and longitude {lon} exactly; region names country and region."""
QUESTION = (
    "<image>\nWhere was this photo taken? Reply with JSON only: "
    '{"thinking": {"25km_analysis", "1km_analysis", "buildings_infrastructure", "vehicles_traffic", "terrain_soil", '
    '"elimination_similar_regions"}, "answer": {"coordinates": {"latitude", "longitude", "region"}, '
    '"final_location_confirmation"}}, decimal degrees, south and west negative.'
)
"""What a model is asked once it is trained on geo-captions."""

SAME_PLACE_KM = 1.0
"""An answer farther from the truth than this reasons about another place."""
_TOLD = re.compile(
    r"\b(?:given|provided|supplied|stated)\s+(?:gps\s+|true\s+|exact\s+)?(?:coordinates?|latitude|longitude|location)\b"
    r"|\b(?:coordinates?|location)\s+(?:are|is|was|were)\s+(?:given|provided|supplied)\b",
    re.IGNORECASE,
)
_PLACEHOLDERS = ("<image>", "<video>", "<audio>")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class InvalidCaptionError(Exception):
    """An answer that is no geo-caption of its photo: a word to count by, and what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def json_schema() -> dict[str, Any]:
    """The outline as a JSON schema that strict structured output accepts: every key required, no others."""
    return _schema(OUTLINE)


def _schema(outline: Any) -> dict[str, Any]:
    if isinstance(outline, dict):
        properties = {key: _schema(value) for key, value in outline.items()}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    if isinstance(outline, list):
        return {"type": "array", "items": _schema(outline[0])}
    return {"type": outline}


def instructions(at: Coordinates, names: Mapping[str, str]) -> str:
    """What the endpoint is told of a photo: where it was taken, and what to write."""
    known = ", ".join(names[name] for name in ("city", "state", "country") if names.get(name))
    return INSTRUCTIONS.format(lat=degrees(at.lat), lon=degrees(at.lon), names=f" ({known})" if known else "")


@dataclass(frozen=True)
class Reply:
    """The first choice of a chat completion, and the tokens that were counted (None where nothing is said)."""

    text: str
    refusal: str
    finish_reason: str
    tokens_in: int | None
    tokens_out: int | None
    model: str


def read_reply(body: str) -> Reply:
    """What stands in the body of a chat completion. Raises InvalidCaptionError for a body that is none."""
    try:
        content = json.loads(body)
        choice = content["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content") or "", message.get("refusal") or ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise InvalidCaptionError("broken_response", f"no chat completion ({type(error).__name__}: {error})") from None
    finish = str(choice.get("finish_reason"))
    return Reply(text, str(refusal), finish, *_tokens(content.get("usage")), str(content.get("model", "")))


def _tokens(usage: Any) -> tuple[int | None, int | None]:
    """Tokens in and out. Some endpoints count the tokens of thinking in the total alone."""
    if not isinstance(usage, dict):
        return None, None
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
    tokens_in, tokens_out, total = (count if type(count) is int and count >= 0 else None for count in counts)
    if tokens_in is not None and total is not None:
        tokens_out = max(tokens_out or 0, total - tokens_in)
    return tokens_in, tokens_out


def check_reply(reply: Reply, at: Coordinates) -> dict[str, Any]:
    """The geo-caption that a reply holds, of a photo taken at `at`.

    Raises InvalidCaptionError: a refusal, an answer that was cut, that is not JSON or not of the schema, that has
    another place, or that says that it was told the place.
    """
    if reply.refusal or reply.finish_reason == "content_filter":
        raise InvalidCaptionError("refused", reply.refusal[:300] or reply.finish_reason)
    if reply.finish_reason == "length":
        raise InvalidCaptionError("truncated", f"cut after {reply.tokens_out} tokens; raise max_output_tokens")
    fenced = _FENCE.fullmatch(reply.text)
    try:
        caption = json.loads(fenced[1] if fenced else reply.text)
    except (ValueError, RecursionError) as error:
        raise InvalidCaptionError("not_json", str(error)[:300]) from None
    if mistake := _mistake(caption, OUTLINE, ""):
        raise InvalidCaptionError("wrong_schema", mistake)
    said = caption["answer"]["coordinates"]
    place = check_coordinates(said["latitude"], said["longitude"])
    if not isinstance(place, Coordinates) or haversine_km(place.lat, place.lon, at.lat, at.lon) > SAME_PLACE_KM:
        detail = f"{said['latitude']}, {said['longitude']} instead of {degrees(at.lat)}, {degrees(at.lon)}"
        raise InvalidCaptionError("wrong_place", detail)
    if told := _TOLD.search(reply.text):
        raise InvalidCaptionError("tells_that_it_was_told", told[0])
    if get_task("geolocate").parse(write_caption(caption, at)).answer != coordinates_json(at):
        raise InvalidCaptionError("ambiguous_answer", "other coordinates stand in the text beside the answer's")
    return dict(caption)


def write_caption(caption: Mapping[str, Any], at: Coordinates) -> str:
    """The caption as the assistant writes it, with the table's coordinates in place of the endpoint's."""
    truth = copy.deepcopy(dict(caption))
    marks = {"latitude": "\0lat", "longitude": "\0lon"}
    truth["answer"]["coordinates"].update(marks)
    text = json.dumps(truth, ensure_ascii=False)
    # Not as floats: JSON would write 0.00001 as 1e-05.
    for mark, value in ((marks["latitude"], at.lat), (marks["longitude"], at.lon)):
        text = text.replace(json.dumps(mark), degrees(value))
    return text


def _mistake(value: Any, outline: Any, where: str) -> str:
    """What is wrong with a decoded value by its outline; empty when nothing is."""
    if isinstance(outline, dict):
        if not isinstance(value, dict):
            return f"{where or 'the answer'} is no object"
        if wrong := sorted(outline.keys() ^ value.keys()):
            verb = "lacks" if wrong[0] in outline else "has the unknown key"
            return f"{where or 'the answer'} {verb} {wrong[0]}"
        mistakes = (_mistake(value[key], inner, f"{where}.{key}".lstrip(".")) for key, inner in outline.items())
        return next(filter(None, mistakes), "")
    if isinstance(outline, list):
        if not isinstance(value, list) or not value:
            return f"{where} is no list with something in it"
        mistakes = (_mistake(item, outline[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next(filter(None, mistakes), "")
    if outline == NUMBER:
        fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if fine else f"{where} is no number"
    if not isinstance(value, str) or not value.strip():
        return f"{where} is no text" if not isinstance(value, str) else f"{where} is empty"
    if any(mark in value for mark in (*_PLACEHOLDERS, "\0")) or not _is_text(value):
        return f"{where} holds what a record can't: {value[:80]!r}"
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
