"""Simulated training: with spread a policy becomes the posterior over places, without it collapses on one guess.

Three photos tell as much of their place as a posterior over 216 cells says: one is wide, one has two peaks, one is
sharp. Each update asks about each photo many times, with the truth drawn from its posterior.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from geotune.config.losses import LossConfig
from geotune.geo import FloatArray, geodesic_km, haversine_km
from geotune.rl.advantages import advantages, spread_values, spread_weight
from geotune.rl.losses import UpdateCounts, policy_loss
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.estimates import estimate

PLACES = 216
UNREADABLE = PLACES
"""Option after the places: text that gives none."""
GROUP_SIZE = 8
GROUPS = 64
"""Groups of each photo in an update."""
UPDATES = 600
LEARNING_RATE = 0.1
"""Learning rate of AdamW at the start; it falls linearly to 0."""
DRAWS = 16
"""Answers from which a position and its radii are estimated."""
LAT, LON = (each.ravel() for each in np.meshgrid(np.arange(-82.5, 90, 15), np.arange(-170.0, 180, 20), indexing="ij"))
DISTANCE_KM = haversine_km(LAT[:, None], LON[:, None], LAT, LON)
POSTERIORS = ("wide", "two-peaked", "sharp")


def similarity() -> FloatArray:
    """The kernel `multiscale` between all options (217, 217); NaN for the unreadable one."""
    between = np.full((PLACES + 1, PLACES + 1), np.nan)
    between[:PLACES, :PLACES] = np.mean([np.exp(-DISTANCE_KM / scale) for scale in (1, 25, 100, 750, 5000)], axis=0)
    return between


def hill(lat: float, lon: float, width_km: float) -> FloatArray:
    """A distribution (216,) around a position; a cell counts by its area."""
    distance_km = haversine_km(lat, lon, LAT, LON)
    weights = np.exp(-((distance_km / width_km) ** 2) / 2) * np.cos(np.radians(LAT))
    return np.asarray(weights / weights.sum())


def posteriors() -> FloatArray:
    """(3, 216), of about 40, 10 and 2 places (e to the entropy)."""
    two_peaked = 0.6 * hill(52.5, 10, 900) + 0.4 * hill(37.5, -70, 900)
    return np.stack([hill(7.5, 30, 3000), two_peaked, hill(-37.5, 150, 700)])


@functools.cache
def learned(spread: float, unreadable: float = 0.0, floor: bool = True) -> FloatArray:
    """The policies (3, 217) for the three photos after training.

    They start equal over the places, with the probability `unreadable` of the unreadable option. Without `floor` that
    option gets the reward r = 0.
    """
    truth, between = posteriors(), similarity()
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    start = np.append(np.full(PLACES, (1 - unreadable) / PLACES), unreadable)
    logits = torch.from_numpy(np.log(np.maximum(start, 1e-300))).repeat(len(truth), 1).requires_grad_()
    optimizer = torch.optim.AdamW([logits], lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 - update / UPDATES)
    completions = len(truth) * GROUPS * GROUP_SIZE
    counts = UpdateCounts(planned_tokens=completions, tokens=completions, completions=completions)
    for _ in range(UPDATES):
        log_policy = logits.log_softmax(1)
        drawn = torch.multinomial(log_policy.detach().exp(), GROUPS * GROUP_SIZE, True, generator=generator)
        guesses = drawn.numpy().reshape(len(truth), GROUPS, GROUP_SIZE)
        places = np.stack([rng.choice(PLACES, (GROUPS, 1), p=each) for each in truth])
        pairs = between[guesses[..., :, None], guesses[..., None, :]]
        readable = guesses != UNREADABLE
        rewards = spread_values(between[guesses, places], pairs, readable, spread)
        if not floor:
            weight = spread_weight(spread, GROUP_SIZE)
            rewards[~readable] = weight / (1 + weight)
        gains = torch.from_numpy(advantages(rewards, "none")).flatten()
        new = log_policy.gather(1, drawn).flatten()
        loss, _ = policy_loss(LossConfig(), new, new.detach(), torch.arange(completions), gains, counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return np.asarray(logits.detach().softmax(1))


def coverage(policy: FloatArray, posterior: FloatArray, estimates: int = 200) -> FloatArray:
    """The probability (2,) that the truth lies within the radii of 50% and 90% of the estimate from some draws."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(estimates):
        drawn = rng.choice(PLACES, DRAWS, p=policy[:PLACES] / policy[:PLACES].sum())
        found = estimate([Coordinates(LAT[place], LON[place]) for place in drawn])
        assert found is not None
        error_km = geodesic_km(found.at.lat, found.at.lon, LAT, LON)
        radii_km = np.array([found.radius_50_km, found.radius_90_km], dtype=np.float64)
        covered.append((error_km <= radii_km[:, None] + 1e-6) @ posterior)
    return np.mean(covered, axis=0)


def variation(policy: FloatArray, posterior: FloatArray) -> float:
    """The total variation distance."""
    return float(np.abs(policy - np.append(posterior, 0)).sum() / 2)


@pytest.mark.parametrize("unreadable", [0.0, 0.1])
@pytest.mark.parametrize("name", POSTERIORS)
def test_with_spread_the_policy_becomes_the_posterior(name: str, unreadable: float) -> None:
    number = POSTERIORS.index(name)
    policy, posterior = learned(1.0, unreadable)[number], posteriors()[number]
    assert variation(policy, posterior) <= 0.15
    assert coverage(policy, posterior) == pytest.approx(coverage(posterior, posterior), abs=0.06)


def test_without_spread_the_policy_collapses_on_one_guess() -> None:
    policy, posterior = learned(0.0)[0], posteriors()[0]
    assert coverage(policy, posterior)[1] < 0.15
    assert coverage(posterior, posterior)[1] > 0.8
    assert variation(policy, posterior) > 0.8


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_unreadable_text_becomes_rarer(spread: float) -> None:
    assert (learned(spread, unreadable=0.1)[:, UNREADABLE] < 0.01).all()


def test_unreadable_text_would_pay_without_the_floor() -> None:
    assert (learned(1.0, unreadable=0.1, floor=False)[:, UNREADABLE] > 0.5).all()
