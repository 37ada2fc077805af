"""The benchmark runs two checkouts in turn, and its result has the agreed keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.locate_speed import ROOT, main, ratios_of


@pytest.mark.parametrize("arguments", [["--model", "embedded"], [str(ROOT), "--model", "tiny"]])
def test_a_checkout_alone_and_two_in_turn(tmp_path: Path, arguments: list[str]) -> None:
    out = tmp_path / "locate_speed.json"
    small = ["--photos", "2", "--samples", "2", "--max-new-tokens", "4", "--pairs", "1", "--threads", "1"]
    folders = ["--work", str(tmp_path / "work"), "--out", str(out)]
    assert main([*arguments, *small, *folders]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result.keys() >= {"bench", "command", "machine", "versions", "variants", "ratios"}
    assert result["same_answers"]
    compared = {"new/old", "new/old memory"} if str(ROOT) in arguments else set()
    assert result["ratios"].keys() == compared
    assert result["variants"].keys() == ({"old", "new"} if compared else {"new"})
    for figures in result["variants"].values():
        (turn,) = figures["turns"]
        assert turn["seconds"] > 0
        assert turn["peak_memory_gb"] >= turn["loaded_memory_gb"] > 0.1


def test_a_checkout_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    assert main([str(tmp_path), "--photos", "1", "--work", str(tmp_path / "work"), "--out", str(out)]) == 1
    assert "holds no geotune" in capsys.readouterr().err
    assert not out.exists()


def test_checkouts_are_compared_pair_by_pair() -> None:
    def turns(*figures: tuple[float, float]) -> dict[str, object]:
        return {"turns": [{"seconds": seconds, "peak_memory_gb": memory} for seconds, memory in figures]}

    both = {"old": turns((4, 2.0), (8, 2.0), (9, 2.0)), "new": turns((2, 1.0), (4, 1.0), (1, 3.0))}
    assert ratios_of(both) == {"new/old": 2.0, "new/old memory": 0.5}
    assert ratios_of({"new": both["new"]}) == {}
