"""What a sweep says in images, each as PNG and as an HTML page that needs nothing from the network.

Of a search: how much each key matters, and its trials as lines over parallel axes. Of named variants: a grid of them by
the tasks that were evaluated.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.rows import TrialRow, best_of, short_names, show_figure, show_value
from geotune.sweeps.space import VARIANT, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

# Okabe and Ito's blue and vermilion; grey for trials that were stopped.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#9a9a9a"
COLOURS = "viridis"


@dataclass(frozen=True)
class Axis:
    """One axis of the parallel-coordinates plot."""

    name: str
    positions: list[float]
    """Of each trial."""
    low: float
    high: float
    ticks: list[tuple[float, str]]
    steps: bool = False
    """Whether trials share few places on it."""


@dataclass(frozen=True)
class Grid:
    """Named variants by the accuracies they reached."""

    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]
    distances: list[list[float]]
    """Of each value from the mean of its column, 0 where there is none."""
    reach: float
    """The largest of them."""

    @staticmethod
    def cell(value: float | None) -> str:
        """What a cell says."""
        return "" if value is None else f"{100 * value:.1f}"


def write_plots(plan: SweepPlan, study: Study, found: Sequence[TrialRow]) -> dict[str, Any]:
    """Draw what there is to draw into `plan.sweep_dir`; for sweep.json: the files, and the importances or why not."""
    if plan.variants:
        grid = grid_of(found)
        title = f"{plan.study}: accuracy in %, coloured by the distance from the mean of the column"
        files = save(plan.sweep_dir / "variants", grid_figure(title, grid), grid_page(title, grid)) if grid.rows else []
        return {"plots": files, "importance": None, "importance_note": "named variants have no keys to weigh"}
    files = []
    weights, note = importances(study)
    if weights:
        count = sum(row.state == "complete" for row in found)
        title = f"{plan.study}: importance for {plan.metric}, over {count} complete trials (PED-ANOVA)"
        files += save(plan.sweep_dir / "importance", importance_figure(title, weights), importance_page(title, weights))
    drawn = [row for row in found if row.value is not None]
    if drawn:
        axes, best = axes_of(plan, drawn), best_of(drawn, plan.direction)
        stopped = [row.state != "complete" for row in drawn]
        title = f"{plan.study}: {len(drawn)} trials, {sum(stopped)} of them stopped early (grey)"
        at = next((index for index, row in enumerate(drawn) if row is best), None)
        figure = parallel_figure(title + (", the best in orange" if best else ""), axes, stopped, at)
        files += save(plan.sweep_dir / "parallel", figure, parallel_page(title, axes))
    return {"plots": files, "importance": weights or None, "importance_note": note}


def grid_of(found: Sequence[TrialRow]) -> Grid:
    """The complete variants, and every accuracy that one of them reached."""
    complete = [row for row in found if row.state == "complete"]
    columns = [key for key in dict.fromkeys(key for row in complete for key in row.figures) if "accuracy" in key]
    columns.sort(key=lambda key: not key.endswith("mean_accuracy"))
    values = [[row.figures.get(key) for key in columns] for row in complete]
    means = [_mean([value for value in column if value is not None]) for column in zip(*values, strict=True)]
    distances = [[0.0 if v is None else v - m for v, m in zip(row, means, strict=True)] for row in values]
    reach = max((abs(distance) for row in distances for distance in row), default=0.0) or 1.0
    names = [key.removesuffix("/accuracy").replace("/mean_accuracy", "/mean") for key in columns]
    return Grid([row.params[VARIANT] for row in complete], names, values, distances, reach)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def importances(study: Study) -> tuple[dict[str, float], str | None]:
    """How much each key matters among the complete trials, adding up to 1 (PED-ANOVA, Watanabe et al. 2023).

    Empty, and the reason, where that can't be computed.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    values = [trial.value for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(values) < 2:
        return {}, f"importance needs two complete trials, there are {len(values)}"
    if len(set(values)) == 1:
        return {}, f"importance can't be computed: all {len(values)} complete trials reached {values[0]}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    if any("will be equal" in str(warning.message) for warning in caught):
        return {}, f"importance can't be computed: {len(values)} complete trials don't set good ones apart from others"
    return weights, None


