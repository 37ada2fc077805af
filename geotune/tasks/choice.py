"""Tasks with a short list of legal answers, and how these are read from JSON values and from plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from geotune.tasks.base import Parsed, Reason, Task, accepted, refused
from geotune.tasks.final_answer import answer_span, without_open_thought
from geotune.tasks.json_reading import JsonNode, Reading, Status, Value, normal_key, plain_punctuation, read_objects

_ALIASES = ("answer", "finalanswer")  # keys that say "this is the answer", whatever the task
_ABSENT = re.compile(
    r"\W*|(?:null|none|nil|n/?a|unknown|unclear|unsure|uncertain|undetermined|no answer)\W*"
    r"|not (?:available|applicable|specified|sure|visible)\W*",
    re.IGNORECASE,
)
_EDGES = " \t\r\n.,;:!*_`\"'()<>[]{}|#"
_BRACE = re.compile(r"[{}]")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_NO_STATEMENT = re.compile(
    r"\b(?:if|when|whether|suppos\w{1,4}|assum\w{1,4})\b|^\W*(?:is|was|does|did)\b", re.IGNORECASE
)
_LINK = r"(?:a|at|be|by|facing|from|in|map|of|on|quite|the|to)[ \t]"
_NEGATION = rf"(?P<not>(?i:(?:\b(?:not|never|neither|nor)|n't)[ \t](?:{_LINK}){{0,2}}))?"
_CONCLUSION = re.compile(r"\b(?:answer|conclusion|therefore|thus|hence|so|final(?:ly)?|overall)\b", re.IGNORECASE)
# A sentence of these words and a legal answer says nothing but the answer.
_FILLERS = """
    a aerial am an and appears as be bearing being believe best but by camera candidate choice corner correct
    corresponds direction due either exactly face faces facing first from ground guess headed heading i i'd i'm
    image in indeed index is it it's its json likely located location looking looks map maps match matched matches
    me most must my not number of one option or orientation oriented part photo photograph photographer picture
    place point pointed pointing points portion position positioned probably quarter range rather region satellite
    say seems shot shows side spot standing stands street surely taken that the there think this to toward towards
    very view viewer was which with within
"""
_FILLER_WORDS = frozenset(_FILLERS.split())


class Mention(NamedTuple):
    """An answer named at `text[start:end]`: a legal one, None for an illegal one, "" for one that is denied."""

    start: int
    end: int
    option: str | None


@dataclass(frozen=True)
class Wording:
    """How the legal answers of a task are worded.

    `pattern` finds whatever has the form of an answer and `option` says which legal one it is, or None; `cue` finds
    words after which this task's answers are stated ("the direction is"); `exact` holds (in lower case) what counts
    only when nothing else is said; `opposite` what the denial of an answer means, where it means anything.
    """

    pattern: re.Pattern[str]
    option: Callable[[re.Match[str]], str | None]
    cue: re.Pattern[str]
    exact: Mapping[str, str]
    opposite: Mapping[str, str]

    def mentions(self, text: str) -> list[Mention]:
        """Every answer that `text` names, in order; a denied one as its opposite, where it has one."""
        found = []
        for match in self.pattern.finditer(text):
            option = self.option(match)
            if match["not"] and option is not None:
                option = self.opposite.get(option, "")
            found.append(Mention(match.start(), match.end(), option))
        return found

    def value(self, text: str) -> Parsed:
        """Read the value that stands under an answer's key."""
        if _ABSENT.fullmatch(text):
            return refused(Reason.NO_ANSWER)
        if exact := self.exact.get(text.strip(_EDGES).lower()):
            return accepted(exact)
        return _agree(self.mentions(text)) or refused(Reason.ILLEGAL)

    def statement(self, text: str) -> Parsed:
        """Read plain words: the last conclusion ("so the answer is") and all answers that are stated after it.

        A sentence states an answer when it says nothing else, or when it names one after a cue. Without a conclusion
        everything that is stated must agree.
        """
        stated: list[Mention] = []
        for sentence in reversed(_SENTENCE_END.split(text)):
            if exact := self.exact.get(sentence.strip(_EDGES).lower()):
                stated.append(Mention(0, 0, exact))
                continue
            mentions = self.mentions(sentence)
            if not mentions or _NO_STATEMENT.search(sentence):
                continue
            conclusions, cues = (
                [cue.end() for cue in pattern.finditer(sentence) if cue.end() <= mentions[-1].start]
                for pattern in (_CONCLUSION, self.cue)
            )
            if conclusions or cues:
                stated += [mention for mention in mentions if mention.start >= max(conclusions + cues)]
            elif _says_nothing_else(sentence, mentions):
                stated += mentions
            if conclusions:
                break
        return _agree(stated) or refused(Reason.NO_ANSWER)


