"""Which parameters train: parts of a model switched to frozen, lora or full, through PEFT, and checked afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from geotune.config.training import LoraConfig, Scope
from geotune.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftModel

TARGETS: dict[str, tuple[str, ...] | None] = {
    "all-linear": None,
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv", "proj", "projection_layer"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "fc1", "fc2"),
}
"""Last parts of module names by `lora.target`; None: every linear layer. Never the output head."""


@dataclass(frozen=True)
class Parts:
    """Where a family keeps its three parts: prefixes of full module names, in the unwrapped model.

    `projector` may lie inside `tower` (Qwen's merger); the longer prefix wins. The output head belongs to
    `language_model` when that is trained in full, and is never given an adapter.
    """

    tower: str
    projector: str
    language_model: str
    head: str = "lm_head"

    def part_of(self, name: str) -> str | None:
        """Which part the module or parameter `name` belongs to; None for none."""
        for part, prefix in (
            ("projector", self.projector),
            ("tower", self.tower),
            ("language_model", self.language_model),
            ("language_model", self.head),
        ):
            if name == prefix or name.startswith(f"{prefix}."):
                return part
        return None


def check_lora(lora: LoraConfig) -> None:
    """Raise ConfigError for values that make no adapter."""
    if lora.r < 1:
        raise ConfigError(f"backbone.lora.r={lora.r}: the rank must be at least 1")
    if lora.alpha <= 0:
        raise ConfigError(f"backbone.lora.alpha={lora.alpha}: the scale must be above 0")
    if not 0 <= lora.dropout < 1:
        raise ConfigError(f"backbone.lora.dropout={lora.dropout}: must be at least 0 and below 1")
    if lora.target not in TARGETS:
        raise ConfigError(f"backbone.lora.target={lora.target}: must be one of {', '.join(TARGETS)}")


def lora_targets(model: nn.Module, parts: Parts, scopes: Mapping[str, Scope], lora: LoraConfig) -> list[str]:
    """Full names of the linear layers that get an adapter, in the order of the model."""
    endings = TARGETS[lora.target]
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name.split(".")[0] == parts.head:
            continue
        part = parts.part_of(name)
        if part is None or scopes[part] != "lora":
            continue
        # The projector's layers have numbers for names: they are neither attention nor MLP of a block.
        if endings is None or part == "projector" or name.rsplit(".", 1)[-1] in endings:
            names.append(name)
    for part, scope in scopes.items():
        if scope == "lora" and not any(parts.part_of(name) == part for name in names):
            raise ConfigError(f"backbone.lora.target={lora.target}: no linear layer of the {part} answers to it")
    return names


def expected_count(model: nn.Module, names: Iterable[str], lora: LoraConfig) -> int:
    """Parameters that adapters on these layers must have: r (in + out), and DoRA's magnitude."""
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
    """`model` with each part frozen, adapted or trained in full; wrapped by PEFT when any part has adapters.

    Trainable parameters are float32 whatever the dtype of the frozen ones, so that small updates are not rounded away.
    Raises ConfigError when what trains is not exactly what was asked for.
    """
    for part, scope in scopes.items():
        if scope not in get_args(Scope):
            raise ConfigError(f"backbone.{part}={scope}: must be one of {', '.join(get_args(Scope))}")
    check_lora(lora)
    model.requires_grad_(False)
    wrapped: nn.Module = model
    expected = 0
    if "lora" in scopes.values():
        from peft import LoraConfig as PeftLoraConfig
        from peft import get_peft_model

        names = lora_targets(model, parts, scopes, lora)
        expected = expected_count(model, names, lora)
        wrapped = get_peft_model(
            model,
            PeftLoraConfig(
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                use_dora=lora.use_dora,
                use_rslora=lora.use_rslora,
                target_modules=names,
                bias="none",
                task_type="CAUSAL_LM",
            ),
        )
        _check_adapters(model, set(names))
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if adapters != expected:
        raise ConfigError(
            f"backbone.lora.target={lora.target}: {adapters} trainable parameters in adapters, expected {expected}"
        )
    for name, parameter in model.named_parameters():
        owner = parts.part_of(name)
        if owner is not None and scopes[owner] == "full":
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped


def _check_adapters(model: nn.Module, wanted: set[str]) -> None:
    """Raise ConfigError unless exactly the layers `wanted` carry an adapter."""
    found = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    if wrong := sorted(found - wanted):
        raise ConfigError(f"backbone.lora: {len(wrong)} layers got an adapter that was not asked for, e.g. {wrong[0]}")
    if missing := sorted(wanted - found):
        raise ConfigError(f"backbone.lora: {len(missing)} layers got no adapter, e.g. {missing[0]}")


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Adapters added into the weights for a while: a third of the matrix products. The weights come back bit for bit.

    For float32 alone: rounding the sum to bf16 would shift what the model says.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    plain = [layer.get_base_layer().weight.data for layer in layers]
    try:
        for layer in layers:
            layer.merge(safe_merge=True)
        yield
    finally:
        for layer, weight in zip(layers, plain, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.merged_adapters.clear()


def trainable_summary(model: nn.Module) -> list[tuple[str, int]]:
    """Trainable parameters counted by name, with layer numbers written as `*`."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pattern = ".".join("*" if piece.isdigit() else piece for piece in name.split("."))
            counts[pattern] = counts.get(pattern, 0) + parameter.numel()
    return list(counts.items())


def full_state(trained: nn.Module | Mapping[str, Any]) -> dict[str, Any]:
    """Trainable parameters (a model's, or given by name) that are not an adapter's, by name in the unwrapped model."""
    if isinstance(trained, nn.Module):
        trained = {name: parameter for name, parameter in trained.named_parameters() if parameter.requires_grad}
    return {
        name.replace(".base_layer.", "."): parameter.detach()
        for name, parameter in trained.items()
        if ".lora_" not in name
    }
