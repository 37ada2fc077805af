"""What stands beside a number or a pair: whether it qualifies it, and whether it announces coordinates."""

from __future__ import annotations

import re
import unicodedata

from geotune.tasks.coordinate_reader.tokens import Token
from geotune.tasks.coordinate_reader.words import word_set

NUMBER_NEXT = r"s?[idg]"
"""A number, possibly with a sign."""
_BRACKETS = r"(?:[)\]}]{1,2}[,;aof]\n?[(\[{]{1,2}|o)"  # between two pairs of a list
_IN_LIST = re.compile(rf"[id]\u00b0?(?:a|['\"]?[,c;/][\n'\"j]{{0,3}}|-|{_BRACKETS})?s?\Z")
_LIST_BEHIND = re.compile(rf"(?:['\"]?[,c;/][\n'\"j]{{0,3}}|-|{_BRACKETS}){NUMBER_NEXT}")
_ALONE_BEFORE = re.compile(r"(?:\A|\n)s?[id]\u00b0?,?\n\Z")
_ALONE_BEHIND = re.compile(r",?\ns?[id]\u00b0?[,)\]]?(?:\n|\Z)")
_YEAR = re.compile("1[0-9]{3}|20[0-9]{2}")
_GROUP = re.compile(r"\([^()\n]{0,25}\)")
_PAIR_INSIDE = re.compile(r"[id][\u00b0'\"NE]{0,6}['\"]?[,;/ ]")
_HEMISPHERE_BEFORE = re.compile(r"[NEh][:)'\"j}]{0,3}\Z")
_QUALIFIER_BEFORE = re.compile(r"(?:[NEh][:)'\"j}]{0,3}|b)\Z")
_HEMISPHERE_ON_NEXT_LINE = re.compile(r"(?=[^\n]{0,5}\n)[,\u00b0(fk\n]{1,7}[NEh](?!['\":j)\n]{0,3}[sid]|\n?[AOL])")
_HEMISPHERE_BEHIND_COMMA = re.compile(r",[j/]{0,3}[NEh](?!s?[id])")
_POSTCODE = re.compile("iw")
_NUMBER_WITH_UNIT = re.compile("s?[idg]u")
_NAME = re.compile("[AOPQRTB]")
_NAME_BEHIND = re.compile(r"[AOPQRTB](?!['\"]?[fj:]{0,4}['\"]?[sNE]?[idg])")
_SENTENCE_MARK = re.compile("[.:]")
_BETWEEN = re.compile(r"(?:[\u00b0'\"]|\u00b0?['\"]?[NE])?(?:[)\]]?['\"]?[,c;/]['\"(\[]?)?[NE]?s?|[:\u00b1-]s?")
"""What may stand between two numbers that no space parts."""
_PARTS_OF_DEGREE = word_set("min mins minute minutes arcmin sec secs second seconds arcsec")
_AROUND_WORDS = word_set("ci confidence range between error accuracy uncertainty margin within radius interval wgs84")
_PLACE_WORDS = word_set(
    """coordinate coordinates coord coords coordonn\u00e9es coordenadas koordinaten gps location position place point
    pin answer final taken shot photo image photograph camera picture guess estimate prediction predicted estimated
    result latlng latlon marker geolocation spot output response solution here candidate primary likely likeliest
    probably summary degrees overall conclusion"""
)
_CUE_WORDS = word_set("at is are near around approximately about roughly as then be to but maybe perhaps possibly")
_CHOOSING_WORDS = word_set("say go choose pick place put drop i'd marker")
_OTHER_NUMBERS = word_set(
    """confidence confidences score scores probability probabilities prob probs rating ratings ratio reward rewards loss
    losses weight weights embedding embeddings vector size sizes scale width height bbox box bounds price prices cost
    costs version versions python error errors std delta deltas offset distance distances distance_km elevation altitude
    heading bearing zoom exit route range min max mean accuracy accuracies percent percentage pixels pixel logits
    similarity similarities temperature temperatures speed area dimensions fraction fractions page pages chapter
    section figure x y z utm ip tel phone zip iso lens aperture"""
)
_PLACE_TERMS = re.compile(
    "\u7b54\u6848|\u5750\u6807|\u5ea7\u6a19|\u4f4d\u7f6e|\u5730\u70b9"  # answer, coordinates, position, place
    "|\u7ecf\u7eac|\u7d93\u7def|\uc88c\ud45c|\uc704\uce58"
)
_JOINING_CATEGORIES = ("Pc", "Pd", "Pe", "Pf", "Sk", "Sc", "No", "Lm", "Mn")
_PRECISE = 3
"""Number of decimals with which two numbers in a sentence look like coordinates, not like prices or ratings."""
_LINE = 40
"""Number of tokens of a line that are looked at."""


