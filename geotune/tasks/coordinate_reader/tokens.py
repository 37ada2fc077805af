"""The first pass of reading coordinates: split a plain text into tokens, each with a kind of one letter.

| kind | token |
| --- | --- |
| `i` `d` `g` | a whole number, a number with a fraction, digits that are no number (4.8.9311, 1..2, 15z) |
| `s` `±` | a sign that belongs to the number behind it; the mark of a tolerance |
| `°` `'` `"` | marks of degrees, minutes and seconds; the last two may also be quotes |
| `N` `E` `h` `r` | a hemisphere of latitude, of longitude; the letter O (east or west); a direction ("north of") |
| `A` `O` `L` | a name of latitude, of longitude; "long" |
| `P` `Q` | a name of a pair, latitude first or longitude first |
| `R` `T` `H` | a name of a latitude's hemisphere, of a longitude's, of either |
| `B` | a name of something else about an axis (`min_lat`) |
| `z` `x` | a word for nothing; NaN or infinity |
| `f` `a` `o` `k` `w` | a filler between name and value; "and"; "or"; a word that qualifies no value; any other word |
| `u` `$` `p` | a unit that coordinates never have; a currency; punctuation and symbols |
| `c` `,` | a comma that may be decimal; any other |
| `e` `b` | the number of an item in a list ("1."); a dash that begins an item or is a sign |
| `j` `<` `-` `+` | marks of layout; a comparison; a dash or plus that is no sign |
| `J` | a statement with a format of its own |
| `:` `;` `/` `(` ... | themselves; `:` also stands for `=` and arrows |

Text that is far from digits and from names of an axis states nothing and gives no tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from geotune.tasks.coordinate_reader.words import COMMON_WORDS, HEMISPHERES, SPREADS, key_role, word_set

STRUCTURE = "\ue000"
"""The character that stands for a statement with a format of its own, which is read elsewhere: JSON, a table."""

_NUMBER = re.compile(r"(?:[0-9]++(?:\.[0-9]++)?+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+")
_TOKEN = re.compile(
    rf"""
    [^\S\n]*+ (?:
      (?P<plain_word> (?<=[ ])[a-z]{{2,}}+(?=[ ]) )
    | (?P<newline> \n )
    | (?P<number> (?: [0-9][0-9.]*+ | (?<![\w.])\.[0-9][0-9.]*+ )
        (?: (?: e[-+]?[0-9]++ | E(?:[-+][0-9]++|[0-9]{{1,2}}) ) (?![.]?[0-9]) )?+ )
    | (?P<letter>
        (?<![^\W_])[NSEWnsew](?=[0-9]|[.][0-9])
      | (?<=[0-9])[dms](?![^\W\d_NSEW])
      | (?<=[dmsgnc"'\u00b0])[NSEW](?!\w) )
    | (?P<word>
        (?<=[0-9])[^\W\d_]++
      | [nN]/[aA](?!\w)
      | (?<![^\W_])(?:deg(?:rees?)?|min(?:utes?)?|sec(?:onds?)?)(?=[0-9]|[NSEW](?!\w))
      | (?<![^\W_])[^\W\d_]\w*+(?:(?<=[0-9])[.][0-9][\w.]*+)?+
      | [^\W\d_]++ )
    | (?P<minute> '(?!['"]) )
    | (?P<second> '['"] | " )
    | (?P<degree> \u00b0 )
    | (?P<tolerance> \u00b1 | \+/?- | -\+ )
    | (?P<signed_arrow> (?<!\w)->(?=[.]?[0-9]) )
    | (?P<separator> [:=\u2192\u21d2] | [-=]> )
    | (?P<comma> , )
    | (?P<dash> [-\u2014]{{1,2}}(?![-\u2014]) )
    | (?P<tag> </?[A-Za-z][\w:.-]{{0,24}}\s?/?> )
    | (?P<compared> [<>]++=? )
    | (?P<junk> [`*_\#~\\|]++ | -++ )
    | (?P<plus> \+ )
    | (?P<percent> % )
    | (?P<currency> [$\u20ac\u00a3\u00a5] )
    | (?P<mark> [().] )
    | (?P<plain_mark> [;/\[\]{{}}] )
    | (?P<structure> {STRUCTURE} )
    | (?P<other> . )
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS = {
    "newline": "\n",
    "minute": "'",
    "second": '"',
    "degree": "\u00b0",
    "tolerance": "\u00b1",
    "separator": ":",
    "signed_arrow": "g",  # the dash may be a sign
    "junk": "j",
    "compared": "<",
    "percent": "u",
    "currency": "$",
    "structure": "J",
    "other": "p",
}
_GROUPS = ("", *_TOKEN.groupindex)
_KIND_OF_GROUP = [_KINDS.get(group) for group in _GROUPS]
_WORD_GROUPS = (_TOKEN.groupindex["plain_word"], _TOKEN.groupindex["word"])
_NUMBER_GROUP, _COMMA_GROUP, _PLAIN_MARK_GROUP = (_TOKEN.groupindex[name] for name in ("number", "comma", "plain_mark"))
_STATES = re.compile(
    rf"[0-9{STRUCTURE}LlBb](?:(?<=[0-9{STRUCTURE}])[0-9]*+|(?i:(?<![^\W_].)(?:(?<=l)(?:at|on"
    r"|ng|\u00e4ng|aeng|eng)|(?<=b)(?:reit|reed))|(?<=l)at(?:lon|lng)))"
)
"""What a statement cannot do without: a digit, or the name of an axis, which may have no value."""
_REACH = (240, 120)
"""Number of characters before and behind these that can belong to a statement."""
_KNOWN_WORDS = {
    "k": """in on from for with which that this these those it its the an as so but because since based using within
        give not no yes corresponding corresponds correspond matching matches match point points place places puts here
        there according while where zoom altitude alt elevation heading bearing city country region state street town
        area confidence radius accuracy datum wgs epsg we my our has have had does do can will seems seem looks look
        lies faces shows stands located just only also if than""",
    "f": """is are was be would could should may might must equal equals of at about around near close approximately
        approx wgs84 roughly circa ca likely estimated estimate to value values decimal coordinate coordinates coords
        coord format order respectively then by exactly probably possibly ist es""",
    "\u00b0": "deg degs degree degrees grad graus grados gradi",
    "z": "null none unknown undetermined unspecified undefined unavailable n/a",
    "x": "nan inf infinity",
    "a": "and y und et",
    "o": "or oder ou",
    "s": "minus negative neg plus positive",
    "Q": "geojson wkt",
    "H": "hemisphere hemispheres hemi hem",
    "u": """km kms kilometer kilometers kilometre kilometres m meter meters metre metres mi mile miles ft feet foot cm
        mm nm px pixel pixels percent year years hour hours hr hrs people inhabitants euro euros dollar dollars usd eur
        mph kmh kg hectare hectares times star stars mp gb mb fps day days week weeks month months""",
    "'": "min mins minute minutes arcmin arcminute arcminutes",
    '"': "sec secs second seconds arcsec arcsecond arcseconds",
    "r": """northeast northwest southeast southwest northeastern northwestern southeastern southwestern ne nw se sw nne
        ene ese sse ssw wsw wnw nnw""",
}
_WORDS = {word: kind for kind, words in _KNOWN_WORDS.items() for word in words.split()}
_AXIS_WORD = re.compile(r"lat|l(?:on|ng|\u00e4n|aen|engt)|bre(?:it|edt)", re.IGNORECASE)
_AXIS_KINDS = {
    "lat": "A",
    "lon": "O",
    "lat_lon": "P",
    "lon_lat": "Q",
    "lat_ref": "R",
    "lon_ref": "T",
    **dict.fromkeys(("lat?", "lon?", "lat_min", "lon_min", "lat_sec", "lon_sec"), "B"),
}
_REF_WORDS = word_set("ref reference direction dir hemisphere cardinal")
_BEFORE_HEMISPHERE = word_set("in to toward towards of at on")
_AFTER_DIRECTION = word_set("of from side part end coast shore bank edge facing along near")
_DEPENDENT = _REF_WORDS | SPREADS | {"not"}
_JOINING = frozenset("AOLBRTNE")  # kinds of tokens that a word may join or change
_BEHIND_NUMBER = "id\u00b0'\""
_DECIMALS = re.compile(r"[0-9]++(?!\.[0-9])")
_DIGIT_AT = re.compile(r"\.?[0-9]")
_DIGIT_BEHIND_SPACE = re.compile(r"[^\S\n]{1,2}\.?[0-9]")


class Token(NamedTuple):
    """A token and its position: `text[start:end]` of the whole text."""

    text: str
    start: int
    end: int


_new_token = tuple.__new__


@lru_cache(maxsize=1 << 15)
def _kind_anywhere(word: str) -> str | None:
    """Return the kind of a word that is the same whatever stands beside it; None if that depends."""
    lower = word.lower()
    if len(word) == 1 or lower in _DEPENDENT or lower in HEMISPHERES or _AXIS_WORD.search(lower):
        return None
    kind = _WORDS.get(lower, "w")
    return None if kind in "'\"" else kind


def tokenize(text: str) -> tuple[list[Token], str]:
    """Split a text; returns its tokens, without the white space between them, and the string of their kinds."""
    tokenizer = _Tokenizer(text)
    for start, end in _regions(text):
        if tokenizer.tokens:
            tokenizer.put("\n", "", start)  # nothing is read across text that is left out
        tokenizer.add_region(start, end)
    return tokenizer.tokens, "".join(tokenizer.kinds)


def _regions(text: str) -> Iterator[tuple[int, int]]:
    """Iterate over the parts of a text that may hold a statement, as (start, end)."""
    start = end = -1
    for match in _STATES.finditer(text):
        if match.start() - _REACH[0] > end:
            if end >= 0:
                yield start, end
            start = max(0, match.start() - _REACH[0])
            while 0 < start < match.start() and not text[start - 1].isspace():
                start += 1
        end = match.end() + _REACH[1]
    if end >= 0:
        yield start, min(end, len(text))


class _Tokenizer:
    """Gives each token its kind, which depends on the tokens before it and the characters behind it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.kinds: list[str] = []
        self.open = 0  # number of round brackets that are open

    def add_region(self, start: int, end: int) -> None:
        """Add the tokens of `text[start:end]`."""
        tokens, kinds = self.tokens, self.kinds
        for match in _TOKEN.finditer(self.text, start, end):
            index = match.lastindex or 0  # a token is one group, at the end of the match
            word, behind = match[index], match.end()
            at = behind - len(word)
            kind = _KIND_OF_GROUP[index]
            if kind is None:  # what is written out here saves most tokens the way through `add`
                last = kinds[-1] if kinds else ""
                apart = not tokens or tokens[-1][2] < at
                if index in _WORD_GROUPS:
                    kind = _kind_anywhere(word) if apart and last not in _JOINING else None
                elif index == _NUMBER_GROUP:
                    kind = "i" if apart and word.isdecimal() and word[0] != "0" else None
                elif index == _COMMA_GROUP:
                    kind = "," if last != "i" else None
                elif index == _PLAIN_MARK_GROUP:
                    kind = word
            if kind is None:
                self.add(_GROUPS[index], word, at)
            else:
                tokens.append(_new_token(Token, (word, at, behind)))
                kinds.append(kind)

    def add(self, group: str, word: str, start: int) -> None:
        """Add a token of which the kind depends on others, or several, or join it to the token before."""
        if group == "number":
            self.add_number(word, start)
        elif group == "letter":
            self.put(self.mark_of_letter(word), word, start)
        elif group in ("plain_word", "word"):
            self.add_word(word, start)
        elif group == "comma":
            self.put("c" if self.is_decimal_comma(start) else ",", word, start)
        elif group in ("dash", "plus"):
            self.put(self.dash_kind(word, start), word, start)
        elif group == "mark":
            self.add_mark(word, start)
        else:  # a tag
            name = "" if word.startswith("</") else word.strip("<> ")
            self.put(_AXIS_KINDS.get(key_role(name), "j") if _AXIS_WORD.search(name) else "j", word, start)

    def put(self, kind: str, word: str, start: int) -> None:
        """Append a token."""
        self.tokens.append(_new_token(Token, (word, start, start + len(word))))
        self.kinds.append(kind)

    def last(self) -> str:
        """Return the kind of the last token, or "" at the beginning."""
        return self.kinds[-1] if self.kinds else ""

    def touches(self, start: int) -> bool:
        """Return whether the last token ends where one at `start` begins."""
        return bool(self.tokens) and self.tokens[-1].end == start

    def add_number(self, word: str, start: int) -> None:
        """Add a run of digits and dots; a dot at its end belongs to the sentence."""
        sentence_end = word.endswith(".") and _NUMBER.fullmatch(word, 0, len(word) - 1) is not None
        digits = word[:-1] if sentence_end else word
        kind = ("i" if digits.isdecimal() else "d") if _NUMBER.fullmatch(digits) else "g"
        if self.touches(start) and self.runs_on():
            kind = "g"
        if digits[0] == "0" and len(digits.partition(".")[0]) > 3 and self.last() != "c":
            kind = "g"  # degrees and minutes run together: 0002745
        self.put(kind, digits, start)
        if sentence_end:
            self.add_mark(".", start + len(digits))

    def runs_on(self) -> bool:
        """Return whether the last token and a number that touches it are pieces of one thing."""
        last, before = self.last(), self.kinds[-2] if len(self.kinds) > 1 else ""
        if last == "j" and self.tokens[-1].text == "_" and before in ("i", "d"):
            if self.tokens[-2].end == self.tokens[-1].start:
                self.kinds[-2] = "g"  # "48_85"
                return True
            return False
        if last == ".":
            return before in ("i", "d", "g", ".", "s") or self.kinds[-3:-1] == ["g", "w"]
        return last == "w" and self.tokens[-1].text.isalnum()

    def add_word(self, word: str, start: int) -> None:
        """Add a word; some words join the token before, or change its kind."""
        lower, before = word.lower(), self.last()
        if self.touches(start):
            if before in ("i", "d") and self.text[start - 1].isdecimal():
                kind = _suffix_kind(lower)
                self.kinds[-1] = "g" if kind == "w" else before
                self.put(kind, word, start)
                return
            if before == "g":
                self.put("w", word, start)
                return
            if self.kinds[-2:] in (["i", "."], ["d", "."]) and self.tokens[-2].end == start - 1:
                self.kinds[-2] = "g"  # "79.l47"
                self.put("w", word, start)
                return
        if before in ("A", "O", "L", "B", "R", "T") and (lower in SPREADS or lower in _REF_WORDS):
            if before != "B":
                self.kinds[-1] = "B" if lower in SPREADS else "R" if before in "AR" else "T"
            return
        if before in ("N", "E") and len(self.tokens[-1].text) > 1:
            if lower == "hemisphere":
                return
            if lower in _AFTER_DIRECTION or (word[0].isupper() and key_role(word) not in _AXIS_KINDS):
                self.kinds[-1] = "r"  # "north of Paris", "South America"
        self.put(self.word_kind(word, lower, start), word, start)

    def mark_of_letter(self, letter: str) -> str:
        """Return the kind of a letter that touches a number: a mark (48d51m23s), a hemisphere or a unit (8848m)."""
        marked = self.kinds[-2] if len(self.kinds) > 1 else ""
        if letter == "d":
            return "\u00b0"
        if letter == "m" and marked not in ("\u00b0", "i"):
            runs_on = _DIGIT_AT.match(self.text, self.tokens[-1].end + 1) is not None
            self.kinds[-1] = "g" if runs_on else self.kinds[-1]  # "1m75"
            return "w" if runs_on else "u"
        if letter == "m":
            return "'"
        if letter == "s" and marked == "'":
            return '"'
        return _hemisphere_kind(letter)

    def word_kind(self, word: str, lower: str, start: int) -> str:
        """Return the kind of a word that does not touch the token before it."""
        if len(word) == 1:
            return self.letter_kind(word, start)
        if letter := HEMISPHERES.get(lower):
            return self.hemisphere_kind(lower, letter)
        if lower == "not" and self.text.startswith(("known", "specified", "available", "visible"), start + 4):
            return "z"
        if kind := _WORDS.get(lower):
            return "w" if kind in "'\"" and self.last() not in _BEHIND_NUMBER else kind
        if not _AXIS_WORD.search(lower):
            return "w"
        kind = _AXIS_KINDS.get(key_role(word), "w")
        if kind in "AO":
            words = zip(self.tokens[-3:], self.kinds[-3:], strict=True)
            if any(each in "wkf" and token.text.lower() in SPREADS for token, each in words):
                return "B"  # "error in latitude"
        return "L" if lower == "long" else kind

    def letter_kind(self, letter: str, start: int) -> str:
        """Return the kind of a letter that stands alone."""
        if letter in "NSEW":
            return _hemisphere_kind(letter)
        if letter in "Oo" and (self.last() in _BEHIND_NUMBER or self.text[start + 1 : start + 2].isdecimal()):
            return "h"
        return "k" if letter in "aAiI" else _WORDS.get(letter, "w")

    def hemisphere_kind(self, lower: str, letter: str) -> str:
        """Return the kind of a word for a hemisphere; "in the" before it joins it."""
        if lower in COMMON_WORDS and self.last() not in _BEHIND_NUMBER:
            return "f" if lower == "est" else "w"
        in_the = self.last() == "k" and len(self.tokens) > 1 and self.tokens[-1].text.lower() == "the"
        if in_the and self.tokens[-2].text.lower() in _BEFORE_HEMISPHERE:
            del self.tokens[-2:], self.kinds[-2:]
        joined = -1 if self.last() in ("N", "E") else -2 if self.kinds[-2:] in (["N", "-"], ["E", "-"]) else 0
        if joined and len(self.tokens[joined].text) > 1:
            self.kinds[joined] = "r"  # "north west", "north-west"
            return "r"
        return _hemisphere_kind(letter)

    def is_decimal_comma(self, start: int) -> bool:
        """Return whether a comma touches whole numbers on both sides, so that it may be decimal."""
        if not self.touches(start) or self.last() != "i" or self.kinds[-2:-1] == ["c"]:
            return False
        return _DECIMALS.match(self.text, start + 1) is not None

    def dash_kind(self, word: str, start: int) -> str:
        """Return whether a dash or plus is a sign, the mark of a list, or neither."""
        end = start + len(word)
        if len(word) > 1 or word == "\u2014":
            return "-"
        if _DIGIT_AT.match(self.text, end):
            before = self.text[start - 1 : start]
            quoted = before in ("'", '"') and self.kinds[-2:-1] in (["i"], ["d"])
            return word if quoted or before.isalnum() or before in tuple("_-+.)\u2014\u00b0") else "s"
        if word == "+":
            return "+"
        spaced = _DIGIT_BEHIND_SPACE.match(self.text, end) is not None
        if self.last() in ("", "\n"):
            return "b" if spaced else "j"
        return "s" if spaced and self.last() in (":", ",", "(", "[", "/") else "-"

    def add_mark(self, word: str, start: int) -> None:
        """Add a bracket or other mark; a number before it may be that of an item in a list."""
        if word == "." and self.last() == "s" and self.tokens[-1].text.isalpha():
            return  # "neg."
        if word == "(":
            self.open += 1
        listed = word in ").)" and self.last() == "i" and self.touches(start) and len(self.tokens[-1].text) <= 2
        if listed and self.text[start + 1 : start + 2].isspace():
            first = self.kinds[-2:-1] in ([], ["\n"])
            if (word == ")" and not self.open) or (first and word == "."):
                self.kinds[-1] = "e"
                return
        if word == ")" and self.open:
            self.open -= 1
        self.put(word, word, start)


def _hemisphere_kind(letter: str) -> str:
    return "N" if letter in "NSns" else "E"


def _suffix_kind(lower: str) -> str:
    """Return the kind of letters that touch a number before them."""
    if lower == "o":
        return "h"
    if letter := HEMISPHERES.get(lower):
        return _hemisphere_kind(letter)
    kind = _WORDS.get(lower, "w")
    return kind if kind in "\u00b0'\"u" else "w"