def axes_of(plan: SweepPlan, found: Sequence[TrialRow]) -> list[Axis]:
    """An axis for each searched key, and the metric's last. found: trials that have a value."""
    names = short_names(list(plan.dimensions))
    axes = []
    for key, dimension in plan.dimensions.items():
        drawn = [row.params[key] for row in found]
        if dimension.choices is not None:
            labels = [show_value(label(choice)) for choice in dimension.choices]
            places = [float(labels.index(show_value(value))) for value in drawn]
            ends, ticks = (0.0, len(labels) - 1.0), [(float(at), name) for at, name in enumerate(labels)]
            axes.append(Axis(names[key], places, *_apart(*ends), ticks, steps=True))
        else:
            assert dimension.low is not None
            assert dimension.high is not None
            scale: Callable[[float], float] = math.log10 if dimension.log else float
            ends = _apart(scale(dimension.low), scale(dimension.high))
            ticks = [(at, show_value(float(10**at if dimension.log else at))) for at in _between(*ends)]
            axes.append(Axis(names[key], [scale(value) for value in drawn], *ends, ticks))
    values = [row.value for row in found if row.value is not None]
    ends = _apart(min(values), max(values))
    return [*axes, Axis(plan.metric, values, *ends, [(at, show_figure(at)) for at in _between(*ends)])]


