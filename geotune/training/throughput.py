"""How fast a run is and how much of its devices it uses: the arithmetic, without a model or a clock."""

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
"""bf16 products per second without sparsity, from the vendor's data sheets, by a part of the device's name."""


def peak_flops(device_name: str) -> float | None:
    """Peak bf16 FLOP/s of a device by the name that its driver gives it; None for one that is not in the table."""
    words = device_name.replace("-", " ").split()
    for name, peak in PEAK_FLOPS.items():
        wanted = name.split()
        if all(word in words for word in wanted):
            return peak
    return None


@dataclass(frozen=True)
class Weights:
    """Weights of one part of a model that take part in products (not an embedding table)."""

    frozen: int = 0
    trained: int = 0
    """Adapters, or everything in a part that trains in full."""


@dataclass(frozen=True)
class Workload:
    """What a training step computes with, by part."""

    language: Weights
    """The language model's layers: every token."""
    head: Weights
    """The output head: supervised tokens alone."""
    tower: Weights
    """The vision tower without the projector: every patch that it reads."""
    projector: Weights
    """The projector: every visual token that it makes, `merge` patches each."""
    merge: int = 4
    """Patches per visual token."""

    def flops(self, tokens: float, supervised: float, patches: float) -> float:
        """Floating-point operations that forward and backward pass need.

        4N per text token with frozen weights: 2N forward, 2N for the gradient of the activations; 6N with trained
        ones, whose own gradient takes 2N more. Plus 2N per vision patch with a frozen tower, which has no backward
        pass. A frozen projector behind a frozen tower has none either. Adapters count as trained weights.

        `tokens` are those that are computed, images' included and padding not, each token of a prefix tree once.
        Left out: attention's products of tokens with tokens, and what gradient checkpointing computes again; so MFU
        is what the model needs, not what the device did.
        """
        tower, projector = self.tower, self.projector
        sees_gradient = tower.trained > 0
        total = tokens * _both_ways(self.language) + supervised * _both_ways(self.head)
        total += patches * (_both_ways(tower) if sees_gradient else 2 * tower.frozen)
        trains = sees_gradient or projector.trained > 0
        per_visual = _both_ways(projector) if trains else 2 * projector.frozen
        return total + patches / self.merge * per_visual


def _both_ways(weights: Weights) -> float:
    return 4 * weights.frozen + 6 * weights.trained


def mfu(flops: float, seconds: float, device_names: Iterable[str]) -> float | None:
    """Model FLOPs utilisation: the share of the devices' peak that `flops` in `seconds` are; None where it is unknown.

    `flops` are those of all devices together.
    """
    peaks = [peak_flops(name) for name in device_names]
    known = [peak for peak in peaks if peak is not None]
    if not known or len(known) < len(peaks) or seconds <= 0:
        return None
    return flops / seconds / sum(known)


@dataclass(frozen=True)
class Window:
    """What happened on all devices since the last line."""

    seconds: float
    """Without checkpoints and evaluation."""
    tokens: float
    """Computed ones that are not padding; in a prefix tree each shared token counts once."""
    samples: float
    waited: float
    """Seconds without a micro-batch, the mean of the processes."""
    flops: float
    peak_memory_bytes: float
    """Of the process that used most."""


def perf_figures(window: Window, device_names: Iterable[str]) -> dict[str, float]:
    """The `perf/*` figures of a line; `perf/mfu` is left out where the devices' peak is unknown.

    `perf/tokens_per_second` counts what is computed, so that a prefix tree and its plain twin differ in it by the
    tokens that the tree saves; `perf/samples_per_second` compares the two.
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