def wording(
    pattern: str,
    option: Callable[[re.Match[str]], str | None],
    *,
    cue: str,
    exact: Mapping[str, str] | None = None,
    opposite: Mapping[str, str] | None = None,
) -> Wording:
    """A `Wording` whose pattern also sees a denial before an answer."""
    whole = re.compile(f"{_NEGATION}(?:{pattern})")
    return Wording(whole, option, re.compile(cue, re.IGNORECASE), exact or {}, opposite or {})


def yes_or_no(more_true: str = "", more_false: str = "") -> Wording:
    """True and false in their usual words, and further words (alternatives of a pattern) for each."""
    true, false = "true|yes" + more_true, "false|no" + more_false
    return wording(
        rf"(?i:\b(?:(?P<true>{true})|{false})\b)",
        lambda match: "true" if match["true"] else "false",
        exact={"1": "true", "0": "false", "t": "true", "f": "false", "y": "true", "n": "false"},
        opposite={"true": "false", "false": "true"},
        cue=rf"^\W*(?=(?:{true}|{false})\b)",
    )


@dataclass(frozen=True)
class ChoiceTask(Task):
    """A task whose answer is one of `options`, under one JSON key."""

    wording: Wording = field(kw_only=True, repr=False, compare=False)

    def json(self, answer: str) -> str:
        if answer not in self.options:
            raise ValueError(f"{self.name}: {answer!r} is not one of {', '.join(self.options)}")
        return f'{{"{self.key}": {self.literal(answer)}}}'

    def literal(self, answer: str) -> str:
        """An option as a JSON literal: booleans and indices bare, names in quotes."""
        return answer if answer in ("true", "false") or answer.isdigit() else f'"{answer}"'

    def parse(self, text: str) -> Parsed:
        if not text.strip():
            return refused(Reason.EMPTY)
        text = without_open_thought(text)
        since, end = answer_span(text)
        own = normal_key(self.key)
        torn = False
        for version in dict.fromkeys((text, plain_punctuation(text))):
            reading = read_objects(version, frozenset((own, *_ALIASES)))
            for names in ((own,), _ALIASES):
                final = reading.last(names, since)
                if final:
                    return _one_of(self._object(reading, node, names) for node in final)
                torn = torn or final is not None
        return refused(Reason.TRUNCATED) if torn else self.wording.statement(plain_punctuation(text[since:end]))

    def score(self, parsed: Parsed, gold: str) -> float:
        """1 for the gold answer, else 0."""
        if gold not in self.options:
            raise ValueError(f"{self.name}: gold {gold!r} is not one of {', '.join(self.options)}")
        return float(parsed.answer == gold)

    def _object(self, reading: Reading, node: JsonNode, names: tuple[str, ...]) -> Parsed:
        """The answer that one JSON object gives."""
        members = [member for member in node.members() if member.key in names]
        parsed = _one_of(self._value(reading, member.value, names) for member in members)
        if node.status is Status.BROKEN and parsed.answer is not None:
            # What follows up to the next brace may take the answer back: {"direction": "N" or perhaps "S"}
            brace = _BRACE.search(reading.text, node.end)
            rest = reading.text[members[-1].start : brace.start() if brace else None]
            return _agree(self.wording.mentions(rest)) or parsed
        return parsed

    def _value(self, reading: Reading, value: Value, names: tuple[str, ...]) -> Parsed:
        while isinstance(value, JsonNode):
            inner = (member.value for member in value.members() if not value.is_object or member.key in names)
            values = list(islice(inner, 2))
            if len(values) != 1:
                return refused(Reason.CONTRADICTION if values else Reason.ILLEGAL)
            value = values[0]
        return refused(Reason.TRUNCATED) if value is None else self.wording.value(reading.string(value))


def _one_of(results: Iterable[Parsed]) -> Parsed:
    distinct = set(results)
    return distinct.pop() if len(distinct) == 1 else refused(Reason.CONTRADICTION)


def _agree(mentions: list[Mention]) -> Parsed | None:
    """What the mentions say with one voice; None when there are none."""
    options = {mention.option for mention in mentions} - {""}
    if len(options) > 1:
        return refused(Reason.CONTRADICTION)
    for option in options:
        return refused(Reason.ILLEGAL) if option is None else accepted(option)
    return None


def _says_nothing_else(sentence: str, mentions: list[Mention]) -> bool:
    place = 0
    for mention in [*mentions, Mention(len(sentence), 0, None)]:
        if any(word.lower() not in _FILLER_WORDS for word in _WORD.findall(sentence[place : mention.start])):
            return False
        place = mention.end
    return True
