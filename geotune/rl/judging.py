"""Completions in a file, judged by a reward, and what people see of it: a table, totals and JSON lines."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geotune.errors import BadRecord, ConfigError, Problem, in_one_line, shortened
from geotune.records import iter_json
from geotune.rl.rewards import Reward, Scored
from geotune.sample import Sample, sample_from_record
from geotune.system.tables import FittingTable, TableColumn

FORM = 'a line is {"text": <completion>, "sample": <sharegpt record>}'
LONGEST_ID = 24
"""Characters of a sample's id that the table shows."""


@dataclass(frozen=True)
class CompletionLine:
    """A line of the file: its number, the completion's text and the sample."""

    number: int
    text: str
    sample: Sample


@dataclass(frozen=True)
class JudgedLine:
    """A line of the file, and what the reward says of it."""

    line: CompletionLine
    scored: Scored
    km: float | None
    """Distance of the answer's place from the truth, where the reward has a geodesic term that reads one."""

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons that the terms give, by term."""
        return {name: said.reason for name, said in self.scored.terms.items() if said.reason is not None}

    def as_json(self) -> dict[str, Any]:
        """Return what is known of the line."""
        terms = {
            name: {"value": said.value, "reason": said.reason, "read": said.read}
            for name, said in self.scored.terms.items()
        }
        said = {"reward": self.scored.value, "gated": self.scored.gated, "km": self.km, "terms": terms}
        return {"line": self.line.number, "id": self.line.sample.id, **said}


def read_completions(path: Path, reward: Reward) -> list[CompletionLine]:
    """Return the lines of a file, checked by the reward.

    Raises ConfigError, which names the line, at the first one that can't be judged, and for a file without lines.
    """
    if not path.is_file():
        raise ConfigError(Problem("file", path, "there is no such file", f"give JSON lines; {FORM}"))
    lines = []
    for where, record in iter_json(path, ".jsonl"):
        try:
            lines.append(_completion(record, where))
            reward.check(lines[-1].sample)
        except BadRecord as error:
            raise error.at(where, error.record_id) from None
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    if not lines:
        raise ConfigError(Problem("file", path, "holds no line", FORM))
    return lines


def _completion(record: Mapping[str, Any] | BadRecord, where: str) -> CompletionLine:
    """Return the line whose JSON is `record`. Raises BadRecord."""
    if isinstance(record, BadRecord):
        raise BadRecord("", f"{record.reason}; {FORM}")
    text, sample = record.get("text"), record.get("sample")
    if not isinstance(text, str):
        said = "no `text`" if text is None else f"`text` is {shortened(text)}; it must be a string"
        raise BadRecord("", f"{said}; {FORM}")
    if not isinstance(sample, dict):
        said = "no `sample`" if sample is None else f"`sample` is {shortened(sample)}; it must be a record"
        raise BadRecord("", f"{said}; {FORM}")
    number = where.rpartition(":")[2]
    return CompletionLine(int(number), text, sample_from_record(sample, where=where, default_id=f"line {number}"))


def judged(lines: Sequence[CompletionLine], reward: Reward) -> Iterator[JudgedLine]:
    """Judge completions, in order."""
    for line in lines:
        scored = reward(line.text, line.sample)
        yield JudgedLine(line, scored, reward.distance_km(scored, line.sample))


def reward_totals(rows: Sequence[JudgedLine]) -> dict[str, Any]:
    """Return means of the reward and its terms, the median distance, and how often each term gives each reason."""
    names = rows[0].scored.terms
    distances = [row.km for row in rows if row.km is not None]
    return {
        "n": len(rows),
        "reward": statistics.fmean(row.scored.value for row in rows),
        "gated": sum(row.scored.gated for row in rows),
        "median_km": statistics.median(distances) if distances else None,
        "terms": {
            name: {
                "value": statistics.fmean(row.scored.terms[name].value for row in rows),
                "reasons": dict(Counter(row.reasons[name] for row in rows if name in row.reasons).most_common()),
            }
            for name in names
        },
    }


def as_json_lines(rows: Sequence[JudgedLine]) -> str:
    """Return one JSON object per line of the file, and a last one with the key `totals`."""
    objects = [*(row.as_json() for row in rows), {"totals": reward_totals(rows)}]
    return "\n".join(json.dumps(item, ensure_ascii=False, allow_nan=False) for item in objects)


def lines_table(rows: Sequence[JudgedLine], title: str) -> FittingTable:
    """Return the table with a row per line of the file."""
    names = list(rows[0].scored.terms)
    columns = [TableColumn("line", [str(row.line.number) for row in rows])]
    columns += [TableColumn("sample", [in_one_line(row.line.sample.id, LONGEST_ID) for row in rows], right=False)]
    columns += [TableColumn("reward", [f"{row.scored.value:.3f}" for row in rows])]
    columns += [TableColumn(name, [f"{row.scored.terms[name].value:.3f}" for row in rows]) for name in names]
    if any(row.km is not None for row in rows):
        columns.append(TableColumn("km", ["-" if row.km is None else f"{row.km:,.1f}" for row in rows]))
    columns.append(TableColumn("reason", [", ".join(dict.fromkeys(row.reasons.values())) for row in rows], right=False))
    return FittingTable(title, columns)


def totals_table(rows: Sequence[JudgedLine], reward: Reward) -> FittingTable:
    """Return the table with the mean of each term, its weight and its reasons."""
    found = reward_totals(rows)
    terms = found["terms"]
    names, weights = ["reward", *terms], ["", *(f"{reward.terms[name].weight:g}" for name in terms)]
    means = [f"{value:.3f}" for value in (found["reward"], *(term["value"] for term in terms.values()))]
    gated = f"gated {found['gated']}" if found["gated"] else ""
    counted = [", ".join(f"{why} {n}" for why, n in term["reasons"].items()) for term in terms.values()]
    km = "" if found["median_km"] is None else f", median {found['median_km']:,.1f} km of the places that were read"
    columns = [
        TableColumn("mean of", names, right=False),
        TableColumn("weight", weights),
        TableColumn("value", means),
        TableColumn("reasons", [gated, *counted], right=False),
    ]
    return FittingTable(f"{found['n']} completions{km}", columns)
