"""`python -m data_builders.build builder=<name> out=<dir> [key=value ...]`: one source dataset -> sharegpt samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from data_builders.writer import DatasetWriter, read_shard
from geotune import cli
from geotune.data.building import builder_config, config_fingerprint

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Builder(Protocol):
    """A dataclass whose fields are what a recipe sets; `build` writes every sample of its source."""

    def build(self, writer: DatasetWriter) -> None: ...


def build_dataset(
    builder: Builder,
    out: str | Path,
    name: str,
    *,
    paths: Literal["relative", "absolute"] = "relative",
    max_reject_fraction: float = 0.01,
    shard: str | None = None,
) -> dict[str, Any]:
    """Run a builder into the folder `out`; the report, as in build_report.json.

    shard: `i/n` to write one part of n, for `data_builders.merge` to join.

    Raises:
        ConfigError: a mistake in the builder's settings or in its source, a folder that can't be written.
    """
    config = builder_config(builder)
    part = read_shard(shard)
    with DatasetWriter(out, name, paths=paths, max_reject_fraction=max_reject_fraction, shard=part) as writer:
        writer.extra = {"builder": config, "fingerprint": config_fingerprint(config)}
        builder.build(writer)
    return writer.report


def run(cfg: DictConfig) -> dict[str, Any]:
    """Build what the config asks for, say what was written, and return the report."""
    builder = cli.instantiate_checked(cfg.builder, "builder")
    report = build_dataset(
        builder, cfg.out, cfg.name, paths=cfg.paths, max_reject_fraction=cfg.max_reject_fraction, shard=cfg.shard
    )
    cli.show(summary(report, Path(cfg.out)))
    return report


def summary(report: dict[str, Any], out: Path) -> str:
    """The report in a few lines of text."""
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
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main("build", run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
