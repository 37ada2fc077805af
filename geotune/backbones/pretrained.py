"""Read the parts of a pretrained model (config, weights, tokenizer, image processor) from a folder or hub id."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors import SafetensorError
from torch import nn

from geotune.backbones.adapters import Parts
from geotune.encoding.chat_template import chosen_template
from geotune.errors import ConfigError, Problem, first_line
from geotune.system.file_kinds import binary_kind

HUB_SECONDS = 5.0
"""Seconds to wait for a first answer of the hub."""


def refuse_missing_model(path: str) -> None:
    """Raise ConfigError, within seconds, if `path` is no folder of a model and no hub id that can be loaded from here.

    A folder is no model without config.json, or if files are only pointers of Git LFS.
    """
    folder, remedy = Path(path), "name a folder that holds a model, or a hub id"
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(Problem("backbone.path", path, "this folder holds no config.json", remedy))
        if pointers := sorted(file.name for file in folder.iterdir() if file.is_file() and _is_lfs_pointer(file)):
            more = f" (and {len(pointers) - 1} more files)" if len(pointers) > 1 else ""
            text = f"{pointers[0]}{more} is a Git LFS pointer, not the file itself"
            raise ConfigError(Problem("backbone.path", path, text, "run `git lfs pull` in this folder"))
    elif folder.exists() or _looks_local(path):
        what = "this is a file, not a folder" if folder.exists() else "there is no such folder, and so no config.json"
        raise ConfigError(Problem("backbone.path", path, what, remedy))
    elif not _is_in_hub_cache(path) and (reason := _why_hub_is_out_of_reach()):
        text = f"there is no such folder, it is not in the cache of the hub, and {reason}"
        raise ConfigError(Problem("backbone.path", path, text, remedy))


LONG_TO_LOAD = 10**9
"""Size of weights, in bytes, from which on a line in the log says that they are being loaded."""
log = logging.getLogger(__name__)


def load_model_config(path: str, *, family: str, backbone: str, trust_remote_code: bool) -> Any:
    """Return the transformers config of the model at `path`, whose `model_type` must be `family`.

    backbone: name of the class that loads the model, for the error message. Raises ConfigError if there is no readable
    config, if it describes another family, or if the language model has layers other than full attention.
    """
    from transformers import AutoConfig

    refuse_missing_model(path)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(
            Problem("backbone.path", path, f"its config can't be loaded ({first_line(error)})", "name another model")
        ) from error
    if config.model_type != family:
        raise ConfigError(
            Problem(
                "backbone.path",
                path,
                f"holds a {config.model_type} model, but backbone._target_ names {backbone} ({family})",
                "choose the backbone group of its family",
            )
        )
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ConfigError(
            Problem(
                "backbone.path",
                path,
                f"its language model has layers of the types {sorted(kinds)}, but only full_attention is supported",
                "name another model",
            )
        )
    return config


def load_model_weights(
    path: str,
    config: Any,
    *,
    model_class: Any,
    parts: Parts,
    dtype: torch.dtype,
    attn: str,
    trust_remote_code: bool,
) -> nn.Module:
    """Load the weights at `path` in `dtype` into a `model_class` of transformers with the attention `attn`.

    Raises ConfigError if the weights can't be read, or if a tensor is missing, unknown or of another shape than
    `config` says. Unknown tensors outside the three `parts` are ignored.
    """
    size = sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    if size > LONG_TO_LOAD or not Path(path).is_dir():
        log.info("loading the weights of %s%s", path, f" ({size / 1e9:.1f} GB)" if size else "")
    try:
        model, report = model_class.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation=attn,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the report below names them
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            Problem(
                "backbone.path", path, f"its weights can't be loaded ({first_line(error)})", "only safetensors are read"
            )
        ) from error
    # transformers initializes missing and mismatched tensors with random numbers and carries on.
    for problem, names in (
        ("lack", report["missing_keys"]),
        ("have another shape than its config.json says in", [name for name, *_ in report["mismatched_keys"]]),
        ("hold an unknown", [name for name in report["unexpected_keys"] if parts.part_of(name)]),
    ):
        if names:
            raise ConfigError(
                Problem(
                    "backbone.path",
                    path,
                    f"its weights {problem} {min(names)} ({len(names)} in all)",
                    "download or export the model again",
                )
            )
    assert isinstance(model, nn.Module)
    return model


def load_tokenizer(path: str) -> tuple[Any, str | None]:
    """Return the tokenizer at `path` and the processor's chat template.

    The template is None if the processor has none; the tokenizer's own template then applies. Raises ConfigError if the
    files can't be read.
    """
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        file = cached_file(path, "chat_template.jinja", _raise_exceptions_for_missing_entries=False)
        old = cached_file(path, "chat_template.json", _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable_processor(path, error) from error
    if file is not None:
        return tokenizer, Path(file).read_text(encoding="utf-8")
    if old is not None:
        return tokenizer, chosen_template(json.loads(Path(old).read_text(encoding="utf-8"))["chat_template"], path)
    return tokenizer, None


def load_image_processor(kind: Any, path: str) -> Any:
    """Load the image processor at `path` as `kind`, a PIL-based class of transformers.

    A PIL-based class gives the same pixels whether torchvision is installed or not. Raises ConfigError if the files
    can't be read.
    """
    try:
        return kind.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable_processor(path, error) from error


def read_processor_config(path: str) -> dict[str, Any]:
    """Return the content of processor_config.json at `path`, empty if there is no such file."""
    from transformers.utils import cached_file

    file = cached_file(path, "processor_config.json", _raise_exceptions_for_missing_entries=False)
    return {} if file is None else json.loads(Path(file).read_text(encoding="utf-8"))


def _looks_local(path: str) -> bool:
    """Whether `path` can only be a folder, because it does not have the form of a hub id."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1


def _is_lfs_pointer(file: Path) -> bool:
    """Return whether a file is a pointer that Git LFS left in place of the file itself."""
    with file.open("rb") as opened:
        kind = binary_kind(opened.read(64))
    return kind is not None and kind.treatment == "fetch"


def _is_in_hub_cache(path: str) -> bool:
    """Return whether the config of the hub id `path` was downloaded before. Raises ConfigError if it is no hub id."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(path, "config.json"), str)
    except HFValidationError as error:
        text = "there is no such folder, and it is no hub id"
        raise ConfigError(Problem("backbone.path", path, text, "name a folder that holds a model")) from error


def _why_hub_is_out_of_reach() -> str | None:
    """Return why nothing can be downloaded from the hub, None if it answers or only a proxy reaches it.

    transformers itself would try again for half a minute before it gives up.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return "the environment says that the hub is offline (HF_HUB_OFFLINE)"
    if getproxies():
        return None
    address = urlsplit(constants.ENDPOINT)
    reached = threading.Event()

    def connect() -> None:
        with suppress(OSError), socket.create_connection((address.hostname or "", address.port or 443), HUB_SECONDS):
            reached.set()

    # In a thread, because looking up the name has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return None if reached.is_set() else f"{address.hostname} can't be reached"


def _unusable_processor(path: str, error: BaseException) -> ConfigError:
    return ConfigError(
        Problem(
            "backbone.path",
            path,
            f"holds no usable processor ({first_line(error)})",
            "put the model's tokenizer and image processor files beside its weights",
        )
    )
