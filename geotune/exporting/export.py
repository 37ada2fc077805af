"""Export of a checkpoint to self-tested folders that plain transformers, PEFT and vLLM load."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from geotune.backbones.base import DTYPES
from geotune.backbones.identity import backbone_identity
from geotune.backbones.weights import ADAPTER_FILE, save_adapter, save_pretrained, save_processor
from geotune.errors import ConfigError, Problem
from geotune.exporting.model_card import model_card
from geotune.exporting.parity import (
    TOLERANCE,
    compare_models,
    fixed_prompts,
    load_model,
    logit_difference,
    logits_of,
    observe_backbone,
    observe_model,
)
from geotune.inference.loading import EVALUATION_FILE, RECIPE_FILE, evaluation_of
from geotune.runs.directory import read_state
from geotune.runs.identity import IDENTITY_FILE, identity_of
from geotune.system.files import end_of_link, make_folder
from geotune.system.strict_json import write_json

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.inference.loading import Source


REPORT_FILE = "export_report.json"
ADAPTER, MERGED = "adapter", "merged"
VERSIONS = ("torch", "transformers", "peft", "geotune")
LANGUAGE_MODEL = "base_model.model.model.language_model."
"""Prefix of the adapter tensors that vLLM serves by default: those on the language model, under PEFT's names."""
log = logging.getLogger(__name__)


