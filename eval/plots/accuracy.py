"""Plot the accuracy of each task over training steps, in one small panel per task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.runs.directory import evaluations
from geotune.runs.suite_results import FAILED, TASKS, kind_of
from geotune.system.files import open_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
"""Greatest number of panels side by side."""
# Tasks use the blue of Okabe and Ito, the mean uses black; each panel holds one curve, so color has no other meaning.
TASK_COLOR = "#0072B2"
MEAN_COLOR = "#000000"
CHANCE_COLOR = "#767676"
LABEL_DISTANCE = 0.085
"""Minimum distance, in units of accuracy, between the two labels to the right of a panel."""


def accuracy_plots(evaluation: Mapping[str, Any], run_dir: Path) -> list[tuple[str, Path]]:
    """Return each suite of an evaluation that has tasks, with the file of its plot.

    The first suite is drawn in `accuracy.png`, each further suite in `accuracy_<suite>.png`.
    """
    kinds = {name: kind_of(entry) for name, entry in evaluation["suites"].items()}
    # A suite that could not be measured this time keeps its file.
    suites = [name for name, kind in kinds.items() if kind in (TASKS, FAILED)]
    files = {name: f"accuracy_{name}.png" if number else "accuracy.png" for number, name in enumerate(suites)}
    return [(name, run_dir / file) for name, file in files.items() if kinds[name] == TASKS]


def plot_accuracy(run_dir: Path, suite: str, path: Path) -> None:
    """Plot a suite of tasks of `run_dir/eval/step_*.json` to `path`."""
    found = [evaluation for _, evaluation in evaluations(run_dir)]
    with open_atomically(path, binary=True) as file:
        accuracy_figure(found, suite).savefig(file, format="png", dpi=120)


def accuracy_figure(found: Sequence[Mapping[str, Any]], suite: str) -> Figure:
    """Draw a panel for the mean and for each task of the last evaluation: accuracy, its 95% interval, and chance.

    found: contents of `eval/step_<N>.json` in ascending order of steps. Evaluations in an answer mode other than that
    of the last evaluation are left out, as are those in which the suite could not be measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    last = found[-1]["suites"][suite]
    points = [
        (evaluation["step"], entry)
        for evaluation in found
        for entry in [evaluation["suites"].get(suite)]
        if entry is not None and entry["answer_mode"] == last["answer_mode"] and kind_of(entry) == TASKS
    ]
    tasks = list(last["tasks"])
    rows = math.ceil((len(tasks) + 1) / COLUMNS)
    columns = min(COLUMNS, len(tasks) + 1)
    figure = Figure(figsize=(3.1 * columns, 0.6 + 2.35 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()

    chance = sum(last["tasks"][task]["chance"] for task in tasks) / len(tasks)
    mean = [(step, figures["mean_accuracy"], figures["mean_ci95"]) for step, figures in points]
    _panel(axes[0], f"mean of {len(tasks)} tasks", mean, chance, MEAN_COLOR)
    for axis, task in zip(axes[1:], tasks, strict=False):
        entries = [(step, figures["tasks"][task]) for step, figures in points if task in figures["tasks"]]
        curve = [(step, entry["accuracy"], entry["ci95"]) for step, entry in entries]
        _panel(axis, task, curve, last["tasks"][task]["chance"], TASK_COLOR)
    for axis in axes[len(tasks) + 1 :]:
        axis.set_visible(False)
    for index in range(len(tasks) + 1):
        axes[index].tick_params(labelbottom=index + columns > len(tasks), labelleft=index % columns == 0)
    figure.suptitle(
        f"{suite}: accuracy on {sum(entry['n'] for entry in last['tasks'].values()):,} questions, "
        f"answer mode {last['answer_mode']}, with 95% intervals over places",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    figure.supxlabel("updates", x=0.01, ha="left", fontsize=9)
    return figure


def _panel(
    axis: Axes, title: str, curve: Sequence[tuple[int, float, Sequence[float]]], chance: float, color: str
) -> None:
    """Draw a curve of (step, accuracy, interval), and write its last value and chance beside it."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    steps = [step for step, _, _ in curve]
    values = [value for _, value, _ in curve]
    axis.axhline(chance, color=CHANCE_COLOR, linestyle=(0, (4, 3)), linewidth=1)
    if len(curve) > 1:
        axis.fill_between(
            steps, [ci[0] for *_, ci in curve], [ci[1] for *_, ci in curve], color=color, alpha=0.16, linewidth=0
        )
        axis.plot(steps, values, color=color, linewidth=1.8, marker="o", markersize=3, clip_on=False)
        axis.margins(x=0.02)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True))
    else:
        low, high = curve[0][2]
        errors = [[max(values[0] - low, 0.0)], [max(high - values[0], 0.0)]]
        axis.errorbar(steps, values, yerr=errors, color=color, marker="o", markersize=5, capsize=3)
        axis.set_xticks(steps)
    value_at, chance_at = _apart(values[-1], chance)
    axis.annotate(f"{values[-1]:.0%}", (1.02, value_at), color=color, fontsize=10, fontweight="bold", **_BESIDE_PANEL)
    axis.annotate(f"chance {chance:.0%}", (1.02, chance_at), color=CHANCE_COLOR, fontsize=8, **_BESIDE_PANEL)

    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=color)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axis.tick_params(labelsize=8, length=2)
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


_BESIDE_PANEL: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "va": "center",
    "ha": "left",
    "annotation_clip": False,
}


def _apart(value: float, chance: float) -> tuple[float, float]:
    """Return the heights of the two labels: at their values, moved apart if they would touch."""
    gap = LABEL_DISTANCE - abs(value - chance)
    if gap <= 0:
        return value, chance
    up = gap / 2 if value >= chance else -gap / 2
    return value + up, chance - up
