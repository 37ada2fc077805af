"""Tasks with a short list of legal answers, which are read from JSON values or from plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from geotune.tasks.base import Parsed, Reason, Task, rejected
from geotune.tasks.final_answer import TEXT_MARKS, final_answer
from geotune.tasks.json_nodes import JsonNode, Reading, Status, Value, is_denial
from geotune.tasks.json_reading import normal_key, read_spellings
from geotune.tasks.wording import Wording, agree, by_words, wording

_ALIASES = ("answer", "finalanswer", "prediction", "choice", "result")  # keys that hold the answer in any task
_BRACE = re.compile(r"[{}]")
_JOINED_WORDS = re.compile(r"[ \t]*(?:[,/|&]|(?:and|vs|versus)\b\.?)([^\n{}]*)", re.IGNORECASE)


# Words for yes and no in other languages; they count only if nothing else is said.
_YES_AND_NO = by_words(
    true="1 t y oui ja sí si sim да 是 是的 对 はい vrai wahr verdadero",
    false="""
        0 f n non nein nee não nao нет 否 不 不是 いいえ faux falsch falso
        probably_not likely_not most_likely_not definitely_not certainly_not i_don't_think_so
    """,
)
# "No" before a noun is no answer: "no idea".
_NO = r"no(?!\s+(?!(?:it|the|this|that|they|i|he|so|because|since|as|and|or|but)\b)[^\W\d_])"


def yes_or_no(
    *,
    true: str = "",
    false: str = "",
    places: str = "",
    fillers: str = "",
    starts: str = "",
    exact: Mapping[str, str] | None = None,
) -> Wording:
    """Make the `Wording` of true and false.

    The arguments add alternatives to the pattern, such as "|correct", and filler words. A match of `places` means
    false if one of its groups matches, with two groups true, and so on. `starts` holds the beginnings of these
    alternatives and places, to save time. `exact` adds answers that count only if a sentence says nothing else.
    """
    yes, no = "true|yes|yeah|yep" + true, rf"false|{_NO}|nope" + false
    more = f"|{places}" if places else ""
    return wording(
        rf"(?i:\b(?:(?P<true>{yes})|(?P<false>{no}))\b{more})",
        _yes_or_no,
        fillers=f"they there {fillers}",
        exact={**_YES_AND_NO, **(exact or {})},
        opposite={"true": "false", "false": "true"},
        cue=r"(?!)",
        cue_words="-",  # which is no word
        starts=f"t y f n {starts}" if starts or not (true or false or places) else "",
        explained=True,
    )


def _yes_or_no(match: re.Match[str]) -> str:
    denials = [name for name, found in match.groupdict().items() if found and name not in ("not", "true")]
    return "false" if len(denials) % 2 else "true"


@dataclass(frozen=True)
class ChoiceTask(Task):
    """A task whose answer is one of `options`, under one JSON key."""

    wording: Wording = field(kw_only=True, repr=False, compare=False)
    aliases: tuple[str, ...] = ()
    """Other keys, normalized, that models use for the answer."""

    def json(self, answer: str) -> str:
        if answer not in self.options:
            raise ValueError(f"{self.name}: {answer!r} is not one of {', '.join(self.options)}")
        return f'{{"{self.key}": {self.literal(answer)}}}'

    def literal(self, answer: str) -> str:
        """Return an option as a JSON literal: booleans and indices bare, names in quotes."""
        return answer if answer in ("true", "false") or answer.isdigit() else f'"{answer}"'

    def parse(self, text: str) -> Parsed:
        start = text.rfind("{")
        parsed = self._canonical.get(text[start:].rstrip()) if start >= 0 else None
        if parsed is not None and not any(mark in text[:start] for mark in TEXT_MARKS) and not is_denial(text[:start]):
            return parsed
        return self._read(text) if text.strip() else rejected(Reason.EMPTY)

    @cached_property
    def _canonical(self) -> dict[str, Parsed]:
        """The outcomes of the canonical answers.

        These answers, by far the most frequent ones, need no analysis at the end of a text without `TEXT_MARKS`.
        """
        return {answer: self._read(answer) for answer in map(self.json, self.options)}

    def _read(self, text: str) -> Parsed:
        """Read the final answer of a text that is not empty."""
        text = final_answer(text)
        own_key = normal_key(self.key)
        incomplete = False
        for reading in read_spellings(text, frozenset((own_key, *self.aliases, *_ALIASES))):
            for keys in ((own_key,), self.aliases, _ALIASES):
                final = reading.final_objects(keys)
                if final is not None and len(final) == 1 and reading.is_doubted(final[0]):
                    return self.wording.statement(_outside_objects(reading))
                if final:
                    outcome = _common_outcome(self._parse_object(reading, node, keys) for node in final)
                    return self._with_rivals(outcome, reading.text, final[-1].end)
                incomplete = incomplete or final is not None
        return rejected(Reason.TRUNCATED) if incomplete else self.wording.statement(_outside_objects(reading))

    def score(self, parsed: Parsed, gold: str) -> float:
        """Return 1 for the gold answer, else 0."""
        if gold not in self.options:
            raise ValueError(f"{self.name}: gold {gold!r} is not one of {', '.join(self.options)}")
        return float(parsed.answer == gold)

    def _with_rivals(self, outcome: Parsed, text: str, end: int) -> Parsed:
        """Return the outcome of an object that ends at `end`, unless another answer is joined to it (`{...}, S`)."""
        joined = _JOINED_WORDS.match(text, end)
        rival = self.wording.statement(joined[1]) if joined else outcome
        return outcome if None in (outcome.answer, rival.answer) else _common_outcome((outcome, rival))

    def _parse_object(self, reading: Reading, node: JsonNode, keys: tuple[str, ...]) -> Parsed:
        """Read the answer that a JSON object gives under any of `keys`."""
        members = [member for member in node.members() if member.key in keys]
        parsed = _common_outcome(self._parse_value(reading, member.value, keys) for member in members)
        if node.status is Status.BROKEN and parsed.answer is not None:
            # The text up to the next brace may revoke the answer: {"direction": "N" or perhaps "S"}
            brace = _BRACE.search(reading.text, node.end)
            rest = reading.text[members[-1].start : brace.start() if brace else None]
            return agree(self.wording.mentions(rest)) or parsed
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


def _outside_objects(reading: Reading) -> str:
    """Return a text without its JSON objects, whose keys were not those of an answer."""
    pieces, since = [], 0
    for node in reading.nodes:
        if node.is_object and node.first is not None and node.start >= since:
            pieces.append(reading.text[since : node.start])
            closing = reading.text.find("}", node.end) if node.status is Status.BROKEN else node.end - 1
            since = len(reading.text) if closing < 0 else closing + 1
    return "\n".join((*pieces, reading.text[since:]))


def _common_outcome(outcomes: Iterable[Parsed]) -> Parsed:
    """Return the outcome that all `outcomes` equal, else a contradiction."""
    distinct = set(outcomes)
    return distinct.pop() if len(distinct) == 1 else rejected(Reason.CONTRADICTION)
