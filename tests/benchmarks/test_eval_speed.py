"""The benchmark of evaluation runs, its variants find the same, and its result has the agreed keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.eval_speed import check, main


def test_all_variants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    folders = ["--work", str(tmp_path / "work"), "--out", str(out)]
    main(["--models", "tiny", "--rounds", "1", "--side", "112", *folders])
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result.keys() >= {"bench", "command", "machine", "versions", "variants", "ratios"}
    assert result["ratios"].keys() >= {"tiny: choice tree/rows", "tiny: choice tree/stock@64"}
    assert all(figures["samples_per_second"] > 0 for figures in result["variants"].values())
    assert "tiny: choice tree/stock@64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "found"),
    [("choice rows", [[-1.0, -2.5]]), ("generate rows", [[1, 3]]), ("stock@12", [[1, 3]]), ("stock@64", [[3, 2, 9]])],
)
def test_variants_that_differ_are_refused(name: str, found: Any) -> None:
    same: dict[str, Any] = {"choice tree": [[-1.0, -2.0]] * 3, "choice rows": [[-1.0, -2.0001]]}
    same |= {each: [[1, 2]] for each in ("generate tree", "generate rows", "stock@12", "stock@64")}
    check(same)
    with pytest.raises(RuntimeError, match="tree"):
        check({**same, name: found})
