"""The text of an answer in plain characters: without the escapes, the LaTeX and the typography that models write."""

from __future__ import annotations

import re
import unicodedata

from geotune.tasks.coordinate_reader.words import HEMISPHERE_TERMS, OTHER_SCRIPTS

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width ASCII
_CHARACTERS = {
    **_WIDE,
    **dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0x2061, 0x2062, 0x2063, 0xFEFF), None),
    **dict.fromkeys(range(0x202A, 0x202F), None),  # marks of direction
    **dict.fromkeys(range(0x2066, 0x206A), None),
    **dict.fromkeys((0x2212, 0x2013, 0x2010, 0x2011, 0x2012, 0xFE63, 0xFF0D), "-"),
    **dict.fromkeys((0xBA, 0x2DA, 0x2218, 0x2070), "\u00b0"),
    **dict.fromkeys((0x2032, 0x2019, 0x2018, 0x2B9, 0x2BC, 0xB4), "'"),
    **dict.fromkeys((0x2033, 0x201D, 0x201C, 0x201E, 0x2BA), '"'),
    0x2213: "\u00b1",
    0x2034: "'\"",
    0x3001: ",",
    0x66B: ".",
    0x60C: ",",
    0x2248: "~",
    0x223C: "~",
}
_LATEX = re.compile(
    r"""
      \^? \s? (?P<degree>\{)? \\{1,2} (?:circ|degree|textdegree) (?![a-z]) (?(degree) \s?\} )
    | \^? \s? (?P<minute>\{)? \\{1,2} (?:prime|textprime) (?![a-z]) (?P<prime> \s?\\{1,2}prime )?+ (?(minute) \s?\} )
    | \\{1,2} (?P<command> pm|approx|sim|times|cdot|mathord|left|right|big|displaystyle|quad|qquad|newline )
      (?![A-Za-z]) \s?
    | \\{1,2} (?:text(?:bf|it|tt|rm|sf)?|math(?:rm|bf|sf|tt|it)|operatorname|mbox|boxed|fbox) \s? (?P<open> \{ )
    | \\ (?P<space> [,;:! ] )
    | \\ (?P<math> [()\[\]] )
    | \\ u (?P<code> [0-9a-fA-F]{4} )
    | \\ (?P<escape> ["'/nrt\-_*#%&.] )
    """,
    re.VERBOSE,
)
_TERMS = {
    **{term: f" {letter} " for term, letter in HEMISPHERE_TERMS.items()},
    **{name: " latitude " if axis == "lat" else " longitude " for name, axis in OTHER_SCRIPTS.items()},
}
_TERMS |= dict.fromkeys(("\u7ecf\u7eac\u5ea6", "\u7d93\u7def\u5ea6", "\u5750\u6807", "\u5ea7\u6a19"), " coordinates ")
_BEING = re.compile(
    r"(?<=itude )(?:\u5927?\u7ea6)?[\u4e3a\u70ba\u662f]|(?<=nates )[\u4e3a\u70ba\u662f]"
)  # Chinese for "is"
_TERM = re.compile("|".join(sorted(_TERMS, key=len, reverse=True)), re.IGNORECASE)
_ASIAN_MARK = re.compile(r"(?<=[0-9])[ ]?([\u5ea6\u5206\u79d2])")  # degree, minute and second
_ASIAN_MARKS = {"\u5ea6": "\u00b0", "\u5206": "'", "\u79d2": '"'}
_RUSSIAN = re.compile(r"(?<!\w)([\u0441\u044e])\.?[ ]?\u0448\.?(?!\w)|(?<!\w)([\u0432\u0437])\.?[ ]?\u0434\.?(?!\w)")
_RUSSIAN_LETTERS = {"\u0441": "N", "\u044e": "S", "\u0432": "E", "\u0437": "W"}
_ORIGIN = re.compile(
    r"\b(north|south|east|west) of (?:the )?(?:equator|prime meridian|greenwich(?: meridian)?)\b", re.IGNORECASE
)
_DOLLARS = re.compile(r"\$\$?(?P<inside>[^$\n]{1,300})\$\$?(?![0-9])")
_MATH = re.compile(r"""[\u00b0'"{}\\^]|[0-9]\.[0-9]{3}|lat|lon|\A\s?[-+]?[0-9.,]{1,20}\s?\Z""", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:deg|prime|Prime|quot|apos|nbsp|thinsp|minus|plusmn|ndash|rsquo|rdquo|\#(?:39|34|176|160));")
_ENTITIES = {
    "deg": "\u00b0",
    "#176": "\u00b0",
    "prime": "'",
    "rsquo": "'",
    "apos": "'",
    "#39": "'",
    "Prime": '"',
    "rdquo": '"',
    "quot": '"',
    "#34": '"',
    "minus": "-",
    "ndash": "-",
    "plusmn": "\u00b1",
}
_SPACED_DASH = re.compile(r"[\u2013\u2012](?=\s)")  # punctuation, never a sign
_SPACED_DOT = re.compile(r"(?<=\S)[ ][\u00b7\u2022][ ]")
_OTHER_DIGIT = re.compile(r"[^\x00-\x7f\W_]")
_PARTS = {"pm": "\u00b1", "approx": "~", "sim": "~", "newline": "\n"}


def plain_text(text: str) -> str:
    """Return a text with typography, escapes of JSON, HTML and Markdown, and LaTeX replaced by plain characters.

    Degrees are marked by the degree sign, minutes by ' and seconds by ", and digits are ASCII. Wrappers such as
    `\\text{...}` lose their name and their braces. Characters that only guide the layout are dropped.
    """
    if not text.isascii():
        text = _SPACED_DASH.sub("\u2014", text)
        text = _SPACED_DOT.sub(", ", text)
        text = text.translate(_CHARACTERS)
        text = _OTHER_DIGIT.sub(_ascii_digit, text)
        text = _TERM.sub(lambda match: _TERMS[match[0].lower()], text)
        text = _BEING.sub(" ", text)
        text = _ASIAN_MARK.sub(lambda match: _ASIAN_MARKS[match[1]], text)
        text = _RUSSIAN.sub(lambda match: f" {_RUSSIAN_LETTERS[match[1] or match[2]]} ", text)
    if "&" in text:
        text = _ENTITY.sub(lambda match: _ENTITIES.get(match[0][1:-1], " "), text)
    if "\\" in text:
        text = _without_latex(text)
    if "{,}" in text:  # LaTeX's decimal comma
        text = text.replace("{,}", ",")
    if "or minus" in text:
        text = text.replace("plus or minus", "\u00b1")
    if "equator" in text or "eridian" in text or "reenwich" in text:
        text = _ORIGIN.sub(r"\1", text)
    if "$" in text:
        text = _DOLLARS.sub(_without_dollars, text)
    return text


def _ascii_digit(match: re.Match[str]) -> str:
    digit = unicodedata.decimal(match[0], None)
    return match[0] if digit is None else str(digit)


def _without_latex(text: str) -> str:
    """Replace escapes; the closing brace of a wrapper is dropped together with its opening."""
    pieces: list[str] = []
    depths: list[int] = []  # for each open wrapper, the number of other braces open within it
    position = 0
    for match in _LATEX.finditer(text):
        pieces.append(_without_closing(text[position : match.start()], depths))
        pieces.append(_plain_escape(match))
        if match["open"]:
            depths.append(0)
        position = match.end()
    pieces.append(_without_closing(text[position:], depths))
    return "".join(pieces)


def _without_closing(text: str, depths: list[int]) -> str:
    """Drop the braces of `text` that close a wrapper; `depths` is updated."""
    if not depths or not ("}" in text or "{" in text):
        return text
    kept: list[str] = []
    for character in text:
        if depths and character == "{":
            depths[-1] += 1
        elif depths and character == "}":
            if depths[-1] == 0:
                depths.pop()
                kept.append(" ")
                continue
            depths[-1] -= 1
        kept.append(character)
    return "".join(kept)


def _plain_escape(match: re.Match[str]) -> str:
    if match["open"]:
        return " "
    if match["code"]:
        return chr(int(match["code"], 16)).translate(_CHARACTERS)
    if match["escape"]:
        return {"n": "\n", "r": " ", "t": " "}.get(match["escape"], match["escape"])
    if match["command"]:
        return _PARTS.get(match["command"], " ")
    if match["space"] or match["math"]:
        return " "
    if "prime" in match[0]:
        return '"' if match["prime"] else "'"
    return "\u00b0"


def _without_dollars(match: re.Match[str]) -> str:
    """Drop the dollar signs of LaTeX; those of a price stay."""
    return f" {match['inside']} " if _MATH.search(match["inside"]) else match[0]
