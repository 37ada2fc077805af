"""The list of all kinds of texts with their generators, and what a reader makes of them.

    python -m tests.geotune.tasks.kinds [--examples 300] [--show 4] [KIND ...]

prints for each kind how many generated texts are read rightly, refused, or read as another place, with examples of each
form that is not read rightly.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning

from geotune.tasks.coordinates import Coordinates, parse_coordinates, read_fields
from tests.geotune.tasks.cell_kinds import BAR, CELLS, CELLS_WITH_COMMAS, UNREAD_CELLS
from tests.geotune.tasks.changed_kinds import CHANGED
from tests.geotune.tasks.notations import Case
from tests.geotune.tasks.stating_kinds import NOTATIONS
from tests.geotune.tasks.surrounded_kinds import SURROUNDED
from tests.geotune.tasks.unstated_kinds import UNSTATED_KINDS

STATED: dict[str, st.SearchStrategy[Case]] = {**NOTATIONS, **SURROUNDED, **CHANGED, **CELLS, **CELLS_WITH_COMMAS}
"""Kinds of texts and rows that state one place."""
KINDS: dict[str, st.SearchStrategy[Case]] = {**STATED, **UNSTATED_KINDS, **UNREAD_CELLS}
"""All kinds."""
TOLERANCE_DEG = 1e-6


class Verdict(StrEnum):
    """What a reader made of a text."""

    right = "right"
    refused = "refused"
    wrong = "WRONG"


def near(found: Coordinates, place: tuple[float, float] | None) -> bool:
    """Return whether coordinates that were read are those that a text states."""
    return place is not None and max(abs(found.lat - place[0]), abs(found.lon - place[1])) <= TOLERANCE_DEG


def judge(kind: str, case: Case) -> tuple[Verdict, object]:
    """Read a text as an answer that gives the latitude first, or cells. Returns the verdict and the reading."""
    if BAR in case.text:
        found = read_fields(*case.text.split(BAR), decimal_comma=kind in CELLS_WITH_COMMAS)
    else:
        found = parse_coordinates(case.text, pair_order="lat_lon")
    if not isinstance(found, Coordinates):
        return Verdict.refused, found
    return (Verdict.right if near(found, case.place) else Verdict.wrong), (found.lat, found.lon)


def cases_of(kind: str, count: int, number: int) -> list[Case]:
    """Draw `count` texts of a kind, always the same ones for the same `number`."""
    drawn: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind])
    def draw(case: Case) -> None:
        drawn.append(case)

    draw()
    return drawn


def lines(kind: str, count: int, shown: int, number: int) -> Iterator[str]:
    """Yield the counts of a kind, then for each form `shown` texts that are not read rightly."""
    verdicts = [(case, *judge(kind, case)) for case in cases_of(kind, count, number)]
    yield f"{kind:38}{_counts(verdict for _, verdict, _ in verdicts)}"
    for form in dict.fromkeys(case.form for case, _, _ in verdicts):
        own = [(case, verdict, found) for case, verdict, found in verdicts if case.form == form]
        for bad in (Verdict.wrong, Verdict.refused) if kind in STATED else (Verdict.wrong,):
            texts = {case.text: (found, case.place) for case, verdict, found in own if verdict is bad}
            if texts and shown:
                yield f"  {_counts(verdict for _, verdict, _ in own)}   {form!r}"
            for text in sorted(texts, key=len)[:shown]:
                found, place = texts[text]
                yield f"    {bad:8} {text!r} -> {found}" + (f", is {place}" if bad is Verdict.wrong else "")


def _counts(verdicts: Iterable[Verdict]) -> str:
    """Return how often each verdict occurs."""
    tally = Counter(verdicts)
    return "".join(f"  {verdict} {tally[verdict]:4}" for verdict in Verdict)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the verdicts of kinds. Returns the exit status: 1 if a text is read wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.geotune.tasks.kinds", description=__doc__)
    parser.add_argument("kind", nargs="*", help="a kind, or a part of its name; default: all")
    parser.add_argument("--examples", type=int, default=300, help="texts of each kind")
    parser.add_argument("--seed", type=int, default=0, help="other texts for another seed")
    parser.add_argument("--show", type=int, default=4, help="examples of each verdict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore", NonInteractiveExampleWarning)
    wrong = 0
    for kind in KINDS:
        if args.kind and not any(part.lower() in kind.lower() for part in args.kind):
            continue
        for line in lines(kind, args.examples, args.show, args.seed):
            print(line, flush=True)
            wrong += line.startswith("    WRONG")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
