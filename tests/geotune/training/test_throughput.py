"""The arithmetic of speed, memory and MFU."""

from __future__ import annotations

import pytest

from geotune.training.throughput import Weights, Window, Workload, mfu, peak_flops, perf_figures


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA H1000", None),
        ("cpu", None),
    ],
)
def test_peak_by_device_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_the_stated_formula() -> None:
    """4N per text token with frozen weights, plus 2N per vision patch with a frozen tower; 6N where they train."""
    frozen = Workload(language=Weights(1000), head=Weights(), tower=Weights(300), projector=Weights())
    assert frozen.flops(tokens=10, supervised=2, patches=8) == 4 * 1000 * 10 + 2 * 300 * 8
    trained = Workload(language=Weights(trained=1000), head=Weights(), tower=Weights(trained=300), projector=Weights())
    assert trained.flops(10, 2, 8) == 6 * 1000 * 10 + 6 * 300 * 8


def test_adapters_head_and_projector() -> None:
    lora = Workload(Weights(1000, 50), Weights(70), Weights(300), Weights(40), merge=4)
    text = (4 * 1000 + 6 * 50) * 10 + 4 * 70 * 2
    assert lora.flops(10, 2, 8) == text + 2 * 300 * 8 + 2 * 40 * 2
    behind = Workload(Weights(1000), Weights(70), Weights(300), Weights(trained=40))
    assert behind.flops(0, 0, 8) == 2 * 300 * 8 + 6 * 40 * 2
    below = Workload(Weights(1000), Weights(70), Weights(300, 10), Weights(40))
    assert below.flops(0, 0, 8) == (4 * 300 + 6 * 10) * 8 + 4 * 40 * 2


def test_mfu() -> None:
    assert mfu(989e12, 2.0, ["NVIDIA H100 80GB HBM3"]) == 0.5
    assert mfu(989e12, 2.0, ["NVIDIA H100 80GB HBM3"] * 2) == 0.25
    assert mfu(1e12, 1.0, ["cpu"]) is None
    assert mfu(1e12, 1.0, ["NVIDIA H200", "cpu"]) is None
    assert mfu(1e12, 1.0, []) is None


def test_figures_of_a_line() -> None:
    window = Window(seconds=2.0, tokens=100, samples=6, waited=0.5, flops=312e12, peak_memory_bytes=3e9)
    figures = perf_figures(window, ["NVIDIA A100-SXM4-80GB"])
    assert figures == {
        "perf/tokens_per_second": 50.0,
        "perf/samples_per_second": 3.0,
        "perf/data_wait_fraction": 0.25,
        "perf/peak_memory_gb": 3.0,
        "perf/mfu": 0.5,
    }
    assert "perf/mfu" not in perf_figures(window, ["cpu"])
