from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from eval.plots.accuracy import accuracy_figure, accuracy_plots, plot_accuracy

CHANCE = {"pose_fixed": 0.25, "localization_prior": 0.5, "intra_map": 1 / 9}


def evaluation(step: int, accuracy: float, mode: str = "generate", suite: str = "geox") -> dict[str, Any]:
    interval = [max(accuracy - 0.05, 0.0), min(accuracy + 0.05, 1.0)]
    tasks = {task: {"n": 10, "accuracy": accuracy, "ci95": interval, "chance": c} for task, c in CHANCE.items()}
    figures = {"answer_mode": mode, "mean_accuracy": accuracy, "mean_ci95": interval, "tasks": tasks}
    return {"step": step, "suites": {suite: figures}}


def test_a_panel_for_the_mean_and_each_task() -> None:
    figure = accuracy_figure([evaluation(0, 0.3), evaluation(100, 0.6), evaluation(200, 1.0)], "geox")
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in panels] == ["mean of 3 tasks", *CHANCE]
    for axis, chance in zip(panels[1:], CHANCE.values(), strict=True):
        dashed, curve = axis.get_lines()
        assert list(dashed.get_ydata()) == [chance, chance]
        assert list(curve.get_xdata()) == [0, 100, 200]
        assert list(curve.get_ydata()) == [0.3, 0.6, 1.0]
        assert [text.get_text() for text in axis.texts] == ["100%", f"chance {chance:.0%}"]


def test_labels_do_not_touch() -> None:
    for accuracy in (0.25, 0.26, 0.23, 0.2):
        value, chance = accuracy_figure([evaluation(0, accuracy)], "geox").axes[1].texts
        assert abs(value.xy[1] - chance.xy[1]) >= 0.08
        assert (value.xy[1] > chance.xy[1]) == (accuracy >= 0.25)


def test_two_answer_modes_are_never_in_one_curve() -> None:
    figure = accuracy_figure([evaluation(0, 0.3, "choice"), evaluation(5, 0.4), evaluation(9, 0.5)], "geox")
    assert list(figure.axes[1].get_lines()[1].get_xdata()) == [5, 9]


def test_only_suites_of_tasks_are_drawn(tmp_path: Path) -> None:
    """By their kind, whatever figures they have, so that the plot never meets figures that it does not know."""
    last = evaluation(9, 0.5)
    tasks = last["suites"]["geox"]["tasks"]
    last["suites"]["own"] = {"answer_mode": "generate", "kind": "own", "mean_accuracy": 0.5, "tasks": tasks, "rows": []}
    last["suites"]["new"] = last["suites"]["geox"] | {"kind": "tasks"}
    assert [suite for suite, _ in accuracy_plots(last, tmp_path)] == ["geox", "new"]
    failed = evaluation(5, 0.4)
    failed["suites"]["geox"] = {"answer_mode": "generate", "kind": "failed", "failed": "KeyError", "rows": []}
    figure = accuracy_figure([evaluation(0, 0.3), failed, evaluation(9, 0.5)], "geox")
    assert list(figure.axes[1].get_lines()[1].get_xdata()) == [0, 9]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    last = evaluation(100, 0.5)
    last["suites"] |= {"geolocate": {"n": 3}, **evaluation(0, 0.2, suite="hard")["suites"]}
    for record in (evaluation(0, 0.4), last):
        (tmp_path / "eval" / f"step_{record['step']:06d}.json").write_text(json.dumps(record))
    wanted = accuracy_plots(last, tmp_path)
    assert [(suite, path.name) for suite, path in wanted] == [("geox", "accuracy.png"), ("hard", "accuracy_hard.png")]
    for suite, path in wanted:
        plot_accuracy(tmp_path, suite, path)
        with Image.open(path) as image:
            image.load()
            assert image.width > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.png", "accuracy_hard.png", "eval"]
