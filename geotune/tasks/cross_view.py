"""The seven cross-view tasks of GeoX-Bench (arXiv 2511.13259): match a ground photo to north-up satellite maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geotune.tasks.base import GoldError, entry
from geotune.tasks.choice import ChoiceTask, wording, yes_or_no

HEADINGS = {"N": 0.0, "E": 90.0, "S": 180.0, "W": 270.0}
"""Heading of each four-way answer, in degrees clockwise from north."""
LOCATIONS = ("center", "left", "right", "top", "bottom", "top_left", "top_right", "bottom_left", "bottom_right")
"""Positions of the camera in a crop, which are also the names of the nine crops."""
N_CANDIDATES = 4
"""Number of candidate maps in a cross-map question."""

_CAMERA = r"\b(?:camera|photo(?:graph(?:er)?)?|picture|image|view|it)\b\W{1,3}(?:[a-z]{1,10}[ ,]{1,2}){0,3}"


def gold_heading(record: Mapping[str, Any], crop: str) -> str:
    """Return the orientation of the ground view, checked against its heading in degrees; raises `GoldError`."""
    heading = entry(record, "GroundImage", "orientation")
    if heading not in HEADINGS:
        raise GoldError("illegal orientation", repr(heading))
    degree = record["GroundImage"].get("degree")
    if degree is not None and degree != HEADINGS[heading]:
        raise GoldError("orientation and degree disagree", f"{heading}, {degree}")
    return str(heading)


def gold_in_range(record: Mapping[str, Any], crop: str) -> str:
    """Return `in_range` of the ground view as "true" or "false"; raises `GoldError`.

    In a record that lists candidate maps the field is out of date, so such a record is rejected.
    """
    in_range = entry(record, "GroundImage", "in_range")
    if "AerialCandidates" in record:
        raise GoldError("stale in_range")
    if not isinstance(in_range, bool):
        raise GoldError("illegal in_range", repr(in_range))
    return "true" if in_range else "false"


def gold_location(record: Mapping[str, Any], crop: str) -> str:
    """Return the crop itself, because its name says where in it the camera is; raises `GoldError`."""
    if crop not in LOCATIONS:
        raise GoldError("not one of the nine crops", crop)
    return crop


def gold_candidate(record: Mapping[str, Any], crop: str) -> str:
    """Return the index of the candidate map that is the original; raises `GoldError`.

    A record is rejected if another candidate shows the same map.
    """
    candidates = entry(record, "AerialCandidates")
    if not isinstance(candidates, list) or len(candidates) != N_CANDIDATES:
        raise GoldError("not four candidates")
    paths = [entry(candidate, "AerialImage", "file_path") for candidate in candidates]
    originals = [index for index, candidate in enumerate(candidates) if candidate.get("is_original") is True]
    if len(originals) != 1:
        raise GoldError("not one original", str(originals))
    if paths.count(paths[originals[0]]) > 1:
        raise GoldError("original listed twice", str(paths[originals[0]]))
    return str(originals[0])


@dataclass(frozen=True)
class CrossViewTask(ChoiceTask):
    """A question about one ground view and its maps."""

    question_text: str = field(kw_only=True)
    legal_text: str = field(kw_only=True)
    """The legal answers, as the prompt states them."""
    gold_from: Callable[[Mapping[str, Any], str], str] = field(kw_only=True, repr=False, compare=False)
    """Returns the gold answer of a record and a crop."""

    def question(self) -> str:
        return self.question_text

    def form(self) -> str:
        return f'{{"{self.key}": ...}}, {self.legal_text}.'

    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        return self.gold_from(record, crop)


def _heading(match: re.Match[str]) -> str | None:
    """Return the heading that a match names; None for any other direction."""
    name = match[0][len(match["not"] or "") :].replace(".", "").upper()
    words = re.findall("NORTH|SOUTH|EAST|WEST", name)
    if words:
        return words[0][0] if len(words) == 1 else None
    return name if name in HEADINGS else None


_SIDE = "(?:north|south|east|west)"
_HEADING_WORDS = wording(
    rf"(?i:(?<![^\W_]){_SIDE}(?:[ _-]?{_SIDE}){{0,3}}(?:ern|erly|wards?|bound)?(?![^\W_]))"
    r"|(?<![^\W_])(?<!\w\.)(?:[NS]\.?[EW]|[NS]\.?[NS]\.?[EW]|[EW]\.?[NS]\.?[EW]|[NSEW])(?![^\W_])(?!\.\w)",
    _heading,
    exact={letter.lower(): letter for letter in HEADINGS},
    cue=rf"\b(?:direction|heading|orientation|bearing)\b|{_CAMERA}(?:fac|look|point|head|orient)[a-z]{{0,5}}\b",
)


def _location(match: re.Match[str]) -> str | None:
    """Return the location that a match names; None if its words contradict each other."""
    name = match[0][len(match["not"] or "") :].lower()
    rows = {"top" if word in ("top", "upper") else "bottom" for word in re.findall("top|upper|bottom|lower", name)}
    columns = set(re.findall("left|right", name))
    middle = "cent" in name or "mid" in name
    if len(rows) > 1 or len(columns) > 1 or (middle and rows and columns):
        return None
    return "_".join((*rows, *columns)) or "center"


_PLACE = r"(?:top|upper|bottom|lower|left|right|cent(?:er(?:ed)?|red?|ral)|middle)"
_LOCATION_WORDS = wording(
    rf"(?i:(?<![^\W_]){_PLACE}(?:[ _-]?{_PLACE}){{0,2}}(?:[ _-]?(?:most|hand))?(?![^\W_]))",
    _location,
    cue=rf"\b(?:location|position)\b|{_CAMERA}(?:is|was|stands|lies|sits)\b",
)


_NUMBERS = {"zero": "0", "one": "1", "two": "2", "three": "3"}
_MAP = r"(?<![^\W_])(?i:map|image|picture|satellite|aerial|index|option|candidate|number)"


def _candidate(match: re.Match[str]) -> str | None:
    """Return the index of the candidate map that a match names; None for any other number."""
    name = _NUMBERS[match["word"].lower()] if match["word"] else match["number"]
    index = re.fullmatch(r"\+?0*([0-3])(?:\.0+)?", name)
    return index[1] if index else None


_CANDIDATE_WORDS = wording(
    rf"(?:{_MAP}(?:-|[ _#:]{{0,3}})|(?<![\w.]))(?P<number>[+-]?[0-9]++(?:\.[0-9]++)?+)(?![\w%°]|\.[0-9])"
    rf"|{_MAP}[ _#:]{{1,3}}(?P<word>(?i:zero|one|two|three))\b",
    _candidate,
    exact=_NUMBERS,
    cue=r"\bmatched_aerial_index\b",
)

_CENTER, _ANYWHERE = "at the center of", "anywhere in"
_PAIR = "The first image is a photo, the second a map."
_SET = "The first image is a photo, the others are maps 0, 1, 2 and 3."


def _one_of(options: tuple[str, ...]) -> str:
    return "one of " + ", ".join(f'"{option}"' for option in options)


def _pose(name: str, where: str) -> CrossViewTask:
    return CrossViewTask(
        name,
        ("direction",),
        tuple(HEADINGS),
        1 / len(HEADINGS),
        n_maps=1,
        cropped=where == _ANYWHERE,
        question_text=f"{_PAIR} The camera is {where} the map. Which way does it face?",
        legal_text=_one_of(tuple(HEADINGS)),
        wording=_HEADING_WORDS,
        gold_from=gold_heading,
    )


def _localization(name: str, where: str) -> CrossViewTask:
    return CrossViewTask(
        name,
        ("is_in_range",),
        ("true", "false"),
        1 / 2,
        n_maps=1,
        cropped=where == _ANYWHERE,
        question_text=f"{_PAIR} Was the photo taken in this map? If so, the camera is {where} the map.",
        legal_text="true or false",
        wording=yes_or_no(),
        gold_from=gold_in_range,
    )


def _cross_map(name: str, where: str) -> CrossViewTask:
    return CrossViewTask(
        name,
        ("matched_aerial_index",),
        tuple(str(index) for index in range(N_CANDIDATES)),
        1 / N_CANDIDATES,
        n_maps=N_CANDIDATES,
        cropped=where == _ANYWHERE,
        question_text=f"{_SET} The camera is {where} one map. Which one?",
        legal_text="0, 1, 2 or 3",
        wording=_CANDIDATE_WORDS,
        gold_from=gold_candidate,
    )


_INTRA_MAP = CrossViewTask(
    "intra_map",
    ("location",),
    LOCATIONS,
    1 / len(LOCATIONS),
    n_maps=1,
    cropped=True,
    question_text=f"{_PAIR} The camera is {_ANYWHERE} the map. In which part is it?",
    legal_text=_one_of(LOCATIONS),
    wording=_LOCATION_WORDS,
    gold_from=gold_location,
)

CROSS_VIEW = (
    _pose("pose_fixed", _CENTER),
    _pose("pose_random", _ANYWHERE),
    _localization("localization_prior", _CENTER),
    _localization("localization_no_prior", _ANYWHERE),
    _INTRA_MAP,
    _cross_map("cross_map", _CENTER),
    _cross_map("cross_map_random", _ANYWHERE),
)
