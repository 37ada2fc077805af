"""The weights that training begins with, `start`: what they are, whether they fit the recipe, and loading them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.config.overrides import escape_interpolation
from geotune.config.parts import BackboneConfig, LoraConfig
from geotune.errors import ConfigError, Problem, as_typed
from geotune.runs.identity import IMAGE_LIMITS, saved_identity

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from geotune.backbones.base import Backbone
    from geotune.inference.loading import Source

SCOPES = ("tower", "projector", "language_model")
LORA = ("r", "alpha", "use_dora", "use_rslora", "target")
"""LoRA settings that belong to the weights; the dropout may change."""
log = logging.getLogger(__name__)


def resolve_start(cfg: DictConfig, checkpoint: Path | None) -> Source | None:
    """Find the model that the training `cfg` starts from, and write its folder into `cfg.start`. None: no start.

    A whole model takes the place of `cfg.backbone.path`. For a run that resumes from `checkpoint`, `cfg.start` becomes
    that of the earlier run. Its weights are loaded before those of the checkpoint, for a stage that compares with the
    weights that training began with; if they are gone, the run goes on without them, with a warning.

    Raises ConfigError if there is no such model, or if it was trained with other settings than the recipe's.
    """
    from geotune.inference.loading import find_source

    if checkpoint is not None:
        _continue(cfg, checkpoint)
        return None if cfg.start is None else _start_again(str(cfg.start))
    if cfg.start is None:
        return None
    source = find_source(cfg.start, "start")
    folder = str(source.folder.resolve())
    if (model := model_of(source)) is not None:
        cfg.backbone.path = escape_interpolation(model)
    if changes := differences_from(source, cfg.backbone):
        raise misfit(cfg.start, changes)
    cfg.start = escape_interpolation(folder)
    return source


def differences_from(source: Source, backbone: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the `differences` between what trained the weights of `source` and a node `backbone`; none for a model."""
    if source.kind == "model":
        return {}
    changes = differences(source.settings, backbone)
    if saved_identity(source.folder, source.kind).get("weights"):
        changes.pop("backbone.path", None)  # `load_start` compares the weights themselves, which may be moved
    return changes


def model_of(source: Source) -> str | None:
    """Return the folder of the whole model that takes the place of a recipe's base model; None if there is none.

    It is the source itself, or the whole model that its run started from, or the run before that one, and so on.
    """
    from geotune.inference.loading import find_source

    if source.kind == "model":
        return str(source.folder.resolve())
    path, start = source.settings.get("path"), source.config.get("start")
    if start is None or path is None:
        return None
    try:
        return str(path) if start == path or model_of(find_source(str(start), "start")) == path else None
    except ConfigError:  # the earlier run is gone
        return None


def _start_again(start: str) -> Source | None:
    """Find the weights that an earlier run began with; None, with a warning, if they are gone."""
    from geotune.inference.loading import find_source

    try:
        return find_source(start, "start")
    except ConfigError as error:
        log.warning("%s; a stage that compares with the start of the run can't do so", error)
        return None


def _continue(cfg: DictConfig, checkpoint: Path) -> None:
    """Give the run that resumes from `checkpoint` the start of the run that wrote it."""
    from geotune.inference.loading import find_source, read_recipe

    saved = read_recipe(checkpoint / "config.yaml", str(checkpoint))
    start, typed = saved.get("start"), cfg.start
    if start is None:
        if typed is not None:
            raise ConfigError(
                Problem(
                    "start",
                    typed,
                    f"{checkpoint} belongs to a run without a start",
                    "leave start out, or train anew without resume",
                )
            )
        return
    base = str(saved["backbone"]["path"])
    if start == base:  # a whole model, which the checkpoint does not hold
        if not Path(start).is_dir():
            source = None if typed is None else find_source(typed, "start")
            if source is None or source.kind != "model":
                text = f"the model that the run of {checkpoint} began with is gone"
                raise ConfigError(Problem("start", start, text, "give start=<the folder where it is now>"))
            start = str(source.folder.resolve())
        cfg.backbone.path = escape_interpolation(start)
    elif Path(base).is_dir() and not is_same_model(base, str(cfg.backbone.path)):
        cfg.backbone.path = escape_interpolation(base)  # a whole model that the start's own run started from
    if typed is not None and start != base:
        log.info("start=%s is not loaded: the run goes on with the weights of %s", typed, checkpoint)
    cfg.start = escape_interpolation(start)


