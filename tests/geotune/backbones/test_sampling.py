"""Drawn tokens follow the requested distribution, and an answer depends on its own seed alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geotune.backbones.generation import generate
from geotune.backbones.sampling import Sampling, draw
from geotune.sample import Sample

City = tuple[Path, list[Sample]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_of_tokens_are_their_probabilities(temperature: float) -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0])
    uniform = (torch.arange(10000, dtype=torch.float64) + 0.5) / 10000
    drawn = draw(logits.expand(10000, 4), uniform, temperature, 1.0)
    shares = torch.bincount(drawn, minlength=4) / 10000
    torch.testing.assert_close(shares, (logits / temperature).softmax(-1), atol=2e-4, rtol=0)


def test_only_tokens_of_the_nucleus_are_drawn() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.15, 0.25])
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    for top_p, kept in ((0.01, [1]), (0.5, [1]), (0.51, [1, 3]), (0.76, [1, 2, 3]), (0.9001, [0, 1, 2, 3])):
        shares = torch.bincount(draw(probabilities.log().expand(1000, 4), uniform, 1.0, top_p), minlength=4) / 1000
        wanted = torch.zeros(4)
        wanted[kept] = probabilities[kept] / probabilities[kept].sum()
        torch.testing.assert_close(shares, wanted, atol=2e-3, rtol=0)


def test_random_numbers_at_the_ends_of_the_interval() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf], [-200.0, 0.0, -200.0]])
    for number in (0.0, np.nextafter(1.0, 0.0)):
        uniform = torch.full((2,), number, dtype=torch.float64)
        assert draw(logits, uniform, 1.0, 1.0)[0] == 1
        assert draw(logits, uniform, 1.0, 0.9).tolist() == [1, 1]


@pytest.mark.parametrize("family", ["qwen", "internvl"])
def test_an_answer_depends_on_its_own_seed_alone(load_tiny: Callable[..., Any], city: City, family: str) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    backbone = load_tiny(family)
    seeds = [(0, number) for number in range(8)]

    def ask(chosen: list[int], batch_size: int, temperature: float = 1.0) -> list[str]:
        sampling = Sampling([seeds[number] for number in chosen], temperature)
        asked = [samples[number % 4] for number in chosen]
        return list(generate(backbone, asked, max_new_tokens=6, batch_size=batch_size, sampling=sampling))

    whole = ask(list(range(8)), 8)
    assert ask(list(range(8)), 3) == whole
    assert ask([5, 2], 1) == [whole[5], whole[2]]
    assert len(set(whole)) > 4, "the same question under another seed has another answer"
    greedy = generate(backbone, samples[:4], max_new_tokens=6, batch_size=4)
    assert ask([0, 1, 2, 3], 4, temperature=1e-4) == greedy
