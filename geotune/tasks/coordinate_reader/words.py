"""The words in which people write coordinates: names of the two axes, hemispheres, and keys that qualify a value.

`key_role` says what a field of this name holds; it serves keys of JSON, columns of tables and names in prose alike.
`HEMISPHERES` maps the words of many languages to a canonical letter. `O` is in no list, because it stands for east in
German (Ost) and for west in French, Spanish, Italian and Portuguese (Ouest, Oeste, Ovest).
"""

from __future__ import annotations

import re
from functools import lru_cache

LATITUDE = "latitude|latitud|latitudine|breitengrad|breite|breedtegraad|lat"
LONGITUDE = "longitude|longitud|longitudine|l\u00e4ngengrad|l\u00e4nge|laengengrad|laenge|lengtegraad|lng|long|lon"
OTHER_SCRIPTS = {
    "\u7eac\u5ea6": "lat",  # Chinese
    "\u7def\u5ea6": "lat",  # Chinese (traditional), Japanese
    "\u7ecf\u5ea6": "lon",
    "\u7d93\u5ea6": "lon",
    "\u7d4c\u5ea6": "lon",
    "\uc704\ub3c4": "lat",  # Korean
    "\uacbd\ub3c4": "lon",
    "\u0448\u0438\u0440\u043e\u0442\u0430": "lat",  # Russian
    "\u0434\u043e\u043b\u0433\u043e\u0442\u0430": "lon",
}
"""The axis of each name in other scripts, which `plain_text` replaces."""


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(words.split())


_HEMISPHERE_WORDS = {
    "N": "north northern northerly northward nord norte norden noord noorder norra norr n\u00f8rd "
    "\u0441\u0435\u0432\u0435\u0440 \u0441\u0435\u0432\u0435\u0440\u043d\u043e\u0439",
    "S": "south southern southerly southward sud sul s\u00fcd s\u00fcden sueden zuid zuider syd s\u00f8r s\u00f6der "
    "sur \u044e\u0433 \u044e\u0436\u043d\u043e\u0439",
    "E": "east eastern easterly eastward est este leste ost osten oost ooster \u00f8st \u00f6st \u00f6ster "
    "\u0432\u043e\u0441\u0442\u043e\u043a \u0432\u043e\u0441\u0442\u043e\u0447\u043d\u043e\u0439",
    "W": "west western westerly westward ouest oeste ovest westen vest v\u00e4st v\u00e4ster wester "
    "\u0437\u0430\u043f\u0430\u0434 \u0437\u0430\u043f\u0430\u0434\u043d\u043e\u0439",
}
HEMISPHERES: dict[str, str] = {
    word: letter for letter, words in _HEMISPHERE_WORDS.items() for word in (letter.lower(), *words.split())
}
"""The canonical letter of each word for a hemisphere, in lower case."""
COMMON_WORDS = word_set("est este sur vest ost")
"""Words for a hemisphere that are ordinary words elsewhere ("la latitude est 48.85"); they count behind a number
only."""
HEMISPHERE_TERMS: dict[str, str] = {
    "\u5317\u7eac": "N",  # Chinese, Japanese and Korean write them before the number
    "\u5317\u7def": "N",
    "\u5357\u7eac": "S",
    "\u5357\u7def": "S",
    "\u4e1c\u7ecf": "E",
    "\u6771\u7d93": "E",
    "\u6771\u7d4c": "E",
    "\u897f\u7ecf": "W",
    "\u897f\u7d93": "W",
    "\u897f\u7d4c": "W",
    "\ubd81\uc704": "N",
    "\ub0a8\uc704": "S",
    "\ub3d9\uacbd": "E",
    "\uc11c\uacbd": "W",
}
"""The canonical letter of each term for a hemisphere of one axis, which `plain_text` replaces."""
SPREADS = word_set(
    "min max minimum maximum delta std stdev sd sigma upper lower error err errors uncertainty range accuracy "
    "precision difference offset bounds bound limit limits tolerance margin variance"
)
"""Words beside the name of an axis that make it the name of something else."""

