"""`python -m data_builders.merge out=<dir>`: join the parts that several jobs built into one dataset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.build import build_summary
from data_builders.writer import SHARDS, DatasetWriter, shard_path
from geotune.cli.entry import run_command, show
from geotune.errors import ConfigError, Problem
from geotune.records import parse_line
from geotune.sample import Sample
from geotune.system.progress import progress_bar
from geotune.system.screen import wrapped

if TYPE_CHECKING:
    from omegaconf import DictConfig

PART_SUFFIXES = ("report.json", "jsonl", "rejected.jsonl")
"""Endings of the files that make up a part."""


def merge_shards(out: str | Path, name: str | None = None) -> dict[str, Any]:
    """Join the parts of the dataset `name` in `out`, delete them, and return the report of the whole.

    The records are in the order of the parts, which differs from that of a single build. A rejected source record
    counts once, however many jobs rejected it.

    Args:
        out: Folder of the dataset, as the jobs were given it.
        name: Name of the dataset; None if the folder holds the parts of one dataset only.

    Raises:
        ConfigError: A part is missing, the parts were built with different settings, or the whole dataset is empty or
            has too many rejected records.
    """
    folder = Path(out) / SHARDS
    reports = _reports_of_all_parts(folder, name)
    first = reports[0]
    fraction = first["max_reject_fraction"]
    with DatasetWriter(out, first["name"], paths=first["paths"], max_reject_fraction=fraction) as writer:
        writer.extra = first["extra"]
        with progress_bar("merging", sum(report["written"] for report in reports)) as advance:
            for report in reports:
                for sample in _samples(_part_path(out, report, "jsonl")):
                    writer.write(sample)
                    advance(1)
        rejects: Counter[str] = Counter()
        for report in reports:
            rejects |= Counter(_lines(_part_path(out, report, "rejected.jsonl")))
        for line in rejects.elements():
            reject = json.loads(line)
            writer.reject(reject["id"], reject["reason"], reject["detail"])
        if first["source_counted"]:
            writer.count_source(max(report["source_records"] for report in reports))
        for report in reports:
            writer.count_images(report["images"], reused=report["images_reused"])
        writer.audit = _joined_audit([report["audit"] for report in reports], first["counts"])
    for report in reports:
        for suffix in PART_SUFFIXES:
            _part_path(out, report, suffix).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return writer.report


def _reports_of_all_parts(folder: Path, name: str | None) -> list[dict[str, Any]]:
    """The reports of all parts of one dataset, in the order of the parts. Raises ConfigError as `merge_shards`."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.report.json"))]
    names = sorted({report["name"] for report in reports})
    if not names:
        raise ConfigError(
            Problem(
                "out", folder.parent, "this folder has no part of a dataset", "build with shard=1/n to shard=n/n first"
            )
        )
    if name is None and len(names) > 1:
        raise ConfigError(Problem("name", None, f"{folder} has parts of {', '.join(names)}", "give one of these names"))
    chosen = [report for report in reports if report["name"] == (name or names[0])]
    if not chosen:
        raise ConfigError(Problem("name", name, f"{folder} has parts of {', '.join(names)} only"))
    counts = sorted({report["shard"][1] for report in chosen})
    if len(counts) > 1:
        raise ConfigError(
            Problem(
                "out",
                folder.parent,
                f"it has builds in {' and in '.join(map(str, counts))} parts",
                "remove all but one",
            )
        )
    missing = sorted(set(range(1, counts[0] + 1)) - {report["shard"][0] for report in chosen})
    if missing:
        again = ", ".join(f"shard={number}/{counts[0]}" for number in missing[:10])
        raise ConfigError(
            Problem("out", folder.parent, f"{len(missing)} of {counts[0]} parts are missing", f"build {again}")
        )
    settings = [(report["extra"], report["paths"], report["max_reject_fraction"]) for report in chosen]
    if any(setting != settings[0] for setting in settings):
        raise ConfigError(
            Problem("out", folder.parent, "the parts were built with different settings", "build them again")
        )
    return sorted(chosen, key=lambda report: report["shard"][0])


def _part_path(out: str | Path, report: dict[str, Any], suffix: str) -> Path:
    """The file with this suffix of the part that a report describes."""
    number, count = report["shard"]
    return shard_path(Path(out), report["name"], (number, count), suffix)


def _samples(path: Path) -> Iterator[Sample]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_line(line, where=f"{path}:{number}", default_id="")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _joined_audit(audits: Sequence[dict[str, Any]], counts: Sequence[str]) -> dict[str, Any]:
    """The audit of the whole dataset.

    Entries named in `counts` are added up. Other entries are taken over if all parts agree on them; if not, the values
    of all parts stand under `by_shard`.
    """
    joined: dict[str, Any] = {}
    for key in dict.fromkeys(key for audit in audits for key in audit):
        values = [audit.get(key) for audit in audits]
        if key in counts:
            joined[key] = dict(sum(map(Counter, values), Counter()))
        elif all(value == values[0] for value in values):
            joined[key] = values[0]
        else:
            joined.setdefault("by_shard", {})[key] = values
    return joined


def merge(cfg: DictConfig) -> dict[str, Any]:
    """Join the parts that the config names, print a summary, and return the report."""
    report = merge_shards(cfg.out, cfg.name)
    show(wrapped(build_summary(report, Path(cfg.out))))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `merge` and return its exit status."""
    return run_command("merge", merge, argv)


if __name__ == "__main__":
    raise SystemExit(main())
