"""The statement that a text finally makes: fields are combined to statements, and one of several is chosen."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

from geotune.tasks.coordinate_reader.angles import NOT_A_NUMBER, CoordinateError
from geotune.tasks.coordinate_reader.statements import (
    HemisphereField,
    NamedField,
    Statement,
    StatementReader,
    Structure,
)
from geotune.tasks.coordinate_reader.structures import read_structures
from geotune.tasks.coordinate_reader.text import plain_text

_DIGIT = re.compile(r"\d")
_ONE_NUMBER = re.compile(r"[^\d]*+[0-9]++\.?[^\d]*+")
_HALF = re.compile(
    r"lat|l(?:on|ng)|nan|inf|bre[ie]|laen|north|south|east|west|[^\x00-\x7f]|\\|&"
    r"|[0-9][ ]?(?:deg|[nsew]\b)|(?-i:\b[NSEW](?:\b|[0-9]))",
    re.IGNORECASE,
)
"""What a text with one number needs to give half of a place."""
_ANSWER_TAG = re.compile(r"<\s?/?\s?(?:final[_ ])?answer\s?>", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(?:final(?:ly)?|answer|therefore|thus|hence|so|actually|correct(?:ion|ed)?|wait|no|conclu\w{1,12}"
    r"|reflection|instead|rather|settle|revis\w{1,12}|then|better|overall|refined?|verdict|in short|summary|precisely"
    r"|exactly|my (?:best )?(?:guess|estimate))\b",
    re.IGNORECASE,
)
"""Words before a statement that replaces the one before it."""
_ALTERNATIVE = re.compile(
    r"\b(?:second(?:ary)?|2nd|third|3rd|alternat\w{1,12}|runner[- ]?up|backup|fallback|less likely|least likely|worst"
    r"|(?:(?:an)?other|next) (?:candidate|option|possib|guess|choice|best)\w{0,12}|also possible|could also|might also"
    r"|or perhaps|or maybe|otherwise|failing that|or else|plan [b-d]|but possibly"
    r"|(?:guess|candidate|option|choice) (?:#\s?)?[2-9])\b",
    re.IGNORECASE,
)
"""Words before a statement that stands behind another one."""
_HEDGE = re.compile(r"\W*+(?:perhaps|maybe|possibly|or|vs\.?|versus)\b", re.IGNORECASE)
"""Words at the beginning of a statement that leave two possible."""
_COMPARISON = re.compile(
    r"\b(?:for (?:comparison|reference|example|instance|context)|compared|in contrast|unlike|instead of|rather than"
    r"|other than|anywhere but|except|whereas|e\.g\.|example|rejected)",
    re.IGNORECASE,
)
_RELATION = re.compile(
    r"\b(?:far from|away from|distance (?:to|from)|(?:km|kilomet\w{1,12}|miles?|mi|m) (?:\w{1,12} ){0,2}(?:from|of|to)"
    r"|(?:north|south|east|west)(?:[- ]?(?:east|west))?(?:ern)? of)\b[^,]*+\Z",
    re.IGNORECASE,
)
"""Words that relate the photo's place to a place that is named behind them."""
_MENTION = re.compile(
    r"\b(?:capital|nearest|closest|neighbou?r(?!h)\w{0,12}|nearby|not far|next to|city cent(?:er|re))\b", re.IGNORECASE
)
_DENIAL = re.compile(
    r"(?:\b(?:not|never|neither|nor|if|unless|doubt|unlikely|excluded?|ruled? out|eliminat\w{1,12}|wrong|cannot)|n't)\b"
    r"(?![^\n]{0,160}\bbut\b)[^.!?,\n]{0,25}\Z",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(
    r"[)\]]?(?:[^.!?\n\w]{0,3}\s?\bbut\b[^.!?\n]{0,20}(?:where|tell|unknown|no idea)\b"
    r"|\s?(?:is|was|are|were|seems?)\s(?:clearly\s|probably\s)?(?:wrong|not|n't|incorrect|unlikely|excluded|impossible"
    r"|my (?:first|initial))"
    r"|\s?\?\s?no\b)",
    re.IGNORECASE,
)
"""Words behind a statement that take it back."""
_OR = re.compile(
    r"\W{0,6}(?:or|oder|ou|and|to|through|vs\.?|versus)\W{0,6}(?:at|in|maybe|perhaps)?\W{0,6}", re.IGNORECASE
)
_OR_IN_SENTENCE = re.compile(r"[^.!?\n]{0,80}\b(?:or|and|oder|ou|vs)\b[^.!?\n]{0,80}", re.IGNORECASE)
_LISTED = re.compile(r"[\s\[\](){},;|-]*+")
_LABEL = re.compile(
    r"[\s*_\#>-]*+(?:(?i:rank|top|guess|candidate|option|choice|location)\s?\#?)?(?:(?:[A-Za-z]|[0-9]{1,2})[.):])?"
    r"[\s*_]*+(?:(?:[^\W\d_a-z][\w'\u2019.]*+|[a-z]{1,3}(?!\w))[\s,:*_(|\u2014-]*+){0,6}"
)
"""What a list of candidates has before each of them: a number or letter, and a name."""
_CLAIM = re.compile(
    r"\b(?:taken|shot|answer|guess|estimate\w{0,12}|predict\w{1,12}|photo|image|picture|camera|location|conclu\w{1,12}"
    r"|i(?:'d| would| will|'ll)? (?:say|pick|choose|go|settle|put|drop|place|think|believe)|pin|match"
    r"|coordinates?(?=\W{0,9}\Z)|best|most likely)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!vs)[.!?;]\s|\n")
_SHARE = re.compile(r"\A[^\n]{0,25}?([0-9]{1,3}(?:\.[0-9]{1,3})?)\s?%")
_RANK = re.compile(
    r"""
      \A[ \t*\#>-]{0,6} (?:(?:rank|top|guess|candidate|option|choice|location|\#)[ \t]?\#?)?
      (?P<number>[0-9]{1,2}) [.):][ \t*]
    | \b(?P<first>first|1st|primary|top|best|most[ ]likely|likeliest|main|highest)\b
      (?:[ ](?:choice|guess|candidate|option|estimate|location|answer|match|likely|probability|confidence)){1,2}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HEMISPHERE = re.compile(
    r"\b(north|south|east|west|n|s|e|w)(?:ern)? hemisphere\b|\b(below) the equator\b", re.IGNORECASE
)
_LEAD = 160
"""Number of characters before a statement in which the words that introduce it are looked for."""


def final_statement(answer: str) -> Statement:
    """Return the final statement of an answer's text; its `reason` is set if it gives no coordinates."""
    if not _DIGIT.search(answer) and not NOT_A_NUMBER.search(answer):
        return Statement(reason=CoordinateError.missing)
    if _ONE_NUMBER.fullmatch(answer) and not _HALF.search(answer):
        return Statement(reason=CoordinateError.missing)
    prose, structures = read_structures(plain_text(_ANSWER_TAG.sub(" ", answer)))
    statements, otherwise = _statements(prose, StatementReader(prose), structures)
    if not statements:
        return Statement(reason=otherwise)
    chosen = _Claim(prose, statements[0])
    if len(statements) == 1 and (chosen.is_in_passing or _ALTERNATIVE.search(chosen.lead)):
        return Statement(reason=CoordinateError.ambiguous)
    for statement in statements[1:]:
        chosen = _later(chosen, _Claim(prose, statement, chosen.since))
    return chosen.with_known_hemispheres()


def _statements(
    prose: str, reader: StatementReader, structures: list[Statement]
) -> tuple[list[Statement], CoordinateError]:
    """Return the statements of a text in order, and the reason that applies if there is none.

    Named fields are combined to statements, and hemispheres that stand in fields of their own are applied to them.
    """
    found: list[Statement] = []
    hemispheres: list[HemisphereField] = []
    pending: NamedField | None = None
    otherwise = CoordinateError.missing
    events = list(reader.events())
    for event, following in itertools.zip_longest(events, events[1:]):
        if isinstance(event, CoordinateError):
            otherwise = event
        elif isinstance(event, HemisphereField):
            hemispheres.append(event)
        elif isinstance(event, Structure):
            pending = None
            statement = replace(structures[event.number], start=event.start, end=event.end)
            cut = _DIGIT.match(prose, event.end) is not None  # "{...: -171.1}522"
            found.append(replace(statement, reason=CoordinateError.ambiguous) if cut else statement)
        elif isinstance(event, Statement):
            pending = None
            found.append(event)
        elif pending is None or pending.axis == event.axis:
            pending = event
        elif (
            isinstance(following, NamedField)
            and following.axis == pending.axis
            and reader.fields_apart(event, following) < reader.fields_apart(pending, event)
        ):
            pending = event  # the previous field is left over from a draft: this field belongs to the next
        else:
            found.append(reader.both(pending, event))
            pending = None
    halved = pending is not None and pending.reading.reason is not CoordinateError.missing
    if pending is not None and halved and (not found or pending.explicit):  # cut off, or half a correction
        found.append(Statement(reason=CoordinateError.incomplete, explicit=True, end=len(prose)))
    elif pending is not None and pending.reading.reason is None and not found:
        otherwise = CoordinateError.incomplete
    if hemispheres:
        found = [_with_hemispheres(statement, hemispheres) for statement in found]
    return found, otherwise


def _with_hemispheres(statement: Statement, fields: list[HemisphereField]) -> Statement:
    """Apply hemispheres that stand in fields of their own to the numbers of a statement that have none."""
    values = {"N": statement.lat, "E": statement.lon}
    for axis in values:
        directions = {field.negative for field in fields if field.axis == axis}
        if not directions or statement.reason is not None:
            continue
        negative = directions.pop()
        if directions or negative is None or (axis in statement.signed and (values[axis] < 0) is not negative):
            return replace(statement, reason=CoordinateError.ambiguous)
        values[axis] = -abs(values[axis]) if negative else values[axis]
    return replace(statement, lat=values["N"], lon=values["E"])


class _Claim:
    """A statement in its text, with what is said around it. `since` is the position up to which the text is judged."""

    def __init__(self, text: str, statement: Statement, since: int = 0) -> None:
        self.text = text
        self.statement = statement
        self.since = statement.end
        self.between = text[since : statement.start]
        self.lead = _last_sentence(self.between[-_LEAD:])
        self.behind = text[statement.end : statement.end + _LEAD]

    @property
    def is_in_passing(self) -> bool:
        """Whether the statement tells where something else is, or where the photo was not taken."""
        if _DENIAL.search(self.lead) or _WITHDRAWN.match(self.behind):
            return True
        related = _COMPARISON.search(self.lead) or _RELATION.search(self.lead)
        return related is not None and not _CLAIM.search(self.lead[related.end() :])

    @property
    def is_mention(self) -> bool:
        """Whether the statement, beside another one, only names a place."""
        if self.behind.lstrip(" )").startswith("?"):
            return True
        return self.is_in_passing or (_MENTION.search(self.lead) is not None and not _CLAIM.search(self.lead))

    @property
    def in_brackets(self) -> bool:
        """Whether the statement stands in brackets that were opened before it."""
        return self.between.rfind("(") > self.between.rfind(")")

    @property
    def stands_apart(self) -> bool:
        """Whether the statement is no item of a list: it has names, or a paragraph of its own at the end."""
        return self.statement.explicit or ("\n\n" in self.between and not self.behind.strip(" \n*_`$.)]}"))

    @property
    def strength(self) -> int:
        """How plainly the statement says that it is the answer: with named values, or with words that say so."""
        alone = not self.lead.strip(" \n*_`$([{") and not self.behind.strip(" \n*_`$)]}.")
        return int(self.statement.explicit or alone or _CLAIM.search(self.lead) is not None)

    @property
    def is_listed(self) -> bool:
        """Whether nothing but a label introduces the statement."""
        return bool(self.lead.strip()) and _LABEL.fullmatch(self.lead) is not None and not self.strength

    @property
    def rank(self) -> int | None:
        """The place of the statement in a list of candidates, from 1, as its own line says."""
        start = self.statement.start
        line = self.text[max(0, start - _LEAD) : start].rpartition("\n")[2]
        line = line[max(0, len(line) - len(self.between)) :].lstrip(" ;,") if "\n" not in self.between else line
        found = list(_RANK.finditer(line))
        if not found:
            return 2 if _ALTERNATIVE.search(line) else None
        if found[-1]["first"]:
            return 1
        # The number of a step of reasoning ("1. The plates fit Nairobi") is no rank.
        return int(found[-1]["number"]) if _LABEL.fullmatch(line) else None

    @property
    def share(self) -> float | None:
        """The percentage that stands behind the statement."""
        found = _SHARE.match(self.behind)
        return float(found[1]) if found else None

    def refused(self) -> _Claim:
        """Return the claim with its statement made ambiguous."""
        self.statement = replace(self.statement, reason=CoordinateError.ambiguous)
        return self

    def holding_until(self, later: _Claim) -> _Claim:
        """Return this claim, which a later one does not replace."""
        self.since = later.since
        return self

    def with_known_hemispheres(self) -> Statement:
        """Return the statement; it is ambiguous if its line names a hemisphere that its sign contradicts."""
        stated = self.statement
        start = self.text.rfind("\n", 0, stated.start) + 1
        end = self.text.find("\n", stated.end)
        line = self.text[start : end if end >= 0 else None]
        lower = line.lower()
        if "hemisphere" not in lower and "equator" not in lower:
            return stated
        for match in _HEMISPHERE.finditer(line):
            letter = (match[1] or "south")[0].lower()
            value = stated.lat if letter in "ns" else stated.lon
            if (letter in "sw" and value > 0) or (letter in "ne" and value < 0):
                return replace(stated, reason=stated.reason or CoordinateError.ambiguous)
        return stated


def _last_sentence(text: str) -> str:
    """Return the last sentence or line of a text; the line before a line break, if it ends with a colon."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    last = text[ends[-1] :] if ends else text
    if not last.strip() and text.rstrip().endswith(":"):
        return text.rstrip().rpartition("\n")[2]
    return last


def _later(answer: _Claim, later: _Claim) -> _Claim:
    """Return which of two statements holds: an answer and a later one.

    The later one holds, unless it repeats the answer, is ranked behind it, is named as an alternative or in passing,
    or has less claim to be the answer; between statements that are joined by "or" none holds.
    """
    restated = _restated(answer, later)
    if restated is not None:
        return restated
    corrected = _CORRECTION.search(later.between[-_LEAD:]) is not None
    named = later.statement.explicit and not answer.statement.explicit
    ranks = answer.rank, later.rank
    if ranks[0] is not None and ranks[1] is not None and ranks[0] != ranks[1] and later.strength <= answer.strength:
        in_doubt = answer.share is not None and later.share is not None and answer.share < later.share
        if not corrected:
            first = answer.holding_until(later) if ranks[0] < ranks[1] else later
            return first.refused() if in_doubt else first
    if answer.share is not None and later.share is not None and not corrected:
        return answer.holding_until(later) if answer.share > later.share else later.refused()
    if _OR.fullmatch(later.between) or (_LISTED.fullmatch(later.between) and not later.stands_apart):
        return later.refused()
    if _ALTERNATIVE.search(later.lead) or later.is_mention:
        return answer.holding_until(later)
    if corrected or answer.is_mention:
        return later
    if _HEDGE.match(later.lead) or (_OR_IN_SENTENCE.fullmatch(later.between) and not named):
        return later.refused()
    if later.in_brackets and not later.strength:
        return later.refused() if answer.in_brackets and not answer.strength else answer.holding_until(later)
    if answer.is_listed and later.is_listed:
        return later.refused()
    if later.strength >= answer.strength:
        return later
    return answer.holding_until(later) if answer.statement.explicit else later.refused()


def _restated(answer: _Claim, later: _Claim) -> _Claim | None:
    """Return the finer or plainer of two statements of which one repeats the other; None if they differ.

    One repeats the other if it rounds it. A bare pair may do so in either order.
    """
    first, second = answer.statement, later.statement
    if first.reason is not None or second.reason is not None:
        return None
    if first.bare is not second.bare:
        pair, plain = (first, second) if first.bare else (second, first)
        if _rounds(pair.lat, plain.lat) and _rounds(pair.lon, plain.lon) and _decimals(pair) > _decimals(plain):
            return later if second.bare else answer.holding_until(later)
        straight = _rounds(pair.lat, plain.lat) and _rounds(pair.lon, plain.lon)
        if straight or (_rounds(pair.lon, plain.lat) and _rounds(pair.lat, plain.lon)):
            return answer.holding_until(later) if second.bare else later
    if _rounds(first.lat, second.lat) and _rounds(first.lon, second.lon):
        return later if _decimals(second) > _decimals(first) else answer.holding_until(later)
    return None


def _rounds(a: float, b: float) -> bool:
    """Return whether two numbers are equal to as many decimals as both have."""
    decimals = min(len(repr(value).partition(".")[2]) for value in (a, b))
    return abs(a - b) <= 0.51 * 10.0**-decimals


def _decimals(statement: Statement) -> int:
    """Return the number of decimals that a statement gives."""
    return max(len(repr(value).partition(".")[2]) for value in (statement.lat, statement.lon))
