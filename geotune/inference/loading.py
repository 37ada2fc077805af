"""Finding and loading a model that a user names: a checkpoint, an exported folder, any model's folder, or none."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from omegaconf import OmegaConf

from geotune.backbones.weights import load_adapter
from geotune.config.instantiation import instantiate_checked
from geotune.config.recipe_files import RECIPES
from geotune.errors import ConfigError, Problem, first_line
from geotune.runs.chain import run_in
from geotune.runs.directory import find_evaluation, find_step, newest_run, read_state
from geotune.runs.identity import IMAGE_LIMITS, MODEL_PARTS, Dependence, saved_identity

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone


FAMILIES = {"qwen2_5_vl": "geotune.backbones.qwen_vl.QwenVL", "internvl": "geotune.backbones.internvl.InternVL"}
"""Class of each family of backbones, by the `model_type` in config.json."""
RECIPE_FILE = "recipe.yaml"
"""File of an exported folder that holds the recipe of its training."""
EVALUATION_FILE = "evaluation.json"
"""File of an exported folder that holds the evaluation of its checkpoint."""
log = logging.getLogger(__name__)
HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)
"""Form of a model's name on the Hugging Face hub, <owner>/<name>."""
HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "*.txt", "*.model", "*.yaml")
"""Patterns of the files of a model on the hub that are needed to load it."""
HUB_SECONDS = 5.0
"""Time to wait for the hub before the local cache is used."""
FROZEN = {"tower": "frozen", "projector": "frozen", "language_model": "frozen"}


@dataclass(frozen=True)
class Source:
    """A model that a user named, before it is loaded."""

    folder: Path
    kind: Literal["checkpoint", "adapter", "model"]
    """What `folder` holds: a checkpoint of a run, an exported adapter, or a complete model."""
    settings: Mapping[str, Any]
    """Node `backbone` of a recipe that instantiates the model."""
    config: Mapping[str, Any]
    """The complete recipe of the training; empty if it is not known."""


def find_source(checkpoint: str | None, key: str = "checkpoint", *, hub: bool = False) -> Source:
    """Find the model that `checkpoint` names. None means the embedded backbone.

    It is the folder of a run (its best checkpoint or else its last), of a chain (its last finished leg), of a
    checkpoint, of an export or of any model; or else the name of a recipe, for its newest run with a checkpoint.

    key: key of the config that holds `checkpoint`, for messages. hub: whether it may also be the id of a model or of an
    exported adapter on the hub, which is fetched unless the local cache holds it.

    Raises:
        ConfigError: there is no such folder, or it holds no model that this project can load.
    """
    if checkpoint is None:
        node: Any = OmegaConf.to_container(OmegaConf.load(RECIPES / "backbone" / "tiny.yaml"), resolve=True)
        return Source(Path(node["path"]), "model", {**node, **FROZEN}, {})
    try:
        return _source_in(_folder_of(checkpoint, key, hub), checkpoint)
    except ConfigError as error:
        named = (replace(problem, key=key) if problem.key == "checkpoint" else problem for problem in error.problems)
        raise ConfigError(*named) from error


def _folder_of(checkpoint: str, key: str, hub: bool) -> Path:
    """Return the folder that `checkpoint` names; a folder comes before a recipe of that name and before a hub id."""
    named = Path(checkpoint)
    is_name = len(named.parts) == 1 and not named.is_absolute()
    newest = newest_run(checkpoint) if is_name and checkpoint not in (".", "..") else None
    if named.is_dir():
        if newest is not None:
            log.warning(
                "%s=%s is the folder of this name, not the recipe; for its newest run give %s", key, checkpoint, newest
            )
        return named
    if newest is None and hub and HUB_ID.fullmatch(checkpoint):
        return _fetched(checkpoint)
    if newest is None:
        tried = f", and no run in {Path('runs', checkpoint)} has a checkpoint" if is_name else ""
        raise ConfigError(
            Problem(
                "checkpoint", checkpoint, f"there is no such folder{tried}", "name a checkpoint or an exported folder"
            )
        )
    return newest


