"""`python -m data_builders.merge out=<dir>`: the parts that several jobs built -> one dataset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.build import build_summary
from data_builders.writer import SHARDS, DatasetWriter
from geotune.cli.entry import run_command, show
from geotune.errors import ConfigError
from geotune.records import parse_line
from geotune.sample import Sample
from geotune.system.progress import progress_bar

if TYPE_CHECKING:
    from omegaconf import DictConfig

SUFFIX = ".report.json"


def merge_shards(out: str | Path, name: str | None = None) -> dict[str, Any]:
    """Join the parts in `out`, which go when that is done; the report.

    The records stand part by part; their order is not that of a build in one go. A record that the source lost is
    counted once, however many jobs noted it.

    Raises:
        ConfigError: a part is missing, or parts are not of one build; what is wrong with the whole.
    """
    folder = Path(out) / SHARDS
    reports = _complete(folder, name)
    first = reports[0]
    fraction = first["max_reject_fraction"]
    with DatasetWriter(out, first["name"], paths=first["paths"], max_reject_fraction=fraction) as writer:
        writer.extra = first["extra"]
        with progress_bar("merging", sum(report["written"] for report in reports)) as advance:
            for report in reports:
                for sample in _samples(_path(folder, report, "jsonl")):
                    writer.write(sample)
                    advance(1)
        rejects: Counter[str] = Counter()
        for report in reports:
            rejects |= Counter(_lines(_path(folder, report, "rejected.jsonl")))
        for line in rejects.elements():
            reject = json.loads(line)
            writer.reject(reject["id"], reject["reason"], reject["detail"])
        if first["source_counted"]:
            writer.count_source(max(report["source_records"] for report in reports))
        for report in reports:
            writer.count_images(report["images"], reused=report["images_reused"])
        writer.audit = _joined_audit([report["audit"] for report in reports], first["counts"])
    for report in reports:
        for suffix in ("report.json", "jsonl", "rejected.jsonl"):
            _path(folder, report, suffix).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return writer.report


def _complete(folder: Path, name: str | None) -> list[dict[str, Any]]:
    """The reports of all parts of one build, in order."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    names = sorted({report["name"] for report in reports})
    if not names:
        raise ConfigError(f"out={folder.parent}: no part of a dataset there; build with shard=1/n to shard=n/n first")
    if name is None and len(names) > 1:
        raise ConfigError(f"name=null: {folder} has parts of {', '.join(names)}; say which")
    chosen = [report for report in reports if report["name"] == (name or names[0])]
    if not chosen:
        raise ConfigError(f"name={name}: {folder} has parts of {', '.join(names)} only")
    counts = sorted({report["shard"][1] for report in chosen})
    if len(counts) > 1:
        raise ConfigError(f"out={folder.parent}: parts of {' and of '.join(map(str, counts))} there; remove one set")
    missing = sorted(set(range(1, counts[0] + 1)) - {report["shard"][0] for report in chosen})
    if missing:
        again = ", ".join(f"shard={number}/{counts[0]}" for number in missing[:10])
        raise ConfigError(f"out={folder.parent}: {len(missing)} of {counts[0]} parts are missing; build {again}")
    settings = [(report["extra"], report["paths"], report["max_reject_fraction"]) for report in chosen]
    if any(setting != settings[0] for setting in settings):
        raise ConfigError(f"out={folder.parent}: the parts were built with different settings; build them again")
    return sorted(chosen, key=lambda report: report["shard"][0])


def _path(folder: Path, report: dict[str, Any], suffix: str) -> Path:
    number, count = report["shard"]
    return folder / f"{report['name']}.{number:05d}-of-{count:05d}.{suffix}"


def _samples(path: Path) -> Iterator[Sample]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_line(line, where=f"{path}:{number}", default_id="")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _joined_audit(audits: Sequence[dict[str, Any]], counts: Sequence[str]) -> dict[str, Any]:
    """What all parts found alike, what each found for itself, and the sums of what each counted (`counts`)."""
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
    """Join what the config names, say what was written, and return the report."""
    report = merge_shards(cfg.out, cfg.name)
    show(build_summary(report, Path(cfg.out)))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_command("merge", merge, argv)


if __name__ == "__main__":
    raise SystemExit(main())
