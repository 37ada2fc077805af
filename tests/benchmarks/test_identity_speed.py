"""The benchmark of identification, run on a small dataset and a small model: every step reports its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import identity_speed


def test_it_measures_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The processes of the steps only make their figures comparable; they take seconds to start.
    monkeypatch.setattr(identity_speed, "measured_alone", lambda measure, views, folder: measure(views, folder))
    out = tmp_path / "result.json"
    assert identity_speed.main(["--views", "2", "--work", str(tmp_path), "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["settings"]["records"] == 78
    assert result["variants"].keys() == {"check_cache", "data", "weights", "processor"}
    assert all(variant["seconds"] > 0 for variant in result["variants"].values())
    assert result["variants"]["weights"]["tensors"] == 410
    assert result["variants"]["processor"]["tokens"] == identity_speed.TOKENS
    assert result["in_all"].keys() == {"seconds", "cpu_seconds"}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
