"""Read one of a few legal answers from plain words, and refuse what is doubted, denied or only mentioned in passing.

A text is read clause by clause. A clause asserts an answer if it says nothing else: beside the answer it holds only
filler words, or it has a cue ("the camera faces") with filler words between cue and answer and behind the answer.
Doubts ("or", "maybe", a question) and denials ("not", "unlikely", "opposite") assert nothing. All answers that are
asserted must agree; an answer in any other clause is mentioned in passing. After a conclusion ("so the answer is"),
what came before it does not count; after an assertion, a doubt or a correction makes the text give no answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from geotune.tasks.base import Parsed, Reason, accepted, rejected
from geotune.tasks.qualifiers import (
    ASKED_LABEL,
    ASKS,
    CONCLUSION,
    CONDITION,
    DENIAL,
    DOUBT,
    DRAFT,
    MAY_BE_SIGNED,
    RIVAL,
    RIVAL_FILLERS,
    SAYS,
    SHARE,
    SIGN_BEFORE,
    SIGN_BEHIND,
    TAKES_BACK,
    UNSURE,
    WITHDRAWN,
    Marks,
    clauses,
    mark_words,
    marks,
)

_ABSENT = re.compile(
    r"\W*|(?:null|none|nil|n/?a|unknown|unclear|unsure|uncertain|undetermined|no answer)\W*"
    r"|not (?:available|applicable|specified|sure|visible)\W*",
    re.IGNORECASE,
)
_LATEX = re.compile(
    r"\\(?:(?P<open>(?:boxed|fbox|text(?:bf|it|rm|tt)?|math(?:bf|it|rm|sf)|emph)\s?\{)|(?P<sign>[_%#&$])"
    r"|(?P<space>[,;:! ]|quad|qquad)|(?P<circle>circ))"
)
_DEGREE = re.compile(r"\^\s?\{?\\circ\}?")
_EDGES = " \t\r\n.,;:!*_`\"'()<>[]{}|#$\u3002\uff0c\uff01\u3001"
# A number that begins a line of a list ("1. The roads match") does not end a sentence. A question mark ends one, too.
_SENTENCE_END = re.compile(
    r"[.!;\n\u3002\uff01](?:(?<![.!;])|(?<!\n\d[.!;])(?<!\bvs[.])(?<!\be\.g[.])(?<!\bi\.e[.])(?=\s|$))"
)
_PARENTHESIS = re.compile(r"\(([^()\n]*)\)")
_COMMA = re.compile(r"\s*,\s*(?:(?:and|or|nor)\s+)?")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+(?:\.\d+)?")
_LONGEST_DENIAL = 80
_MANY_SENTENCES = 16
"""Number of sentences from which it pays to look once through all of them for `mark_words`."""
_SIGN = 12
"""Number of characters before an answer in which a sign that denies it is looked for."""
_EXPLANATION = re.compile(r"(?:[^\w:]|_)*+:\s(?!\s*not(?:\W*\Z| really\b| at all\b| quite\b))\D*+")
_LINK = r"(?:a|at|be|by|facing|from|in|map|of|on|quite|the|to)[ \t]"
_NEGATION = rf"(?P<not>(?i:(?:\b(?:not|never|neither|nor)|n't)[ \t](?:{_LINK}){{0,2}}))?"
_FILLERS = """
    a absolutely am an and answer appears at be being believe best but by certainly choice choose clearly conclude
    conclusion correct definitely exactly final finally from guess hence i i'd i'm in indeed is it it's its json
    likely most must my of on only overall photo photograph pick picture prediction probably say seems select so
    surely taken that the therefore think this thus to very was
