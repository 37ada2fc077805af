"""Draw on a map of the world where photos were taken, and where they were guessed to have been taken."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from eval.metrics.distance import FARTHEST_KM, THRESHOLDS_KM, distance_metrics
from eval.plots.land import land_rings
from eval.suites.distance import answered_place
from geotune.geo import FloatArray, haversine_km
from geotune.runs.predictions import Prediction
from geotune.system.files import open_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

MOST_DRAWN = 300
"""Largest number of photos on a map; the lines of more would cover each other."""
ERROR_STEPS_KM = THRESHOLDS_KM[1:]
"""Errors at which the color of the lines changes, from the second threshold of the suite's figures on."""
ARC_POINTS = 61
"""Points of the line between two places; 3 degrees apart at the most."""
# Blue and orange of Okabe and Ito, which everyone can tell apart; in gray, blue is much the darker one. Both stand out
# from the lines, which darken from pink to purple.
TRUTH_COLOR, GUESS_COLOR, GUESS_EDGE = "#0072B2", "#E69F00", "#4d3500"
LINE_COLORS = ("#f7b4c8", "#ee79b0", "#cf3a94", "#8f0f80", "#430058")
LAND_COLOR, COAST_COLOR, GRID_COLOR = "#e9e9e6", "#b4b4b0", "#f0f0f0"
WIDTH_PX, HEIGHT_PX, DPI = 1200, 700, 100
MAP_BOX = (16, 70, 1168, 584)
"""Place of the map in the picture: left and lower edge, width and height in pixels, twice as wide as high."""


@dataclass(frozen=True)
class WorldMap:
    """What a map shows of a suite's greedy predictions."""

    suite: str
    step: int
    photos: int
    """Number of photos that were asked about; the figures are over all of them."""
    median_km: float
    """Median error; an answer that could not be read counts as half the circumference of the Earth."""
    read_rate: float
    """Share of the answers that could be read."""
    truths: FloatArray
    """Coordinates (N, 2) of the photos on the map: latitude and longitude in degrees."""
    guesses: FloatArray
    """Coordinates (N, 2) that were answered; NaN for an answer that could not be read."""

    @property
    def is_read(self) -> np.ndarray:
        """Whether each answer on the map could be read, (N,)."""
        return np.isfinite(self.guesses[:, 0])

    @property
    def errors_km(self) -> FloatArray:
        """Great-circle distance (N,) of each guess from its truth; NaN for an answer that could not be read."""
        (lats, lons), (guessed_lats, guessed_lons) = self.truths.T, self.guesses.T
        return haversine_km(lats, lons, guessed_lats, guessed_lons)


def world_map(suite: str, step: int, predictions: Sequence[Prediction], most: int = MOST_DRAWN) -> WorldMap:
    """Prepare the map of a suite.

    predictions: those of an evaluation; other suites and draws are left out. At least one must be left. most: largest
    number of photos on the map. The choice depends on the ids of the photos alone, so that the maps of all steps show
    the same ones. Raises ValueError if a gold answer has no coordinates.
    """
    greedy = [prediction for prediction in predictions if prediction.suite == suite and prediction.repeat == 0]
    greedy.sort(key=lambda prediction: hashlib.blake2b(prediction.id.encode()).digest())
    truths, guesses = _places([p.gold for p in greedy]), _places([p.answer for p in greedy])
    if np.isnan(truths).any():
        raise ValueError(f"suite {suite}: gold answers without coordinates can't be drawn; give the suite another kind")
    figures = distance_metrics(haversine_km(*truths.T, *guesses.T))
    return WorldMap(
        suite=suite,
        step=step,
        photos=len(greedy),
        median_km=figures["median_km"],
        read_rate=figures["coverage"],
        truths=truths[:most],
        guesses=guesses[:most],
    )


