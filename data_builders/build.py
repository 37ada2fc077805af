"""`python -m data_builders.build builder=<name> out=<dir> [key=value ...]`: turn a source dataset into samples."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command, show
from geotune.data.building import make_builder, refuse_other_settings
from geotune.system.screen import wrapped

if TYPE_CHECKING:
    from omegaconf import DictConfig


def build(cfg: DictConfig) -> dict[str, Any]:
    """Build the dataset that the config names, print a summary, and return the report."""
    builder = make_builder(cfg.builder, "builder")
    refuse_other_settings(
        builder,
        Path(cfg.out, f"{cfg.name}.jsonl"),
        overwrite=bool(getattr(builder, "overwrite", False)),
        key="out",
        remedy="choose another folder, or replace it with overwrite=true",
    )
    report = builder.make(
        cfg.out, cfg.name, paths=cfg.paths, max_reject_fraction=cfg.max_reject_fraction, shard=cfg.shard
    )
    show(wrapped(build_summary(report, Path(cfg.out))))
    return report


def build_summary(report: dict[str, Any], out: Path) -> str:
    """A report in a few lines of text."""
    if "postponed" in report:
        return str(report["postponed"])
    part = report.get("shard")
    where = f"part {part[0]} of {part[1]}; geotune merge out={out}" if part else f"{out / report['name']}.jsonl"
    lines = [f"{report['written']:,} samples -> {where} ({report['seconds']:.1f} s)"]
    lines += [f"  {task:<24}{count:>8,}" for task, count in report["tasks"].items()]
    lines.append(f"  images made: {report['images']:,}, reused: {report['images_reused']:,}")
    rejected = ", ".join(f"{reason} {count:,}" for reason, count in report["rejected"].items())
    lines.append(f"  rejected: {rejected or 'none'} of {report['source_records']:,} source records")
    if not part:
        rules = report["audit"].get("rules", {})
        scores = ((rule, score) for rule in rules for found in rules[rule].values() for score in found.values())
        leaks = sorted({rule for rule, score in scores if score["leaks"]})
        lines.append(f"  shortcuts: {', '.join(leaks) or 'none'}; see {out / 'build_report.html'}")
        given = shlex.quote(f"data.path={out}")
        lines.append(f"train on it: geotune train recipe=<name> {given} data.build=null")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `build` and return its exit status."""
    return run_command("build", build, argv)


if __name__ == "__main__":
    raise SystemExit(main())