"""
_RANK = re.compile(r"\s*(\d{1,2})[.)]\s+(.*)")
_SHARE = re.compile(r"[\s(:,-]*+(?:(\d{1,3}(?:\.\d{1,9})?)\s?%)?\W*")


class Mention(NamedTuple):
    """An answer that `text[start:end]` names.

    `option` is the legal answer, None if the named answer is illegal, and "" if it is denied without an opposite.
    A `weak` mention can only confirm another one.
    """

    start: int
    end: int
    option: str | None
    weak: bool = False


class _Said(NamedTuple):
    """What a sentence or clause asserts, which answers it leaves in doubt, and how it relates to what stands before."""

    asserted: Sequence[Mention] = ()
    doubted: Sequence[Mention] = ()
    takes_back: bool = False
    unsure: bool = False
    concludes: bool = False
    rivals: Sequence[frozenset[str | None]] = ()
    """Sets of answers of which one must be the asserted one."""


_NOTHING = _Said()


@dataclass(frozen=True)
class Wording:
    """The words in which the legal answers of a task are given."""

    pattern: re.Pattern[str]
    """Matches every text that has the form of an answer; its group `not` matches a denial, `weak` a confirmation."""
    option: Callable[[re.Match[str]], str | None]
    """Maps a match of `pattern` to a legal answer, or to None if it names none."""
    cue: Marks
    """Match words that introduce an answer of this task ("the direction is")."""
    fillers: frozenset[str]
    """Words, in lower case, that do not change the answer beside them."""
    exact: Mapping[str, str]
    """Legal answers by lower-case texts that count only if a sentence says nothing else."""
    values: Mapping[str, str]
    """Legal answers by lower-case texts that count only as the whole value of a JSON key."""
    opposite: Mapping[str, str]
    """The answer that the denial of an answer implies, where it implies any."""
    explained: bool
    """Whether a colon behind an answer begins its explanation ("No: the roads differ")."""
    tail: re.Pattern[str]
    """Matches what may stand behind an answer to the end of its clause ("facing north toward the river")."""

    def mentions(self, text: str) -> list[Mention]:
        """Find every answer that `text` names, in order; a denied answer becomes its opposite, if it has any."""
        found = []
        may_be_weak = "weak" in self.pattern.groupindex
        for match in self.pattern.finditer(text):
            option = self.option(match)
            if option is not None and match["not"]:
                option = self.opposite.get(option, "")
            start, end = match.span()
            found.append(Mention(start, end, option, may_be_weak and bool(match["weak"])))
        return found

    def value(self, text: str) -> Parsed:
        """Read the value under an answer's JSON key, which must assert an answer."""
        text = plain_words(text)
        if _ABSENT.fullmatch(text):
            return rejected(Reason.NO_ANSWER)
        if exact := self.values.get(_bare(text)):
            return accepted(exact)
        parsed = self._read(text)
        return rejected(Reason.ILLEGAL) if parsed.reason == Reason.NO_ANSWER else parsed

    def statement(self, text: str) -> Parsed:
        """Read the answer that a text asserts in plain words."""
        return self._read(plain_words(text))

    def _read(self, text: str) -> Parsed:
        """Read what the last conclusion asserts and all that follows it; without one, what the whole text asserts."""
        asserted: list[Mention] = []
        doubted: list[Mention] = []
        rivals: list[frozenset[str | None]] = []
        doubt = False
        read: dict[str, _Said] = {"": _NOTHING}
        sentences = _sentences(self._first_rank(text))
        unmarked = len(sentences) > _MANY_SENTENCES and not mark_words(text, self.cue.words)
        for sentence in reversed(sentences):
            if (said := read.get(sentence)) is None:  # weak models repeat themselves
                said = read[sentence] = self._sentence(sentence, unmarked=unmarked)
            if not asserted:  # what is asserted later outweighs these doubts
                doubt = doubt or bool(said.doubted) or said.unsure or said.takes_back
                doubted += said.doubted
                rivals += said.rivals
            asserted += said.asserted
            if said.asserted and said.concludes:
                break
        agreed = agree(asserted + doubted) or rejected(Reason.NO_ANSWER)
        if agreed.answer is not None and not all(agreed.answer in answers for answers in rivals):
            return rejected(Reason.CONTRADICTION)
        certain = not doubt and any(not mention.weak for mention in asserted)
        return agreed if certain or agreed.answer is None else rejected(Reason.NO_ANSWER)

    def _sentence(self, sentence: str, *, unmarked: bool) -> _Said:
        """Read one sentence of a text; `unmarked` says that the text holds no `mark_words`."""
        if (":" in sentence or "=" in sentence) and (asked := ASKED_LABEL.match(sentence)):
            sentence = sentence[asked.end() :]
        words: frozenset[str] = frozenset() if unmarked else mark_words(sentence, self.cue.words)
        labelled = max(sentence.rfind(":"), sentence.rfind("=")) + 1
        label = sentence[:labelled]
        if (exact := self.exact.get(_bare(sentence[labelled:]))) and self._fills(label):
            return _Said((Mention(0, 0, exact),), concludes=CONCLUSION.within(label, words))
        mentions = self.mentions(sentence)
        if not mentions:
            takes_back, unsure = self._takes_back(sentence), UNSURE.within(sentence, words)
            return _Said(takes_back=takes_back, unsure=unsure) if takes_back or unsure else _NOTHING
        if "?" in sentence and sentence.rstrip(_EDGES).endswith("?"):
            return _Said(doubted=mentions)
        if CONDITION.within(sentence, words) or ASKS.match(sentence):
            return _NOTHING
        inner = list(_PARENTHESIS.finditer(sentence)) if "(" in sentence else []
        outer = _PARENTHESIS.sub(lambda inner: " " * len(inner[0]), sentence) if inner else sentence
        if "," in outer:
            outer = _joined(outer, self.mentions(outer) if inner else mentions)
        asserted: list[Mention] = []
        doubted: list[Mention] = []
        rivals: list[frozenset[str | None]] = []
        takes_back = unsure = concludes = concluding = False
        # What stands in parentheses counts if the words around them assert an answer, introduce one, or say nothing.
        counts = bool(inner) and (self._fills(outer) or bool(self.cue.ends(outer, words) or SAYS.ends(outer, words)))
        parts = [(clause, True) for clause in clauses(outer, words)]
        for clause, is_outer in (*parts, *((match[1], False) for match in inner)):
            unsure = unsure or (bool(words) and UNSURE.within(clause, words))
            found = mentions if clause == sentence else self.mentions(clause)
            if not found:
                concluding = concluding or (CONCLUSION.within(clause, words) and self._fills(clause))
                if asserted:  # a correction at the start of a sentence takes back what stands before the sentence
                    takes_back = takes_back or self._takes_back(clause)
                continue
            if not is_outer and not asserted and not counts:
                continue
            said = self._clause(clause, found, words)
            asserted += said.asserted
            doubted += said.doubted
            rivals += said.rivals
            concludes = concludes or said.concludes or (concluding and bool(said.asserted))
        before = (sentence[max(0, match.start() - _SIGN) : match.start() + 1] for match in inner)
        if inner and any(map(SIGN_BEFORE.search, before)):
            doubted = mentions
        takes_back = takes_back if asserted else self._takes_back(sentence)
        return _Said(asserted, doubted, takes_back, unsure, concludes, rivals)

    def _clause(self, clause: str, mentions: Sequence[Mention], words: frozenset[str]) -> _Said:
        """Return what a clause with mentions asserts and leaves in doubt, given the `mark_words` of its sentence."""
        rest = _without(clause, mentions)
        signed = MAY_BE_SIGNED.search(clause) is not None and any(
            mention.option != "false" and _has_sign(clause, mention) for mention in mentions
        )
        if signed or (words and DOUBT.within(rest, words)):
            return _Said(doubted=mentions)
        end = mentions[-1].end
        explanation = _EXPLANATION.fullmatch(rest, end) if self.explained else self.tail.fullmatch(rest, end)
        said = rest[: explanation.start()] if explanation else rest
        since, concludes = 0, False
        if words or not self.cue.words:
            if DENIAL.within(said, words) or DRAFT.within(rest, words):
                return _NOTHING
            conclusions, cues, says = (
                [end for end in mark.ends(rest, words) if end <= mentions[-1].start]
                for mark in (CONCLUSION, self.cue, SAYS)
            )
            since, concludes = max([*conclusions, *cues, *says], default=0), bool(conclusions)
        if self._fills(said[since:]):
            asserted = [mention for mention in mentions if mention.start >= since]
            return _Said(asserted, concludes=concludes)
        fillers = RIVAL_FILLERS.may_match(words) or "%" in rest
        if RIVAL.within(rest, words) or (fillers and self._fills(RIVAL_FILLERS.pattern.sub(" ", rest))):
            return _Said(rivals=[frozenset(mention.option for mention in mentions)])
        return _NOTHING

    def _takes_back(self, text: str) -> bool:
        """Return whether a sentence or clause without an answer takes back or denies what stands before it."""
        share = SHARE.fullmatch(text) if "%" in text else None
        unlikely = share is not None and float(share[1]) <= (50 if self.opposite else 25)
        return (
            unlikely
            or TAKES_BACK.match(text) is not None
            or (len(text) < _LONGEST_DENIAL and WITHDRAWN.fullmatch(text) is not None)
        )

    def _fills(self, text: str) -> bool:
        """Return whether a text holds filler words only."""
        text = text.replace("\u2019", "'")
        first = _WORD.search(text)
        if first is None or first[0].lower() not in self.fillers:  # as with most texts
            return first is None
        return self.fillers.issuperset(map(str.lower, _WORD.findall(text)))

    def _first_rank(self, text: str) -> str:
        """Return the first item of a text that only ranks answers, the likeliest one first; else the text."""
        items: list[str] = []
        shares: list[float] = []
        for line in filter(str.strip, text.splitlines()):
            item = _RANK.fullmatch(line)
            mentions = self.mentions(item[2]) if item and int(item[1]) == len(items) + 1 else []
            if item is None or len(mentions) != 1 or item[2][: mentions[0].start].strip(_EDGES):
                return text
            share = _SHARE.fullmatch(item[2], mentions[0].end)
            if share is None:
                return text
            items.append(item[2])
            shares += [float(share[1])] if share[1] else []
        falling = len(shares) in (0, len(items)) and all(here > there for here, there in pairwise(shares))
        return items[0] if falling and len(items) > 1 else text


