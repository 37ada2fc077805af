"""Names of places: which texts name none, and which names are the same place's."""

from __future__ import annotations

import re
import unicodedata

from geotune.tasks.countries import COUNTRIES

_STATES = """
    AL Alabama,AK Alaska,AZ Arizona,AR Arkansas,CA California,CO Colorado,CT Connecticut,DE Delaware,
    DC District of Columbia,FL Florida,GA Georgia,HI Hawaii,ID Idaho,IL Illinois,IN Indiana,IA Iowa,KS Kansas,
    KY Kentucky,LA Louisiana,ME Maine,MD Maryland,MA Massachusetts,MI Michigan,MN Minnesota,MS Mississippi,MO Missouri,
    MT Montana,NE Nebraska,NV Nevada,NH New Hampshire,NJ New Jersey,NM New Mexico,NY New York,NC North Carolina,
    ND North Dakota,OH Ohio,OK Oklahoma,OR Oregon,PA Pennsylvania,RI Rhode Island,SC South Carolina,SD South Dakota,
    TN Tennessee,TX Texas,UT Utah,VT Vermont,VA Virginia,WA Washington,WV West Virginia,WI Wisconsin,WY Wyoming"""
_CODE_OF_STATE = {row.strip()[3:].lower(): row.strip()[:2].lower() for row in _STATES.split(",")}

# Letters that Unicode does not decompose into a base letter and an accent.
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "œ": "oe", "æ": "ae", "\u0131": "i", "þ": "th", "ħ": "h"}
)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_ACCENT = re.compile("[\u0300-\u036f]")
_APOSTROPHE = re.compile("['`\u00b4\u2018\u2019\u02bb\u02bc\u2032.]")
# Vowel points of Hebrew and Arabic, which may be left out, and characters that only change how others look.
_OPTIONAL = re.compile("[\u0591-\u05c7\u0640\u064b-\u065f\u0670\u200b-\u200f\u2060\ufe00-\ufe0f]")
_NO_LETTER = re.compile(r"[\W_]+")
_ABBREVIATIONS = {"st": "saint", "ste": "sainte", "mt": "mount", "ft": "fort"}
# "Korea, Republic of", "Myanmar (Burma)".
_INVERTED = re.compile(
    r"(?P<name>[^,()]+?)\s?(?:,\s*(?P<kind>[^,()]{1,60}\bof(?: the)?)|\([^()]{1,60}\))", re.IGNORECASE
)
_CITIES = {"nyc": "new york", "new york city": "new york"}

# Codes of countries that are words, too: in lower case they are no names of countries.
_NO_CODES = frozenset(["am", "as", "at", "be", "by", "do", "in", "is", "it", "me", "my", "no", "so", "to"])

