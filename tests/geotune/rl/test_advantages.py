"""Advantages of groups: the values with spread, the exact gradient that they give, and which settings are honest."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geotune.geo import FloatArray, haversine_km
from geotune.rl.advantages import advantages, is_dead, spread_refusals, spread_values, spread_weight

UNREADABLE = 4
"""Option of the policies below that is no place."""


def multiscale(distance_km: FloatArray) -> FloatArray:
    return np.mean([np.exp(-distance_km / scale) for scale in (1, 25, 100, 750, 5000)], axis=0)


def four_places() -> tuple[FloatArray, FloatArray]:
    """Similarity (5,) of four places to the truth, which is one of them, and (5, 5) to each other; NaN for no place."""
    lat, lon = np.array([[48.9, 2.3], [48.2, 2.9], [40.4, -3.7], [-33.9, 151.2]]).T
    between = np.full((5, 5), np.nan)
    between[:4, :4] = multiscale(haversine_km(lat[:, None], lon[:, None], lat, lon))
    return between[0], between


def mean_gradient(policy: FloatArray, group_size: int, values: Any) -> FloatArray:
    """The expected gradient of the policy's logits, over all groups, of the sum of advantage x log-probability / G.

    values: function of the options (G,) of the members of a group, which returns their rewards. Members are in no
    order, so each combination stands for all its arrangements.
    """
    gradient = np.zeros_like(policy)
    for group in itertools.combinations_with_replacement(np.flatnonzero(policy), group_size):
        members = np.array(group)
        counts = np.bincount(members, minlength=len(policy))
        arrangements = math.factorial(group_size) / math.prod(map(math.factorial, counts))
        gains = advantages(values(members), "none")
        score = np.bincount(members, gains, len(policy)) - gains.sum() * policy
        gradient += arrangements * np.prod(policy**counts) * score / group_size
    return gradient


def with_spread(spread: float) -> Any:
    """The rewards of this project, before they are moved to [0, 1]: that makes them smaller by 1 / (1 + w)."""
    to_truth, between = four_places()

    def values(members: Any) -> FloatArray:
        readable = members != UNREADABLE
        shown = spread_values(to_truth[members], between[np.ix_(members, members)], readable, spread)
        return shown * (1 + spread_weight(spread, len(members)))

    return values


def effective_spread(gradient: FloatArray, policy: FloatArray, group_size: int) -> float:
    """The weight of E k(x, x') in a gradient of a policy that has an unreadable option.

    The gradient of a place's logit is p(x) (1 - 1/G) (k(x, y) - spread E k(x, x') + what all places share). Four
    places and two unknowns: the equations have a solution only if the gradient has this form.
    """
    to_truth, between = four_places()
    places = policy[:4] / policy[:4].sum()
    wanted = gradient[:4] / (policy[:4] * (1 - 1 / group_size)) - to_truth[:4]
    unknowns = np.stack([-between[:4, :4] @ places, np.ones(4)], axis=1)
    (spread, _), residual, *_ = np.linalg.lstsq(unknowns, wanted, rcond=None)
    assert residual < 1e-24
    return float(spread)


@pytest.mark.parametrize("group_size", [4, 5, 8])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_mean_gradient_is_exactly_that_of_the_kernel_score(group_size: int, spread: float) -> None:
    policy = np.array([0.4, 0.3, 0.2, 0.1, 0.0])
    to_truth, between = (np.nan_to_num(each) for each in four_places())
    gains = to_truth - spread * between @ policy
    of_score = policy * (gains - policy @ gains)
    found = mean_gradient(policy, group_size, with_spread(spread))
    np.testing.assert_allclose(found, (1 - 1 / group_size) * of_score, rtol=0, atol=1e-14)
    assert np.abs(of_score[:4]).min() > 1e-3


@pytest.mark.parametrize("group_size", [4, 8])
@pytest.mark.parametrize("readable", [0.95, 0.8, 0.3])
def test_effective_spread_stays_1_beside_an_unreadable_option(group_size: int, readable: float) -> None:
    """But for the chance that no other completion can be read, when there is nothing to be apart from."""
    policy = np.append(readable * np.array([0.4, 0.3, 0.2, 0.1]), 1 - readable)
    gradient = mean_gradient(policy, group_size, with_spread(1.0))
    found = effective_spread(gradient, policy, group_size)
    assert found == pytest.approx(1 - (1 - readable) ** (group_size - 1), abs=1e-12)
    if group_size == 8 and readable >= 0.8:
        assert found == pytest.approx(1, abs=2e-5)
    assert gradient[UNREADABLE] < -1e-3


@pytest.mark.parametrize(("readable", "expected"), [(0.95, 1.02), (0.8, 1.09)])
def test_effective_spread_would_exceed_1_with_the_number_of_readable_ones(readable: float, expected: float) -> None:
    to_truth, between = (np.nan_to_num(each) for each in four_places())

    def values(members: Any) -> FloatArray:
        read = members != UNREADABLE
        count = read.sum()
        weight = (count - 1) / (count - 2) if count > 2 else 0.0
        others = between[np.ix_(members, members)] * ~np.eye(len(members), dtype=bool)
        return np.where(read, to_truth[members] - weight * others.sum(axis=1) / max(1, count - 1), -weight)

    policy = np.append(readable * np.array([0.4, 0.3, 0.2, 0.1]), 1 - readable)
    found = effective_spread(mean_gradient(policy, 6, values), policy, 6)
    assert found == pytest.approx(expected, abs=0.005)


def slow_values(to_truth: FloatArray, between: FloatArray, readable: Any, spread: float) -> list[float]:
    size = len(to_truth)
    weight = spread * (size - 1) / (size - 2)
    values = []
    for i in range(size):
        others = [between[i][j] for j in range(size) if j != i and readable[j]]
        crowding = sum(others) / len(others) if others else 0
        reward = to_truth[i] - weight * crowding if readable[i] else -weight
        values.append((reward + weight) / (1 + weight))
    return values


shares = st.floats(0, 1)


@st.composite
def groups(draw: st.DrawFn, least: int = 4) -> tuple[FloatArray, FloatArray, Any]:
    """Similarities of a group to the truth and to each other, and which completions are readable."""
    size = draw(st.integers(least, 9))
    to_truth, half, readable = (
        draw(arrays(kind, shape, elements=elements))
        for kind, shape, elements in (
            (np.float64, size, shares),
            (np.float64, (size, size), shares),
            (np.bool_, size, st.booleans()),
        )
    )
    between = np.triu(half, 1) + np.triu(half, 1).T + np.eye(size)
    return to_truth, between, readable


@given(groups(), shares)
def test_values_with_spread(group: tuple[FloatArray, FloatArray, Any], spread: float) -> None:
    to_truth, between, readable = group
    values = spread_values(to_truth, between, readable, spread)
    np.testing.assert_allclose(values, slow_values(to_truth, between, readable, spread), rtol=0, atol=1e-12)
    assert ((values >= 0) & (values <= 1)).all()
    assert (values[~readable] == 0).all()

    order = np.random.default_rng(0).permutation(len(values))
    permuted = spread_values(to_truth[order], between[np.ix_(order, order)], readable[order], spread)
    np.testing.assert_allclose(permuted, values[order], rtol=0, atol=1e-12)
    unknown = np.where(readable, to_truth, np.nan), np.where(readable[:, None] & readable, between, np.nan)
    assert (spread_values(*unknown, readable, spread) == values).all()
    stacked = spread_values(np.stack([to_truth, to_truth * 0]), np.stack([between] * 2), [readable] * 2, spread)
    assert (stacked[0] == values).all()
    assert stacked.shape == (2, len(values))


@given(groups(least=1))
def test_values_without_spread_are_the_similarities_to_the_truth(group: tuple[FloatArray, FloatArray, Any]) -> None:
    to_truth, between, readable = group
    assert (spread_values(to_truth, between, readable, 0.0) == np.where(readable, to_truth, 0)).all()


def test_crowds_are_worth_less_than_what_stands_apart() -> None:
    between = np.ones((5, 5))
    between[4, :4] = between[:4, 4] = 0
    values = spread_values([0.5, 0.5, 0.5, 0.5, 0.3], between, [True] * 5, 1.0)
    weight = spread_weight(1.0, 5)
    assert weight == pytest.approx(4 / 3)
    assert values[:4] == pytest.approx((0.5 - weight * 3 / 4 + weight) / (1 + weight))
    assert values[4] == pytest.approx((0.3 + weight) / (1 + weight))


def test_values_of_what_is_no_similarity_and_of_small_groups() -> None:
    all_of_4 = [True] * 4
    with pytest.raises(AssertionError):
        spread_values([0.1, 0.2, 1.7, 0.3], np.eye(4), all_of_4, 0.0)
    with pytest.raises(AssertionError):
        spread_values([0.1, 0.2, math.nan, 0.3], np.eye(4), all_of_4, 1.0)
    with pytest.raises(AssertionError):
        spread_values([0.1, 0.2, 0.3], np.eye(3), [True] * 3, 1.0)


def test_advantages_and_their_scale() -> None:
    rewards = np.array([[0.0, 0.5, 1.0, 0.5], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0]])
    plain = advantages(rewards, "none")
    assert plain.tolist() == [[-0.5, 0, 0.5, 0], [0, 0, 0, 0], [-0.25, -0.25, -0.25, 0.75]]
    scaled = advantages(rewards, "group")
    assert scaled[2].tolist() == pytest.approx([-0.25 / 0.5001] * 3 + [0.75 / 0.5001])
    assert scaled[0, 2] == pytest.approx(0.5 / (math.sqrt(1 / 6) + 1e-4))
    assert not scaled[1].any()
    assert advantages([[0.7]], "none").tolist() == [[0]]
    for broken in (math.nan, math.inf):
        with pytest.raises(AssertionError):
            advantages([[0.0, broken]], "none")
    with pytest.raises(AssertionError):
        advantages([[0.7]], "group")


def test_groups_without_a_range_are_dead() -> None:
    assert is_dead([[0.5, 0.5], [0.5, 0.5 + 9e-7], [0.5, 0.5 + 2e-6], [0.0, 1.0]]).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert is_dead([[0.3]]).tolist() == [True]


HONEST: dict[str, Any] = {
    "kernel": "multiscale",
    "positive_definite": {"multiscale", "exponential", "sigmoid"},
    "scale": "none",
    "group_size": 8,
    "weights": {"geodesic": 1.0, "format": 0.5, "place": 0.0, "accuracy": 0.0},
}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, ""),
        ({"kernel": "exponential"}, ""),
        ({"group_size": 4}, ""),
        ({"kernel": "piecewise"}, "kernel piecewise"),
        ({"kernel": "steps"}, "use exponential, multiscale, sigmoid"),
        ({"kernel": None}, "no geodesic term"),
        ({"scale": "group"}, "scale=none"),
        ({"group_size": 3}, "group of 3"),
        ({"weights": {"geodesic": 1.0, "place": 0.1}}, "term place"),
        ({"weights": {"geodesic": 1.0, "accuracy": 0.1}}, "term accuracy"),
    ],
)
def test_settings_that_make_spread_dishonest(change: dict[str, Any], names: str) -> None:
    refusals = list(spread_refusals(1.0, **{**HONEST, **change}))
    assert len(refusals) == bool(names)
    assert names in "".join(refusals)
    assert not list(spread_refusals(0.0, **{**HONEST, **change}))


def test_all_reasons_against_spread_are_given_at_once() -> None:
    wrong = {"scale": "group", "group_size": 2, "kernel": "steps", "weights": {"place": 1.0, "accuracy": 1.0}}
    assert len(list(spread_refusals(0.5, **{**HONEST, **wrong}))) == 5