def _places(answers: Sequence[str | None]) -> FloatArray:
    """Return the coordinates (N, 2) of answers in canonical form; NaN where there are none."""
    found = [answered_place(answer) for answer in answers]
    return np.array([(math.nan, math.nan) if place is None else (place.lat, place.lon) for place in found])


def great_circles(starts: ArrayLike, ends: ArrayLike, points: int = ARC_POINTS) -> FloatArray:
    """Return `points` places, evenly spaced, on the shorter great circle from each start to its end.

    Args:
        starts: latitudes and longitudes (N, 2) in degrees.
        ends: the same of the ends. The antipode of a start is reached over the pole.

    Returns:
        Latitudes and longitudes (N, points, 2). A longitude never jumps: it goes on beyond 180 degrees where the line
        crosses that meridian.
    """
    first, last = _unit_vectors(starts), _unit_vectors(ends)
    along = (first * last).sum(-1, keepdims=True)
    aside = last - along * first
    length = np.linalg.norm(aside, axis=-1, keepdims=True)
    lat, lon = np.radians(np.asarray(starts, dtype=np.float64)).T
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)
    heading = np.where(length > 1e-9, aside / np.maximum(length, 1e-9), north)
    angles = np.arctan2(length, along) * np.linspace(0.0, 1.0, points)
    x, y, z = np.moveaxis(
        first[:, None] * np.cos(angles)[..., None] + heading[:, None] * np.sin(angles)[..., None], -1, 0
    )
    lats, lons = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    return np.stack([lats, np.unwrap(lons, period=360.0, axis=1)], axis=-1)


def _unit_vectors(places: ArrayLike) -> FloatArray:
    """Return the unit vectors (N, 3) of latitudes and longitudes (N, 2) in degrees."""
    lat, lon = np.radians(np.asarray(places, dtype=np.float64)).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def plot_world(world: WorldMap, path: Path) -> None:
    """Write a map as a PNG file of `WIDTH_PX` by `HEIGHT_PX`, complete or not at all."""
    with open_atomically(path, binary=True) as file:
        world_figure(world).savefig(file, format="png", dpi=DPI)


def pixel_at(lat: float, lon: float) -> tuple[float, float]:
    """Return where a place lies in the picture of `plot_world`: pixels from its left and from its upper edge."""
    left, low, width, height = MAP_BOX
    return left + (lon + 180.0) / 360.0 * width, HEIGHT_PX - low - (lat + 90.0) / 180.0 * height


def world_figure(world: WorldMap) -> Figure:
    """Draw a map: the land, a line from each truth to its guess, colored by its length, and a dot at both ends.

    The projection is equirectangular. An answer that could not be read leaves a cross at its truth.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    left, low, width, height = MAP_BOX
    axis = figure.add_axes((left / WIDTH_PX, low / HEIGHT_PX, width / WIDTH_PX, height / HEIGHT_PX))
    axis.set(xlim=(-180, 180), ylim=(-90, 90), xticks=[], yticks=[])
    axis.spines[:].set_color(COAST_COLOR)
    _draw_land(axis)
    lines = _draw_lines(axis, world)
    _draw_dots(axis, world)
    _draw_key(figure, lines, world)
    title = (
        f"{world.suite}, step {world.step:,}: median error {world.median_km:,.0f} km over {world.photos:,} photos, "
        f"{world.read_rate:.1%} of the answers read"
    )
    # A suite may have any name, also one that looks like a formula.
    style: dict[str, Any] = {"va": "center", "parse_math": False}
    figure.text(left / WIDTH_PX, 0.968, title, fontsize=12, fontweight="bold", **style)
    return figure


def _draw_land(axis: Axes) -> None:
    """Fill the land, and draw a meridian and a parallel every 30 degrees on the sea."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    axis.vlines(range(-150, 180, 30), -90, 90, color=GRID_COLOR, linewidth=0.8, zorder=0)
    axis.hlines(range(-60, 90, 30), -180, 180, color=GRID_COLOR, linewidth=0.8, zorder=0)
    # `closed` makes the last point of a ring one that only closes it.
    rings = [Outline(np.vstack([ring, ring[:1]])[:, ::-1], closed=True) for ring in land_rings()]
    outlines = Outline.make_compound_path(*rings)
    axis.add_patch(PathPatch(outlines, facecolor=LAND_COLOR, edgecolor=COAST_COLOR, linewidth=0.6, zorder=1))


