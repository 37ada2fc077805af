"""Kernels of distance: how much a guess is worth that is d km away from the truth, and how their scale tightens.

Every kernel is a pure function in float64. It maps distances in km, an array of any shape, to values of the same shape:
1 at no distance, never more, never less at a shorter distance, and at least 0. None overflows, whatever the distance.
Each raises `ValueError` for a distance that is negative or not a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

MULTISCALE_KM = (1.0, 25.0, 100.0, 750.0, 5000.0)
"""Scales in km of the exponentials whose mean is the kernel `multiscale`."""
PIECEWISE_KNOTS = ((0.0, 1.0), (750.0, 0.5), (2500.0, 0.2), (20000.0, 0.0))
"""Distances in km, and the values of the kernel `piecewise` there; it is linear between them."""
STEPS = ((0.5, 1.0), (2.0, 0.8), (10.0, 0.6), (25.0, 0.4), (200.0, 0.2), (750.0, 0.1))
"""Distances in km, and the value of the kernel `steps` up to each of them; beyond the last it is 0."""


def multiscale(d_km: ArrayLike) -> FloatArray:
    """Return the mean of e^(-d/s) over the scales s = 1, 25, 100, 750 and 5000 km.

    It has a slope at every distance: a guess that is nearer earns more, on another continent as well as in one street.
    """
    d = _distances(d_km)
    return np.asarray(sum(_decay(d, scale) for scale in MULTISCALE_KM) / len(MULTISCALE_KM))


def exponential(d_km: ArrayLike, theta_km: float) -> FloatArray:
    """Return e^(-d/theta); raises `ValueError` if theta is not a finite number of km above 0."""
    return _decay(_distances(d_km), theta_km)


def sigmoid(d_km: ArrayLike, theta_km: float) -> FloatArray:
    """Return 2/(1+e^(d/theta)), the reward of GRE (arXiv 2505.18700), as 2e^(-d/theta)/(1+e^(-d/theta)).

    Written like this it does not overflow beyond d/theta = 709. Raises `ValueError` if theta is not a finite number of
    km above 0.
    """
    decay = _decay(_distances(d_km), theta_km)
    return np.asarray(2.0 * decay / (1.0 + decay))


def piecewise(d_km: ArrayLike) -> FloatArray:
    """Return the reward of Geo-R: linear from 1 through .5 at 750 km and .2 at 2,500 km to 0 at 20,000 km."""
    knots, values = zip(*PIECEWISE_KNOTS, strict=True)
    return np.asarray(np.interp(_distances(d_km), knots, values))


def steps(d_km: ArrayLike) -> FloatArray:
    """Return the reward of Thinking-with-Map: 1, .8, .6, .4, .2 and .1 up to .5, 2, 10, 25, 200 and 750 km, then 0."""
    limits, values = zip(*STEPS, strict=True)
    return np.asarray((*values, 0.0))[np.searchsorted(limits, _distances(d_km))]


KERNELS = MappingProxyType(
    {function.__name__: function for function in (multiscale, exponential, sigmoid, piecewise, steps)}
)
"""The kernels by name."""
SCALED = frozenset({"exponential", "sigmoid"})
"""The kernels with a scale, theta."""
POSITIVE_DEFINITE = frozenset({"multiscale", "exponential", "sigmoid"})
"""The kernels that are strictly positive definite on the sphere: their kernel score is strictly proper."""


def kernel(name: str, d_km: ArrayLike, theta_km: float) -> FloatArray:
    """Return the values of the kernel of that name; `theta_km` does not matter to kernels without a scale.

    Raises `KeyError` for a name that is not one of `KERNELS`.
    """
    function: Any = KERNELS[name]
    values: FloatArray = function(d_km, theta_km) if name in SCALED else function(d_km)
    return values


def _distances(d_km: ArrayLike) -> FloatArray:
    """Return distances as float64; raises `ValueError` for one that is negative or not a number."""
    d = np.asarray(d_km, dtype=np.float64)
    if not np.all(d >= 0):
        raise ValueError(f"{d[~(d >= 0)].flat[0]} is no distance in km")
    return d


def _decay(d: FloatArray, scale_km: float) -> FloatArray:
    """Return e^(-d/scale), which is 0 where d/scale is too large for a float."""
    if not 0 < scale_km < math.inf:
        raise ValueError(f"theta_km={scale_km}: a scale is a finite number of km above 0")
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(-(d / scale_km)))


@dataclass
class Tightening:
    """The scale theta of a kernel, which is halved whenever the reward has settled (GRE tightens its theta like this).

    The reward has settled when the mean geodesic reward of the last `window` updates is less than 1% above that of the
    `window` updates before them. Its history is then forgotten, because rewards under another theta do not compare. A
    reward of exactly 0 does not count as settled: a smaller theta could only hide the way out of it.
    """

    theta_km: float
    """Scale in km at present."""
    least_km: float
    """Scale in km that is never gone below."""
    window: int = 20
    """Number of updates whose mean is compared with that of as many updates before."""
    recent: list[float] = field(default_factory=list)
    """Mean geodesic reward of each of the last updates under this theta, 2 x `window` at most."""

    def note(self, mean: float) -> None:
        """Take note of an update's mean geodesic reward; raises `ValueError` if it is not finite."""
        if not math.isfinite(mean):
            raise ValueError(f"{mean} is no mean reward")
        self.recent = [*self.recent, float(mean)][-2 * self.window :]
        if len(self.recent) < 2 * self.window or self.theta_km <= self.least_km:
            return
        before, after = self.recent[: self.window], self.recent[self.window :]
        if math.fsum(after) < 1.01 * math.fsum(before):
            self.theta_km = max(self.theta_km / 2, self.least_km)
            self.recent = []

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold, as numbers and a list of numbers."""
        return {"theta_km": self.theta_km, "recent": list(self.recent)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.theta_km, self.recent = float(state["theta_km"]), [float(mean) for mean in state["recent"]]
