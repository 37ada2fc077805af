"""Generators of texts that state one place, and of texts that state none, each kind under its name.

A template is a text with alternatives and blanks. `«a¦b»` stands for a or b, `¤` for a digit, and `@name` for a part of
the place. What a text states is computed from the parts of the place and never read back from the text.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Literal

from hypothesis import strategies as st

Axis = Literal["lat", "lon"]
LARGEST = {"lat": 89, "lon": 179}
"""Largest whole degrees, so that minutes and seconds can follow."""
_ALTERNATIVES = re.compile("«([^«»]*)»")
_DIGITS = re.compile("¤+")
_BLANK = re.compile(r"@(?:\{(?P<braced>[A-Za-z]+)\}|(?P<plain>[A-Za-z]+[0-9]?))")


@dataclass(frozen=True)
class Case:
    """A text, and the place that it states; None if it states no place."""

    text: str
    form: str
    """The template that the text was made from."""
    place: tuple[float, float] | None = None


@dataclass(frozen=True)
class Angle:
    """A latitude or longitude as it is written."""

    axis: Axis
    negative: bool
    parts: tuple[str, ...]
    """Degrees, then minutes and seconds if it has them; a decimal point stands in the last part alone."""
    text: str
    """The angle without its sign."""

    @property
    def value(self) -> float:
        """The angle in degrees."""
        size = sum((Fraction(part) / 60**i for i, part in enumerate(self.parts)), Fraction())
        return float(-size if self.negative else size)


def filled(draw: st.DrawFn, template: str, blanks: dict[str, str] | None = None) -> str:
    """Return the text of a template, with its alternatives and digits drawn and its blanks filled in."""
    while "«" in template:
        template = _ALTERNATIVES.sub(lambda match: draw(st.sampled_from(match[1].split("¦"))), template)
    digits = drawn_random(draw)
    template = _DIGITS.sub(lambda match: "".join(str(digits.randrange(10)) for _ in match[0]), template)
    return _BLANK.sub(lambda match: (blanks or {})[match["braced"] or match["plain"]], template)


def drawn_random(draw: st.DrawFn) -> Random:
    """Draw a source of digits; Hypothesis itself prefers zeros and nines, which few places are made of."""
    return Random(draw(st.integers(0, 2**32 - 1)))


def drawn_parts(digits: Random, axis: Axis, count: int) -> tuple[str, ...]:
    """Draw degrees, `count` 2: and minutes, `count` 3: and seconds; the last has up to seven decimals."""
    decimals = digits.choice((4, 4, 4, 4, 5, 6, 7, 3, 2, 1, 0) if count == 1 else (0, 1, 2, 3, 4))
    limit = digits.choice((LARGEST[axis], LARGEST[axis], LARGEST[axis], 9))
    whole = [digits.randint(0, limit), *(digits.randrange(60) for _ in range(count - 1))]
    fraction = f".{digits.randrange(10**decimals):0{decimals}}" if decimals else ""
    return (*map(str, whole[:-1]), f"{whole[-1]}{fraction}")


def decimal_degrees(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees with a decimal point."""
    return lambda parts: parts[0]


