"""Learning-rate schedules, parameter groups and optimizers."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from geotune.stages.optim import MuonAdamW, lr_factor, parameter_groups, warmup_updates


def test_warmup_counts_or_shares() -> None:
    assert warmup_updates(0.05, 1000) == 50
    assert warmup_updates(0.05, 30) == 2
    assert warmup_updates(200, 1000) == 200
    assert warmup_updates(0, 1000) == 0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule(schedule: Any) -> None:
    factors = [lr_factor(s, total=100, warmup=10, schedule=schedule, min_ratio=0.1) for s in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert all(a < b for a, b in pairwise(factors[:10]))
    assert factors[100] == (1.0 if schedule == "constant" else pytest.approx(0.1))
    assert factors[55] == pytest.approx(1.0 if schedule == "constant" else 0.55)
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_warmup_longer_than_the_run() -> None:
    assert lr_factor(4, total=5, warmup=10, schedule="cosine", min_ratio=0.0) == 0.5


def test_vectors_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    model[2].requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), 0.1)
    assert [len(group["params"]) for group in groups] == [1, 3]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    model.requires_grad_(False)
    model[0].weight.requires_grad_(True)
    assert len(parameter_groups(model.named_parameters(), 0.1)) == 1


def named_parameters() -> list[tuple[str, nn.Parameter]]:
    torch.manual_seed(0)
    shapes = {"embed.weight": (5, 4), "layer.weight": (4, 4), "norm.weight": (4,), "patch.weight": (4, 3, 2, 2)}
    return [(name, nn.Parameter(torch.randn(shape))) for name, shape in shapes.items()]


def muon(named: list[tuple[str, nn.Parameter]]) -> MuonAdamW:
    return MuonAdamW(named, lr=0.1, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)


def take_steps(optimizer: MuonAdamW, named: list[tuple[str, nn.Parameter]], seeds: range) -> None:
    for seed in seeds:
        torch.manual_seed(seed)
        for _, parameter in named:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    named, alone = named_parameters(), named_parameters()
    take_steps(muon(named), named, range(1))
    torch.manual_seed(0)
    for _, parameter in alone:
        parameter.grad = torch.randn_like(parameter)
    matrix = [p for name, p in alone if name == "layer.weight"]
    torch.optim.Muon(matrix, lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw").step()
    groups = parameter_groups([(name, p) for name, p in alone if name != "layer.weight"], 0.01)
    torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.98), eps=1e-8).step()
    for (name, ours), (_, theirs) in zip(named, alone, strict=True):
        assert torch.equal(ours, theirs), name


def test_a_schedule_reaches_both_parts() -> None:
    named = named_parameters()
    optimizer = muon(named)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    take_steps(optimizer, named, range(1))
    scheduler.step()
    before = [parameter.detach().clone() for _, parameter in named]
    take_steps(optimizer, named, range(1, 2))
    assert all(torch.equal(a, b) for a, (_, b) in zip(before, named, strict=True))


def test_muon_saved_and_loaded_goes_on_as_if_never_stopped() -> None:
    named, other = named_parameters(), named_parameters()
    optimizer = muon(named)
    take_steps(optimizer, named, range(3))
    resumed = muon(other)
    with torch.no_grad():
        for (_, a), (_, b) in zip(other, named, strict=True):
            a.copy_(b)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    take_steps(optimizer, named, range(3, 6))
    take_steps(resumed, other, range(3, 6))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(named, other, strict=True))
