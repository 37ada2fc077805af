"""The benchmark of reinforcement learning on the city: what it reads from the runs of a seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quickstart_rl

PHOTOS = {
    "coverage": 1.0,
    "median_km": 1600.0,
    "acc@750km": 0.2,
    "acc@2500km": 0.9,
    "draws_read": 0.99,
    "medoid_median_km": 1400.0,
    "radius_coverage_50": 0.4,
    "radius_coverage_90": 0.84,
    "radius_50_km": 900.0,
    "radius_90_km": 2200.0,
}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_what_a_leg_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(arguments: list[str], folder: Path) -> dict[str, float]:
        assert arguments[1:] == ["recipe=quickstart_rl", "seed=1", "start=cold", "run_dir=honest", "stage.spread=1"]
        run = folder / "honest"
        for step, median in ((0, 1600.0), (150, 1300.0)):
            suites = {"geolocate": {**PHOTOS, "median_km": median}}
            write(run / "eval" / f"step_{step:06}.json", {"step": step, "seconds": 30.0, "suites": suites})
            lines = [{"answer": "a"}, {"answer": "a"}, {"answer": None}, {"answer": "b"}, {"answer": "a", "repeat": 3}]
            write(run / "predictions" / f"step_{step:06}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        write(run / "metrics.csv", "step,train/reward,perf/mfu\n150,0.25,\n")
        return {"minutes": 9.0, "memory_gb": 2.0}

    monkeypatch.setattr(quickstart_rl, "measured", quick)
    found = quickstart_rl.leg(tmp_path, 1, "honest")
    assert (found["training_minutes"], found["updates"]) == (8.0, 150)
    assert found["after"]["commonest_guess"] == 0.5
    assert found["train"] == {"reward": 0.25}
    assert quickstart_rl.gap_closed(found) == pytest.approx(300 / 395)
    plain = {**found, "after": {**found["after"], "radius_coverage_90": 0.1, "commonest_guess": 0.05}}
    assert all(quickstart_rl.verdicts(plain, found).values())
    worse = {**found, "after": {**found["after"], "medoid_median_km": 1700.0, "radius_coverage_50": 0.5}}
    missed = [name for name, is_met in quickstart_rl.verdicts(plain, worse).items() if not is_met]
    assert missed == ["honest: coverage of the 50% radius", "honest: medoid"]
