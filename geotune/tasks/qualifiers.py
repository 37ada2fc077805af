"""Words that qualify an answer given in plain words: doubts, denials, conditions, conclusions, and ends of clauses.

Most sentences hold none of them. The words that stand in marks are therefore sought once in each sentence, for all
marks, and only the marks of those found are then searched for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A mention of an answer may end at a digit or the sign º: then the letters behind it are a word once it is taken out.
_LETTERS = re.compile(r"[^\W\d_\u00ba]+")
_ASCII_LETTERS = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Marks:
    """A pattern, and words of which every match holds at least one; without such words, it is sought in any text."""

    pattern: re.Pattern[str]
    words: frozenset[str]

    def within(self, text: str, words: frozenset[str]) -> bool:
        """Return whether the pattern matches in a part of a sentence, given the `mark_words` of the sentence."""
        return self.may_match(words) and self.pattern.search(text) is not None

    def ends(self, text: str, words: frozenset[str]) -> list[int]:
        """Return the positions at which the pattern's matches in a part of a sentence end, as `within` does."""
        return [match.end() for match in self.pattern.finditer(text)] if self.may_match(words) else []

    def may_match(self, words: frozenset[str]) -> bool:
        """Return whether the pattern can match in a sentence of these `mark_words`."""
        return not self.words or not self.words.isdisjoint(words)


def marks(pattern: str, words: str) -> Marks:
    """Make `Marks` that ignore the case, with their words separated by white space."""
    return Marks(re.compile(pattern, re.IGNORECASE), frozenset(words.split()))


