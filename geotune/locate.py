"""`geotune locate image=<file or folder>`: estimate where photos were taken, and how certain each estimate is."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command, show

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from geotune.backbones.base import Backbone
    from geotune.inference.locating import Located
    from geotune.inference.photos import FoundPhotos

log = logging.getLogger("geotune.locate")  # __name__ is __main__ under `python -m`
PIPE_WIDTH = 160
"""Width of the table, in columns, outside a terminal."""


def locate(cfg: DictConfig) -> dict[str, int]:
    """Locate the photos that `cfg` names, print the results or write them to `cfg.out`, and return their totals.

    On Ctrl-C, what was found so far is printed or written. Raises ConfigError if the model can't be loaded, no photo
    can be read, or `cfg.out` can't be written.
    """
    from geotune.inference.loading import device_of, evaluation_of, find_source, open_backbone
    from geotune.inference.partial import check_out, partial_path
    from geotune.inference.photos import find_photos
    from geotune.system.libraries import silence_libraries

    silence_libraries()
    out = None if cfg.out is None else Path(cfg.out)
    found = find_photos(cfg.image, own=() if out is None else (out, partial_path(out)))
    if found.left_out:
        log.warning("left out: %s", found.summary())
    if out is not None:
        check_out(out, overwrite=cfg.overwrite)
    source = find_source(cfg.checkpoint, hub=True)
    if cfg.checkpoint is None:
        log.warning(
            "checkpoint=null: the embedded backbone knows a synthetic city only, not the world; name a checkpoint"
        )
    tell_radii(cfg, evaluation_of(source))
    device = device_of(cfg.accelerator)
    changes = {"path": cfg.base_model, "max_pixels": cfg.max_pixels, "dtype": cfg.dtype}
    backbone = open_backbone(source, allow_changes=cfg.allow_changes, **changes).to(device)
    return locate_and_print(cfg, backbone, found) if out is None else locate_to_file(cfg, backbone, found, out)


def tell_radii(cfg: DictConfig, evaluation: Mapping[str, Any] | None) -> None:
    """Log how often the radii of the model held the truth when it was evaluated, or that nobody measured it."""
    from geotune.runs.radii import measured_radii

    measured = measured_radii(evaluation)
    for radii in measured:
        log.info("radii: %s", radii.told())
        if others := radii.differences(cfg.samples, cfg.temperature, cfg.top_p):
            log.warning("radii: answers are drawn otherwise now, so that may not hold (%s)", ", ".join(others))
    if not measured:
        log.info("radii: unmeasured, so how often they hold the truth is not known for this model")


def locate_and_print(cfg: DictConfig, backbone: Backbone, found: FoundPhotos) -> dict[str, int]:
    """Locate photos, print the results in the order of the photos, and return their totals."""
    from geotune.inference.locating import as_json
    from geotune.inference.results import any_answers, as_table, check_readable, pretty_json, totals, totals_line

    located: dict[Path, Located] = {}
    try:
        for photo in _located(cfg, backbone, found.photos):
            located[photo.image] = photo
        check_readable((photo.error for photo in located.values()), cfg.image)
    finally:  # an interruption too
        photos = [located[photo] for photo in found.photos if photo in located]
        rows = [as_json(photo) for photo in photos]
        counts = totals(rows, len(found.photos))
        if any_answers(counts) and cfg.format == "json":
            settings = {"checkpoint": cfg.checkpoint, **_sampling(cfg)}
            show(pretty_json({**settings, "totals": counts, "left_out": found.counts(), "photos": rows}))
        elif any_answers(counts):
            show(as_table(photos, shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH))
            log.info("%s", totals_line(counts))
    return counts


def locate_to_file(cfg: DictConfig, backbone: Backbone, found: FoundPhotos, out: Path) -> dict[str, int]:
    """Locate photos, write the results to `out`, and return their totals; go on with what an interruption left."""
    from geotune.inference.locating import as_json
    from geotune.inference.partial import PartialResults, weights_digest
    from geotune.inference.results import any_answers, check_readable, pretty_json, totals, totals_line, write_located

    settings = {
        "image": str(Path(cfg.image).absolute()),
        "weights": weights_digest(backbone),
        "prompt": backbone.encoder.fingerprint,
        **{"max_pixels": backbone.max_pixels, "max_new_tokens": cfg.max_new_tokens, "explain": cfg.explain},
        **_sampling(cfg),
    }
    with PartialResults(out, found.photos, settings) as partial:
        if partial.done:
            log.info("%s: %d of %d photos are located already", partial.path, len(partial.done), len(found.photos))
        try:
            for photo in _located(cfg, backbone, found.photos, partial.done):
                partial.append(photo.image, as_json(photo))
            check_readable((row.get("error") for row in partial.rows()), cfg.image)
        finally:  # an interruption too
            counts = totals(partial.rows(), len(found.photos))
            if any_answers(counts):
                write_located(out, partial.rows(), {"totals": counts, "left_out": found.counts()})
            if any_answers(counts) and counts["not_asked"]:
                log.warning("%s: %s; the same command goes on with the others", out, totals_line(counts))
            else:
                partial.remove()
    if cfg.format == "json":
        show(pretty_json({"out": cfg.out, "totals": counts, "left_out": found.counts()}))
    else:
        show(f"{cfg.out}: {totals_line(counts)}")
    return counts


def _sampling(cfg: DictConfig) -> dict[str, Any]:
    return {"samples": cfg.samples, "temperature": cfg.temperature, "top_p": cfg.top_p, "seed": cfg.seed}


def _located(
    cfg: DictConfig, backbone: Backbone, photos: Sequence[Path], done: Collection[Path] = ()
) -> Iterator[Located]:
    """Locate the photos that are not `done`, with a bar."""
    from geotune.inference.locating import locate_photos
    from geotune.system.progress import progress_bar

    settings = {"explain": cfg.explain, "batch_size": cfg.batch_size, "max_new_tokens": cfg.max_new_tokens}
    with progress_bar("locating", len(photos) - len(done)) as advance:
        for photo in locate_photos(backbone, photos, **_sampling(cfg), **settings, done=done):
            yield photo
            advance(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("locate", locate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