def _apart(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis, which must differ."""
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _between(low: float, high: float, count: int = 5) -> list[float]:
    return [low + (high - low) * at / (count - 1) for at in range(count)]


# --- as PNG ---


def importance_figure(title: str, weights: Mapping[str, float]) -> Figure:
    """A bar for each key, the longest on top."""
    figure = _figure(8, 1.1 + 0.42 * len(weights))
    axis = figure.subplots()
    names = short_names(list(weights))
    order = sorted(weights, key=lambda key: weights[key])
    bars = axis.barh([names[key] for key in order], [weights[key] for key in order], color=BLUE, height=0.62)
    axis.bar_label(bars, [f"{weights[key]:.0%}" for key in order], padding=4, fontsize=9)
    axis.set_xlim(0, 1.08 * max(weights.values()) or 1)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_visible(False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def parallel_figure(title: str, axes: Sequence[Axis], stopped: Sequence[bool], best: int | None) -> Figure:
    """A line for each trial over parallel axes: coloured by the metric, dashed and grey if it was stopped early."""
    from matplotlib import colormaps

    figure = _figure(1.6 + 1.55 * len(axes), 4.6)
    plot = figure.subplots()
    for at, axis in enumerate(axes):
        plot.axvline(at, color="#404040", linewidth=1)
        for place, name in axis.ticks:
            height = (place - axis.low) / (axis.high - axis.low)
            plot.plot([at - 0.02, at + 0.02], [height, height], color="#404040", linewidth=1)
            plot.annotate(name, (at - 0.04, height), ha="right", va="center", fontsize=8, bbox=_PLATE)
    count = len(stopped)
    for index in sorted(range(count), key=lambda index: (index == best, not stopped[index])):
        heights = [_height(axis, index, count) for axis in axes]
        colour = VERMILION if index == best else GREY if stopped[index] else colormaps[COLOURS](0.9 * heights[-1])
        style: Any = (0, (4, 3)) if stopped[index] else "solid"
        width = 2.6 if index == best else 1.4
        plot.plot(range(len(axes)), heights, color=colour, linestyle=style, linewidth=width, marker="o", markersize=3)
    plot.set_xlim(-0.55, len(axes) - 0.75)
    plot.set_ylim(-0.05, 1.05)
    plot.set_xticks(range(len(axes)), [axis.name for axis in axes], fontsize=9, fontweight="bold")
    plot.xaxis.tick_top()
    plot.tick_params(length=0)
    plot.yaxis.set_visible(False)
    plot.spines[:].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def _height(axis: Axis, index: int, count: int) -> float:
    """Where a trial crosses an axis, from 0 to 1; side by side where the axis has few places."""
    aside = 0.04 * ((index + 0.5) / count - 0.5) if axis.steps else 0.0
    return (axis.positions[index] - axis.low) / (axis.high - axis.low) + aside


def grid_figure(title: str, grid: Grid) -> Figure:
    """Variants by figures, each cell coloured by its distance from the mean of its column."""
    figure = _figure(max(8.5, 2.6 + 1.15 * len(grid.columns)), 1.7 + 0.5 * len(grid.rows))
    axis = figure.subplots()
    axis.imshow(grid.distances, cmap="PuOr", vmin=-grid.reach, vmax=grid.reach, aspect="auto")
    for at, values in enumerate(grid.values):
        for column, value in enumerate(values):
            dark = abs(grid.distances[at][column]) > 0.6 * grid.reach
            colour = "white" if dark else "black"
            axis.text(column, at, grid.cell(value), ha="center", va="center", color=colour, fontsize=9)
    axis.set_xticks(range(len(grid.columns)), grid.columns, rotation=30, ha="left", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(grid.rows)), grid.rows, fontsize=9, fontweight="bold")
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


_PLATE = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# --- as pages ---


def importance_page(title: str, weights: Mapping[str, float]) -> Any:
    """The same bars."""
    from plotly import graph_objects

    order = sorted(weights, key=lambda key: weights[key])
    shares = [weights[key] for key in order]
    bars = graph_objects.Bar(
        x=shares, y=order, orientation="h", marker_color=BLUE, text=[f"{share:.1%}" for share in shares]
    )
    return graph_objects.Figure(bars, {"title": title, "template": "simple_white", "xaxis": {"tickformat": ".0%"}})


def parallel_page(title: str, axes: Sequence[Axis]) -> Any:
    """The same lines; dragging along an axis picks out the trials that cross it there."""
    from plotly import graph_objects

    dimensions = [
        {
            "label": axis.name,
            "values": axis.positions,
            "range": [axis.low, axis.high],
            "tickvals": [place for place, _ in axis.ticks],
            "ticktext": [name for _, name in axis.ticks],
        }
        for axis in axes
    ]
    last = axes[-1]
    line = {"color": last.positions, "colorscale": COLOURS, "cmin": last.low, "cmax": last.high, "showscale": True}
    lines = graph_objects.Parcoords(line=line, dimensions=dimensions)
    return graph_objects.Figure(lines, {"title": title, "margin": {"l": 90, "r": 60, "t": 110}})


def grid_page(title: str, grid: Grid) -> Any:
    """The same cells."""
    from plotly import graph_objects

    cells = graph_objects.Heatmap(
        z=grid.distances,
        x=grid.columns,
        y=grid.rows,
        text=[[grid.cell(value) for value in values] for values in grid.values],
        texttemplate="%{text}",
        colorscale="PuOr",
        zmin=-grid.reach,
        zmax=grid.reach,
    )
    layout = {"title": title, "xaxis": {"side": "top"}, "yaxis": {"autorange": "reversed"}, "margin": {"t": 160}}
    return graph_objects.Figure(cells, layout)


def save(stem: Path, figure: Figure, page: Any) -> list[str]:
    """Write `<stem>.png` and `<stem>.html`, each complete or not at all; their names."""
    png, html = stem.with_suffix(".png"), stem.with_suffix(".html")
    for path, write in (
        (png, lambda to: figure.savefig(to, dpi=130)),
        (html, lambda to: page.write_html(to, include_plotlyjs=True)),
    ):
        temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        write(temporary)
        temporary.replace(path)
    return [png.name, html.name]
