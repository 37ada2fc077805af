"""Frozen copies of trained parameters, for computing with earlier weights without a second model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from geotune.errors import ABSENT, ConfigError, Problem


class WeightCopies:
    """Named copies of the trained parameters of a model, which are no parameters themselves and are never saved.

    PEFT's adapters by name are not used: its `set_adapter` changes which parameters require a gradient, which must not
    happen between a forward pass and its backward pass, the names of parameters would depend on the adapter, a second
    adapter would leave the fused LoRA layers, and fully trained parameters have no adapter.
    """

    def __init__(self) -> None:
        self._copies: dict[str, dict[str, torch.Tensor]] = {}

    def keep(self, name: str, parameters: Mapping[str, nn.Parameter]) -> None:
        """Copy the present values of `parameters`, by their names; an earlier copy called `name` is replaced.

        Raises ConfigError if the parameters are sharded over processes.
        """
        _refuse_sharded(parameters)
        self._copies[name] = {key: parameter.detach().clone() for key, parameter in parameters.items()}

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of a copy, on the CPU, by the names of the parameters. Raises KeyError."""
        return {key: tensor.cpu() for key, tensor in self._copies[name].items()}

    def load(self, name: str, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take what `tensors()` gave for the copy called `name`. Raises ValueError if it is of other parameters."""
        if {key: tensor.shape for key, tensor in tensors.items()} != {k: p.shape for k, p in parameters.items()}:
            raise ValueError(f"the copy {name!r} is of other parameters than those that train")
        self._copies[name] = {key: tensors[key].to(parameter) for key, parameter in parameters.items()}

    def change(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace each copied tensor by `function` of it, to move or convert the copies along with the parameters."""
        for copied in self._copies.values():
            for key, tensor in copied.items():
                copied[key] = function(tensor)

    @contextmanager
    def in_place_of(self, parameters: Mapping[str, nn.Parameter], name: str) -> Iterator[None]:
        """Context in which `parameters` have the values of the copy called `name`.

        Nothing is copied: each parameter points to the other tensor meanwhile. At the end, also after an error, it
        points to its own tensor again. Raises KeyError if there is no such copy, and ConfigError if the parameters are
        sharded.
        """
        copied = self._copies[name]
        _refuse_sharded(parameters)
        assert copied.keys() == parameters.keys(), "other parameters train than when the copy was made"
        own = {key: parameter.data for key, parameter in parameters.items()}
        try:
            _point(parameters, copied)
            yield
        finally:
            _point(parameters, own)


def _point(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    for key, parameter in parameters.items():
        parameter.data = values[key]
    # Under autocast, a parameter that was cast before would keep the cast of its other value.
    torch.clear_autocast_cache()


def is_sharded(parameters: Iterable[nn.Parameter]) -> bool:
    """Return whether FSDP2 (`full_tensor`) or ZeRO-3 (`ds_id`) gives each process a part of some parameters."""
    return any(hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id") for parameter in parameters)


def _refuse_sharded(parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise ConfigError if each process has a part of the parameters."""
    if is_sharded(parameters.values()):
        raise ConfigError(
            Problem(
                "trainer.strategy",
                ABSENT,
                "the trained weights are sharded, so that no frozen copy of them can take their place",
                "use ddp or deepspeed_zero2",
            )
        )