# What begins a sentence that asks.
ASKS = re.compile(r"\W*+(?:is|was|does|did)\b", re.IGNORECASE)
# A label that repeats the question or its key.
ASKED_LABEL = re.compile(
    r"\W*+(?:is[ _](?:in[ _]range|correct)|true or false|yes or no|correct or (?:incorrect|wrong))\W{0,6}[:=]",
    re.IGNORECASE,
)
# What a sentence with such words says is no longer thought.
DRAFT = marks(
    r"\b(?:at first|initially|originally|(?:first|had) thought|thought (?:it|that|the)|first (?:impression|thought))\b",
    "first initially originally thought",
)
CONDITION = marks(
    r"\b(?:if|when|whether|suppos\w{1,4}|assum\w{1,4}|unless)\b|\bthat(?:'s| is) right\b"
    r"|\b(?:anything|everything|all|nothing)\s(?:but|except)\b",
    "if when whether suppos assum unless that anything everything all nothing",
)
DENIAL = marks(
    r"\b(?:not|cannot|never|neither|nor|no|unlikely|hardly|barely|opposite|away|except|instead|less|least|wrong)\b"
    r"|n['\u2019]t\b",
    "not cannot never neither nor no unlikely hardly barely opposite away except instead less least wrong t",
)
DOUBT = marks(
    r"\b(?:or|maybe|perhaps|possibly|possible|might|may|could|either|alternative(?:ly)?|between|versus|vs|slightly"
    r"|somewhat|almost|nearly|part(?:ly|ially)|mostly|at (?:most|least)|up to|(?:more|fewer|less|other) than|e\.g"
    # What is near something else in a place is only mentioned: "near the roundabout on the right".
    r"|(?:near|close)(?!(?:\sto)?\s(?:the|a|an)\s[^\W\d_]++\s(?:on|at|in)\b))\b",
    "or maybe perhaps possibly possible might may could either alternative alternatively between versus vs slightly"
    " somewhat almost nearly partly partially mostly near close most least up more fewer less other g",
)
_OTHER = r"(?!\s(?:the (?!answer|direction|location|position|orientation|heading|map|index)|what|who|when|why|how)\b)"
UNSURE = marks(
    r"\b(?:unsure|uncertain|not (?:sure|certain)|no idea|idk|hard to (?:say|tell)|sorry)\b"
    r"|n['\u2019]t (?:sure|certain)\b"
    rf"|\b(?:cannot|can['\u2019]t|can not|unable to|impossible to) (?:say|tell|determine|know|identify)\b{_OTHER}"
    rf"|\b(?:don['\u2019]t|do not) know\b{_OTHER}|(?:\b(?:can|will|glad to|happy to)|['\u2019]ll) (?:help|assist)\b",
    "unsure uncertain sure certain idea idk hard sorry cannot can unable impossible know will glad happy ll",
)
CONCLUSION = marks(
    r"\b(?:answer(?: would be)?|conclusion|therefore|thus|hence|so|final(?:ly)?|overall"
    r"|(?:guess|choice|prediction|estimate|verdict) would be)\b",
    "answer conclusion therefore thus hence so final finally overall would",
)
SAYS = marks(
    r"\bI(?:['\u2019]d| would) (?:say|guess|answer|choose|pick|go (?:with|for))\b", "say guess answer choose pick go"
)
# Beside one of these words, another answer is a rival of the one that is asserted.
RIVAL = marks(
    r"\b(?:(?:fits?|match(?:es)?|works?|is|seems|looks) better|better (?:fit|match|choice|answer|guess)|likelier"
    r"|(?:more|equally|as|also) (?:likely|plausible|probable|possible|good)|preferable"
    r"|also (?:fits?|match(?:es)?|works?)|(?:fits?|match(?:es)?|works?|possible|plausible) (?:too|as well|equally))\b",
    "better likelier preferable more equally as also too",
)
RIVAL_FILLERS = marks(
    r"\b(?:but|although|though|while|however|yet|also|too|then|rather|better|instead|equally|likewise|still|with"
    r"|as well|confidence|chance|probability|likelihood)\b|\d{1,3}(?:\.\d{1,9})?\s?%",
    "but although though while however yet also too then rather better instead equally likewise still with well"
    " confidence chance probability likelihood",
)
# Signs directly before or behind an answer that deny or change it.
SIGN_BEFORE = re.compile(
    r"(?:[~\u223c\u00ac!]|(?:!=|[\u2260\u2264\u2265\u2717\u2718\u274c\u2716\u26d4\U0001f6ab]\ufe0f?|(?<!<)<=?|\\(?:neq?|lnot|sim))\s*"
    r"|(?<![-=>])>=?|(?<![^\s(*_`])-|(?:\bnot|\bnever|\bneither|\bnor|n['\u2019]t|\bexcept|\bunlikely)\s*\()[*_`\"']*\Z"
)
MAY_BE_SIGNED = re.compile(r"[~!(<>\\\u223c\u00ac\u2260\u2264\u2265\u2717\u2718\u274c\u2716\u26d4\U0001f6ab-]")
SIGN_BEHIND = re.compile(r"[*_`\s]*[\u2717\u2718\u274c\u2716\u26d4\U0001f6ab]")
# A clause or parenthesis that only denies what stands before it: "N (unlikely)".
WITHDRAWN = re.compile(
    r"\W*+(?:(?:but|is|was|that['\u2019]?s|this|it|probably|likely|most|very|also)\s+)*+"
    r"(?:not|not (?:likely|possible|really)|no|none|wrong|false|incorrect|unlikely|excluded|ruled out|rejected"
    r"|eliminated|impossible|n/a)\W*",
    re.IGNORECASE,
)
SHARE = re.compile(
    r"\W*+(?:(?:with|about|only|around)\s)*[~\u2248]?\s?(\d{1,3}(?:\.\d{1,9})?)\s?%"
    r"(?:\s(?:confidence|confident|sure|certain|likely|probability|chance|likelihood))?\W*",
    re.IGNORECASE,
)
# A sentence or clause that begins in this way takes back what was said before it.
TAKES_BACK = re.compile(
    r"\W*+(?:but\s+|or\s+)?(?:actually|wait|no|nope|hm+|correction|sorry|scratch|on second thought|alternatively|maybe"
    r"|perhaps|possibly|(?:that|this)(?:'s| is) (?:wrong|not))\b",
    re.IGNORECASE,
)
_CLAUSE_WORD = "because|since|where|which|with|but|so|while|although|given|thus|hence|therefore"
_AS = r"as(?! (?:likely|plausible|probable|possible|good|well)\b)"
_CLAUSE_END = re.compile(rf"[,|\u2013\u2014]|\s-{{1,2}}\s|\b(?<!\bgo )(?=(?:{_CLAUSE_WORD}|{_AS})\b)", re.IGNORECASE)
_CLAUSE_WORDS = frozenset(("as", *_CLAUSE_WORD.split("|")))
_CLAUSE_SIGN = re.compile(r"[,|\u2013\u2014\s](?:(?<!\s)|-{1,2}\s)")
_WORDS = _CLAUSE_WORDS.union(
    *(mark.words for mark in (CONDITION, DRAFT, DENIAL, DOUBT, UNSURE, CONCLUSION, SAYS, RIVAL, RIVAL_FILLERS))
)
_STEMS = ("suppos", "assum")


def mark_words(text: str, others: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return those words of a text, in lower case, that stand in marks or are among `others`, and stems of its words.

    The words are compared as by patterns that ignore the case.
    """
    lower = text.lower()
    if lower.isascii():
        letters = _ASCII_LETTERS.findall(lower)
    else:  # these letters count as s and i in a pattern that ignores the case
        lower = lower.replace("\u017f", "s").replace("i\u0307", "i").replace("\u0131", "i")
        letters = _LETTERS.findall(lower)
    words = _WORDS.intersection(letters)
    if not others.isdisjoint(letters):
        words |= others.intersection(letters)
    stems = [stem for stem in _STEMS if stem in lower]
    return words.union(stems) if stems else words


def clauses(sentence: str, words: frozenset[str]) -> list[str]:
    """Return the clauses of a sentence, given the `mark_words` of the sentence."""
    return (_CLAUSE_SIGN if _CLAUSE_WORDS.isdisjoint(words) else _CLAUSE_END).split(sentence)
