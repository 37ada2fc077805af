"""The list of all kinds of texts with their generators, and what a reader makes of them.

    python -m tests.geotune.tasks.kinds [--examples 300] [--show 4] [KIND ...]

prints for each kind how many generated texts are read rightly, refused, or read as another place, with examples.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from enum import StrEnum

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning

from geotune.tasks.coordinates import Coordinates, parse_coordinates, read_fields
from tests.geotune.tasks.cell_kinds import BAR, CELLS, CELLS_WITH_COMMAS, UNREAD_CELLS
from tests.geotune.tasks.notations import Case
from tests.geotune.tasks.stating_kinds import NOTATIONS
from tests.geotune.tasks.surrounded_kinds import SURROUNDED
from tests.geotune.tasks.unstated_kinds import UNSTATED_KINDS

STATED: dict[str, st.SearchStrategy[Case]] = {**NOTATIONS, **SURROUNDED, **CELLS, **CELLS_WITH_COMMAS}
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
    """Yield the counts of a kind, then texts that are read wrongly, or refused although they state a place."""
    verdicts = [(case, *judge(kind, case)) for case in cases_of(kind, count, number)]
    tally = {verdict: sum(v is verdict for _, v, _ in verdicts) for verdict in Verdict}
    yield f"{kind:38}" + "".join(f"  {verdict} {number:4}" for verdict, number in tally.items())
    for verdict in (Verdict.wrong, Verdict.refused):
        if verdict is Verdict.refused and kind not in STATED:
            continue
        texts = sorted(
            {(len(case.text), case.text, str(case.place), str(at)) for case, v, at in verdicts if v is verdict}
        )
        for _, text, place, at in texts[:: max(1, len(texts) // max(1, shown))][:shown]:
            yield f"    {verdict:8} {text!r} -> {at}" + (f", is {place}" if verdict is Verdict.wrong else "")


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
