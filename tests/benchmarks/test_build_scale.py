"""The benchmark of large datasets, run on small ones: every step reports its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import build_scale


def test_it_measures_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_scale, "READS", 5)
    out = tmp_path / "result.json"
    assert build_scale.main(["--views", "2", "4", "--work", str(tmp_path), "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    for records in (78, 156):
        steps = result["variants"][f"{records} records"]
        assert steps["build"]["records"] == records
        assert set(steps) == {"build", "read", "index", "plan"}
        assert steps["plan"]["updates"] >= 1
    assert result["variants"]["pictures"]["crops_per_second"] > 0
    assert result["machine"]["cores"] >= 1
    assert result["command"].startswith("python -m benchmarks.build_scale --views 2 4 ")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
