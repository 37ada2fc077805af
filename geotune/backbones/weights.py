"""Save and load trained weights: adapters in PEFT's layout, and fully trained parameters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from geotune.backbones.adapters import full_state
from geotune.backbones.image_only import VIDEO_FILE
from geotune.errors import ConfigError, Problem, first_line

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

ADAPTER_FILE = "adapter_model.safetensors"
"""File of an adapter folder that holds its tensors."""
FULL_FILE = "trained.safetensors"
"""File of a checkpoint's model folder that holds the fully trained parameters."""


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Load the trained weights of the checkpoint `folder` into `backbone`.

    Raises ConfigError if a file can't be read, or if names, shapes or LoRA settings differ.
    """
    if backbone.has_adapter:
        load_adapter(backbone, folder / "adapter")
    if backbone.full_state():
        load_full(backbone, folder / "model")


def save_weights(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write the trained weights: `adapter/` in PEFT's layout, and `model/` for fully trained parameters.

    trained: the values of `backbone.trained_parameters()`, gathered from all processes; None if each process holds the
    whole parameters.
    """
    if backbone.has_adapter:
        save_adapter(backbone, folder / "adapter", trained)
    if backbone.full_state():
        save_full(backbone, folder / "model", trained)


def save_adapter(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write the adapters in PEFT's layout. trained: as in `save_weights`."""
    state = None if trained is None else {f"base_model.model.{name}": value for name, value in trained.items()}
    # The default, "auto", would ask the hub for the size of the vocabulary.
    backbone.model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=state)  # type: ignore[operator]


def load_adapter(backbone: Backbone, folder: Path) -> None:
    """Load adapters that `save_adapter` wrote.

    Raises ConfigError if a file can't be read, or if names, shapes or LoRA settings differ.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    file = folder / ADAPTER_FILE
    if not file.is_file():
        raise ConfigError(f"{folder}: holds no {ADAPTER_FILE}; name the adapter folder of a checkpoint")
    if not backbone.has_adapter:
        raise ConfigError(
            f"{folder}: holds an adapter, but no part of the backbone is set to lora; set one, or name another folder"
        )
    _check_adapter_config(backbone, folder)
    state = _read_tensors(file)
    own = get_peft_model_state_dict(backbone.model, save_embedding_layers=False)
    _check_same(file, state, own)
    set_peft_model_state_dict(backbone.model, state)


def _check_adapter_config(backbone: Backbone, folder: Path) -> None:
    """Raise ConfigError if the adapter was trained with other LoRA settings.

    The same tensors under another scale would be another model.
    """
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
            raise ConfigError(
                Problem(
                    f"backbone.lora.{name}",
                    own,
                    f"the adapter {folder} was trained with {saved.get(key)}",
                    "use that value",
                )
            )


def save_full(backbone: Backbone, folder: Path, trained: dict[str, torch.Tensor] | None = None) -> None:
    """Write the fully trained parameters alone. trained: as in `save_weights`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = full_state(backbone.base if trained is None else trained)
    save_file({name: value.contiguous().cpu() for name, value in state.items()}, folder / FULL_FILE)


def load_full(backbone: Backbone, folder: Path) -> None:
    """Load parameters that `save_full` wrote.

    Raises ConfigError if the file can't be read, or if names or shapes differ.
    """
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
    """Write the whole model, which must have no adapters, as a folder that `backbone.path` can name.

    Its generation_config.json tells other libraries which tokens are never drawn.
    """
    assert not backbone.has_adapter, "merge the adapters first"
    backbone.base.generation_config.suppress_tokens = backbone.never_drawn.tolist() or None
    backbone.base.save_pretrained(str(folder))
    save_processor(backbone, folder)


def save_processor(backbone: Backbone, folder: Path) -> None:
    """Write tokenizer, chat template and image processor as the stock processor's files."""
    from transformers.utils import cached_file

    folder.mkdir(parents=True, exist_ok=True)
    backbone.processor.save_pretrained(str(folder))
    # The backbone's own file has settings for videos that the derived one lacks.
    if video := cached_file(backbone.path, VIDEO_FILE, _raise_exceptions_for_missing_entries=False):
        shutil.copyfile(video, folder / VIDEO_FILE)


def _read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file. Raises ConfigError if it is missing or damaged."""
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file}: can't be read ({first_line(error)}); name another checkpoint") from error


def _check_same(file: Path, found: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    """Raise ConfigError unless `found`, read from `file`, and `own` have the same names and shapes."""
    for names, what in ((own.keys() - found.keys(), "lacks"), (found.keys() - own.keys(), "holds an unknown")):
        if names:
            raise ConfigError(f"{file}: {what} {min(names)} ({len(names)} in all); it belongs to another backbone")
    for name, value in own.items():
        if found[name].shape != value.shape:
            raise ConfigError(
                f"{file}: {name} has shape {tuple(found[name].shape)}, expected {tuple(value.shape)}; it belongs to "
                "another backbone"
            )