def load_start(backbone: Backbone, source: Source, *, resumes: bool, allow_changes: Collection[str] = ()) -> str | None:
    """Load the trained weights of `source` into `backbone`. Returns what training starts from, in words.

    resumes: whether a checkpoint of the run is loaded afterwards. It returns None then, and weights that can't be read
    are a warning. allow_changes: parts of what the weights depend on that may be others than in their training. Raises
    ConfigError if another part differs, if a file can't be read, or if names, shapes or LoRA settings differ.
    """
    from geotune.backbones.weights import load_adapter, load_weights
    from geotune.inference.loading import check_dependence
    from geotune.runs.directory import read_state

    try:
        if not resumes:
            # A run may have larger or smaller images than the one whose weights it begins with.
            check_dependence(backbone, source, "start", source.folder, allow_changes, free=(IMAGE_LIMITS,))
        if source.kind == "checkpoint":
            load_weights(backbone, source.folder)
        elif source.kind == "adapter":
            load_adapter(backbone, source.folder)
    except ConfigError as error:
        if not resumes:
            raise
        log.warning("%s; a stage that compares with the start of the run can't do so", error)
    if resumes:
        return None
    step = f" of update {read_state(source.folder).step}" if source.kind == "checkpoint" else ""
    return f"the {source.kind} {source.folder}{step}"


def differences(trained: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings of two backbones whose trained weights would not mean the same, as key: (trained, own).

    Those are the base model, the parts that train and the LoRA settings; `trained` and `own` are nodes `backbone`.
    """
    found: dict[str, tuple[Any, Any]] = {}
    if "_target_" in trained:
        found["backbone._target_"] = (trained["_target_"], own["_target_"])
    if not is_same_model(str(trained.get("path")), str(own["path"])):
        found["backbone.path"] = (trained.get("path"), own["path"])
    for key in SCOPES:
        found[f"backbone.{key}"] = (trained.get(key, getattr(BackboneConfig, key)), own[key])
    if "lora" in [own[key] for key in SCOPES]:
        lora = trained.get("lora", {})
        for key in LORA:
            found[f"backbone.lora.{key}"] = (lora.get(key, getattr(LoraConfig, key)), own["lora"][key])
    return {key: values for key, values in found.items() if values[0] != values[1]}


def is_same_model(one: str, other: str) -> bool:
    """Return whether two values of `backbone.path` mean the same model: a folder, or a hub id and a copy of that name.

    Two folders that both exist are the same model only if they are the same folder. `merged` is the name of every
    exported model.
    """
    first, second = Path(one), Path(other)
    if first.is_dir() and second.is_dir():
        return first.samefile(second)
    return one == other or (first.name == second.name != "merged")


def misfit(start: str, changes: Mapping[str, tuple[Any, Any]], where: str = "") -> ConfigError:
    """Return the error about a start that was trained with other settings. where: key above `start`."""
    told = ", ".join(f"{key}={as_typed(then)} (here {as_typed(now)})" for key, (then, now) in changes.items())
    keys = " ".join(f"{key}={as_typed(then)}" for key, (then, _) in changes.items())
    return ConfigError(
        Problem(
            f"{where}start",
            start,
            f"it was trained with {told}",
            f"set {keys}, or write it as a whole model with `geotune export` and give start=<out>/merged",
        )
    )