def _sentences(text: str) -> list[str]:
    """Return the sentences of a text, with some empty ones between them."""
    return _SENTENCE_END.split(f"\n{text}".replace("?", "?\u3002"))


def _bare(text: str) -> str:
    """Return a text in lower case without punctuation around it; a sign that denies what follows it stays."""
    return text.lstrip(_EDGES.replace("!", "")).rstrip(_EDGES).lower()


def _joined(sentence: str, mentions: Sequence[Mention]) -> str:
    """Return a sentence without the commas between answers that follow each other: they are in one clause."""
    pieces, since = [], 0
    for one, other in pairwise(mentions):
        if _COMMA.fullmatch(sentence, one.end, other.start):
            pieces += [sentence[since : one.end], sentence[one.end : other.start].replace(",", " and ")]
            since = other.start
    return "".join((*pieces, sentence[since:]))


def _has_sign(clause: str, mention: Mention) -> bool:
    """Return whether a sign beside a mention denies or changes it: `~N`, `≠ 1`."""
    before = clause[max(0, mention.start - _SIGN) : mention.start]
    return SIGN_BEFORE.search(before) is not None or SIGN_BEHIND.match(clause, mention.end) is not None


def _without(clause: str, mentions: Sequence[Mention]) -> str:
    """Return a clause with spaces in place of its mentions."""
    pieces, since = [], 0
    for mention in mentions:
        pieces += [clause[since : mention.start], " " * (mention.end - mention.start)]
        since = mention.end
    return "".join((*pieces, clause[since:]))


