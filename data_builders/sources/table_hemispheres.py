"""Hemispheres in cells of their own, in the spellings of tables; the words are those of the reader of coordinates."""

from __future__ import annotations

import re
from functools import lru_cache

from geotune.tasks.coordinate_reader.words import HEMISPHERE_TERMS, HEMISPHERES

_NOTHING = re.compile(
    r"n/?a|#n/a|nan|none|null|nil|\\n|\?|#|x|/|\.|unk(?:nown)?(?:\s*\(\))?|missing|not (?:available|recorded)|",
    re.IGNORECASE,
)
_CHARACTERS = {term[0]: letter for term, letter in HEMISPHERE_TERMS.items()}
_WRAPPED = re.compile(r"""^b?[\['"(]+|[\])'"]+$|\\x00|\0""")
_AROUND = {"latitude", "longitude", "lat", "lon", "hemisphere", "hem", "of", "the", "equator"}
_WORD = re.compile(r"[^\W\d_]+")
_BETWEEN = re.compile(r"[\s.()'_-]*")


def states_nothing(cell: str) -> bool:
    """Whether a cell is blank or a placeholder; a dash is none, because it may be a sign."""
    return _NOTHING.fullmatch(cell) is not None


@lru_cache(maxsize=65536)
def hemisphere_in(cell: str) -> str | None:
    """The letter of the hemisphere that a cell names and nothing else: N, S, E or W, or O for east or west.

    Beside single words, these spellings are read: `South latitude`, `S (South)`, `b'S'`, and one Chinese character.
    """
    text = _WRAPPED.sub("", cell.strip()).strip().lower()
    if letter := HEMISPHERE_TERMS.get(text) or _CHARACTERS.get(text):
        return letter
    words = _WORD.findall(text)
    if len(words) > 4 or not _BETWEEN.fullmatch(_WORD.sub("", text)):
        return None
    told = [word for word in words if word not in _AROUND]
    if len(told) == 2 and HEMISPHERES.get(told[0], told[0]) == HEMISPHERES.get(told[1]):
        told.pop()
    if len(told) != 1:
        return None
    return "O" if told[0] == "o" else HEMISPHERES.get(told[0])
