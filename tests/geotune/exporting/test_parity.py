"""The comparison of two models by their logits and answers."""

from __future__ import annotations

import pytest
import torch

from geotune.exporting.parity import Observed, compare_models


def test_equal_models_pass_and_different_ones_raise() -> None:
    logits = torch.tensor([[1.0, -10.0]])
    wanted = Observed(logits, ("a",))
    assert compare_models("x", Observed(logits + 9e-4, ("a",)), "y", wanted).difference == pytest.approx(9e-5, rel=1e-2)
    assert compare_models("x", Observed(logits + 0.5, ("b",)), "y", wanted, rounded=True).passed
    for found, rounded in (
        (Observed(logits + 2e-3, ("a",)), False),
        (Observed(logits, ("b",)), False),
        (Observed(logits + 2, ("a",)), True),
        (Observed(logits * float("nan"), ("a",)), True),
    ):
        with pytest.raises(RuntimeError, match="x and y: logits differ by"):
            compare_models("x", found, "y", wanted, rounded=rounded)
