"""Words that qualify an answer given in plain words: doubts, denials, conditions, conclusions, and ends of clauses.

Most sentences hold none of them. A `Marks` therefore looks for its words among the words of a sentence, which is done
once for all marks, before it searches the sentence itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# A mention of an answer may end at a digit or the sign º: then the letters behind it are a word once it is taken out.
_LETTERS = re.compile(r"[^\W\d_\u00ba]+")


def words_of(text: str) -> list[str]:
    """Return the runs of letters in a text, in lower case, as patterns that ignore the case compare them."""
    lower = text.lower()
    if not lower.isascii():  # these letters count as s and i in a pattern that ignores the case
        lower = lower.replace("\u017f", "s").replace("i\u0307", "i").replace("\u0131", "i")
    return _LETTERS.findall(lower)


@dataclass(frozen=True, slots=True)
class Marks:
    """A pattern, and words of which every match holds at least one; without such words, it is searched in any text."""

    pattern: re.Pattern[str]
    words: frozenset[str]

    def within(self, text: str, words: Sequence[str]) -> bool:
        """Return whether the pattern matches anywhere in a part of a sentence, given the `words_of` the sentence."""
        return self.may_match(words) and self.pattern.search(text) is not None

    def ends(self, text: str, words: Sequence[str]) -> list[int]:
        """Return the positions at which the pattern's matches in a part of a sentence end."""
        return [match.end() for match in self.pattern.finditer(text)] if self.may_match(words) else []

    def may_match(self, words: Sequence[str]) -> bool:
        """Return whether the pattern can match in a sentence of these words."""
        return not self.words or not self.words.isdisjoint(words)


def marks(pattern: str, words: str) -> Marks:
    """Make `Marks` that ignore the case, with their words separated by white space."""
    return Marks(re.compile(pattern, re.IGNORECASE), frozenset(words.split()))


# What begins a sentence that asks.
ASKS = re.compile(r"\W*(?:is|was|does|did)\b", re.IGNORECASE)
CONDITION = marks(
    r"\b(?:if|when|whether|unless)\b|\bthat(?:'s| is) right\b"
    r"|\b(?:anything|everything|all|nothing)\s(?:but|except)\b",
    "if when whether unless that anything everything all nothing",
)
ASSUMPTION = re.compile(r"\b(?:suppos\w{1,4}|assum\w{1,4})\b", re.IGNORECASE)
DENIAL = marks(
    r"\b(?:not|cannot|never|neither|nor|no|unlikely|hardly|barely|opposite|away|except|instead|less|least|wrong)\b"
    r"|n['\u2019]t\b",
    "not cannot never neither nor no unlikely hardly barely opposite away except instead less least wrong t",
)
DOUBT = marks(
    r"\b(?:or|maybe|perhaps|possibly|possible|might|may|could|either|alternative(?:ly)?|between|versus|vs|slightly"
    r"|somewhat|almost|nearly|part(?:ly|ially)|mostly|near|close)\b",
    "or maybe perhaps possibly possible might may could either alternative alternatively between versus vs slightly"
    " somewhat almost nearly partly partially mostly near close",
)
UNSURE = marks(
    r"\b(?:unsure|uncertain|not (?:sure|certain)|no idea)\b|n['\u2019]t (?:sure|certain)\b",
    "unsure uncertain sure certain idea",
)
CONCLUSION = marks(
    r"\b(?:answer|conclusion|therefore|thus|hence|so|final(?:ly)?|overall)\b",
    "answer conclusion therefore thus hence so final finally overall",
)
# A sentence or clause that begins in this way takes back what was said before it.
TAKES_BACK = re.compile(
    r"\W*(?:but\s+|or\s+)?(?:actually|wait|no|nope|hm+|correction|sorry|scratch|on second thought|alternatively|maybe"
    r"|perhaps|possibly|(?:that|this)(?:'s| is) (?:wrong|not))\b",
    re.IGNORECASE,
)
_CLAUSE_WORD = "because|since|as|where|which|with|but|so|while|although|given|thus|hence|therefore"
_CLAUSE_END = re.compile(rf"[,|\u2013\u2014]|\s-{{1,2}}\s|\b(?=(?:{_CLAUSE_WORD})\b)", re.IGNORECASE)
_CLAUSE_WORDS = frozenset(_CLAUSE_WORD.split("|"))
_CLAUSE_SIGN = re.compile(r"[,|\u2013\u2014\s](?:(?<!\s)|-{1,2}\s)")


def clauses(sentence: str, words: Sequence[str]) -> list[str]:
    """Return the clauses of a sentence, given the `words_of` the sentence."""
    return (_CLAUSE_SIGN if _CLAUSE_WORDS.isdisjoint(words) else _CLAUSE_END).split(sentence)
