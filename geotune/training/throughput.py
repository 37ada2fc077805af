"""Arithmetic of training speed: tokens and samples per second, and model FLOPs utilization (MFU)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PEAK_FLOPS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A40": 150e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Peak bf16 FLOP/s without sparsity, from the vendor's data sheets, by words of the device's name; first match wins."""


def peak_flops(device_name: str) -> float | None:
    """Return the peak bf16 FLOP/s of a device by the name that its driver gives it; None if it is not in the table."""
    words = device_name.replace("-", " ").split()
    for name, peak in PEAK_FLOPS.items():
        wanted = name.split()
        if all(word in words for word in wanted):
            return peak
    return None


@dataclass(frozen=True)
class Weights:
    """Numbers of weights of one part of a model that take part in matrix products (embedding tables do not)."""

    frozen: int = 0
    trained: int = 0
    """Weights of adapters, or all weights of a part that trains in full."""


@dataclass(frozen=True)
class Workload:
    """Numbers of weights that a training step computes with, by part of the model."""

    language: Weights
    """Layers of the language model, which compute every token."""
    head: Weights
    """Output head, which computes supervised tokens only."""
    tower: Weights
    """Vision tower without the projector, which computes every image patch."""
    projector: Weights
    """Projector, which computes every visual token, one per `merge` patches."""
    merge: int = 4
    """Patches per visual token."""

    def flops(self, tokens: float, supervised: float, patches: float) -> float:
        """Return the floating-point operations that the forward and the backward pass need.

        N frozen weights take 4N operations per token: 2N in the forward pass and 2N for the gradient of the
        activations. N trained weights take 6N, because their own gradient takes another 2N. A frozen tower takes 2N per
        image patch, because it has no backward pass; a frozen projector behind a frozen tower has none either. Adapters
        count as trained weights.

        Not counted are the products of tokens with tokens in attention and the recomputation of gradient checkpointing.
        Thus MFU measures what the model needs, not what the device does.

        Args:
            tokens: Computed tokens, visual tokens included and padding not; in a prefix tree, shared tokens count once.
            supervised: Supervised tokens.
            patches: Image patches that the tower encodes.
        """
        tower, projector = self.tower, self.projector
        tower_trains = tower.trained > 0
        total = tokens * _both_ways(self.language) + supervised * _both_ways(self.head)
        total += patches * (_both_ways(tower) if tower_trains else 2 * tower.frozen)
        has_backward = tower_trains or projector.trained > 0
        per_visual_token = _both_ways(projector) if has_backward else 2 * projector.frozen
        return total + patches / self.merge * per_visual_token


def _both_ways(weights: Weights) -> float:
    """Return the operations per token of a forward and a backward pass."""
    return 4 * weights.frozen + 6 * weights.trained


def mfu(flops: float, seconds: float, device_names: Iterable[str]) -> float | None:
    """Return the model FLOPs utilization: `flops` per second as a share of the devices' peak.

    `flops` is the sum over all devices. Returns None if the peak of a device is unknown.
    """
    peaks = [peak_flops(name) for name in device_names]
    known = [peak for peak in peaks if peak is not None]
    if not known or len(known) < len(peaks) or seconds <= 0:
        return None
    return flops / seconds / sum(known)


@dataclass(frozen=True)
class Window:
    """What all devices did since the last logged figures."""

    seconds: float
    """Elapsed time, without checkpoints and evaluation."""
    tokens: float
    """Computed tokens without padding; in a prefix tree, shared tokens count once."""
    samples: float
    waited: float
    """Seconds spent waiting for micro-batches, averaged over the processes."""
    flops: float
    """`Workload.flops`, summed over all devices."""
    peak_memory_bytes: float
    """Peak memory of the process that used the most."""


def perf_figures(window: Window, device_names: Iterable[str]) -> dict[str, float]:
    """Return the `perf/*` figures of a window; `perf/mfu` is left out if the peak of a device is unknown.

    `perf/tokens_per_second` counts computed tokens only, so it does not show what a prefix tree saves; to compare a run
    with a prefix tree to one without, use `perf/samples_per_second`.
    """
    seconds = max(window.seconds, 1e-9)
    figures = {
        "perf/tokens_per_second": window.tokens / seconds,
        "perf/samples_per_second": window.samples / seconds,
        "perf/data_wait_fraction": min(1.0, window.waited / seconds),
        "perf/peak_memory_gb": window.peak_memory_bytes / 1e9,
    }
    share = mfu(window.flops, window.seconds, device_names)
    return figures if share is None else {**figures, "perf/mfu": share}