def _fetched(name: str) -> Path:
    """Return the folder of a model of the hub in the local cache; what is missing there is fetched.

    It takes no longer than a few seconds to find out that the hub can't be reached. Raises ConfigError if there is no
    such model, or if the hub can't be reached and the cache does not hold it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES), etag_timeout=HUB_SECONDS))
    except GatedRepoError:
        why = "the hub asks for an access token (set HF_TOKEN)"
    except RepositoryNotFoundError:
        why = "the hub has no model of this name"
    except LocalEntryNotFoundError:
        why = "the hub can't be reached and the local cache does not hold it"
    except (OSError, HfHubHTTPError) as error:
        why = f"the hub can't give it ({first_line(error)})"
    raise ConfigError(
        Problem(
            "checkpoint",
            name,
            f"there is no such folder, and as a model of the hub it can't be loaded: {why}",
            "name a checkpoint, an exported folder or another model",
        )
    )


def _source_in(named: Path, checkpoint: str) -> Source:
    """Find the model in the folder `named`."""
    if step := find_step(str(named)):
        config = read_recipe(step / "config.yaml", checkpoint)
        return Source(step, "checkpoint", config["backbone"], config)
    if run_in(named) is None:
        raise ConfigError(
            Problem("checkpoint", checkpoint, "no leg of this chain is finished", "name the folder of a leg")
        )
    for folder in (named, named / "merged", named / "adapter"):
        recipe = folder / RECIPE_FILE
        config = read_recipe(recipe, checkpoint) if recipe.is_file() else {}
        if (folder / "config.json").is_file():
            return Source(folder, "model", _model_settings(folder, checkpoint, config), config)
        if (folder / "adapter_config.json").is_file():
            return Source(folder, "adapter", _adapter_settings(folder, checkpoint, config), config)
    raise ConfigError(
        Problem(
            "checkpoint",
            checkpoint,
            "the folder holds neither a complete checkpoint nor a model",
            "name a step_<N> folder, a run's folder, or one that `geotune export` wrote",
        )
    )


def read_recipe(file: Path, checkpoint: str) -> dict[str, Any]:
    """Read the recipe in `file`, which belongs to the model that `checkpoint` names.

    Raises:
        ConfigError: the file can't be read or is not a recipe.
    """
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            Problem("checkpoint", checkpoint, f"{file} can't be read ({reason})", "name another folder")
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("backbone"), dict):
        raise ConfigError(
            Problem("checkpoint", checkpoint, f"{file} is not a recipe (it has no backbone)", "name another folder")
        )
    return config


def _model_settings(folder: Path, checkpoint: str, config: Mapping[str, Any]) -> dict[str, Any]:
    kind = _read_json(folder / "config.json", checkpoint).get("model_type")
    if kind not in FAMILIES:
        raise ConfigError(
            Problem(
                "checkpoint", checkpoint, f"the folder holds a {kind} model", f"supported are {', '.join(FAMILIES)}"
            )
        )
    trained = config.get("backbone", {})
    kept = {key: trained[key] for key in ("max_pixels", "min_pixels", "attn", "dtype") if key in trained}
    return {**kept, **FROZEN, "_target_": FAMILIES[kind], "path": str(folder)}


def _adapter_settings(folder: Path, checkpoint: str, config: Mapping[str, Any]) -> dict[str, Any]:
    if not config:
        raise ConfigError(
            Problem(
                "checkpoint",
                checkpoint,
                f"{folder} has no {RECIPE_FILE}, which says how the adapter was trained",
                "name the checkpoint itself, or a folder that `geotune export` wrote",
            )
        )
    adapter = _read_json(folder / "adapter_config.json", checkpoint)
    return {**config["backbone"], "path": adapter.get("base_model_name_or_path")}


def _read_json(file: Path, checkpoint: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            Problem("checkpoint", checkpoint, f"{file} can't be read ({error})", "fetch or export it again")
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(Problem("checkpoint", checkpoint, f"{file} is not a JSON object", "fetch or export it again"))
    return content


def evaluation_of(source: Source) -> dict[str, Any] | None:
    """Return the evaluation of the model in `source`, as in eval/step_<N>.json; None if none is known.

    An evaluation that can't be read is not needed to use the model: it is left out with a warning.
    """
    try:
        if source.kind == "checkpoint":
            return find_evaluation(source.folder, read_state(source.folder).step)
        file = source.folder / EVALUATION_FILE
        return _read_json(file, str(source.folder)) if file.is_file() else None
    except (ConfigError, ValueError) as error:
        log.warning("the evaluation of %s can't be read and is left out (%s)", source.folder, first_line(error))
        return None


def unquantized(source: Source) -> Source:
    """Return `source` with an unquantized backbone, even if it was trained on a quantized one."""
    return replace(source, settings={**source.settings, "quantization": None})


def check_dependence(
    backbone: Backbone,
    source: Source,
    key: str,
    named: Any,
    allow_changes: Collection[str] = (),
    free: Collection[str] = (),
) -> None:
    """Compare what the trained weights of `source` depend on with `backbone`, which they are about to be loaded into.

    key, named: key of the config that names the weights, and its value. allow_changes: parts that may differ. free:
    facts that may differ. Raises ConfigError if something else differs.
    """
    from geotune.backbones.identity import backbone_identity

    if source.kind != "model":
        then = saved_identity(source.folder, source.kind)
        Dependence(key, named, then, allow_changes, free).check(backbone_identity(backbone), MODEL_PARTS)


def open_backbone(source: Source, *, allow_changes: Collection[str] = (), **changes: Any) -> Backbone:
    """Load the backbone of `source` with its trained weights, in evaluation mode.

    Args:
        allow_changes: what may differ from the training: `weights` (of the base model), `processor`, `prompt`.
        changes: settings of the backbone that replace those of `source`, except those that are None.

    Raises:
        ConfigError: the backbone or the trained weights can't be loaded with these settings, or the backbone is not
            the one of the training.
    """
    from geotune.backbones.weights import load_weights

    changed = {key: value for key, value in changes.items() if value is not None}
    node = {**source.settings, "gradient_checkpointing": False, **changed}
    if "max_pixels" not in node:
        raise ConfigError(
            Problem(
                "max_pixels",
                None,
                f"{source.folder} does not say the size of its training images",
                "give max_pixels=<number>",
            )
        )
    try:
        backbone: Backbone = instantiate_checked(node, "backbone")
    except ConfigError as error:
        if source.kind == "model" or error.problems[0].key != "backbone.path":
            raise
        raise ConfigError(f"{error}; give base_model=<folder or hub id of the backbone of {source.folder}>") from error
    free = (IMAGE_LIMITS,) if "max_pixels" in changed else ()
    check_dependence(backbone, source, "checkpoint", source.folder, allow_changes, free)
    if source.kind == "checkpoint":
        load_weights(backbone, source.folder)
    elif source.kind == "adapter":
        load_adapter(backbone, source.folder)
    backbone.train(False)
    return backbone


def device_of(accelerator: str) -> str:
    """Return torch's name of the device. Raises ConfigError if a GPU is required and there is none."""
    import torch

    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            Problem("accelerator", "gpu", "this machine has no CUDA device", "set accelerator=auto or cpu")
        )
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