_OWNERS = (
    "pred|predicted|prediction|gt|true|truth|actual|real|gold|est|estimate|estimated|guess|guessed|final|answer|my|best|"
    "center|centre|point|location|loc|camera|photo|image|img|place|geo|gps|exif|decimal|wgs84|approx|approximate|"
    "target|start|query"
)
_UNITS = "deg|degs|degree|degrees|dd|decimal|decimaldegrees|value|val|est|estimate|estimated|wgs84|indegrees|[0-9]{1,2}"
_REFS = "ref|reference|dir|direction|hemisphere|hemi|ns|n_s|ew|e_w|cardinal"
_MINUTES = "min|mins|minute|minutes|arcmin"
_SECONDS = "sec|secs|second|seconds|arcsec"
_AXIS_REFS = {"ns": "lat_ref", "n_s": "lat_ref", "ew": "lon_ref", "e_w": "lon_ref"}
_REF_WORDS = frozenset(_REFS.split("|"))
_KEY_WORD = re.compile(r"[A-Z]++(?![^\W\d_A-Z])|[A-Z]{1,40}?(?=[A-Z][^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]++|[0-9]++")
_OWN = re.compile(f"(?:{_OWNERS})")
_UNIT = re.compile(f"(?:{_UNITS})")
_NAME = {
    axis: re.compile(f"(?:{names})[0-9]{{0,2}}")
    for axis, names in (("lat", f"{LATITUDE}|decimallatitude"), ("lon", f"{LONGITUDE}|decimallongitude"))
}
_GLUED = re.compile(rf"(?:{_OWNERS})?(?:(?P<lat>{LATITUDE})|(?P<lon>{LONGITUDE}))(?P<ref>{_REFS})?")
_PAIR = re.compile(rf"(?:{LATITUDE})_?(?:{LONGITUDE})|(?P<flipped>(?:{LONGITUDE})_?(?:{LATITUDE}))")
_NAMED_ROLES: dict[str, str] = {
    name: role
    for role, names in (
        ("spread", " ".join(sorted(SPREADS))),
        (
            "box",
            "bbox bounding_box boundingbox bounds viewport extent box envelope range uncertainty north south east west "
            "northeast southwest northwest southeast ne sw nw se",
        ),
        (
            "pair",
            "coordinate coordinates coord coords coordonnees location position point gps geo latlng place "
            "geolocation gps_coordinates geo_coordinates center centre geopoint answer final_answer",
        ),
        ("rank", "rank ranking"),
        ("confidence", "confidence probability prob score likelihood weight"),
        ("order", "format order coordinate_order coordinates_order axis_order"),
        ("type", "type"),
        ("geometry", "geometry"),
        ("value", "value val mean estimate decimal decimal_degrees"),
        ("degrees", "deg degs degrees degree d"),
        ("direction", "dir direction"),
        ("ref", _REFS.replace("|", " ")),
        ("minutes", _MINUTES.replace("|", " ")),
        ("seconds", _SECONDS.replace("|", " ")),
    )
    for name in reversed(names.split())
}
_ALTERNATIVE = re.compile(
    r"(?:alternat|other|second|2nd|third|3rd|runner|backup|fallback|less|nearby|neighbo|compar|reference|"
    r"example|reject|eliminat|exclud|wrong|not_|distractor|landmark|nearest|city_cent|poi_|initial|draft|previous|old_)"
)
_PRIMARY = re.compile(
    r"(?:primary|best|top|first|1st|main|final|answer|prediction|predicted|most_likely|likeliest|chosen|selected|result)"
)


@lru_cache(maxsize=4096)
def key_role(key: str) -> str:
    """Return what a field of this name holds; "" if it has nothing to do with coordinates.

    `lat`, `lon`: a value in degrees. `lat_ref`, `lon_ref`: its hemisphere. `lat_min`, `lat_sec` (and of `lon`): minutes
    and seconds. `lat?`, `lon?`: something else about this axis, such as its error. `lat_lon`, `lon_lat`: a pair in this
    order. `pair`: a pair without a stated order. `box`: bounds. `alternative`, `primary`: how likely what it holds is.
    `rank`, `confidence`, `order`, `type`, `geometry`, and within an axis `value`, `degrees`, `minutes`, `seconds`,
    `ref`, `direction`, `spread`: as the name says.
    """
    words = [word.lower() for word in _KEY_WORD.findall(key.replace("\u00b0", " deg "))]
    name = "_".join(words)
    if not name:
        return ""
    if pair := _PAIR.fullmatch(name):
        return "lon_lat" if pair["flipped"] else "lat_lon"
    if (owner := _AXIS_REFS.get(words[0])) and all(word in _REF_WORDS for word in words):  # ns_hemisphere
        return owner
    if role := _AXIS_REFS.get(name) or _axis_role(words) or _NAMED_ROLES.get(name):
        return role
    if _ALTERNATIVE.match(name):
        return "alternative"
    return "primary" if _PRIMARY.match(name) else ""


def _axis_role(words: list[str]) -> str:
    """Return the role of a name that contains the word of one axis, from the words around it."""
    if len(words) == 1 and (glued := _GLUED.fullmatch(words[0])):  # gpslatituderef, predlat
        axis = "lat" if glued["lat"] else "lon"
        return f"{axis}_ref" if glued["ref"] else axis
    for axis, pattern in _NAME.items():
        at = next((i for i, word in enumerate(words) if pattern.fullmatch(word)), None)
        if at is None:
            continue
        before, after = words[:at], words[at + 1 :]
        other = "" if words[at] == "long" else f"{axis}?"  # long_description, how_long
        if not all(_OWN.fullmatch(word) for word in before):
            return other
        if not after or all(_UNIT.fullmatch(word) for word in after):
            return axis
        rest = "_".join(after)
        for role, names in (("ref", _REFS), ("min", _MINUTES), ("sec", _SECONDS)):
            if re.fullmatch(names, rest):
                return f"{axis}_{role}"
        return other
    return ""