def _draw_lines(axis: Axes, world: WorldMap) -> LineCollection:
    """Draw the great circle of each answer that was read, the longest first."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import BoundaryNorm, ListedColormap

    errors = world.errors_km
    order = [index for index in np.argsort(-errors) if world.is_read[index]]
    arcs = great_circles(world.truths[order], world.guesses[order])[..., ::-1]
    # A line that leaves the map on one side enters it on the other: the map's edges cut three copies to one.
    copies = np.concatenate([arcs + np.array([shift, 0.0]) for shift in (-360.0, 0.0, 360.0)])
    norm = BoundaryNorm([0, *ERROR_STEPS_KM, FARTHEST_KM], len(LINE_COLORS))
    lines = LineCollection(
        list(copies), array=np.tile(errors[order], 3), cmap=ListedColormap(LINE_COLORS), norm=norm, zorder=2
    )
    lines.set(linewidth=0.8, alpha=0.65)
    axis.add_collection(lines, autolim=False)
    return lines


def _draw_dots(axis: Axes, world: WorldMap) -> None:
    """Draw guesses and, above them, truths."""
    read = world.is_read
    lost = f"truth, answer not read ({np.count_nonzero(~read):,})"
    parts: list[tuple[FloatArray, dict[str, Any]]] = [
        (world.truths[read], {"label": "truth", "s": 20, "edgecolors": "white", "linewidths": 0.4, "zorder": 4}),
        (
            world.guesses[read],
            {"label": "guess", "marker": "D", "edgecolors": GUESS_EDGE, "s": 17, "linewidths": 0.5, "zorder": 3},
        ),
        (world.truths[~read], {"label": lost, "marker": "x", "s": 28, "linewidths": 1.5, "zorder": 5}),
    ]
    for places, style in parts:
        if style["label"] == lost and not len(places):
            continue
        color = GUESS_COLOR if style["label"] == "guess" else TRUTH_COLOR
        # A place at the map's edge is a whole dot.
        axis.scatter(places[:, 1], places[:, 0], color=color, clip_on=False, **style)


def _draw_key(figure: Figure, lines: LineCollection, world: WorldMap) -> None:
    """Explain dots and lines below the map, and say how many photos are on it."""
    left, low, width, _ = MAP_BOX
    figure.legend(
        loc="center left",
        bbox_to_anchor=((left - 8) / WIDTH_PX, 0.5 * low / HEIGHT_PX),
        ncols=3,
        frameon=False,
        fontsize=10,
        handletextpad=0.1,
        columnspacing=1.5,
    )
    drawn = len(world.truths)
    number = f"{drawn:,} of {world.photos:,} photos drawn" if drawn < world.photos else f"all {drawn:,} photos drawn"
    figure.text(0.47, 0.5 * low / HEIGHT_PX, number, va="center", ha="center", fontsize=10)
    bar_width = 0.33 * width
    place = ((left + width - bar_width) / WIDTH_PX, 0.55 * low / HEIGHT_PX, bar_width / WIDTH_PX, 12 / HEIGHT_PX)
    bar = figure.colorbar(lines, cax=figure.add_axes(place), orientation="horizontal", spacing="uniform")
    assert bar.solids is not None
    bar.solids.set_alpha(1.0)
    bar.set_ticks(ERROR_STEPS_KM, labels=[f"{step:,}" for step in ERROR_STEPS_KM])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=9, length=0)
    bar.outline.set_visible(False)
    bar.ax.text(-0.02, 0.5, "error in km", ha="right", va="center", fontsize=10, transform=bar.ax.transAxes)
