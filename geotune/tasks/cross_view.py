"""The seven cross-view tasks of GeoX-Bench (arXiv 2511.13259): match a ground photo to north-up satellite maps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from geotune.tasks.base import GoldError, entry
from geotune.tasks.choice import ChoiceTask, yes_or_no
from geotune.tasks.wording import by_words, wording

HEADINGS = {"N": 0.0, "E": 90.0, "S": 180.0, "W": 270.0}
"""Heading of each four-way answer, in degrees clockwise from north."""
LOCATIONS = ("center", "left", "right", "top", "bottom", "top_left", "top_right", "bottom_left", "bottom_right")
"""Positions of the camera in a crop, which are also the names of the nine crops."""
N_CANDIDATES = 4
"""Number of candidate maps in a cross-map question."""

_LINKS = "is|was|be|must|seems|appears|to|taken|shot|likely|probably|clearly|definitely|then|facing|looking"
_CAMERA = (
    r"(?<!in the )(?<!in this )\b(?:camera|photo(?:graph(?:er)?)?|picture|view|it)\b(?:'s)?\W{1,3}"
    rf"(?:(?:{_LINKS})[ ,]{{1,2}}){{0,3}}"
)
_CAMERA_WORDS = " camera photo photograph photographer picture view it"
# A noun that introduces an answer is that of the camera: not "sun direction" or "alternative location".
_OWN = r"(?:^\W*|\b(?:the|camera(?:'s)?|cardinal|compass|predicted|estimated|facing|viewing|view)[ _-]+)"


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
    """Return the heading that a match names; None for any other direction or bearing."""
    if match.lastgroup in ("degrees", "bearing"):
        degrees = float(match[match.lastgroup])
        return _HEADING_AT.get(degrees % 360 if degrees <= 360 else -1.0)
    return _heading_of_name(match[0][len(match["not"] or "") :])


@lru_cache(maxsize=1 << 10)
def _heading_of_name(name: str) -> str | None:
    name = name.replace(".", "").upper()
    if len(name) > 3 and (words := _SIDES.findall(name)):
        return words[0][0] if len(words) == 1 else None
    return name if name in HEADINGS else None


_SIDES = re.compile("NORTH|SOUTH|EAST|WEST")
_HEADING_AT = {degrees: name for name, degrees in HEADINGS.items()}
_HEADING_NAMES = by_words(
    N="n nord norden norte север 北 正北 北方 朝北 向北",
    E="e est ost osten oost este leste восток 东 東 正东 东方 朝东 向东",
    S="s sud süd süden sur sul zuid юг 南 正南 南方 朝南 向南",
    W="w ouest westen oeste ovest запад 西 正西 西方 朝西 向西",
)
_SIDE = "(?:north|south|east|west)"
_HEADING_WORDS = wording(
    rf"(?i:(?<![^\W_])(?<!from )(?<!from the ){_SIDE}(?:[ _-]?{_SIDE}){{0,3}}(?:ern|erly|wards?|bound)?(?![^\W_]))"
    r"|(?<![^\W_])(?<!\w\.)(?:[NS]\.?[EW]|[NS]\.?[NS]\.?[EW]|[EW]\.?[NS]\.?[EW]|[NSEW])(?![^\W_])(?!\.\w)"
    r"(?<!from .)(?<!from the .)(?!\s?/\s?[Aa](?![^\W_]))"
    r"|(?<![\w.+\u2212-])(?P<degrees>[0-9]{1,3}(?:\.[0-9]{1,9})?)\s?(?:[\u00b0\u00ba]|(?i:deg(?:rees?)?)(?![^\W_]))"
    r"|(?i:heading|bearing|azimuth)[ \"'*:=]{1,4}(?:is |of )?(?P<bearing>[0-9]{1,3}(?:\.[0-9]{1,9})?)"
    r"(?:\s?(?:[\u00b0\u00ba]|(?i:deg(?:rees?)?)))?(?![\w.])",
    _heading,
    exact=_HEADING_NAMES,
    values={f"{degrees:.{digits}f}": name for name, degrees in (*HEADINGS.items(), ("N", 360.0)) for digits in (0, 1)},
    fillers="""
        azimuth bearing camera cardinal compass direction due estimated face faced faces facing ground headed heading
        looking looks map orientation oriented photographer point pointed pointing points predicted shot toward towards
        view viewer viewing viewpoint
    """,
    tail=r"\s+(?:towards?|along|down|up|across|onto|over|through)\s+(?:(?:the|a|an|this|that|its)\b|[A-Z])\D*+",
    cue=rf"{_OWN}(?:direction|heading|orientation|bearing)\b|{_CAMERA}(?:fac|look|point|head|orient)[a-z]{{0,5}}\b",
    cue_words="direction heading orientation bearing" + _CAMERA_WORDS,
    starts="s[oO] e[aA] w[eE] h[eE] b[eE] a[zZ] [0-9]",
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


def _location_names() -> dict[str, str]:
    """Return the names of locations in German, French, Spanish and Chinese; both parts of a corner in either order."""
    rows = {"top": "oben haut arriba superior 上", "bottom": "unten bas abajo inferior 下"}
    columns = {"left": "links gauche izquierda izquierda 左", "right": "rechts droite derecha derecha 右"}
    names = by_words(center="mitte centro 中 中心 中央 中间")
    for side, words in (rows | columns).items():
        names |= dict.fromkeys(words.split(), side)
    for (row, row_words), (column, column_words) in itertools.product(rows.items(), columns.items()):
        for down, across in zip(row_words.split(), column_words.split(), strict=True):
            forms = (f"{down} {across}", f"{across} {down}", down + across, across + down)
            french_and_spanish = (f"en {down} à {across}", f"{down} à {across}", f"{down} a la {across}")
            names |= dict.fromkeys((*forms, *french_and_spanish), f"{row}_{column}")
    return names


_PLACE = r"(?:top|upper|bottom|lower|left|right|cent(?:er(?:ed)?|red?|ral)|middle)"
_LOCATION_WORDS = wording(
    rf"(?i:(?<![^\W_]){_PLACE}(?:[ _-]?{_PLACE}){{0,2}}(?:[ _-]?(?:most|hand))?(?![^\W_]))",
    _location,
    exact=_location_names(),
    fillers="""
        area camera corner edge located location map part place point portion position positioned photographer predicted
        quadrant quarter region section side spot standing stands stood viewer viewpoint within
    """,
    cue=rf"{_OWN}(?:location|position)\b|{_CAMERA}(?:is|was|stands|lies|sits)\b",
    cue_words="location position" + _CAMERA_WORDS,
    starts="t u b l r c m",
)


_NUMBERS = {"zero": "0", "one": "1", "two": "2", "three": "3"}
_ORDINALS = {"first": "0", "1st": "0", "second": "1", "2nd": "1", "third": "2", "3rd": "2", "fourth": "3", "4th": "3"}
_KIND = r"(?i:(?:satellite|aerial|candidate)[ _-]?)"
_MAP = rf"(?<![^\W_])(?:{_KIND}?(?i:map|index|option|candidate|number)|{_KIND}(?i:image|picture|photo|view)?)"


def _candidate(match: re.Match[str]) -> str | None:
    """Return the index of the candidate map that a match names; None for any other number."""
    if match["weak"]:
        return _ORDINALS[match["weak"].lower()]
    if match["image"]:  # the photo may be counted as an image, too
        return None
    name = _NUMBERS[match["word"].lower()] if match["word"] else match["number"]
    index = re.fullmatch(r"\+?0*([0-3])(?:\.0+)?", name)
    return index[1] if index else None


_CANDIDATE_WORDS = wording(
    rf"(?P<image>(?<![^\W_])(?<!aerial )(?<!satellite )(?<!candidate )(?i:image|picture|photo)[ _#:]{{0,3}}[0-9]++)"
    rf"|(?:{_MAP}(?:-|[ _#:]{{0,3}})|(?<![\w.]))(?P<number>[+-]?[0-9]++(?:\.[0-9]++)?+)(?![\w%\u00b0]|\.[0-9])"
    r"(?!\s(?:(?i:matching|candidate|satellite|aerial|possible|different)\s)?(?i:maps|candidates|images|options|photos)\b)"
    rf"|{_MAP}[ _#:]{{1,3}}(?P<word>(?i:zero|one|two|three))\b"
    rf"|\b(?P<weak>(?i:{'|'.join(_ORDINALS)}))[ ]{_KIND}?(?i:map|candidate|option)\b",
    _candidate,
    exact=_NUMBERS,
    fillers="""
        aerial camera candidate center centered centre corresponds fit fits for ground image index level located
        location map maps match matched matches matching number one option place same satellite shows view
    """,
    tail=r"\s+(?:has|shows|shares)\s+the\s+same\s\D*+",
    cue=r"\bmatched_aerial_index\b",
    cue_words="matched",
    starts="i p s a c m o n f t [0-9+-]",
)

# The photo was taken in the map or outside of it.
_IN_MAP = (
    r"\b(?:photo(?:graph)?|picture|image|camera|it)\s"
    r"(?:(?:was|is)(?P<denied>n't|\snot)?(?:\s(?:likely|probably|indeed))?(?:\s(?:taken|shot|captured|located))?"
    r"|(?:(?:appears|seems|is\slikely)|(?:does|did)(?P<denial>n't|\snot)\s(?:appear|seem))"
    r"\sto\shave\sbeen\s(?:taken|shot|captured|located)|must\shave\sbeen\s(?:taken|shot|captured|located))\s"
    r"(?:(?:in|within|inside|(?P<outside>outside(?:\sof)?))\s(?:this|the)\s(?:map|range|area)(?:(?:'s)?\s(?:area|range))?"
    r"|(?P<elsewhere>elsewhere))\b|\b(?:in|within)\srange\b|\b(?P<out>out\sof\srange)\b"
)
_WHERE = by_words(
    true="inside_the_map inside_this_map within_the_map within_this_map",
    false="outside_the_map outside_this_map outside_of_the_map not_in_this_map not_in_the_map not_within_this_map",
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
        aliases=("heading", "facing", "orientation", "bearing", "cameradirection", "compassdirection", "headingdeg"),
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
        wording=yes_or_no(
            places=_IN_MAP,
            fillers="range is_in_range map camera location photographer spot place position point",
            starts="p c i w o",
            exact=_WHERE,
        ),
        aliases=("inrange", "isinmap", "inmap", "withinrange"),
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
        aliases=("index", "map", "mapindex", "aerialindex", "matchedindex", "matchedmap", "matchedmapindex", "match"),
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
    aliases=("position", "cameralocation", "cameraposition"),
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
