"""Weights that train, on disk: adapters in PEFT's layout and fully trained parameters, saved and loaded strictly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from geotune.backbones.adapters import full_state
from geotune.backbones.image_only import VIDEO_FILE
from geotune.errors import ConfigError, first_line

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

ADAPTER_FILE = "adapter_model.safetensors"
FULL_FILE = "trained.safetensors"


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Load what the checkpoint `folder` trained into `backbone`; every tensor must match. Raises ConfigError."""
    if backbone.has_adapter:
        load_adapter(backbone, folder / "adapter")
    if backbone.full_state():
        load_full(backbone, folder / "model")


def save_weights(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write what trains: `adapter/` in PEFT's layout, `model/` for what is trained in full.

    trained: `backbone.trained_parameters()` gathered, where they are spread over processes.
    """
    if backbone.has_adapter:
        save_adapter(backbone, folder / "adapter", trained)
    if backbone.full_state():
        save_full(backbone, folder / "model", trained)


def save_adapter(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write the adapters in PEFT's layout.

    trained: `trained_parameters` where they are spread over processes, gathered; None: they are whole.
    """
    state = None if trained is None else {f"base_model.model.{name}": value for name, value in trained.items()}
    # "auto" would ask the hub whether the vocabulary has grown.
    backbone.model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=state)  # type: ignore[operator]


def load_adapter(backbone: Backbone, folder: Path) -> None:
    """Load adapters written by `save_adapter`; every tensor must match. Raises ConfigError."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    file = folder / ADAPTER_FILE
    if not file.is_file():
        raise ConfigError(f"{folder}: holds no {ADAPTER_FILE}; name the adapter folder of a checkpoint")
    if not backbone.has_adapter:
        raise ConfigError(f"{folder}: an adapter, but no part of the backbone is set to lora")
    _check_adapter_config(backbone, folder)
    state = _read_tensors(file)
    own = get_peft_model_state_dict(backbone.model, save_embedding_layers=False)
    _check_same(file, state, own)
    set_peft_model_state_dict(backbone.model, state)


def _check_adapter_config(backbone: Backbone, folder: Path) -> None:
    """Same tensors with another scale would be another model."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise ConfigError(f"{folder}: holds no adapter_config.json; name the adapter folder of a checkpoint")
    try:
        saved = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file}: can't be read ({error}); name another checkpoint") from error
    for key, own, name in (
        ("r", backbone.lora.r, "r"),
        ("lora_alpha", backbone.lora.alpha, "alpha"),
        ("use_rslora", backbone.lora.use_rslora, "use_rslora"),
        ("use_dora", backbone.lora.use_dora, "use_dora"),
    ):
        if saved.get(key) != own:
            raise ConfigError(f"backbone.lora.{name}={own}: the adapter {folder} was trained with {saved.get(key)}")


def save_full(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write the fully trained parameters, and only them. trained: as in `save_adapter`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = full_state(backbone.base if trained is None else trained)
    save_file({name: value.contiguous().cpu() for name, value in state.items()}, folder / FULL_FILE)


def load_full(backbone: Backbone, folder: Path) -> None:
    """Load what `save_full` wrote; every tensor must match. Raises ConfigError."""
    file = folder / FULL_FILE
    if not file.is_file():
        raise ConfigError(f"{folder}: holds no {FULL_FILE}; name the model folder of a checkpoint")
    state = _read_tensors(file)
    own = backbone.full_state()
    _check_same(file, state, own)
    for name, value in own.items():
        value.copy_(state[name])
    backbone.clear_feature_cache()


def save_pretrained(backbone: Backbone, folder: Path) -> None:
    """Write the whole model as a folder that `path` can name. For backbones without adapters."""
    assert not backbone.has_adapter, "merge the adapters first"
    backbone.base.save_pretrained(str(folder))
    save_processor(backbone, folder)


def save_processor(backbone: Backbone, folder: Path) -> None:
    """Write tokenizer, template and image processor as the stock processor's files."""
    from transformers.utils import cached_file

    folder.mkdir(parents=True, exist_ok=True)
    backbone.processor.save_pretrained(str(folder))
    # The backbone's own says more of videos than what was derived.
    if video := cached_file(backbone.path, VIDEO_FILE, _raise_exceptions_for_missing_entries=False):
        shutil.copyfile(video, folder / VIDEO_FILE)


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises ConfigError."""
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file}: can't be read ({first_line(error)}); name another checkpoint") from error


def _check_same(file: Path, found: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    """Raise ConfigError unless both hold the same names with the same shapes."""
    for names, what in ((own.keys() - found.keys(), "lacks"), (found.keys() - own.keys(), "holds an unknown")):
        if names:
            raise ConfigError(f"{file}: {what} {min(names)} ({len(names)} in all); it belongs to another backbone")
    for name, value in own.items():
        if found[name].shape != value.shape:
            raise ConfigError(
                f"{file}: {name} has shape {tuple(found[name].shape)}, expected {tuple(value.shape)}; it belongs to "
                "another backbone"
            )
