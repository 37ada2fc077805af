"""From the rewards of a group of completions to their advantages.

The spread of a group pays completions for being where the others are not. Of the two terms of a completion's reward,
k(x_i, y) - w mean_j k(x_i, x_j), the first alone is largest on one guess, the best one. With both, and with a kernel k
that is positive definite on the sphere, the policy ascends the kernel score E k(x, y) - E k(x, x') / 2 (Gneiting and
Raftery, JASA 2007, section 5.1). That score is strictly proper: it is largest where the policy over places is the
posterior over places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from geotune.config.losses import AdvantageScale
from geotune.config.rl import FEWEST_FOR_SPREAD
from geotune.geo import FloatArray

STD_EPSILON = 1e-4
"""What is added to a group's standard deviation before it divides; the publication of GRPO has none, TRL has this."""
ROUNDING = 1e-9
"""How far outside of [0, 1] rounding can put a value."""
DEAD_RANGE = 1e-6
"""A group whose rewards differ by less than this teaches nothing."""
TERMS_AGAINST_SPREAD = ("place", "accuracy")
"""Terms that pay for the single most probable answer, whose optimum is one guess instead of the posterior."""


def spread_weight(spread: float, group_size: int) -> float:
    """Return the weight w = spread (G - 1) / (G - 2) of the mean similarity to the others of a group of G.

    The factor makes up for the group's mean: it contains the rewards of the others, which fall with their similarity to
    this completion. G counts all completions, the unreadable ones too, because all of them are in the group's mean.
    """
    assert spread >= 0, spread
    if spread == 0:
        return 0.0
    assert group_size >= FEWEST_FOR_SPREAD, group_size
    return spread * (group_size - 1) / (group_size - 2)


def spread_values(to_truth: ArrayLike, between: ArrayLike, readable: ArrayLike, spread: float) -> FloatArray:
    """Return the values in [0, 1] of the completions of one group, or of several groups of the same size.

    A readable completion has r_i = k(x_i, y) - w mean_j k(x_i, x_j), the mean over the other readable ones (0 if there
    are none), with the w of `spread_weight`. Any other has -w, which no readable one falls below; anything higher would
    pay for unreadable text. The value is (r_i + w) / (1 + w). Without spread that is `to_truth`, and 0 if unreadable.

    Args:
        to_truth: (..., G) similarity k in [0, 1] of each completion's place to the truth.
        between: (..., G, G) similarity in [0, 1] of the places to each other.
        readable: (..., G) whether a completion counts: it gives a place, has ended by itself and is not gated out. What
            `to_truth` and `between` say of the others is ignored.
        spread: how much the similarity to the others counts; 1 makes the score strictly proper.
    """
    counts = np.asarray(readable, dtype=bool)
    group_size = counts.shape[-1]
    others = counts[..., None, :] & ~np.eye(group_size, dtype=bool)
    similar = np.where(others, np.asarray(between, dtype=np.float64), 0.0).sum(axis=-1)
    crowding = similar / np.maximum(others.sum(axis=-1), 1)
    weight = spread_weight(spread, group_size)
    value = (np.asarray(to_truth, dtype=np.float64) - weight * crowding + weight) / (1 + weight)
    values: FloatArray = np.where(counts, value, 0.0)
    assert ((values > -ROUNDING) & (values < 1 + ROUNDING)).all(), values
    return np.clip(values, 0.0, 1.0)


def advantages(rewards: ArrayLike, scale: AdvantageScale) -> FloatArray:
    """Return each reward minus the mean of its group; `rewards` and the result are (..., G).

    The scale "group" also divides by the group's standard deviation (over G - 1) plus `STD_EPSILON`, as GRPO was
    published (arXiv 2402.03300, section 4.1.2). It weighs groups with small differences up, which makes probabilistic
    answers overconfident (2508.11800) and questions of extreme difficulty count more (2503.20783).
    """
    values = np.asarray(rewards, dtype=np.float64)
    assert np.isfinite(values).all(), values
    centered: FloatArray = values - values.mean(axis=-1, keepdims=True)
    if scale == "none":
        return centered
    assert values.shape[-1] > 1, values.shape
    scaled: FloatArray = centered / (values.std(axis=-1, ddof=1, keepdims=True) + STD_EPSILON)
    return scaled


def is_dead(rewards: ArrayLike) -> np.ndarray:
    """Return for each group of `rewards` (..., G) whether its rewards are all the same, so that it teaches nothing."""
    dead: np.ndarray = np.ptp(np.asarray(rewards, dtype=np.float64), axis=-1) < DEAD_RANGE
    return dead


def spread_refusals(
    spread: float,
    *,
    kernel: str | None,
    positive_definite: Collection[str],
    scale: AdvantageScale,
    group_size: int,
    weights: Mapping[str, float],
) -> Iterator[str]:
    """Yield each reason why the settings do not make a positive spread honest.

    Args:
        spread: the setting; 0 is always allowed.
        kernel: name of the kernel of the geodesic term; None without such a term, or if it weighs nothing.
        positive_definite: names of the kernels that are positive definite on the sphere.
        scale: how advantages are scaled.
        group_size: number of completions of a group.
        weights: weight of each kind of term of the reward.
    """
    if spread == 0:
        return
    if kernel is None:
        yield "a spread is between places, and the reward has no geodesic term with a weight above 0"
    elif kernel not in positive_definite:
        allowed = ", ".join(sorted(positive_definite))
        yield (
            f"the kernel {kernel} is not positive definite on the sphere, so the best policy would not be the"
            f" posterior; use {allowed}"
        )
    if scale != "none":
        yield f"scale={scale} divides by the group's standard deviation, which favors one guess; use scale=none"
    if group_size < FEWEST_FOR_SPREAD:
        yield f"a group of {group_size} is too small to estimate it; use at least {FEWEST_FOR_SPREAD} completions"
    for name in TERMS_AGAINST_SPREAD:
        if weights.get(name, 0) > 0:
            yield f"the term {name} pays for the single most probable answer; set its weight to 0"
