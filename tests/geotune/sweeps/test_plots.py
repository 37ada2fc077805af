"""The data of a sweep's plots, and the files that they are drawn to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from geotune.sweeps.plot_data import Grid, axes_of, grid_of, importances
from geotune.sweeps.plots import grid_figure, grid_page, save
from geotune.sweeps.rows import TrialRow
from geotune.sweeps.space import Dimension


def row(number: int, state: str = "complete", **more: Any) -> TrialRow:
    empty: dict[str, Any] = {"value": None, "step": 1, "seconds": 1.0, "run_dir": "", "params": {}, "figures": {}}
    return TrialRow(number=number, state=state, error="", **(empty | more))


def test_grid_holds_complete_variants_and_puts_means_first() -> None:
    trials = [
        row(0, params={"variant": "a"}, figures={"x/t/accuracy": 0.2, "x/mean_accuracy": 0.4, "y/median_km": 3.0}),
        row(1, params={"variant": "b"}, figures={"x/t/accuracy": None, "x/mean_accuracy": 0.8}),
        row(2, "failed", params={"variant": "c"}, figures={"x/u/accuracy": 1.0}),
    ]
    grid = grid_of(trials)
    assert (grid.rows, grid.columns) == (["a", "b"], ["x/mean", "x/t"])
    assert grid.values == [[0.4, 0.2], [0.8, None]]
    assert grid.distances[0] == pytest.approx([-0.2, 0.0])
    assert grid.distances[1] == pytest.approx([0.2, 0.0])
    assert grid.reach == pytest.approx(0.2)
    assert [grid.cell(value) for value in grid.values[1]] == ["80.0", ""]
    assert grid_of([]).reach == 1.0


def test_axes_are_logarithmic_categorical_or_linear() -> None:
    class Plan:
        dimensions = {  # noqa: RUF012
            "stage.lr": Dimension(low=1e-4, high=1e-2, log=True),
            "stage.schedule": Dimension(choices=["cosine", "linear"]),
        }
        metric = "x/mean_accuracy"

    trials = [
        row(0, params={"stage.lr": 1e-3, "stage.schedule": "linear"}, value=0.5),
        row(1, params={"stage.lr": 1e-4, "stage.schedule": "cosine"}, value=0.5),
    ]
    plan: Any = Plan()
    lr, schedule, metric = axes_of(plan, trials)
    assert lr.positions == pytest.approx([-3, -4])
    assert [tick for _, tick in lr.ticks][::2] == ["0.0001", "0.001", "0.01"]
    assert (schedule.positions, schedule.is_categorical) == ([1.0, 0.0], True)
    assert (metric.name, metric.low, metric.high) == ("x/mean_accuracy", 0.0, 1.0)


def test_importances_need_trials_that_differ() -> None:
    study = optuna.create_study()
    assert importances(study) == ({}, "importance needs at least two complete trials, and there are 0")
    for _ in range(2):
        trial = study.ask()
        trial.suggest_float("key", 0.0, 1.0)
        study.tell(trial, 0.5)
    assert importances(study) == ({}, "importance can't be computed: all 2 complete trials reached 0.5")


def test_a_plot_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    class Broken:
        def write_html(self, file: Any, **options: Any) -> None:
            file.write("<html>")
            raise RuntimeError("no space left")

    grid = Grid(["a"], ["x"], [[0.5]], [[0.0]], 1.0)
    figure = grid_figure("title", grid)
    with pytest.raises(RuntimeError, match="no space left"):
        save(tmp_path / "broken", figure, Broken())
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]
    assert save(tmp_path / "whole", figure, grid_page("title", grid)) == ["whole.png", "whole.html"]
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "broken.png").read_bytes()
    assert "Plotly.newPlot" in (tmp_path / "whole.html").read_text(encoding="utf-8")
