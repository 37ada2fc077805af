"""Seeds of any size."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import seed_everything

from data_builders.questions.draw import generator
from geotune.data.stream import epoch_order
from geotune.system.seeds import seed32


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 20261126123456, 2**64, 10**300])
def test_every_generator_takes_any_seed(seed: int) -> None:
    folded = seed32(seed)
    assert 0 <= folded < 2**32
    assert folded == seed or seed >= 2**32
    assert seed_everything(folded, verbose=False) == folded
    torch.Generator().manual_seed(folded)
    assert generator(seed, "name").random() != generator(seed + 1, "name").random()
    assert epoch_order(100, seed, 0).tolist() != epoch_order(100, seed + 1, 0).tolist()


def test_large_seeds_differ_and_never_change() -> None:
    assert seed32(20261126123456) == 437364933
    assert len({seed32(2**40 + at) for at in range(1000)}) == 1000
