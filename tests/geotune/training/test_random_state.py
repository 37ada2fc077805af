"""The random state of a process is saved and restored."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from geotune.training.random_state import rng_state, set_rng_state


def test_random_state_round_trip(tmp_path: Path) -> None:
    torch.save(rng_state(), tmp_path / "rng.pt")
    wanted = (torch.rand(3), np.random.rand(3), random.random())
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    found = (torch.rand(3), np.random.rand(3), random.random())
    assert torch.equal(found[0], wanted[0])
    assert found[1].tolist() == wanted[1].tolist()
    assert found[2] == wanted[2]
