"""Tasks with a short list of legal answers, which are read from JSON values or from plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from geotune.tasks.base import Parsed, Reason, Task, accepted, rejected
from geotune.tasks.final_answer import final_answer
from geotune.tasks.json_nodes import JsonNode, Reading, Status, Value
from geotune.tasks.json_reading import normal_key, plain_punctuation, read_spellings

_ALIASES = ("answer", "finalanswer")  # keys that hold the answer in any task
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
# A sentence of these words and a legal answer states that answer and nothing else.
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
    """An answer that `text[start:end]` names.

    `option` is the legal answer, None if the named answer is illegal, and "" if it is denied without an opposite.
    """

    start: int
    end: int
    option: str | None


@dataclass(frozen=True)
class Wording:
    """The words in which the legal answers of a task are given."""

    pattern: re.Pattern[str]
    """Matches every text that has the form of an answer; its group `not` matches a denial."""
    option: Callable[[re.Match[str]], str | None]
    """Maps a match of `pattern` to a legal answer, or to None if it names none."""
    cue: re.Pattern[str]
    """Matches words that introduce an answer of this task ("the direction is")."""
    exact: Mapping[str, str]
    """Legal answers by lower-case texts that count only if nothing else is said."""
    opposite: Mapping[str, str]
    """The answer that the denial of an answer implies, where it implies any."""

    def mentions(self, text: str) -> list[Mention]:
        """Find every answer that `text` names, in order; a denied answer becomes its opposite, if it has any."""
        found = []
        for match in self.pattern.finditer(text):
            option = self.option(match)
            if match["not"] and option is not None:
                option = self.opposite.get(option, "")
            found.append(Mention(match.start(), match.end(), option))
        return found

    def value(self, text: str) -> Parsed:
        """Read the value under an answer's JSON key."""
        if _ABSENT.fullmatch(text):
            return rejected(Reason.NO_ANSWER)
        if exact := self.exact.get(text.strip(_EDGES).lower()):
            return accepted(exact)
        return _agree(self.mentions(text)) or rejected(Reason.ILLEGAL)

    def statement(self, text: str) -> Parsed:
        """Read the answer from plain words: from the last conclusion ("so the answer is") and all that follows it.

        A sentence states an answer if it says nothing else, or if it names an answer after a cue. All answers that are
        stated must agree; without a conclusion, this includes the answers of the whole text.
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
        return _agree(stated) or rejected(Reason.NO_ANSWER)


def wording(
    pattern: str,
    option: Callable[[re.Match[str]], str | None],
    *,
    cue: str,
    exact: Mapping[str, str] | None = None,
    opposite: Mapping[str, str] | None = None,
) -> Wording:
    """Make a `Wording` whose pattern also matches a denial before an answer."""
    whole = re.compile(f"{_NEGATION}(?:{pattern})")
    return Wording(whole, option, re.compile(cue, re.IGNORECASE), exact or {}, opposite or {})


def yes_or_no(more_true: str = "", more_false: str = "") -> Wording:
    """Make the `Wording` of true and false; the arguments add alternatives to the pattern, such as "|correct"."""
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
        """Return an option as a JSON literal: booleans and indices bare, names in quotes."""
        return answer if answer in ("true", "false") or answer.isdigit() else f'"{answer}"'

    def parse(self, text: str) -> Parsed:
        if not text.strip():
            return rejected(Reason.EMPTY)
        text = final_answer(text)
        own_key = normal_key(self.key)
        incomplete = False
        for reading in read_spellings(text, frozenset((own_key, *_ALIASES))):
            for keys in ((own_key,), _ALIASES):
                final = reading.final_objects(keys)
                if final:
                    return _common_outcome(self._parse_object(reading, node, keys) for node in final)
                incomplete = incomplete or final is not None
        return rejected(Reason.TRUNCATED) if incomplete else self.wording.statement(plain_punctuation(text))

    def score(self, parsed: Parsed, gold: str) -> float:
        """Return 1 for the gold answer, else 0."""
        if gold not in self.options:
            raise ValueError(f"{self.name}: gold {gold!r} is not one of {', '.join(self.options)}")
        return float(parsed.answer == gold)

    def _parse_object(self, reading: Reading, node: JsonNode, keys: tuple[str, ...]) -> Parsed:
        """Read the answer that a JSON object gives under any of `keys`."""
        members = [member for member in node.members() if member.key in keys]
        parsed = _common_outcome(self._parse_value(reading, member.value, keys) for member in members)
        if node.status is Status.BROKEN and parsed.answer is not None:
            # The text up to the next brace may revoke the answer: {"direction": "N" or perhaps "S"}
            brace = _BRACE.search(reading.text, node.end)
            rest = reading.text[members[-1].start : brace.start() if brace else None]
            return _agree(self.wording.mentions(rest)) or parsed
        return parsed

    def _parse_value(self, reading: Reading, value: Value, keys: tuple[str, ...]) -> Parsed:
        """Read the answer from a JSON value; an object or array counts as the single value that it holds."""
        while isinstance(value, JsonNode):
            inner = (member.value for member in value.members() if not value.is_object or member.key in keys)
            values = list(islice(inner, 2))
            if len(values) != 1:
                return rejected(Reason.CONTRADICTION if values else Reason.ILLEGAL)
            value = values[0]
        return rejected(Reason.TRUNCATED) if value is None else self.wording.value(reading.string(value))


def _common_outcome(outcomes: Iterable[Parsed]) -> Parsed:
    """Return the outcome that all `outcomes` equal, else a contradiction."""
    distinct = set(outcomes)
    return distinct.pop() if len(distinct) == 1 else rejected(Reason.CONTRADICTION)


def _agree(mentions: list[Mention]) -> Parsed | None:
    """Return the answer on which all mentions agree, or why there is none; None if nothing is mentioned."""
    options = {mention.option for mention in mentions} - {""}
    if len(options) > 1:
        return rejected(Reason.CONTRADICTION)
    for option in options:
        return rejected(Reason.ILLEGAL) if option is None else accepted(option)
    return None


def _says_nothing_else(sentence: str, mentions: list[Mention]) -> bool:
    """Return whether a sentence holds only filler words beside its mentions."""
    position = 0
    for mention in [*mentions, Mention(len(sentence), 0, None)]:
        if any(word.lower() not in _FILLER_WORDS for word in _WORD.findall(sentence[position : mention.start])):
            return False
        position = mention.end
    return True
