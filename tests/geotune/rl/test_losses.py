"""The losses of reinforcement learning: against their papers' formulas, clipping, and shares that add up."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.config.losses import LossConfig, LossName
from geotune.errors import ConfigError
from geotune.rl.losses import UpdateCounts, normalizer, policy_loss

LOSSES: tuple[LossName, ...] = get_args(LossName)
TOKEN_LEVEL: tuple[LossName, ...] = ("dr_grpo", "dapo", "cispo")
COUNTS = UpdateCounts(planned_tokens=96, tokens=31, completions=7)
LENGTHS = (4, 1, 0, 7, 2)


class MicroBatch:
    """Tokens in float64 of completions of these lengths, whose order is mixed; the ratios are about e^(+-drift)."""

    def __init__(self, lengths: tuple[int, ...] = LENGTHS, *, drift: float = 0.4, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        self.owner = owner[torch.randperm(len(owner), generator=generator)]
        draws = torch.randn(3, len(owner), generator=generator, dtype=torch.float64)
        self.new = (-2 + draws[0]).requires_grad_()
        self.old = self.new.detach() + drift * draws[1]
        self.reference = self.new.detach() + 0.5 * draws[2]
        self.advantages = torch.randn(len(lengths), generator=generator, dtype=torch.float64)

    def loss(
        self, config: LossConfig, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The share and the sums of the tokens `kept`, or of all."""
        kept = torch.arange(len(self.owner)) if kept is None else kept
        reference = self.reference[kept] if config.beta else None
        parts = self.new[kept], self.old[kept], self.owner[kept], self.advantages
        return policy_loss(config, *parts, COUNTS, reference)

    def gradient(self, config: LossConfig) -> torch.Tensor:
        return torch.autograd.grad(self.loss(config)[0], self.new)[0]


