"""Figures of photos that are located from drawn answers: errors of medoids, and how often radii hold the truth.

The estimate of a photo is that of `geotune locate`: the medoid of its readable draws, and the radii around it that hold
half and nine tenths of them. A radius is honest if it holds the truth as often as it says; on the synthetic city, 16
draws of the true posterior do so for 41% and 86% of the photos. Coverage alone says little, because wide radii cover
too, so the size of the radii stands beside it. Distances are those on the WGS84 ellipsoid, as for the radii themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.metrics.distance import FARTHEST_KM
from geotune.geo import geodesic_km
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.estimates import estimate


def draw_metrics(truths: Sequence[Coordinates], draws: Sequence[Sequence[Coordinates | None]]) -> dict[str, Any]:
    """Compute figures over all photos from their draws, None for a draw that could not be read.

    - `draws_read`: share of the draws that could be read.
    - `medoid_median_km`: median error of the medoids in km. A photo without a readable draw counts as half the Earth's
      circumference, as a missing answer does in `distance_metrics`.
    - `radius_coverage_50`, `radius_coverage_90`: share of the photos whose truth lies within the radius around the
      medoid, its edge included. A photo with too few readable draws for a radius counts as not covered.
    - `radius_50_km`, `radius_90_km`: medians of the radii in km over the photos that have them; None if none has.

    Raises ValueError for no photo, or for draws of another number of photos, or for photos without draws.
    """
    if not truths or len(truths) != len(draws) or not all(draws):
        raise ValueError(f"{len(truths)} photos, draws of {len(draws)}: expected as many, each with draws")
    errors, radii = [], []
    for truth, of_photo in zip(truths, draws, strict=True):
        found = estimate([at for at in of_photo if at is not None])
        errors.append(FARTHEST_KM if found is None else geodesic_km(found.at.lat, found.at.lon, truth.lat, truth.lon))
        radii.append((None, None) if found is None else (found.radius_50_km, found.radius_90_km))
    read = [at is not None for of_photo in draws for at in of_photo]
    figures: dict[str, Any] = {"draws_read": float(np.mean(read)), "medoid_median_km": float(np.median(errors))}
    by_share = dict(zip((50, 90), np.array(radii, dtype=np.float64).T, strict=True))
    # None becomes NaN, within which no error lies.
    figures |= {f"radius_coverage_{share}": float((errors <= of_share).mean()) for share, of_share in by_share.items()}
    for share, of_share in by_share.items():
        known = of_share[~np.isnan(of_share)]
        figures[f"radius_{share}_km"] = float(np.median(known)) if known.size else None
    return figures
