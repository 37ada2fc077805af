"""`geotune locate image=<file or folder>`: estimate where photos were taken, and how certain each estimate is."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geotune.cli.entry import run_command, show
from geotune.errors import ConfigError, Problem
from geotune.system.strict_json import finite

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from geotune.inference.locating import Located

log = logging.getLogger(__name__)
PIPE_WIDTH = 160
"""Width of the table, in columns, outside a terminal."""


def locate(cfg: DictConfig) -> list[Located]:
    """Locate the photos that `cfg` names, print the result as `cfg.format` says, and return it.

    Raises ConfigError if the model can't be loaded or no photo can be read.
    """
    from geotune.inference.loading import find_source, open_backbone
    from geotune.inference.locating import as_json, as_table, find_photos, locate_photos
    from geotune.system.libraries import silence_libraries
    from geotune.system.progress import progress_bar

    silence_libraries()
    photos = find_photos(cfg.image)
    source = find_source(cfg.checkpoint)
    if cfg.checkpoint is None:
        log.warning(
            "checkpoint=null: the embedded backbone knows a synthetic city only, not the world; name a checkpoint"
        )
    device = device_of(cfg.accelerator)
    changes = {"path": cfg.base_model, "max_pixels": cfg.max_pixels, "dtype": cfg.dtype}
    backbone = open_backbone(source, allow_changes=cfg.allow_changes, **changes).to(device)
    sampling = {"samples": cfg.samples, "temperature": cfg.temperature, "top_p": cfg.top_p, "seed": cfg.seed}
    settings = {"explain": cfg.explain, "batch_size": cfg.batch_size, "max_new_tokens": cfg.max_new_tokens}
    located: list[Located] = []
    with progress_bar("locating", len(photos)) as advance:
        for photo in locate_photos(backbone, photos, **sampling, **settings):
            located.append(photo)
            advance(1)
    bad = [photo for photo in located if photo.error is not None]
    if len(bad) == len(located):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise ConfigError(Problem("image", cfg.image, f"no image can be used: {bad[0].error}{more}", "name a photo"))
    if cfg.format == "json":
        report = {"checkpoint": cfg.checkpoint, **sampling, "photos": [as_json(photo) for photo in located]}
        show(json.dumps(finite(report), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        show(as_table(located, shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH))
    if bad:
        log.warning("%d of %d images could not be used", len(bad), len(located))
    return located


def device_of(accelerator: str) -> str:
    """Return torch's name of the device. Raises ConfigError if a GPU is required and there is none."""
    import torch

    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            Problem("accelerator", "gpu", "this machine has no CUDA device", "set accelerator=auto or cpu")
        )
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("locate", locate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