# What says that a name is not known. Names such as "Unnamed Road" or "No Name Key" are none of these.
_UNKNOWN = (
    r"null|none|n[/.]?a|unknown|unclear|unsure|uncertain|unspecified|undetermined|undefined|unavailable"
    r"|unidentified|unidentifiable|undisclosed|indeterminate|inconclusive|ambiguous|unreadable|illegible"
    r"|desconocid[oa]|inconnue?|unbekannt|sconosciut[oa]|未知|不详|不明"
)
_PART = r"street|road|city|town|village|state|province|region|country|address|location|place|area|name|coordinates?|gps"
_STATED = (
    r"visible|available|identifi\w{2,6}|specified|provided|given|found|shown|known|stated|listed|legible|readable|data"
)
_NOTHING = re.compile(
    rf"""
      \W*
    | string | xx+ | idk | (?:yet\s)?to\sbe\s(?:determined|confirmed) | 无 | keine\sangabe
    | non\s(?:disponible|connue?)
    | your\s(?:street|city|state|country)(?:\sname)? | hard\sto\s(?:say|tell|determine)\b.*
    | i\s(?:don['\u2019]?t|do\snot|can(?:not|['\u2019]?t|\snot))\s.*
    | nil | nan | tb[da] | unnamed (?:\s(?:street|city|town|village|place|location))?
    | <[^<>]*> | (?:the\s)?(?:{_PART})(?:\sname)?
    | (?:{_UNKNOWN})
      (?: \W* | \s*[(\[,;:/\u2013\u2014].* | \s-\s.*
        | \s(?:{_PART}|{_STATED}|{_UNKNOWN}|from|in|at|due|based|without|because|as|or|and|but|to|exact|specific)\b.* )
    | (?:not|cannot|can['\u2019]?t|can\snot|could\snot|couldn['\u2019]?t|unable|impossible|insufficient|not\senough)\s.*
    | no\s(?:[\w/-]{{1,20}}\s){{0,4}}(?:{_STATED}|info(?:rmation)?|evidence|clues?|signs?|signage|details?|idea)\b.*
    | no\s(?:exact\s|specific\s)?(?:{_PART})(?:\s(?:name|{_STATED}))?
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def known_name(text: str, part: str) -> str | None:
    """Return the name that a text gives of a part of an address ("city"); None if it says that there is none.

    The code NA names a country, Namibia, but no street, city or state. "None" counts as nothing, although a town in
    Italy has this name; and so do "no", "in" and other words that are codes of countries only in upper case.
    """
    name = text.strip()
    word = name.strip("\"'.,")
    if word.lower() in (_NO_CODES if part == "country" else ("no",)) and not (part == "country" and word.isupper()):
        return None
    if part == "country" and name == "NA":
        return "Namibia"
    return None if is_unknown(name) else name


def is_unknown(text: str) -> bool:
    """Return whether a text says that something is not known: "", "N/A", "None visible", "unknown city"."""
    stripped = text.strip(" \t\r\n\"'`*_.!?()[]{}-")
    return not stripped or _NOTHING.fullmatch(stripped) is not None


def same_country(a: str, b: str) -> bool:
    """Compare names and ISO codes of countries; USA, U.S. and United States are one country."""
    return _country(a) == _country(b)


def same_state(a: str, b: str) -> bool:
    """Compare names of states without case, accents and punctuation; a US state equals its two-letter code."""
    return not _spellings(a, _CODE_OF_STATE).isdisjoint(_spellings(b, _CODE_OF_STATE))


def same_city(a: str, b: str) -> bool:
    """Compare names of cities without case, accents and punctuation; "St." equals "Saint", "ü" equals "ue"."""
    return not plain_city_names(a).isdisjoint(plain_city_names(b))


def plain_city_names(name: str) -> set[str]:
    """Return the plain forms of a city's name; two names that share one are names of the same city."""
    return _spellings(name, _CITIES)


def _spellings(name: str, same: dict[str, str]) -> set[str]:
    """Return the plain forms of a name: without accents, and with German and Danish vowels in two letters."""
    folded = unicodedata.normalize("NFC", name).casefold()
    plain = (_plain(spelling) for spelling in (folded, folded.translate(_UMLAUTS)))
    short = (spelling.removeprefix("the ").removeprefix("city of ") or spelling for spelling in plain)
    return {same.get(spelling, spelling) for spelling in short}


def _plain(name: str) -> str:
    """Return a name without case, accents, punctuation and repeated spaces; "&" becomes "and", "St." "saint"."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    letters = unicodedata.normalize("NFC", _ACCENT.sub("", decomposed)).translate(_LETTERS)
    spaced = re.sub(r"\bst\.(?=\w)", "saint ", letters)
    words = _spaced(_APOSTROPHE.sub("", spaced.replace("&", " and "))).split()
    return " ".join(_ABBREVIATIONS.get(word, word) for word in words) or letters.strip()


def _spaced(name: str) -> str:
    """Return a name with spaces in place of punctuation; the vowel signs of Indic and other scripts are letters."""
    if name.isascii():
        return _NO_LETTER.sub(" ", name)
    letters = (c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in _OPTIONAL.sub("", name))
    return "".join(letters)


def _country(name: str) -> str:
    """Return the ISO code of a country; the plain name if it is not one of the table's."""
    plain = _plain(name)
    if plain not in _CODE_OF_COUNTRY and (other := _INVERTED.fullmatch(name.strip())):
        plain = _plain(f"{other['kind']} {other['name']}" if other["kind"] else other["name"])
    return _CODE_OF_COUNTRY.get(plain) or _CODE_OF_COUNTRY.get(_short(plain), _short(plain))


def _short(plain: str) -> str:
    """Return a plain name without its articles and "and"."""
    return " ".join(word for word in plain.split() if word not in ("the", "and")) or plain


def _codes_of_countries() -> dict[str, str]:
    codes: dict[str, str] = {}
    for entry in COUNTRIES.split(";"):
        code, long_code, names = entry.split(maxsplit=2)
        for name in (code, long_code, *names.split("/")):
            plain = _plain(" ".join(name.split()))
            codes[plain] = codes[_short(plain)] = code
    return codes


_CODE_OF_COUNTRY = _codes_of_countries()
