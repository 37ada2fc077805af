"""The geo-caption of GeoLocSFT (arXiv 2506.01277): its JSON schema, its instructions, and the check of answers."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.geo import haversine_km
from geotune.sample import IMAGE_TAG
from geotune.tasks import get_task
from geotune.tasks.coordinates import Coordinates, check_coordinates
from geotune.tasks.geolocate import coordinates_json, degrees

FORM_VERSION = 1
"""Part of every request's key: increase it when the instructions change, so that all photos are asked about again."""
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
"""Keys of a geo-caption and the types of their values; a list has any number of items like the one shown."""

SYSTEM = (
    "You write training examples for a model that learns to tell from a photo where it was taken. "
    "You are told where the photo was taken, so that the reasoning ends at the right place; the model will not be."
)
INSTRUCTIONS = """The photo was taken at latitude {lat}, longitude {lon}{names}.

Describe as JSON what in this photo tells where it was taken, from the wide view (25 km: terrain, climate, \
development) to the near one (1 km: roads, vegetation, then buildings, vehicles, soil), and which similar regions it \
rules out.
- State only what can be seen; where an aspect can't be seen, write "not visible".
- Reason from the picture alone. Never say or hint that the place was given, and give no coordinates before the answer.
- Eliminate two or three regions that look alike, each for reasons that can be seen.
- answer.coordinates repeats latitude {lat} and longitude {lon} exactly; region names country and region."""
QUESTION = (
    f"{IMAGE_TAG}\nWhere was this photo taken? Reply with JSON only: "
    '{"thinking": {"25km_analysis", "1km_analysis", "buildings_infrastructure", "vehicles_traffic", "terrain_soil", '
    '"elimination_similar_regions"}, "answer": {"coordinates": {"latitude", "longitude", "region"}, '
    '"final_location_confirmation"}}, decimal degrees, south and west negative.'
)
"""The question in the training samples, which a model trained on geo-captions is asked."""

SAME_PLACE_KM = 1.0
"""Largest distance of an answer from the truth; beyond it, the answer reasons about another place."""
_GIVEN_AWAY = re.compile(
    r"\b(?:given|provided|supplied|stated)\s+(?:gps\s+|true\s+|exact\s+)?(?:coordinates?|latitude|longitude|location)\b"
    r"|\b(?:coordinates?|location)\s+(?:are|is|was|were)\s+(?:given|provided|supplied)\b",
    re.IGNORECASE,
)
_PLACEHOLDERS = (IMAGE_TAG, "<video>", "<audio>")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class InvalidCaptionError(Exception):
    """An answer that is no valid geo-caption of its photo.

    `reason` is a name to count by, `detail` says what is wrong.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def json_schema() -> dict[str, Any]:
    """The outline as a JSON schema for strict structured output: every key is required, no other is allowed."""
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
    """The instructions to the endpoint for one photo: where it was taken, and what to write."""
    known = ", ".join(names[name] for name in ("city", "state", "country") if names.get(name))
    return INSTRUCTIONS.format(lat=degrees(at.lat), lon=degrees(at.lon), names=f" ({known})" if known else "")


@dataclass(frozen=True)
class Reply:
    """The first choice of a chat completion, with its numbers of tokens (None if the endpoint does not count them)."""

    text: str
    refusal: str
    finish_reason: str
    tokens_in: int | None
    tokens_out: int | None
    model: str


def read_reply(body: str) -> Reply:
    """The reply in a response's body. Raises InvalidCaptionError if the body is no chat completion."""
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
    """Numbers of input and output tokens. Some endpoints count the tokens of reasoning only in the total."""
    if not isinstance(usage, dict):
        return None, None
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
    tokens_in, tokens_out, total = (count if type(count) is int and count >= 0 else None for count in counts)
    if tokens_in is not None and total is not None:
        tokens_out = max(tokens_out or 0, total - tokens_in)
    return tokens_in, tokens_out


def check_reply(reply: Reply, at: Coordinates) -> dict[str, Any]:
    """The geo-caption in a reply about a photo taken at `at`.

    Raises:
        InvalidCaptionError: The reply is a refusal, was truncated, is no JSON or violates the schema, names another
            place, or says that the place was given.
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
    stated = caption["answer"]["coordinates"]
    place = check_coordinates(stated["latitude"], stated["longitude"])
    if not isinstance(place, Coordinates) or haversine_km(place.lat, place.lon, at.lat, at.lon) > SAME_PLACE_KM:
        detail = f"{stated['latitude']}, {stated['longitude']} instead of {degrees(at.lat)}, {degrees(at.lon)}"
        raise InvalidCaptionError("wrong_place", detail)
    if hint := _GIVEN_AWAY.search(reply.text):
        raise InvalidCaptionError("tells_that_it_was_told", hint[0])
    if get_task("geolocate").parse(write_caption(caption, at)).answer != coordinates_json(at):
        raise InvalidCaptionError("ambiguous_answer", "the text has other coordinates beside the answer's")
    return dict(caption)


def write_caption(caption: Mapping[str, Any], at: Coordinates) -> str:
    """The caption as the text of an assistant's turn, with the coordinates `at` in place of the endpoint's."""
    truth = copy.deepcopy(dict(caption))
    marks = {"latitude": "\0lat", "longitude": "\0lon"}
    truth["answer"]["coordinates"].update(marks)
    text = json.dumps(truth, ensure_ascii=False)
    # The numbers are put in as text, because JSON would write the float 0.00001 as 1e-05.
    for mark, value in ((marks["latitude"], at.lat), (marks["longitude"], at.lon)):
        text = text.replace(json.dumps(mark), degrees(value))
    return text


def _mistake(value: Any, outline: Any, where: str) -> str:
    """The first difference of a decoded value from its outline, in words; empty if there is none."""
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
            return f"{where} is no list, or an empty one"
        mistakes = (_mistake(item, outline[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next(filter(None, mistakes), "")
    if outline == NUMBER:
        fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if fine else f"{where} is no number"
    if not isinstance(value, str) or not value.strip():
        return f"{where} is no text" if not isinstance(value, str) else f"{where} is empty"
    if any(mark in value for mark in (*_PLACEHOLDERS, "\0")) or not _is_text(value):
        return f"{where} has text that a record can't hold: {value[:80]!r}"
    return ""


def _is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8, which a lone surrogate prevents."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
