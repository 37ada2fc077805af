"""Notations of places that fix the order of their numbers: links to maps, geo URIs, WKT, PostGIS, KML, ISO 6709.

A notation of which the numbers are not understood is a statement that is ambiguous, never two numbers in passing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote, unquote_plus

from geotune.tasks.coordinate_reader.angles import CoordinateError, read_field
from geotune.tasks.coordinate_reader.statements import Statement, combined_reason
from geotune.tasks.coordinate_reader.tokens import STRUCTURE

_N = r"[-+]?[0-9]{1,3}(?:\.[0-9]++)?(?![0-9.])"
_SPACES = r"[ \t]{0,8}"
_FORMAT = re.compile(
    rf"""
      (?P<link> (?:https?://|www\.)(?:[^\s<>"`\]\\]|"(?=[NSEW+%])){{1,2000}} )
    | (?P<geo> \bgeo:(?P<geo_lat>{_N}),(?P<geo_lon>{_N})(?:,{_N})?(?:[;?][\w=.,;-]{{0,80}})? )
    | (?P<vcard> \bGEO[:=](?P<vcard_lat>{_N});(?P<vcard_lon>{_N}) )
    | (?P<wkt> (?:SRID=(?P<srid>[0-9]{{1,6}});\s?)?\bPOINT{_SPACES}(?:ZM?|M)?{_SPACES}\({_SPACES}
        (?P<wkt_lon>{_N})[ \t]{{1,8}}(?P<wkt_lat>{_N})(?:[ \t]{{1,8}}[-+]?[0-9.]{{1,20}}){{0,2}}{_SPACES}\)
        (?:['"]{_SPACES},{_SPACES}(?P<wkt_srid>[0-9]{{1,6}}))? )
    | (?P<postgis> \bST_(?:Make)?Point(?:ZM?|M)?\({_SPACES}
        (?P<postgis_lon>{_N}){_SPACES},{_SPACES}(?P<postgis_lat>{_N})
        (?:{_SPACES},{_SPACES}[-+]?[0-9.]{{1,20}}){{0,3}}{_SPACES}\)
        (?:{_SPACES},{_SPACES}(?P<postgis_srid>[0-9]{{1,6}}){_SPACES}\))? )
    | (?P<kml> <coordinates>\s{{0,20}}
        (?P<kml_lon>{_N}),(?P<kml_lat>{_N})(?:,[-+]?[0-9.]{{1,20}})?\s{{0,20}}</coordinates> )
    | (?P<georss> <georss:point>\s{{0,20}}(?P<georss_lat>{_N})[ ,]{{1,2}}(?P<georss_lon>{_N})\s{{0,20}}</georss:point> )
    | (?P<iso> (?<![\w.+-])(?P<iso_lat>[+-][0-9]{{2}}(?:[0-9]{{2}}){{0,2}}(?:\.[0-9]++)?)
        (?P<iso_lon>[+-][0-9]{{3}}(?:[0-9]{{2}}){{0,2}}(?:\.[0-9]++)?)(?:[+-][0-9.]{{1,12}})?(?:CRS\w{{1,12}})?/ )
    | (?P<coord> \{{\{{{_SPACES}coord{_SPACES}\|(?P<coord_parts>[^{{}}\n]{{1,120}})\}}\}} )
    | (?P<refused>
        (?:SRID=[0-9]{{1,6}};\s?)?\b(?:MULTI)?(?:POLYGON|LINESTRING|POINT|GEOMETRYCOLLECTION|ENVELOPE|BOX)
          {_SPACES}(?:ZM?|M|3D)?{_SPACES}\([^\n]{{0,2000}}
      | \bST_(?!SetSRID|GeomFrom|GeogFrom|PointFrom)\w{{1,30}}\([^\n]{{0,2000}}
      | <(?:coordinates|gml:pos|gml:coordinates)>[^<]{{0,2000}}
      )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIGNS = (
    *("://", "www.", "geo:", "geo=", "srid", "st_", "{coord", "<coord", "<geo", "<gml:"),
    *("point", "polygon", "linestring", "collection", "envelope", "box"),
)
_SIGNED_PAIR = re.compile(r"[+-][0-9]{2}[0-9.]{0,12}[+-][0-9]")
"""What every format has, to be looked for first: most texts have none."""
_WGS84 = (None, "4326", "4269", "4979", "0")
_LON_FIRST_HOSTS = re.compile(r"//(?:[\w-]{1,40}\.){0,6}(?:yandex|2gis)\.", re.IGNORECASE)
_TARGETS_IN_LINK = [
    re.compile(rf"[?&#]mlat=(?P<lat>{_N})&mlon=(?P<lon>{_N})"),
    re.compile(rf"[?&#](?:lat|latitude)=(?P<lat>{_N})&(?:lon|lng|long|longitude)=(?P<lon>{_N})(?=&|\Z)"),
    re.compile(rf"[?&#](?:lon|lng|long|longitude)=(?P<lon>{_N})&(?:lat|latitude)=(?P<lat>{_N})(?=&|\Z)"),
    re.compile(
        rf"[?&](?:q|query|daddr|destination|cp|point|pin)=(?:loc:)?(?P<lat>{_N})[,~][\s+]?(?P<lon>{_N})(?=[&#)(]|\Z)"
    ),
]
"""Parameters that name a place."""
_PIN_IN_LINK = re.compile(rf"!3d(?P<lat>{_N})!4d(?P<lon>{_N})")
_PATH_IN_LINK = re.compile(rf"/(?:place|search|dir/)/(?P<lat>{_N}),[\s+]?(?P<lon>{_N})(?=[/?&#]|\Z)")
_VIEWS_IN_LINK = [
    re.compile(rf"[?&](?:ll|sll|center|cbll|viewpoint)=(?P<lat>{_N})[,~][\s+]?(?P<lon>{_N})(?=[&#]|\Z)"),
    re.compile(rf"/@(?P<lat>{_N}),(?P<lon>{_N})(?=[,/?]|\Z)"),
    re.compile(rf"#(?:map=)?[0-9.]{{1,5}}/(?P<lat>{_N})/(?P<lon>{_N})(?=[/&]|\Z)"),
]
"""Parameters of the centre of a view."""
_ROUTE = re.compile(r"/dir/(?!/)|/directions\b|[?&](?:saddr|origin|from)=")
_FLIPPED_IN_LINK = [re.compile(rf"[?&](?:pt|ll|m|whatshere\[point\])=(?P<lon>{_N}),(?P<lat>{_N})(?=[&,/#~]|\Z)")]
_ANGLES_IN_LINK = re.compile(
    r"/(?:place|search)/([^/@?]{1,120}?)\s{0,2}([NS])[\s,+]{1,3}([^/@?]{1,60}?)\s{0,2}([EW])(?=[/?]|\Z)"
)
_GEOHACK = re.compile(
    r"[?&]params=(?P<lat>[0-9.]{1,12}(?:_[0-9.]{1,12}){0,2})_(?P<ns>[NS])_(?P<lon>[0-9.]{1,12}(?:_[0-9.]{1,12}){0,2})_(?P<ew>[EW])(?=[_&]|\Z)"
)
_MARKS = "\u00b0'\""


def read_formats(text: str) -> tuple[str, list[Statement]]:
    """Return a text with a mark in the place of each notation with a fixed order, and the statements of these.

    A link without a place is replaced by a blank: its numbers are identifiers.
    """
    lower = text.lower()
    for sign in _SIGNS:  # many times as fast as a pattern on long texts
        if sign in lower:
            break
    else:
        if not _SIGNED_PAIR.search(text):
            return text, []
    statements: list[Statement] = []

    def replaced(match: re.Match[str]) -> str:
        group = next(name for name in _READERS if match[name] is not None)
        statement = _READERS[group](match)
        if statement is None:
            return " "
        statements.append(statement)
        tail = match[0][len(match[0].rstrip(").,;")) :] if group == "link" else ""
        return f" {STRUCTURE} {tail}"

    return _FORMAT.sub(replaced, text), statements


def _degrees(lat: str, lon: str) -> Statement:
    readings = read_field(lat, "N"), read_field(lon, "E")
    return Statement(readings[0].value, readings[1].value, combined_reason(*readings))


def _refused(_: object = None) -> Statement:
    return Statement(reason=CoordinateError.ambiguous)


def _named(group: str) -> Callable[[re.Match[str]], Statement]:
    return lambda match: _degrees(match[f"{group}_lat"], match[f"{group}_lon"])


def _wkt(match: re.Match[str]) -> Statement:
    return _named("wkt")(match) if match["srid"] in _WGS84 and match["wkt_srid"] in _WGS84 else _refused()


def _postgis(match: re.Match[str]) -> Statement:
    return _named("postgis")(match) if match["postgis_srid"] in _WGS84 else _refused()


def _iso(match: re.Match[str]) -> Statement:
    return _degrees(_iso_angle(match["iso_lat"], 2), _iso_angle(match["iso_lon"], 3))


def _iso_angle(text: str, width: int) -> str:
    """Write an angle of ISO 6709, whose degrees have `width` digits, with marks."""
    whole, dot, fraction = text[1:].partition(".")
    parts = [whole[:width], *(whole[at : at + 2] for at in range(width, len(whole), 2))]
    parts[-1] += dot + fraction
    return text[0] + "".join(f"{part}{mark}" for part, mark in zip(parts, _MARKS, strict=False))


def _coord(match: re.Match[str]) -> Statement:
    """Read the arguments of Wikipedia's template: two decimals, or degrees and minutes with hemispheres."""
    parts = [part.strip() for part in match["coord_parts"].split("|") if ":" not in part and "=" not in part]
    ends = [at for at, part in enumerate(parts) if part in ("N", "S", "E", "W")]
    if not ends:
        return _degrees(*parts) if len(parts) == 2 else _refused()
    if len(ends) != 2 or parts[ends[0]] not in "NS" or parts[ends[1]] not in "EW" or ends[1] != len(parts) - 1:
        return _refused()
    return _degrees(_marked(parts[: ends[0] + 1]), _marked(parts[ends[0] + 1 :]))


def _marked(parts: list[str]) -> str:
    """Write degrees, minutes and seconds, with their hemisphere at the end, with marks."""
    if not 2 <= len(parts) <= 4:
        return "?0?"
    return "".join(f"{part}{mark}" for part, mark in zip(parts[:-1], _MARKS, strict=False)) + parts[-1]


def _link(match: re.Match[str]) -> Statement | None:
    """Read the place to which a link to a map leads, before the centre of its view; a route leads to several."""
    raw = match["link"].rstrip(").,;")
    link = unquote(raw)
    if geohack := _GEOHACK.search(link):
        lat, lon = ([*geohack[name].split("_"), geohack[side]] for name, side in (("lat", "ns"), ("lon", "ew")))
        return _degrees(_marked(lat), _marked(lon))
    patterns = _FLIPPED_IN_LINK if _LON_FIRST_HOSTS.search(link) else _TARGETS_IN_LINK
    for pattern in patterns:
        if found := pattern.search(link):
            return _degrees(found["lat"], found["lon"])
    if patterns is _FLIPPED_IN_LINK:
        return None
    if _ROUTE.search(link):
        return _refused()
    if pins := list(_PIN_IN_LINK.finditer(link)):
        return _degrees(pins[-1]["lat"], pins[-1]["lon"])
    if angles := _ANGLES_IN_LINK.search(unquote_plus(raw)):
        return _degrees(angles[1] + angles[2], angles[3] + angles[4])
    for pattern in (_PATH_IN_LINK, *_VIEWS_IN_LINK):
        if found := pattern.search(link):
            return _degrees(found["lat"], found["lon"])
    return None


_READERS: dict[str, Callable[[re.Match[str]], Statement | None]] = {
    "link": _link,
    "geo": _named("geo"),
    "vcard": _named("vcard"),
    "wkt": _wkt,
    "postgis": _postgis,
    "kml": _named("kml"),
    "georss": _named("georss"),
    "iso": _iso,
    "coord": _coord,
    "refused": _refused,
}
