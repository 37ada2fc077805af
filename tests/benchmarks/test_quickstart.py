"""The benchmark of the quickstart: what it reads from runs and from located photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quickstart
from geotune.tasks.coordinates import Coordinates


def test_a_cell_is_what_an_image_tells() -> None:
    assert quickstart.cell(-60, -180) == (0, 0)
    assert quickstart.cell(59.9, 179.9) == (5, 7)
    assert quickstart.cell(-40.1, 0) != quickstart.cell(-39.9, 0)
    photos = {name: Coordinates(10, 10) for name in "abc"}
    rows: dict[str, Any] = {"a": (1.0, 1.0), "b": (-1.0, 1.0), "c": (None, None)}
    answers = {name: {"latitude": lat, "longitude": lon} for name, (lat, lon) in rows.items()}
    assert quickstart.right_cells(photos, answers) == pytest.approx(1 / 3)


def test_what_a_run_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "seed1" / "run"

    def quick(arguments: list[str], folder: Path) -> dict[str, float]:
        assert "seed=1" in arguments
        for step, accuracy in ((0, 0.1), (4, 0.9)):
            of_task = {"accuracy": accuracy, "chance": 0.25}
            geox = {
                "mean_accuracy": accuracy,
                "tasks": {"pose_fixed": of_task, "intra_map": {**of_task, "chance": 0.5}},
            }
            far = {"coverage": 1.0, "median_km": 1205.0, "acc@750km": 0.2, "acc@2500km": 0.9}
            suites = {"geox": geox, "geox_choice": {"mean_accuracy": accuracy / 2}, "geolocate": far}
            write(run / "eval" / f"step_{step:06}.json", {"seconds": 30.0, "suites": suites})
        write(run / "checkpoints" / "last" / "state.json", {"update_size": 32})
        (run / "metrics.csv").write_text("step,train/loss,perf/samples_per_second\n2,0.5,16\n4,0.4,32\n")
        return {"minutes": 5.0, "memory_gb": 3.0}

    monkeypatch.setattr(quickstart, "measured", quick)
    found = quickstart.train(tmp_path / "seed1", 1)
    assert found["evaluation_minutes"] == [0.5, 0.5]
    assert found["training_minutes"] == pytest.approx((2 * 32 / 16 + 2 * 32 / 32) / 60, abs=0.01)
    assert (found["mean_accuracy"], found["least_above_chance"]) == (0.9, 0.4)
    assert (found["before"], found["geox_choice"]) == (0.1, [0.05, 0.45])


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_time_and_memory_of_all_processes(tmp_path: Path) -> None:
    found = quickstart.measured(["calendar", "2026"], tmp_path)
    assert "2026" in (tmp_path / "log.txt").read_text()
    assert found.keys() == {"minutes", "memory_gb"}
    with pytest.raises(SystemExit, match="failed"):
        quickstart.measured(["no.such.module"], tmp_path)
