"""`geotune export checkpoint=<dir> out=<dir>`: write a checkpoint as an adapter and as a whole model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command, show
from geotune.errors import ConfigError, Problem
from geotune.system.screen import wrapped

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(cfg: DictConfig) -> dict[str, Any]:
    """Export the checkpoint that `cfg` names to `cfg.out`, and return the report, which is written there too.

    Raises ConfigError if the checkpoint can't be read or an exported folder fails its self-test.
    """
    from geotune.exporting.export import export_checkpoint, replacing
    from geotune.inference.loading import find_source, open_backbone, unquantized
    from geotune.system.libraries import silence_libraries

    silence_libraries()
    with replacing(cfg.out, overwrite=cfg.overwrite) as folder:
        source = find_source(cfg.checkpoint)
        if source.kind != "checkpoint":
            raise ConfigError(
                Problem(
                    "checkpoint",
                    cfg.checkpoint,
                    "holds no checkpoint of a run",
                    "name a step_<N> folder or a run's folder",
                )
            )
        changes = {"path": cfg.base_model, "dtype": "float32"}
        backbone = open_backbone(unquantized(source), allow_changes=cfg.allow_changes, **changes)
        report = export_checkpoint(backbone, source, folder, dtype=cfg.dtype)
    show(wrapped(summary(report, cfg.out)))
    return report


def summary(report: Mapping[str, Any], out: str) -> str:
    """Return a text about the exported folders and the results of their self-tests."""
    lines = [f"update {report['step']} exported to {out}: {', '.join(report['folders'])}"]
    for check in report["self_test"]:
        lines.append(
            f"  {check['subject']} = {check['reference']}: logits within {check['difference']:.1e} of the largest "
            f"({check['tolerance']:.0e} allowed), {'the same' if check['same_answers'] else 'different'} greedy answers"
        )
    whole = Path(out, "merged")
    lines += [
        f"report: {Path(out, 'export_report.json')}",
        f"locate photos: geotune locate {shlex.quote(f'checkpoint={whole}')} image=<file or folder>",
        f"serve: vllm serve {shlex.quote(str(whole))}",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("export", export, argv)


if __name__ == "__main__":
    raise SystemExit(main())
