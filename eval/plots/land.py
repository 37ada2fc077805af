"""The outlines of the land, which maps of the world are drawn on."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache

import numpy as np

from geotune.geo import FloatArray
from geotune.system.files import ASSETS


@cache
def land_rings() -> tuple[FloatArray, ...]:
    """Return the closed outlines of land and of the Caspian Sea, each (N, 2): latitude and longitude in degrees.

    `assets/land.txt` says where they come from. Land lies to the right of its outline, so that the winding number of a
    point is not 0 on land and 0 on the sea. A ring's first point is not repeated at its end.
    """
    rings: dict[str, list[tuple[float, float]]] = defaultdict(list)
    text = (ASSETS / "land.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        rings[row["ring"]].append((float(row["latitude"]), float(row["longitude"])))
    return tuple(np.array(ring) for ring in rings.values())
