"""`geotune locate image=<file or folder>`: where photos were taken, how sure the model is, what lies nearest."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geotune import cli
from geotune.errors import ConfigError
from geotune.strict_json import finite

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from geotune.locating import Located

log = logging.getLogger(__name__)
PIPE_WIDTH = 160
"""Columns of a table that does not go to a terminal."""


def locate(cfg: DictConfig) -> list[Located]:
    """Locate the photos that `cfg` names, print them in the format asked for, and return them."""
    from geotune.launch import quiet
    from geotune.loading import find_source, open_backbone
    from geotune.locating import as_json, as_table, find_photos, locate_photos
    from geotune.progress import progress_bar

    quiet()
    photos = find_photos(cfg.image)
    source = find_source(cfg.checkpoint)
    if cfg.checkpoint is None:
        log.warning("checkpoint=null: the embedded backbone knows a synthetic city, not the world; name a checkpoint")
    device = device_of(cfg.accelerator)
    backbone = open_backbone(source, path=cfg.base_model, max_pixels=cfg.max_pixels, dtype=cfg.dtype).to(device)
    sampling = {"samples": cfg.samples, "temperature": cfg.temperature, "top_p": cfg.top_p, "seed": cfg.seed}
    settings = {"explain": cfg.explain, "batch_size": cfg.batch_size, "max_new_tokens": cfg.max_new_tokens}
    located: list[Located] = []
    with progress_bar("locating", len(photos)) as done:
        for one in locate_photos(backbone, photos, **sampling, **settings):
            located.append(one)
            done(1)
    bad = [one for one in located if one.error is not None]
    if len(bad) == len(located):
        more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise ConfigError(f"image={cfg.image}: no picture can be used: {bad[0].error}{more}; name a photo")
    if cfg.format == "json":
        report = {"checkpoint": cfg.checkpoint, **sampling, "photos": [as_json(one) for one in located]}
        cli.show(json.dumps(finite(report), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        cli.show(as_table(located, shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH))
    if bad:
        log.warning("%d of %d pictures could not be used", len(bad), len(located))
    return located


def device_of(accelerator: str) -> str:
    """Torch's name of the device. Raises ConfigError for a GPU that is not there."""
    import torch

    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator=gpu: this machine has no CUDA device; set accelerator=auto or cpu")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return cli.main("locate", locate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
