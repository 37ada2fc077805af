"""The plots of a sweep, each as a PNG file and as an HTML page that needs no network.

A search gets the importance of each key, and its trials as lines over parallel axes. Named variants get a grid of the
accuracies that they reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.plot_data import Axis, Grid, axes_of, grid_of, importances
from geotune.sweeps.rows import TrialRow, best_of, short_names
from geotune.system.files import open_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

BLUE, VERMILION, GRAY = "#0072B2", "#D55E00", "#9a9a9a"
"""Colors of Okabe and Ito for bars and for the best trial, and gray for trials that were stopped early."""
COLORS = "viridis"
"""Color map of the metric."""
LABEL_BOX = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}


def write_plots(plan: SweepPlan, study: Study, trials: Sequence[TrialRow]) -> dict[str, Any]:
    """Draw the plots of a sweep into `plan.sweep_dir`.

    Returns:
        Entries of sweep.json: names of the files, the importances, and a note if there are none.
    """
    if plan.variants:
        grid = grid_of(trials)
        title = f"{plan.study}: accuracy in %, colored by the distance from the mean of the column"
        files = save(plan.sweep_dir / "variants", grid_figure(title, grid), grid_page(title, grid)) if grid.rows else []
        return {"plots": files, "importance": None, "importance_note": "named variants have no keys to weigh"}
    files = []
    weights, note = importances(study)
    if weights:
        count = sum(row.state == "complete" for row in trials)
        title = f"{plan.study}: importance for {plan.metric}, over {count} complete trials (PED-ANOVA)"
        files += save(plan.sweep_dir / "importance", importance_figure(title, weights), importance_page(title, weights))
    evaluated = [row for row in trials if row.value is not None]
    if evaluated:
        axes, best = axes_of(plan, evaluated), best_of(evaluated, plan.direction)
        stopped = [row.state != "complete" for row in evaluated]
        title = f"{plan.study}: {len(evaluated)} trials, {sum(stopped)} of them stopped early (gray)"
        best_index = next((index for index, row in enumerate(evaluated) if row is best), None)
        figure = parallel_figure(title + (", the best in orange" if best else ""), axes, stopped, best_index)
        files += save(plan.sweep_dir / "parallel", figure, parallel_page(title, axes))
    return {"plots": files, "importance": weights or None, "importance_note": note}


# --- PNG files ---


def importance_figure(title: str, weights: Mapping[str, float]) -> Figure:
    """Draw one bar for each key, the longest at the top."""
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
    """Draw one line for each trial over parallel axes, colored by the metric; stopped trials are dashed and gray.

    Args:
        stopped: whether each trial was stopped early.
        best: index of the best trial, which is highlighted.
    """
    from matplotlib import colormaps

    figure = _figure(1.6 + 1.55 * len(axes), 4.6)
    plot = figure.subplots()
    for at, axis in enumerate(axes):
        plot.axvline(at, color="#404040", linewidth=1)
        for position, name in axis.ticks:
            height = (position - axis.low) / (axis.high - axis.low)
            plot.plot([at - 0.02, at + 0.02], [height, height], color="#404040", linewidth=1)
            plot.annotate(name, (at - 0.04, height), ha="right", va="center", fontsize=8, bbox=LABEL_BOX)
    count = len(stopped)
    for index in sorted(range(count), key=lambda index: (index == best, not stopped[index])):
        heights = [_height(axis, index, count) for axis in axes]
        color = VERMILION if index == best else GRAY if stopped[index] else colormaps[COLORS](0.9 * heights[-1])
        style: Any = (0, (4, 3)) if stopped[index] else "solid"
        width = 2.6 if index == best else 1.4
        plot.plot(range(len(axes)), heights, color=color, linestyle=style, linewidth=width, marker="o", markersize=3)
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
    """Return the height in [0, 1] at which a trial crosses an axis; trials with the same choice lie side by side."""
    aside = 0.04 * ((index + 0.5) / count - 0.5) if axis.is_categorical else 0.0
    return (axis.positions[index] - axis.low) / (axis.high - axis.low) + aside


def grid_figure(title: str, grid: Grid) -> Figure:
    """Draw variants by accuracies, each cell colored by its distance from the mean of its column."""
    figure = _figure(max(8.5, 2.6 + 1.15 * len(grid.columns)), 1.7 + 0.5 * len(grid.rows))
    axis = figure.subplots()
    axis.imshow(grid.distances, cmap="PuOr", vmin=-grid.reach, vmax=grid.reach, aspect="auto")
    for at, values in enumerate(grid.values):
        for column, value in enumerate(values):
            dark = abs(grid.distances[at][column]) > 0.6 * grid.reach
            color = "white" if dark else "black"
            axis.text(column, at, grid.cell(value), ha="center", va="center", color=color, fontsize=9)
    axis.set_xticks(range(len(grid.columns)), grid.columns, rotation=30, ha="left", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(grid.rows)), grid.rows, fontsize=9, fontweight="bold")
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# --- HTML pages ---


def importance_page(title: str, weights: Mapping[str, float]) -> Any:
    """Make the page with the bars of `importance_figure`."""
    from plotly import graph_objects

    order = sorted(weights, key=lambda key: weights[key])
    shares = [weights[key] for key in order]
    bars = graph_objects.Bar(
        x=shares, y=order, orientation="h", marker_color=BLUE, text=[f"{share:.1%}" for share in shares]
    )
    return graph_objects.Figure(bars, {"title": title, "template": "simple_white", "xaxis": {"tickformat": ".0%"}})


def parallel_page(title: str, axes: Sequence[Axis]) -> Any:
    """Make the page with the lines of `parallel_figure`; dragging along an axis selects the trials that cross it."""
    from plotly import graph_objects

    dimensions = [
        {
            "label": axis.name,
            "values": axis.positions,
            "range": [axis.low, axis.high],
            "tickvals": [position for position, _ in axis.ticks],
            "ticktext": [name for _, name in axis.ticks],
        }
        for axis in axes
    ]
    last = axes[-1]
    line = {"color": last.positions, "colorscale": COLORS, "cmin": last.low, "cmax": last.high, "showscale": True}
    lines = graph_objects.Parcoords(line=line, dimensions=dimensions)
    return graph_objects.Figure(lines, {"title": title, "margin": {"l": 90, "r": 60, "t": 110}})


def grid_page(title: str, grid: Grid) -> Any:
    """Make the page with the cells of `grid_figure`."""
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
    """Write `<stem>.png` and `<stem>.html`, each complete or not at all, and return their names."""
    png, html = stem.with_suffix(".png"), stem.with_suffix(".html")
    with open_atomically(png, binary=True) as file:
        figure.savefig(file, format="png", dpi=130)
    with open_atomically(html) as file:
        page.write_html(file, include_plotlyjs=True)
    return [png.name, html.name]
