"""Freeze each part of a model, add LoRA adapters to it or train it in full, and check the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from geotune.config.parts import LoraConfig, Scope
from geotune.errors import ABSENT, ConfigError, Problem

if TYPE_CHECKING:
    from peft import PeftModel

TARGETS: dict[str, tuple[str, ...] | None] = {
    "all-linear": None,
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv", "proj", "projection_layer"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "fc1", "fc2"),
}
"""Last components of the names of adapted layers by `lora.target`; None means every linear layer but the head."""


@dataclass(frozen=True)
class Parts:
    """Prefixes of the full module names of a family's three parts, in the model without PEFT's wrapper.

    `projector` may lie inside `tower` (Qwen's merger); it then takes precedence. The output head belongs to
    `language_model` when that trains in full, and never gets an adapter.
    """

    tower: str
    projector: str
    language_model: str
    head: str = "lm_head"

    def part_of(self, name: str) -> str | None:
        """Name of the part that the module or parameter `name` belongs to; None if it belongs to none."""
        for part, prefix in (
            ("projector", self.projector),
            ("tower", self.tower),
            ("language_model", self.language_model),
            ("language_model", self.head),
        ):
            if name == prefix or name.startswith(f"{prefix}."):
                return part
        return None


def lora_targets(model: nn.Module, parts: Parts, scopes: Mapping[str, Scope], lora: LoraConfig) -> list[str]:
    """Full names of the linear layers that get an adapter, in the order of the model.

    scopes: the scope of each part. Raises ConfigError if a part with the scope lora has no matching layer.
    """
    endings = TARGETS[lora.target]
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name.split(".")[0] == parts.head:
            continue
        part = parts.part_of(name)
        if part is None or scopes[part] != "lora":
            continue
        # The projector's layers are numbered, so their names match no target.
        if endings is None or part == "projector" or name.rsplit(".", 1)[-1] in endings:
            names.append(name)
    for part, scope in scopes.items():
        if scope == "lora" and not any(parts.part_of(name) == part for name in names):
            raise ConfigError(
                Problem(
                    "backbone.lora.target",
                    lora.target,
                    f"no linear layer of the {part} matches it",
                    f"choose another target or set backbone.{part}=frozen",
                )
            )
    return names


def expected_count(model: nn.Module, names: Iterable[str], lora: LoraConfig) -> int:
    """Number of parameters in adapters on the layers `names`: r (in + out) each, with DoRA `out` magnitudes more."""
    modules = dict(model.named_modules())
    total = 0
    for name in names:
        layer = modules[name]
        assert isinstance(layer, nn.Linear)
        total += lora.r * (layer.in_features + layer.out_features) + (layer.out_features if lora.use_dora else 0)
    return total


def apply_scopes(
    model: nn.Module, parts: Parts, scopes: Mapping[str, Scope], lora: LoraConfig
) -> nn.Module | PeftModel:
    """Freeze, adapt or fully train each part of `model`; return it, wrapped by PEFT if any part has adapters.

    Trainable parameters become float32 whatever the dtype of the frozen ones, so that small updates are not rounded
    away. Raises ConfigError if the trainable parameters are not the requested ones.
    """
    model.requires_grad_(False)
    wrapped: nn.Module = model
    expected = 0
    if "lora" in scopes.values():
        names = lora_targets(model, parts, scopes, lora)
        expected = expected_count(model, names, lora)
        wrapped = _add_adapters(model, names, lora)
        _check_adapters(model, set(names))
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if adapters != expected:
        raise ConfigError(
            Problem(
                "backbone.lora.target", lora.target, f"{adapters} trainable parameters in adapters, expected {expected}"
            )
        )
    for name, parameter in model.named_parameters():
        owner = parts.part_of(name)
        if owner is not None and scopes[owner] == "full":
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped


def _add_adapters(model: nn.Module, names: list[str], lora: LoraConfig) -> nn.Module:
    """Give the layers `names` of `model` an adapter in place; return PEFT's wrapper of the model."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    config = PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        target_modules=names,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _check_adapters(model: nn.Module, wanted: set[str]) -> None:
    """Raise ConfigError unless the layers `wanted`, and no others, carry an adapter."""
    found = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    if wrong := sorted(found - wanted):
        count = f"{len(wrong)} layers got an adapter that was not asked for, e.g. {wrong[0]}"
        raise ConfigError(Problem("backbone.lora", ABSENT, count))
    if missing := sorted(wanted - found):
        count = f"{len(missing)} layers got no adapter, e.g. {missing[0]}"
        raise ConfigError(Problem("backbone.lora", ABSENT, count))


@contextmanager
def merged_adapters(model: nn.Module) -> Iterator[None]:
    """Context in which the adapters of `model` are merged into its weights, which takes a third of the matrix products.

    At the end the weights are restored bit for bit. Merge float32 weights only: rounding the sum to bf16 would change
    the model's answers.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    original = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer in layers:
            layer.merge(safe_merge=True)
        yield
    finally:
        for layer, weight in zip(layers, original, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()


def trainable_summary(model: nn.Module) -> list[tuple[str, int]]:
    """Number of trainable parameters by pattern of names: a name with its layer numbers replaced by `*`."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = ".".join("*" if piece.isdigit() else piece for piece in name.split("."))
            counts[pattern] = counts.get(pattern, 0) + parameter.numel()
    return list(counts.items())


def full_state(trained: nn.Module | Mapping[str, Any]) -> dict[str, Any]:
    """Trainable parameters that belong to no adapter, by name in the model without adapters.

    trained: a model, or its trainable parameters by name.
    """
    if isinstance(trained, nn.Module):
        trained = {name: parameter for name, parameter in trained.named_parameters() if parameter.requires_grad}
    return {
        name.replace(".base_layer.", "."): parameter.detach()
        for name, parameter in trained.items()
        if ".lora_" not in name
    }