def plain_words(text: str) -> str:
    """Return a text without the commands of LaTeX around its words."""

    def plain(match: re.Match[str]) -> str:
        return "{" if match["open"] else match["sign"] or ("\u00b0" if match["circle"] else " ")

    return _LATEX.sub(plain, _DEGREE.sub("\u00b0", text)) if "\\" in text else text


def agree(mentions: list[Mention]) -> Parsed | None:
    """Return the answer on which all mentions agree, or why there is none; None if nothing is mentioned."""
    options = {mention.option for mention in mentions} - {""}
    if len(options) > 1:
        return rejected(Reason.CONTRADICTION)
    for option in options:
        return rejected(Reason.ILLEGAL) if option is None else accepted(option)
    return None


def wording(
    pattern: str,
    option: Callable[[re.Match[str]], str | None],
    *,
    cue: str,
    cue_words: str = "",
    starts: str = "",
    fillers: str = "",
    exact: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    opposite: Mapping[str, str] | None = None,
    explained: bool = False,
    tail: str = r"(?!)",
) -> Wording:
    """Make a `Wording` whose pattern also matches a denial before an answer.

    Two arguments only save time. One of the `cue_words` stands in every match of `cue` (see `Marks`). Every match of
    `pattern` begins with a capital letter or as one of the expressions `starts`, which are separated by white space.
    """
    # Capital letters are let through, as are the letters that count as i, k and s if the case is ignored.
    beginnings = "|".join(("[A-Z\u0130\u0131\u017f\u212a]", "n[oOeE']", *starts.split()))
    start = f"(?={beginnings})" if starts else ""
    whole = re.compile(f"{start}{_NEGATION}(?:{pattern})")
    words = frozenset((_FILLERS + fillers).split())
    exact = exact or {}
    return Wording(
        whole,
        option,
        marks(cue, cue_words),
        words,
        exact,
        {**exact, **(values or {})},
        opposite or {},
        explained,
        re.compile(tail),
    )


def by_words(**words: str) -> dict[str, str]:
    """Return a table of answers by their words, from the words of each answer, separated by spaces."""
    return {word.replace("_", " "): answer for answer, listed in words.items() for word in listed.split()}