def decimal_comma(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees with a decimal comma."""
    return lambda parts: parts[0].replace(".", ",")


def degrees_and_minutes(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees and minutes, and seconds if there are any, with one of the usual sets of marks."""
    space = draw(st.sampled_from(["", " ", "\u2009", "\u202f"]))
    marks = draw(
        st.sampled_from(
            [
                ("°", "'", '"'),
                ("°", "′", "″"),
                ("º", "’", "”"),
                ("˚", "'", "''"),
                ("°", "´", "´´"),
                ("°", "′", "′′"),
                ("&deg;", "'", "&quot;"),
                ("&deg;", "&prime;", "&Prime;"),
                ("&#176;", "&#39;", "&#34;"),
                ("^\\circ", "'", "''"),
                ("^{\\circ}", "'", '"'),
                ("^\\circ", "^\\prime", "^{\\prime\\prime}"),
                (" deg", " min", " sec"),
                (" degrees", " minutes", " seconds"),
                (" degrees,", " minutes,", " seconds"),
                ("d", "m", "s"),
                ("°", "m", "s"),
                ("d", "'", '"'),
            ]
        )
    )
    unfinished = marks[0] in "°º˚" and draw(st.integers(0, 3)) == 3  # the last mark is often left out
    padded = draw(st.booleans())

    def text(parts: tuple[str, ...]) -> str:
        first, *others = parts
        others = [pad(part) if padded else part for part in others]
        marked = space.join(f"{part}{mark}" for part, mark in zip([first, *others], marks, strict=False))
        return marked.removesuffix(marks[len(parts) - 1]) if unfinished else marked.removesuffix(",")

    return text


def unmarked_minutes(draw: st.DrawFn) -> Callable[[tuple[str, ...]], str]:
    """Write degrees, minutes and seconds with nothing but a colon, a space or a hyphen between them."""
    between = draw(st.sampled_from([" ", ":", "° ", "-"]))
    padded = draw(st.booleans())
    return lambda parts: between.join([parts[0], *(pad(part) if padded else part for part in parts[1:])])


def pad(part: str) -> str:
    """Return minutes or seconds with two digits before the point."""
    return part.zfill(2 if "." not in part else 3 + len(part.partition(".")[2]))


def drawn_angle(digits: Random, axis: Axis, count: int, write: Callable[[tuple[str, ...]], str]) -> Angle:
    """Draw an angle of `count` parts."""
    parts = drawn_parts(digits, axis, count)
    return Angle(axis, digits.random() < 0.5, parts, write(parts))


WORDS = {
    "lat": {
        "letter": ("N", "S"),
        "Letter": ("N", "S"),
        "word": ("north", "south"),
        "Word": ("North", "South"),
        "ern": ("northern", "southern"),
        "Ern": ("Northern", "Southern"),
    },
    "lon": {
        "letter": ("E", "W"),
        "Letter": ("E", "W"),
        "word": ("east", "west"),
        "Word": ("East", "West"),
        "ern": ("eastern", "western"),
        "Ern": ("Eastern", "Western"),
    },
}


def blanks_of(lat: Angle, lon: Angle, number: str = "") -> dict[str, str]:
    """Return what fills the blanks of a template: `@lat` and `@lon` with signs, `@ulat` and `@ulon` without, and words.

    `number` is appended to the names of another place that a text mentions.
    """
    blanks = {}
    for angle in (lat, lon):
        axis = angle.axis
        blanks[f"{axis}{number}"] = ("-" if angle.negative else "") + angle.text
        blanks[f"u{axis}{number}"] = angle.text
        for name, words in WORDS[axis].items():
            blanks[f"{name}{axis}{number}"] = words[angle.negative]
    return blanks


@st.composite
def places(
    draw: st.DrawFn,
    templates: Iterable[str],
    notation: Callable[[st.DrawFn], Callable[[tuple[str, ...]], str]] = decimal_degrees,
    parts: tuple[int, ...] = (1,),
    *,
    extra: Callable[[st.DrawFn, Angle, Angle], dict[str, str]] | None = None,
    decimals: int = 0,
) -> Case:
    """Draw a text that states one place; `@lat2` and `@lon2` are another place, at least 3 degrees away.

    Args:
        draw: Hypothesis's draw.
        templates: Templates, each as likely as the others.
        notation: Notation of both angles.
        parts: Numbers of parts that an angle may have.
        extra: Returns further blanks.
        decimals: Fewest decimals of the numbers, where a text with whole numbers could mean something else.
    """
    count = draw(st.sampled_from(parts))
    write = notation(draw)
    digits = drawn_random(draw)
    lat, lon = (drawn_angle(digits, axis, count, write) for axis in ("lat", "lon"))
    if len(lat.parts[-1].partition(".")[2]) < decimals or len(lon.parts[-1].partition(".")[2]) < decimals:
        lat, lon = (longer(angle, decimals, write) for angle in (lat, lon))
    if lat.value == lon.value == 0:  # an echoed template
        lat = Angle("lat", lat.negative, ("1", *lat.parts[1:]), write(("1", *lat.parts[1:])))
    text = draw(st.sampled_from(list(templates)))
    blanks = blanks_of(lat, lon)
    if "lat2" in text:
        blanks |= blanks_of(far_from(lat, write), far_from(lon, write), "2")
    if extra is not None:
        blanks |= extra(draw, lat, lon)
    return Case(filled(draw, text, blanks), text, (lat.value, lon.value))


def longer(angle: Angle, decimals: int, write: Callable[[tuple[str, ...]], str]) -> Angle:
    """Return an angle with at least `decimals` decimals."""
    whole, _, fraction = angle.parts[-1].partition(".")
    parts = (*angle.parts[:-1], f"{whole}.{fraction.ljust(decimals, '5')}")
    return Angle(angle.axis, angle.negative, parts, write(parts))


def far_from(angle: Angle, write: Callable[[tuple[str, ...]], str]) -> Angle:
    """Return an angle of the same form that is far from `angle`."""
    whole, point, fraction = angle.parts[0].partition(".")
    parts = (f"{(int(whole) + LARGEST[angle.axis] // 3) % LARGEST[angle.axis]}{point}{fraction}", *angle.parts[1:])
    return Angle(angle.axis, angle.negative, parts, write(parts))


@st.composite
def nothing(draw: st.DrawFn, templates: Iterable[str]) -> Case:
    """Draw a text that states no place."""
    form = draw(st.sampled_from(list(templates)))
    return Case(filled(draw, form), form)