def by_the_paper(config: LossConfig, batch: MicroBatch) -> torch.Tensor:
    """The loss with a loop over completions and tokens, from the formula of each paper."""
    low = {"gspo": 3e-4}.get(config.loss, 0.2) if config.clip_low is None else config.clip_low
    high = {"gspo": 4e-4, "cispo": 5}.get(config.loss, 0.28) if config.clip_high is None else config.clip_high
    objectives: dict[str, list[torch.Tensor]] = {"tokens": [], "completions": []}
    for completion, advantage in enumerate(batch.advantages):
        of_tokens = []
        tokens = [n for n in range(len(batch.owner)) if batch.owner[n] == completion]
        if not tokens:
            continue
        of_sequence = torch.exp(sum(batch.new[n] - batch.old[n] for n in tokens) / len(tokens))
        for n in tokens:
            ratio = torch.exp(batch.new[n]) / torch.exp(batch.old[n])
            if config.loss == "cispo":
                value = min(ratio.item(), high) * advantage * batch.new[n]
            else:
                of_token = of_sequence if config.loss == "gspo" else ratio
                value = min(of_token * advantage, torch.clip(of_token, 1 - low, 1 + high) * advantage)
            if config.beta:
                to_reference = torch.exp(batch.reference[n]) / torch.exp(batch.new[n])
                value = value - config.beta * ratio * (to_reference - torch.log(to_reference) - 1)
            of_tokens.append(value)
        objectives["tokens"] += of_tokens
        objectives["completions"].append(sum(of_tokens) / len(of_tokens))
    if config.loss in ("gspo", "grpo"):
        return -sum(objectives["completions"]) / COUNTS.completions
    return -sum(objectives["tokens"]) / (COUNTS.planned_tokens if config.loss == "dr_grpo" else COUNTS.tokens)


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("drift", [0.4, 3.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_that_of_its_paper(loss: LossName, drift: float, beta: float) -> None:
    batch, config = MicroBatch(drift=drift), LossConfig(loss=loss, beta=beta)
    ours, theirs = batch.loss(config)[0], by_the_paper(config, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, other in zip(torch.autograd.grad(ours, batch.new), torch.autograd.grad(theirs, batch.new), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
        assert mine.abs().max() > 1e-4


def test_token_level_losses_have_one_gradient_up_to_the_normalizer_at_ratio_1() -> None:
    batch = MicroBatch(drift=0.0)
    configs = [LossConfig(loss=loss) for loss in TOKEN_LEVEL]
    first, *others = [batch.gradient(config) * normalizer(config.loss, COUNTS) for config in configs]
    torch.testing.assert_close(first, -batch.advantages[batch.owner], rtol=1e-12, atol=0)
    for gradient in others:
        torch.testing.assert_close(gradient, first, rtol=1e-12, atol=0)
    by_completion = [batch.gradient(LossConfig(loss=loss)) for loss in ("gspo", "grpo")]
    torch.testing.assert_close(*by_completion, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("loss", "expected"), list(zip(LOSSES, (96, 31, 31, 7, 7), strict=True)))
def test_normalizer(loss: LossName, expected: int) -> None:
    assert normalizer(loss, COUNTS) == expected
    assert normalizer(loss, UpdateCounts(96, 0, 0)) == (96 if loss == "dr_grpo" else 1)


@pytest.mark.parametrize("loss", ["dr_grpo", "dapo", "grpo", "gspo"])
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("side", ["below", "low", "one", "high", "above"])
def test_clipping_stops_the_gradient_beyond_the_bound_on_the_side_of_progress(
    loss: LossName, advantage: float, side: str
) -> None:
    config = LossConfig(loss=loss)
    low, high = config.ratio_bounds()
    ratio = {"below": low - 1e-5, "low": low + 1e-5, "one": 1.0, "high": high - 1e-5, "above": high + 1e-5}[side]
    new = torch.full((1,), -1.0, dtype=torch.float64, requires_grad=True)
    old, owner = new.detach() - math.log(ratio), torch.zeros(1, dtype=torch.int64)
    share, sums = policy_loss(config, new, old, owner, torch.tensor([advantage]), UpdateCounts(1, 1, 1))
    share.backward()
    stopped = (side == "below" and advantage < 0) or (side == "above" and advantage > 0)
    assert new.grad is not None
    assert new.grad.item() == (0 if stopped else pytest.approx(-ratio * advantage))
    assert sums["clipped"] == stopped


@pytest.mark.parametrize("ratio", [0.01, 1.0, 4.9, 5.1, 100.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_cispo_bounds_the_weight_of_a_token_and_keeps_its_gradient(ratio: float, advantage: float) -> None:
    new = torch.full((1,), -1.0, dtype=torch.float64, requires_grad=True)
    old, owner = new.detach() - math.log(ratio), torch.zeros(1, dtype=torch.int64)
    share, sums = policy_loss(
        LossConfig(loss="cispo"), new, old, owner, torch.tensor([advantage]), UpdateCounts(1, 1, 1)
    )
    share.backward()
    assert new.grad is not None
    assert new.grad.item() == pytest.approx(-min(ratio, 5) * advantage)
    assert sums["clipped"] == (ratio > 5)


def test_gspo_clips_completions_as_a_whole() -> None:
    """Two tokens whose ratios are far from 1 in opposite directions make a sequence ratio of 1."""
    new = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
    old = new.detach() - torch.tensor([0.5, -0.5, 0.1])
    parts = new, old, torch.tensor([0, 0, 1]), torch.tensor([2.0, 1.0])
    share, sums = policy_loss(LossConfig(loss="gspo"), *parts, COUNTS)
    share.backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([-1 / 7, -1 / 7, 0])
    assert sums["clipped"] == 1


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=8).map(tuple),
    parts=st.integers(1, 4),
    loss=st.sampled_from(LOSSES),
    beta=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_shares_of_any_split_into_micro_batches_add_up(
    lengths: tuple[int, ...], parts: int, loss: LossName, beta: float, seed: int
) -> None:
    batch, config = MicroBatch(lengths, drift=1.0, seed=seed), LossConfig(loss=loss, beta=beta)
    part_of = torch.randint(parts, (len(lengths),), generator=torch.Generator().manual_seed(seed))
    whole, sums = batch.loss(config)
    shares = [batch.loss(config, torch.nonzero(part_of[batch.owner] == part)[:, 0]) for part in range(parts)]
    total = sum(share for share, _ in shares)
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(value, batch.new, retain_graph=True)[0] for value in (total, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    for name, value in sums.items():
        torch.testing.assert_close(sum(of_part[name] for _, of_part in shares), value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_inputs_in_bf16_are_computed_in_float32(loss: LossName) -> None:
    batch, config = MicroBatch(drift=0.01), LossConfig(loss=loss, beta=0.1)
    narrow = {name: getattr(batch, name).detach().bfloat16() for name in ("new", "old", "reference", "advantages")}
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        values = {name: value.to(dtype) for name, value in narrow.items()}
        new = values["new"].requires_grad_()
        share, sums = policy_loss(
            config, new, values["old"], batch.owner, values["advantages"], COUNTS, values["reference"]
        )
        assert share.dtype == torch.float32
        results.append((share, sums["ratio"], torch.autograd.grad(share, new)[0].bfloat16()))
    for narrow_result, wide_result in zip(*results, strict=True):
        assert torch.equal(narrow_result, wide_result)


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batch_without_tokens_is_a_zero_that_runs_backward(loss: LossName, beta: float) -> None:
    batch = MicroBatch()
    share, sums = batch.loss(LossConfig(loss=loss, beta=beta), torch.zeros(0, dtype=torch.int64))
    assert share == 0
    assert share.requires_grad
    share.backward()
    assert batch.new.grad is not None
    assert not batch.new.grad.any()
    assert not any(sums.values())
    none = torch.zeros(0, requires_grad=True)
    empty = none, none.detach(), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    share, _ = policy_loss(LossConfig(loss=loss), *empty, UpdateCounts(96, 0, 0))
    share.backward()
    assert share == 0


def test_only_the_new_log_probabilities_get_a_gradient() -> None:
    batch = MicroBatch()
    for tensor in (batch.old, batch.reference, batch.advantages):
        tensor.requires_grad_()
    batch.loss(LossConfig(beta=0.1))[0].backward()
    assert batch.new.grad is not None
    assert batch.old.grad is batch.reference.grad is batch.advantages.grad is None


def test_kl_is_zero_at_the_start_and_its_gradient_is_that_of_the_divergence() -> None:
    """The expectation over tokens drawn from an old policy, of a softmax over five tokens."""
    generator = torch.Generator().manual_seed(0)
    logits, old, reference = torch.randn(3, 5, generator=generator, dtype=torch.float64).unbind()
    logits.requires_grad_()
    log_p, log_old, log_reference = (each.log_softmax(0) for each in (logits, old, reference))
    owner, nothing = torch.arange(5), torch.zeros(5, dtype=torch.float64)
    shares = []
    for token in range(5):  # weighted by the probability to be drawn
        at = slice(token, token + 1)
        share, _ = policy_loss(
            LossConfig(loss="dapo", beta=1.0),
            *(log_p[at], log_old[at], owner[:1], nothing[:1], UpdateCounts(1, 1, 1), log_reference[at]),
        )
        shares.append(share * log_old[token].exp())
    estimate, divergence = sum(shares), (log_p.exp() * (log_p - log_reference)).sum()
    torch.testing.assert_close(estimate, divergence, rtol=1e-12, atol=1e-12)
    of_estimate, of_divergence = (
        torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (estimate, divergence)
    )
    torch.testing.assert_close(of_estimate, of_divergence, rtol=1e-12, atol=1e-12)

    batch = MicroBatch(drift=0.0)
    batch.reference = batch.new.detach()
    assert batch.loss(LossConfig(beta=1.0))[1]["kl"] == 0
    assert torch.equal(batch.gradient(LossConfig(beta=1.0)), batch.gradient(LossConfig()))


def test_sums_for_the_figures() -> None:
    batch = MicroBatch(drift=0.0)
    sums = batch.loss(LossConfig())[1]
    assert sums == {"tokens": 14, "clipped": 0, "ratio": 14}
    assert not any(value.requires_grad for value in batch.loss(LossConfig(beta=0.1))[1].values())


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"loss": "ppo"}, "loss"),
        ({"clip_low": 0.0}, "clip_low"),
        ({"clip_low": 1.0}, "clip_low"),
        ({"clip_high": -0.1}, "clip_high"),
        ({"clip_high": math.nan}, "clip_high"),
        ({"loss": "cispo", "clip_low": 0.2}, "clip_low"),
        ({"loss": "cispo", "clip_high": 0.28}, "clip_high"),
        ({"beta": -0.1}, "beta"),
        ({"beta": math.nan}, "beta"),
    ],
)
def test_refused_options(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LossConfig(**options)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_bounds_of_the_ratio() -> None:
    assert LossConfig().ratio_bounds() == (0.8, 1.28)
    assert LossConfig(loss="gspo").ratio_bounds() == (1 - 3e-4, 1 + 4e-4)
    assert LossConfig(loss="cispo").ratio_bounds() == (0.0, 5.0)
    assert LossConfig(loss="cispo", clip_high=8).ratio_bounds() == (0.0, 8)
    assert LossConfig(loss="grpo", clip_low=0.1, clip_high=0.2).ratio_bounds() == (0.9, 1.2)
