"""Draws parts of the report's page as HTML: bars, histograms, maps and thumbnails."""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from geotune.errors import BadRecord
from geotune.gazetteer import entries
from geotune.system.images import load_image, resolve_image

THUMBNAIL_PX = 132
"""Height of a thumbnail."""
BINS = 10
"""Number of bars of a histogram."""
WORLD = (720, 360)
"""Width and height of a map in its own units."""


def bars(rows: Sequence[tuple[str, int]]) -> str:
    """Horizontal bars, one per name and count."""
    most = max((count for _, count in rows), default=1)
    lines = "".join(
        f"<span>{html.escape(str(name))}</span><i style='width:{100 * count / most:.1f}%'></i><span>{count:,}</span>"
        for name, count in rows
    )
    return f"<div class='bars'>{lines}</div>"


def bar_histogram(values: list[int], *, unit: str = "") -> str:
    """A histogram of whole numbers, with a bar per value if there are few different ones."""
    distinct = sorted(set(values))
    if len(distinct) <= BINS:
        return bars([(f"{value:,} {unit}".strip(), values.count(value)) for value in distinct])
    counts, edges = np.histogram(values, bins=BINS)
    names = [f"{low:,.0f} to {high:,.0f} {unit}".strip() for low, high in itertools.pairwise(edges)]
    return bars(list(zip(names, counts.tolist(), strict=True)))


def point_map(points: Sequence[tuple[float, float, str]], box: tuple[float, float, float, float]) -> str:
    """An SVG map of points (lat, lon, source) within `box` (west, south, east, north in degrees).

    The projection is equirectangular; a graticule and the towns of the gazetteer give orientation.
    """
    west, south, east, north = box
    width, height = WORLD

    def at(lat: float, lon: float) -> tuple[float, float]:
        return (lon - west) / (east - west) * width, (north - lat) / (north - south) * height

    step = _round_step((east - west) / 12)
    lines = []
    for lon in np.arange(math.ceil(west / step) * step, east, step):
        x, _ = at(0, lon)
        lines.append(f'<path d="M{x:.1f} 0V{height}"/><text x="{x + 2:.1f}" y="{height - 3}">{lon:g}°</text>')
    for lat in np.arange(math.ceil(south / step) * step, north, step):
        _, y = at(lat, 0)
        lines.append(f'<path d="M0 {y:.1f}H{width}"/><text x="2" y="{y - 2:.1f}">{lat:g}°</text>')
    towns = "".join(
        f"M{x:.1f} {y:.1f}h0"
        for x, y in (
            at(town.lat, town.lon) for town in entries() if west < town.lon < east and south < town.lat < north
        )
    )
    marks = "".join(
        f"M{x:.1f} {y:.1f}h0"
        for x, y in (at(lat, lon) for lat, lon, _ in points if west <= lon <= east and south <= lat <= north)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="map of the places">'
        f'<g stroke="#c8d5df" stroke-width=".5" fill="none">{"".join(lines)}</g>'
        f'<path d="{towns}" stroke="#a9b7c2" stroke-width="1.6" stroke-linecap="round" fill="none"/>'
        f'<path d="{marks}" stroke="#c2410c" stroke-opacity=".75" stroke-width="4.5" stroke-linecap="round" '
        'fill="none"/>'
        "<style>text{font:7px sans-serif;fill:#7b8a97;stroke:none}</style></svg>"
    )


def _round_step(step: float) -> float:
    """The smallest number not below `step` that is 1, 2, 3, 5 or 10 times a power of ten."""
    power = 10 ** math.floor(math.log10(step))
    return float(next(times * power for times in (1, 2, 3, 5, 10) if times * power >= step * 0.999))


def thumbnail(folder: Path, name: str) -> str:
    """An image of a dataset in `folder` as an embedded JPEG, or a mark in its place if it can't be opened."""
    try:
        image = load_image(resolve_image(folder, name))
    except BadRecord:
        return '<span class="gone">no image</span>'
    image.thumbnail((4 * THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=78)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
