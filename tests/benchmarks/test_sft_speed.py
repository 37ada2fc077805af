"""The benchmark runs, its contenders train the same model on the same samples, and its result has the agreed keys."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.sft_speed import main, ratios_of


def test_tree_and_plain_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    small = ["--model", "tiny", "--views", "2", "--side", "112", "--rounds", "2", "--updates", "1", "--warmup", "1"]
    folders = ["--work", str(tmp_path / "work"), "--out", str(out)]
    assert main(["--contenders", "tree", "plain", *small, *folders]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result.keys() >= {"bench", "command", "machine", "versions", "variants", "ratios"}
    tree, plain = result["variants"]["tree"], result["variants"]["plain"]
    assert tree["loss_before"] == pytest.approx(plain["loss_before"], rel=1e-5)
    for figures in (tree, plain):
        assert [turn["samples"] for turn in figures["turns"]] == [39, 39]
        assert figures["samples_per_second"] > 0
        assert figures["peak_memory_gb"] > 0.1
    assert tree["padding"] == 0 < plain["padding"]
    assert tree["duplication_removed"] > 1.3
    assert plain["duplication_removed"] == 1
    assert {"tree/plain", "tree/plain memory", "share of the token ratio"} == result["ratios"].keys()
    assert "| tree |" in capsys.readouterr().out


def test_speeds_are_compared_round_by_round() -> None:
    def variant(memory: float, *turns: tuple[int, float]) -> dict[str, object]:
        return {
            "peak_memory_gb": memory,
            "duplication_removed": 2.0,
            "turns": [{"alone": alone, "seconds": seconds} for alone, seconds in turns],
        }

    # The second round's samples were shorter for the tree; the third was disturbed.
    ratios = ratios_of(
        {
            "tree": variant(2.0, (100, 1.0), (50, 0.5), (100, 9.0)),
            "plain": variant(4.0, (100, 2.0), (100, 2.0), (100, 2.0)),
            "tree_checkpointed": variant(1.0, (100, 4.0), (100, 4.0), (100, 4.0)),
        }
    )
    assert ratios == {"tree/plain": 2.0, "tree/plain memory": 0.5, "share of the token ratio": 1.0}


@pytest.mark.skipif(find_spec("trl") is not None, reason="TRL is in the environment")
def test_a_missing_peer_is_reported_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--work", str(tmp_path), "--out", str(tmp_path / "result.json")]) == 2
    assert "make bench" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