@contextmanager
def replacing(out: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `out` when the block succeeds and deleted when it fails.

    A link keeps being one: the folder that it leads to is replaced, and created if it is missing.

    Raises:
        ConfigError: `out` exists and is neither an empty folder nor, with `overwrite`, an earlier export; or it can't
            be written.
    """
    named = Path(out).absolute()
    if named.is_symlink() and not named.exists():
        make_folder(named, "out")
    final = end_of_link(named)
    if final.exists() and not final.is_dir():
        raise ConfigError(Problem("out", out, "this is a file", "name a folder"))
    if final.is_dir() and any(final.iterdir()):
        if not (final / REPORT_FILE).is_file():
            raise ConfigError(
                Problem("out", out, "this folder holds files that are not an export", "name another folder")
            )
        if not overwrite:
            raise ConfigError(
                Problem("out", out, "holds an export already", "set overwrite=true or name another folder")
            )
    if final.is_mount():
        raise ConfigError(Problem("out", out, "this is a mount point, which can't be replaced", "name a folder in it"))
    make_folder(final.parent, "out")
    partial, old = (final.with_name(f".{final.name}.{suffix}") for suffix in ("partial", "old"))
    _tidy(final, partial, old)
    try:
        partial.mkdir()
        yield partial
        if final.exists():
            final.rename(old)
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            Problem("out", out, f"can't be written ({error})", "free some space or name another folder")
        ) from error
    finally:
        _tidy(final, partial, old)


def _tidy(final: Path, partial: Path, old: Path) -> None:
    """Undo an unfinished replacement of `final`, by this process or by one that was killed."""
    if old.exists() and not final.exists():
        old.rename(final)
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)


def export_checkpoint(backbone: Backbone, source: Source, folder: Path, *, dtype: str) -> dict[str, Any]:
    """Write the folders of a checkpoint, test them, and return the content of export_report.json.

    Args:
        backbone: the checkpoint's model in float32. It is merged and emptied, and can't be used afterwards.
        source: the checkpoint.
        folder: where to write.
        dtype: precision of the merged weights, `bf16` or `float32`.

    Raises:
        RuntimeError: the self-test found that a written folder is not the checkpoint's model.
    """
    began = time.perf_counter()
    state = read_state(source.folder)
    # The weights of the base model may be others than those of the training, if that was allowed.
    identity = {**identity_of(state), **backbone_identity(backbone)}
    in_full = len(backbone.full_state())
    # An adapter does not hold the weights that were trained in full, so without them it would be another model.
    folders = [ADAPTER, MERGED] if backbone.has_adapter and not in_full else [MERGED]
    if in_full:
        log.warning("%d tensors were trained in full, which no adapter holds: only merged/ is written", in_full)
    report: dict[str, Any] = {
        "checkpoint": str(source.folder),
        "step": state.step,
        "base_model": str(Path(backbone.path).resolve()) if Path(backbone.path).is_dir() else backbone.path,
        "family": backbone.family,
        "folders": folders,
        "merged_dtype": dtype,
        "trained_in_full": in_full,
        "quantization": source.settings.get("quantization"),
        "data_fingerprint": state.data_fingerprint,
        "identity": identity,
        "evaluation": evaluation_of(source),
        "versions": {name: version(name) for name in VERSIONS},
    }
    for name in folders:
        save_processor(backbone, folder / name)
    if ADAPTER in folders:
        report["vllm"] = _write_adapter(backbone, folder / ADAPTER, report["base_model"])
        write_json(folder / ADAPTER / IDENTITY_FILE, identity)
    report |= _write_merged_and_test(backbone, folder, folders, DTYPES[dtype])
    report["seconds"] = time.perf_counter() - began
    recipe = (source.folder / "config.yaml").read_text(encoding="utf-8")
    for name in folders:
        (folder / name / RECIPE_FILE).write_text(recipe, encoding="utf-8")
        (folder / name / "README.md").write_text(model_card(name, report, recipe), encoding="utf-8")
        if report["evaluation"] is not None:
            write_json(folder / name / EVALUATION_FILE, report["evaluation"])
    write_json(folder / REPORT_FILE, report)
    return report


def _write_adapter(backbone: Backbone, folder: Path, base_model: str) -> dict[str, Any]:
    """Write the adapter, with the base model and the full names of its layers in its config.

    PEFT itself shortens the names of layers to suffixes that are unique in the loaded model, but not in every other.

    Returns:
        Whether vLLM serves the adapter, the reason if it does not, and the rank.
    """
    save_adapter(backbone, folder)
    with safe_open(folder / ADAPTER_FILE, "pt") as file:
        tensors = list(file.keys())
    layers = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors}
    config_file = folder / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base_model, "target_modules": sorted(layers)}
    write_json(config_file, config)
    reason = None
    if config["use_dora"]:
        reason = "vLLM does not support DoRA"
    elif elsewhere := sum(not name.startswith(LANGUAGE_MODEL) for name in tensors):
        reason = (
            f"vLLM supports adapters on the language model only; {elsewhere} of {len(tensors)} tensors lie elsewhere"
        )
    return {"serves_adapter": reason is None, "reason": reason, "rank": config["r"]}


def _write_merged_and_test(backbone: Backbone, folder: Path, folders: list[str], dtype: torch.dtype) -> dict[str, Any]:
    """Merge `backbone` in float32, write it in `dtype`, and compare the checkpoint with the folders as reloaded.

    Merging and reloading must not change the model, and rounding may change it a little. Every model computes in
    float32, and only one is in memory at a time.

    Returns:
        The comparisons, and the change of the logits by the adapters, relative to the largest logit.
    """
    effect = None
    with tempfile.TemporaryDirectory() as images:
        prompts = fixed_prompts(Path(images))
        checkpoint = observe_backbone(backbone, prompts)
        if backbone.has_adapter:
            with backbone.model.disable_adapter():  # type: ignore[operator]
                effect = logit_difference(logits_of(backbone, prompts), checkpoint.logits)
            if effect <= TOLERANCE:
                log.warning(
                    "the adapters change logits by only %.1e of the largest logit, too little for the self-test",
                    effect,
                )
            backbone.model = backbone.model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
        written = merged = observe_backbone(backbone, prompts)
        checks = [compare_models("merged weights", merged, "checkpoint", checkpoint)]
        _cast(backbone, dtype)
        save_pretrained(backbone, folder / MERGED)
        if dtype != torch.float32:
            _cast(backbone, torch.float32)
            written = observe_backbone(backbone, prompts)
            checks.append(compare_models("rounded weights", written, "merged weights", merged, rounded=True))
        backbone.model.to("meta")  # frees the memory for the next model
        for name, expected, reference in ((MERGED, written, "weights written"), (ADAPTER, checkpoint, "checkpoint")):
            if name in folders:
                encoder = backbone.load_encoder(
                    str(folder / name), max_pixels=backbone.max_pixels, min_pixels=backbone.encoder.min_pixels
                )
                base_model = backbone.path if name == ADAPTER else None
                loaded, never_drawn = load_model(folder / name, base_model), backbone.never_drawn.tolist()
                observed = observe_model(loaded, encoder, backbone.stop_ids, never_drawn, prompts)
                checks.append(compare_models(f"folder {name}", observed, reference, expected))
    tests = [{**asdict(check), "passed": check.passed} for check in checks]
    return {"self_test": tests, "adapter_effect": effect}


def _cast(backbone: Backbone, dtype: torch.dtype) -> None:
    """Cast the weights, but not the buffers: those hold rotary frequencies, which stay in float32."""
    for part in (
        backbone.base.config,
        *(getattr(backbone.base.config, name) for name in backbone.base.config.sub_configs),
    ):
        part.dtype = dtype
    for parameter in backbone.model.parameters():
        parameter.data = parameter.data.to(dtype)
    backbone.to(backbone.device)  # clears its cache of image features