class Surroundings:
    """The tokens of a text, and what is beside some of them. Tokens are given as a range [first, end)."""

    def __init__(self, tokens: list[Token], kinds: str) -> None:
        self.tokens = tokens
        self.kinds = kinds
        self.consumed = 0
        """Number of tokens that belong to the statements found so far."""

    def kind(self, at: int) -> str:
        """Return the kind of a token, "" beyond the text."""
        return self.kinds[at : at + 1]

    def touches_before(self, at: int) -> bool:
        """Return whether no space separates a token from the one before it."""
        return 0 < at < len(self.tokens) and self.tokens[at - 1].end == self.tokens[at].start

    def decimals(self, first: int, end: int) -> int:
        """Return the smallest number of decimals of the numbers; 0 without a number."""
        fewest = -1
        for at in range(first, end):
            kind = self.kinds[at]
            if kind == "i":
                return 0
            if kind == "d":
                decimals = len(self.tokens[at].text.partition(".")[2])
                fewest = decimals if fewest < 0 else min(fewest, decimals)
        return max(fewest, 0)

    # Beside a number

    def joined(self, first: int) -> bool:
        """Return whether something directly before a number belongs to it or cuts it off."""
        if first == 0:
            return False
        kind, token = self.kinds[first - 1], self.tokens[first - 1]
        if kind == "p":
            category = unicodedata.category(token.text[0])
            return category == "Sm" or (self.touches_before(first) and category in _JOINING_CATEGORIES)
        if kind in "-:.'\"<":
            return self.touches_before(first) and self.kinds[max(0, first - 2) : first - 1] in tuple("idg\u00b0-")
        return kind in "idg\u00b1\u00b0$+"

    def cut(self, first: int, end: int) -> bool:
        """Return whether a number here is one piece of a number that other characters cut in two.

        That is so if something touches it on one side and a digit, dot or sign on the other ("6%.29", "-(3.7"), unless
        it is known to part numbers.
        """
        for at in range(first, end):
            if self.kinds[at] in "id" and (self._cut_behind(at) or self._cut_before(at)):
                return True
        return False

    def _cut_behind(self, at: int) -> bool:
        stop = at + 1
        while stop < min(at + 4, len(self.tokens)) and self.touches_before(stop) and not self._parts(stop):
            if self.kinds[stop] in "idg":
                return stop > at + 1 and _BETWEEN.fullmatch(self.kinds, at + 1, stop) is None
            stop += 1
        return False

    def _cut_before(self, at: int) -> bool:
        start = at
        while start > max(0, at - 4) and self.touches_before(start) and not self._parts(start - 1):
            start -= 1
            if self.kinds[start] in "idg":
                return start < at - 1 and _BETWEEN.fullmatch(self.kinds, start + 1, at) is None
            if start < at - 1 and (self.kinds[start] in "-s." or self.tokens[start].text == "-"):
                return self.kinds[at - 1] not in "NEs"
        return False

    def _parts(self, at: int) -> bool:
        """Return whether a token parts what stands before it from what is behind it: a word, a tag, a line break."""
        text = self.tokens[at].text
        return (
            self.kinds[at] in "\nJ"
            or (text[:1].isalpha() and self.kinds[at] not in "NE")
            or (len(text) > 1 and text.endswith(">"))
        )

    def contradicted(self, first: int, axis: str) -> bool:
        """Return whether a hemisphere before a pair may belong to its first number, which has another one."""
        match = _HEMISPHERE_BEFORE.search(self.kinds, max(0, first - 4), first)
        return match is not None and (match[0][0] == axis or len(self.tokens[match.start()].text) == 1)

    def unread(self, end: int, *, hemisphere: bool, bare: bool = False) -> bool:
        """Return whether something directly behind `end` qualifies the number there but is not understood.

        With `hemisphere` the direction is known, so that an unknown word cannot be another language's word for it. A
        number behind a `bare` pair and a comma is judged as a list.
        """
        at = end
        for _ in range(3):  # up to two comments in brackets
            start = at
            while self.kind(at) in ("'", '"', "j", "]", ")", "}") and at < end + 6:
                at += 1
            kind = self.kind(at)
            if kind == "(":
                group = _GROUP.match(self.kinds, at)
                if group is None:
                    return False
                if not self._is_aside(*group.span(), hemisphere=hemisphere):
                    return True
                at = group.end()
                continue
            if not hemisphere and _HEMISPHERE_ON_NEXT_LINE.match(self.kinds, at):
                return True
            if kind and kind in "idsg":
                return at == start or self.tokens[at - 1].text in ("~", "*")
            return self._qualifies(kind, at, directly=at == start, hemisphere=hemisphere, bare=bare)
        return False

    def _qualifies(self, kind: str, at: int, *, directly: bool, hemisphere: bool, bare: bool) -> bool:
        """Return whether token `at`, of this kind and no number, qualifies the number before it."""
        touching = self.touches_before(at)
        following = self.kinds[at + 1 : at + 3].replace("s", "")[:1]
        number_follows = following in ("i", "d", "g")
        match kind:
            case "h" | "\u00b0" | "\u00b1" | "r" | "c" | "$":
                return True
            case "k" if self.tokens[at].text.lower() == "not" and following in ("N", "E"):
                return True
            case "o" if following in ("N", "E"):
                return True
            case "N" | "E":
                return not hemisphere or (directly and not number_follows)
            case "w":
                return not hemisphere or touching
            case ",":
                return self._qualifies_behind_comma(at, following, hemisphere=hemisphere, bare=bare)
            case "/" if following in ("N", "E"):
                return True
            case "p" if touching and self.tokens[at].text not in "?!\u2026":
                return number_follows or (self.touches_before(at + 1) and self.kind(at + 1) not in "AOLPQRTB")
            case "." if self.kinds[at - 1] == "d" and following not in ("N", "E", "h"):
                return False  # the end of a sentence
            case "." if following in ("N", "E", "h") and self.kind(at + 2) not in ("i", "d", "s"):
                return not hemisphere
            case "-" if not touching and _NUMBER_WITH_UNIT.match(self.kinds, at + 1):
                return False  # "2.35 E - 90 m"
            case "-" if touching and self.kind(at + 1) not in ("w", "k", "f", "i", "d", "-"):
                return True  # "33.8-"
            case ":" if self.tokens[at].text not in ":=":
                return number_follows
            case "-" | "+" | "o" | "/" | "<" | "." | "p":
                return number_follows
            case "\n" if not (bare or hemisphere) and _ALONE_BEHIND.match(self.kinds, at):
                return True
            case "\n":
                return number_follows and self.kinds[at + 2 : at + 3] in ("'", '"') and self.touches_before(at + 2)
            case ":" | ";":
                return number_follows and (
                    touching if kind == ":" else not (hemisphere or bare) or self.touches_before(at + 1)
                )
            case "[" if self.kind(at + 1) == "d" and not bare:
                return self.kind(at + 2) == "]"
            case "f" | "a":
                return number_follows and self.tokens[at].text.lower() in ("to", "and")
            case _:
                return False

    def _qualifies_behind_comma(self, at: int, following: str, *, hemisphere: bool, bare: bool) -> bool:
        """Return whether what follows the comma at `at` qualifies the number before it."""
        if at + 1 < len(self.tokens) and self.tokens[at + 1].text.lower() in _PARTS_OF_DEGREE:
            return True
        if _HEMISPHERE_BEHIND_COMMA.match(self.kinds, at):
            return not hemisphere
        if following not in ("i", "d"):
            signed = self.kind(at + 1) == "s"  # "48.85, negative"
            return signed or (following == "g" and not hemisphere)
        if hemisphere:
            return self.touches_before(at + 1)
        unit = _NUMBER_WITH_UNIT.match(self.kinds, at + 1) or _POSTCODE.match(self.kinds, at + 1)
        return self.touches_before(at + 1) or not (bare or unit)

    def _is_aside(self, first: int, end: int, *, hemisphere: bool) -> bool:
        """Return whether brackets only comment on the number before them, of which `hemisphere` tells the direction."""
        kinds = self.kinds[first + 1 : end - 1]
        if _PAIR_INSIDE.search(kinds):
            return True
        if any(kind in "AOLPQ" for kind in kinds):
            return any(kind in "idg" for kind in kinds)  # "(lon first)" qualifies
        if not any(kind in "idg" for kind in kinds):
            alone = not any(kind in "wkr" for kind in kinds)  # "(south)", but not "(view facing south)"
            return not (alone and any(kind in "NEhs" for kind in kinds))
        words = {token.text.lower() for token in self.tokens[first:end]}
        if any(kind in "\u00b1u-" for kind in kinds) or not words.isdisjoint(_AROUND_WORDS) or kinds == "g":
            return True
        if ":" in kinds or _YEAR.fullmatch(self.tokens[end - 2].text):  # "(p=0.7)", "(circa 1995)"
            return not any(kind in "\u00b0NEhso" for kind in kinds)
        # "(26200 Paris)", "(near exit 18)", "(on the N7)", but not "(51')", "(N7)" or "(or 49)"
        return any(kind in "wk" for kind in kinds) and not any(kind in "d\u00b0hso" for kind in kinds)

    # Beside a pair

    def in_list(self, first: int, end: int) -> bool:
        """Return whether a pair is part of a longer list of numbers or pairs."""
        start = max(0, first - 8)
        before = _IN_LIST.search(self.kinds, start, first) or _ALONE_BEFORE.search(self.kinds, start, first)
        behind = _LIST_BEHIND.match(self.kinds, end) or _ALONE_BEHIND.match(self.kinds, end)
        return before is not None or behind is not None

    def qualified(self, first: int, end: int) -> bool:
        """Return whether a hemisphere, a possible sign, or a name that may state the order is beside a bare pair."""
        kinds = self.kinds
        if _QUALIFIER_BEFORE.search(kinds, max(0, first - 5), first):
            return True
        if _NAME_BEHIND.search(kinds[end : end + 12].partition("\n")[0]):
            return True
        *titles, line = kinds[max(self.consumed, first - _LINE) : first].rstrip("\n").split("\n")
        title = titles[-1] if titles else ""
        if kinds[max(0, first - 1) : first] == "\n":
            title, line = line, ""
        return _NAME.search(line) is not None or (_NAME.search(title) is not None and not _SENTENCE_MARK.search(title))

    def stands_out(self, first: int, end: int) -> bool:
        """Return whether two numbers are set apart as a pair, follow words that announce one, or are precise."""
        kinds = self.kinds
        line = max(kinds.rfind("\n", max(0, first - _LINE), first) + 1, first - _LINE, 0)
        before = kinds[line:first].rstrip("'\"j([{s-")
        while before.endswith("p") and unicodedata.category(self.tokens[line + len(before) - 1].text[0]) == "So":
            before = before[:-1]  # an emoji
        decimals = self.decimals(first, end)
        precise = decimals >= _PRECISE or kinds[first:end].count("\u00b0") >= 2
        precise = precise or (decimals > 0 and self._in_brackets_behind_name(first, end))
        if not decimals and not precise and not any(kind in ",;cNE" for kind in kinds[first:end]):
            return False
        if not before or before[-1] == "e":
            after = kinds[end : end + 4].lstrip("'\"j)]}.")[:1]
            return precise or after in ("", "\n", ",", "(", "}") or (first == 0 and decimals > 0)
        if before[-1] == ":":
            return self._is_place_label(line, line + len(before) - 1)
        numbers = max((at + 1 for at in range(line, line + len(before)) if kinds[at] in "idg"), default=line)
        words = [self.tokens[at].text.lower() for at in range(numbers, line + len(before))]
        cue = words[-1] if words else ""
        if _OTHER_NUMBERS.intersection(words[-4:]) and cue not in _CUE_WORDS:
            return False
        announced = cue in _CUE_WORDS or cue in _PLACE_WORDS or before[-1] in ",;a"
        announced = announced or (before[-1] == "." and len(cue) > 3) or not _CHOOSING_WORDS.isdisjoint(words)
        return precise or (announced and any(kind in "dN" for kind in kinds[first:end]))

    def _in_brackets_behind_name(self, first: int, end: int) -> bool:
        """Return whether a pair stands in brackets behind a name: "Berlin, Germany (52.52, 13.40)"."""
        at = first - (self.kinds[first - 1] == "s" if first else 0) - 1
        if at < 1 or self.kinds[at] != "(" or self.kind(end) != ")":
            return False
        name = self.tokens[at - 1].text[:1]
        return name.isalpha() and not name.islower()

    def is_unclear(self, first: int, end: int) -> bool:
        """Return whether two numbers that do not stand out may be coordinates: precise ones with an unknown label."""
        if self.decimals(first, end) < _PRECISE:
            return False
        line = max(self.kinds.rfind("\n", 0, first) + 1, first - _LINE)
        return not any(token.text.lower() in _OTHER_NUMBERS for token in self.tokens[line:first])

    def _is_place_label(self, line: int, colon: int) -> bool:
        """Return whether the words before a colon announce a place: "Coordinates:", "Paris, France:"."""
        start = max((line, *(at + 1 for at in range(line, colon) if self.kinds[at] in ".;{}")))
        words = [token.text for token in self.tokens[start:colon] if token.text[:1].isalpha()]
        lower = {word.lower() for word in words}
        if lower & _OTHER_NUMBERS:
            return False
        return not words or bool(lower & _PLACE_WORDS) or words[-1][0].isupper() or bool(_PLACE_TERMS.search(words[-1]))
