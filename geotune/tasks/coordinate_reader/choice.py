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
_RESTATED_DEG = 0.01
"""Of two statements this close to each other one may be the other, rounded."""
_CORRECTION = re.compile(
    r"\b(?:final(?:ly)?|answer|therefore|thus|hence|so|actually|correct(?:ion|ed)?|wait|no|conclu\w{1,12}"
    r"|reflection|instead|rather|settle|revis\w{1,12}|then|better|overall|refined?|verdict|in short|summary"
    r"|my (?:best )?(?:guess|estimate))\b",
    re.IGNORECASE,
)
"""Words before a statement that replaces the one before it."""
_ALTERNATIVE = re.compile(
    r"\b(?:second|2nd|third|3rd|alternat\w{1,12}"
    r"|(?:(?:an)?other|next) (?:candidate|option|possib|guess|choice|best)\w{0,12}"
    r"|runner[- ]?up|backup|fallback|less likely|also possible|could also|might also|or perhaps|or maybe|otherwise"
    r"|failing that|or else"
    r"|plan [b-d]|but possibly|(?:guess|candidate|option|choice) (?:#\s?)?[2-9])\b",
    re.IGNORECASE,
)
"""Words before a statement that stands behind another one."""
_COMPARISON = re.compile(
    r"\b(?:for (?:comparison|reference|example|instance|context)|compared|in contrast|unlike|instead of|rather than"
    r"|whereas|e\.g\.|such as|capital|nearest|closest|neighbou?r\w{0,12})",
    re.IGNORECASE,
)
_RELATION = re.compile(
    r"\b(?:not far|far from|nearby|away from|distance (?:to|from)"
    r"|(?:km|kilomet\w{1,12}|miles?|mi|m) (?:\w{1,12} ){0,2}(?:from|of|to)"
    r"|(?:north|south|east|west)(?:[- ]?(?:east|west))?(?:ern)?(?: side| part| edge)? of|city cent(?:er|re) (?:is|lies)"
    r"|next to)\b[^,]*+\Z",
    re.IGNORECASE,
)
"""Words that relate the photo's place to a place that is named behind them."""
_DENIAL = re.compile(
    r"(?:\b(?:not|never|neither|nor|if|unless|excluded?|ruled? out|eliminat\w{1,12}|wrong|cannot)|n't)\b"
    r"[^.!?\n]{0,25}\Z",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(
    r"[^.!?\n]{0,12}\bbut\b[^.!?\n]{0,30}(?:n't|cannot|can not|do not|not sure|unsure|unknown|no idea)\b", re.IGNORECASE
)
_OR = re.compile(r"\W{0,6}(?:or|oder|ou|and|to|through)\W{0,6}(?:at|in|maybe|perhaps)?\W{0,6}", re.IGNORECASE)
_LISTED = re.compile(r"[\s\[\](){},;|]*+")
_CLAIM = re.compile(
    r"\b(?:taken|shot|answer|guess|estimate\w{0,12}|predict\w{1,12}|photo|image|picture|camera|location"
    r"|coordinates?|conclu\w{1,12}|i'd say|i say|pin)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?;]\s|\n")
_RANK = re.compile(
    r"""
      (?:^|\n|;[ ])[ \t*\#>-]{0,6} (?:(?:rank|top|guess|candidate|option|choice|location|\#)[ \t]?\#?)?
      (?P<number>[0-9]{1,2}) [.):][ \t*]
    | \b(?P<first>first|1st|primary|top|best|most[ ]likely|likeliest|main|highest)\b
      (?:[ ](?:choice|guess|candidate|option|estimate|location|answer|match|likely|probability|confidence)){1,2}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LEAD = 160
"""Number of characters before a statement in which the words that introduce it are looked for."""


def final_statement(answer: str) -> Statement:
    """Return the final statement of an answer's text; its `reason` is set if it gives no coordinates."""
    if not _DIGIT.search(answer) and not NOT_A_NUMBER.search(answer):
        return Statement(reason=CoordinateError.missing)
    prose, structures = read_structures(plain_text(answer))
    reader = StatementReader(prose)
    statements, otherwise = _statements(prose, reader, structures)
    if not statements:
        return Statement(reason=otherwise)
    chosen = statements[0]
    if _is_in_passing(prose, chosen) and len(statements) == 1:
        return Statement(reason=CoordinateError.ambiguous)
    for statement in statements[1:]:
        chosen = _later(prose, chosen, statement)
    return chosen


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


def _later(text: str, answer: Statement, later: Statement) -> Statement:
    """Return which of two statements holds: an answer and a later one.

    The later one holds, unless it repeats the answer, is ranked behind it, is named as an alternative or in passing,
    or has less claim to be the answer; between statements that are joined by "or" none holds.
    """
    if _is_flipped(answer, later):
        return later if answer.bare else replace(answer, end=later.end)
    near = _is_near(answer.lat, answer.lon, later)
    if near and _decimals(later) <= _decimals(answer):
        return replace(answer, end=later.end)
    between = text[answer.end : later.start]
    lead = _lead(text, later, answer.end)
    ranks = _rank(text, answer), _rank(text, later, answer.end)
    corrected = _CORRECTION.search(between[-_LEAD:]) is not None
    if None not in ranks and ranks[0] != ranks[1] and not corrected:
        return answer if ranks[0] < ranks[1] else later  # type: ignore[operator]
    if _OR.fullmatch(between) or (_LISTED.fullmatch(between) and not (answer.explicit and later.explicit)):
        return replace(later, reason=CoordinateError.ambiguous)
    if _ALTERNATIVE.search(lead) or _is_in_passing(text, later, answer.end):
        return replace(answer, end=later.end)
    if corrected or _is_in_passing(text, answer):
        return later
    if between.rfind("(") > between.rfind(")") and (later.explicit, answer.explicit) != (True, False):
        return replace(answer, end=later.end)  # in brackets
    if _claim(text, later, answer.end) >= _claim(text, answer):
        return later
    if near or (answer.explicit and not later.explicit):
        return replace(answer, end=later.end)
    return replace(later, reason=CoordinateError.ambiguous)


def _is_near(lat: float, lon: float, other: Statement) -> bool:
    """Return whether a statement gives this place or one so near that one of the two only rounds the other."""
    return abs(other.lat - lat) <= _RESTATED_DEG and abs(other.lon - lon) <= _RESTATED_DEG


def _is_flipped(answer: Statement, later: Statement) -> bool:
    """Return whether one of two statements is a bare pair that repeats the other, in either order."""
    if answer.bare is later.bare:
        return False
    return _is_near(answer.lat, answer.lon, later) or _is_near(answer.lon, answer.lat, later)


def _decimals(statement: Statement) -> int:
    """Return the number of decimals that a statement gives."""
    return max(len(repr(value).partition(".")[2]) for value in (statement.lat, statement.lon))


def _lead(text: str, statement: Statement, since: int = 0) -> str:
    """Return the words that introduce a statement: its sentence from `since` up to it, or the label on its line."""
    before = text[max(since, statement.start - _LEAD) : statement.start]
    ends = [match.end() for match in _SENTENCE_END.finditer(before.rstrip())]
    return before[ends[-1] :] if ends else before


def _rank(text: str, statement: Statement, since: int = 0) -> int | None:
    """Return the place of a statement in a list of candidates, from 1, as its line or label says."""
    line = text[max(since, statement.start - _LEAD) : statement.start]
    line = line[line.rfind("\n", 0, len(line.rstrip())) + 1 :] if "\n" in line.rstrip() else line
    found = list(_RANK.finditer("\n" + line))
    if not found:
        return 2 if _ALTERNATIVE.search(line) else None
    return 1 if found[-1]["first"] else int(found[-1]["number"])


def _is_in_passing(text: str, statement: Statement, since: int = 0) -> bool:
    """Return whether a statement tells where something else is, or where the photo was not taken."""
    if statement.explicit:
        return False
    lead = _lead(text, statement, since)
    if any(pattern.search(lead) for pattern in (_COMPARISON, _RELATION, _DENIAL)):
        return True
    return _WITHDRAWN.match(text, statement.end) is not None


def _claim(text: str, statement: Statement, since: int = 0) -> int:
    """Return how plainly a statement says that it is the answer: 2 with named values, 1 with words that say so."""
    if statement.explicit:
        return 2
    return int(_CLAIM.search(_lead(text, statement, since)) is not None)
