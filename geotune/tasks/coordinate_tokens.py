"""The first pass of reading coordinates: split a text into tokens, each with a kind of one letter."""

from __future__ import annotations

import re
from typing import NamedTuple

MINUS = "-\u2212\u2013\u2010\u2011\uff0d\ufe63"  # hyphen-minus, minus, en dash, hyphens, full-width, small
_SINGLE = "'\u2032\u2019\u2018\u02b9"  # single quotes and minute marks
_DOUBLE = '"\u2033\u201d\u201c\u02ba'
_SPACE = r"[^\S\n]{0,3}"
_START = r"(?<![^\W\d_])"  # no letter precedes
_END = r"(?![^\W\d_])"  # no letter follows
_DEGREE = (
    r"(?:[\u00b0\u00ba\u02da\u2218\u2070]|&deg;|\^?\{?\\{1,2}circ\}?|\\{1,2}degree(?![a-z])"
    r"|(?<![^\W\d_])deg(?:rees?|s)?(?![^\W\d_]))"
)
_MINUTE = rf"(?:[{_SINGLE}](?![{_SINGLE}])|(?:arcmin(?:utes?)?|min(?:utes?|s)?){_END}|m(?=\s?\d))"
_SECOND = rf"(?:[{_DOUBLE}]|[{_SINGLE}]{{2}}|(?:arcsec(?:onds?)?|sec(?:onds?|s)?|(?-i:s)){_END})"
# An angle may omit its last mark before a hemisphere.
_NO_MARK = rf"(?={_SPACE}\(?(?:[NSEW]|north|south|east|west){_END})"
_ANGLE = rf"""
    (?:(?<![\w.])[{MINUS}])?+ \+?+
    (?:
        \d{{1,3}} (?:{_SPACE}{_DEGREE}|d(?=\d))
            {_SPACE} \d{{1,2}}(?:\.\d++)?+ (?:{_SPACE}{_MINUTE}|{_NO_MARK})
            (?:{_SPACE} \d{{1,2}}(?:\.\d++)?+ (?:{_SPACE}{_SECOND}|{_NO_MARK}))?+
      | \d{{1,3}} : \d{{1,2}} : \d{{1,2}}(?:\.\d++)?+ (?![:\d])
      | \d{{1,3}} [ ] \d{{1,2}} [ ] \d{{1,2}}(?:\.\d++)?+ {_NO_MARK}
      | (?:\d++(?:\.\d++)?+|\.\d++) (?:(?-i:e)[-+]?\d{{1,3}}+(?!\.?\d))?+ (?:{_SPACE}{_DEGREE})?+
    )
"""
_NULL = (
    "null|none|unknown|undetermined|unspecified|undefined|unavailable|n/a|"
    "not[ ](?:specified|available|known|provided|applicable|given|determined)"
)
_FILLER = (
    "is|are|was|be|would|could|should|may|might|must|equals?|of|at|about|around|near|close|approximately|approx|"
    "roughly|circa|likely|estimated?|to|values?|decimal|coordinates?|coords?|format|order|respectively"
)
_UNIT = "km|kilomet(?:er|re)s?|m|met(?:er|re)s?|mi|miles?|ft|feet|foot|cm|mm|px|pixels?|percent|years?|hours?|hrs?"
_TOKEN = re.compile(
    rf"""
      (?P<newline> \n )
    | (?P<space> [^\S\n]++ )
    | (?P<lat_lon> (?<![^\W_]) lat(?:itude)?_?(?:longitude|long|lng|lon) (?!_?[^\W\d_]) )
    | (?P<lon_lat> (?<![^\W_]) (?:longitude|long|lng|lon)_?lat(?:itude)? (?!_?[^\W\d_]) )
    | (?P<name>
        (?<![^\W_]) (?:latitude|longitude|(?:lat|long|lng|lon)(?:\.(?!\d))?)
        (?:_(?:deg|degrees|dd|decimal|value|est|estimate))?+ (?!_?[^\W\d_])
        (?:_?\d{{1,2}}(?=["'`*]{{0,3}}\s{{0,3}}[:=]))?  # lat1 = 48.85
      )
    | (?P<number> (?!\d++(?:st|nd|rd|th){_END}) {_ANGLE} )
    | (?P<nan> {_START} [-+]?(?:nan|inf|infinity) {_END} )
    | (?P<null> {_START} (?:{_NULL}) {_END} )
    | (?P<hemisphere> {_START} (?:(?:north|south|east|west)(?:ern)?|[NSEW](?:\.(?!\d))?) {_END} )
    | (?P<filler> {_START} (?:{_FILLER}) {_END}\.? | {_DEGREE} )
    | (?P<and> {_START} and {_END} | & )
    | (?P<unit> {_START} (?:{_UNIT}) {_END} | % )
    | (?P<word> [^\W\d_]++ | </[a-z]{{1,12}}> | \d++(?:st|nd|rd|th){_END} )
    | (?P<separator> [:=\u2192\u21d2\uff1a] | [-=]> )
    | (?P<comma> , )
    | (?P<quote> [{_SINGLE}{_DOUBLE}] )
    | (?P<junk> [`*_\#~\u2248$\\|<>]++ | -{{3,}}+ )
    | (?P<dash> [{MINUS}\u2014] )
    | (?P<mark> [;/()\[\]{{}}.] )
    | (?P<other> . )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_KINDS = {
    "newline": "\n",
    "lat_lon": "P",
    "lon_lat": "Q",
    "number": "9",
    "nan": "x",
    "null": "z",
    "filler": "f",
    "and": "a",
    "unit": "u",
    "word": "w",
    "separator": ":",
    "quote": "q",
    "junk": "j",
    "dash": "-",
    "other": "w",
}
ESCAPE = re.compile(r"""\\(?:(?:text|mathrm|mathbf|boxed)\s?\{|u[0-9a-fA-F]{4}|["'/nrt])""")
_ANSWER = re.compile(r"<answer>", re.IGNORECASE)
_ANSWER_END = re.compile(r"</answer>", re.IGNORECASE)
_THINK = re.compile(r"<(/?)think>", re.IGNORECASE)
_DECIMALS = re.compile(r"\d++(?!\.\d)")


class Token(NamedTuple):
    """A token and its position: `text[start:end]` of the whole text."""

    text: str
    start: int
    end: int


def final_text(text: str) -> str:
    """Return the part of a text that is its answer: the last `<answer>`, or else the text after the thoughts."""
    answers = list(_ANSWER.finditer(text))
    if answers:
        start = answers[-1].end()
        closed = _ANSWER_END.search(text, start)
        return text[start : closed.start() if closed else None]
    thoughts = list(_THINK.finditer(text))
    if not thoughts:
        return text
    last = thoughts[-1]
    # A thought that is cut off before its end holds drafts, not an answer.
    return text[last.end() :] if last[1] else text[: last.start()]


def unescape(match: re.Match[str]) -> str:
    """Return the text that an escape sequence, a match of `ESCAPE`, stands for."""
    body = match[0][1:]
    if body.endswith("{"):
        return "{"
    if len(body) == 5:
        return chr(int(body[1:], 16))
    return {"n": "\n", "r": " ", "t": " "}.get(body, body)


def tokenize(text: str) -> tuple[list[Token], str]:
    """Split a text; returns its tokens, without the white space between them, and the string of their kinds."""
    tokens: list[Token] = []
    kinds: list[str] = []
    for match in _TOKEN.finditer(text):
        group, word = match.lastgroup or "other", match[0]
        if group == "space":
            continue
        if group == "name":
            name = word.lower().rstrip("._0123456789")
            kind = "L" if name == "long" else "A" if name.startswith("lat") else "O"
        elif group == "hemisphere":
            kind = "N" if word[0] in "NSns" else "E"
            # A single lower-case letter is a hemisphere only if it touches a number: "48.85n", but not "5 s".
            if word[0].islower() and len(word.rstrip(".")) == 1:
                after_number = bool(tokens) and tokens[-1].end == match.start() and kinds[-1] in "9q"
                kind = kind if after_number or text[match.end() : match.end() + 1].isdecimal() else "w"
        elif group == "comma":
            # A comma without spaces between whole numbers may be a decimal comma.
            tight = kinds[-1:] == ["9"] and tokens[-1].end == match.start() and tokens[-1].text[-1].isdecimal()
            kind = "c" if tight and "." not in tokens[-1].text and _DECIMALS.match(text, match.end()) else ","
        else:
            kind = word if group == "mark" else _KINDS[group]
        tokens.append(Token(word, match.start(), match.end()))
        kinds.append(kind)
    return tokens, "".join(kinds)
