"""The benchmark of a GRPO step runs, all contenders compute the same, and its result has the agreed keys."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contest import ROOT
from benchmarks.grpo_speed import check, main, ratios_of
from benchmarks.turns import Setup

SMALL = ["--model", "tiny", "--side", "112", "--group", "4", "--rounds", "1", "--updates", "2"]
PEERS = next((ROOT / ".venv" / "peers").glob("trl"), None)


def test_a_step_of_ours_and_of_the_plain_twin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    folders = ["--work", str(tmp_path / "work"), "--out", str(out)]
    assert main(["--contenders", "ours", "plain", "--tokens", "6", *SMALL, *folders]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result.keys() >= {"bench", "command", "machine", "versions", "variants", "ratios"}
    assert result["variants"].keys() == {"ours@6", "plain@6"}
    assert result["ratios"].keys() == {"ours/plain@6", "ours/plain@6 memory"}
    for figures in result["variants"].values():
        assert figures["trained_tokens"] == 4 * 6
        assert figures["rollout_seconds"] + figures["update_seconds"] == pytest.approx(figures["step_seconds"])
        assert min(figures["rollout_seconds"], figures["update_seconds"], figures["cpu_seconds"]) > 0
    assert "| ours@6 |" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("trl") is None and PEERS is None, reason="TRL is not installed")
def test_trl_computes_the_same(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    folders = ["--work", str(tmp_path / "work"), "--out", str(out)]
    trl = ["--trl", str(PEERS.parent)] if PEERS else []
    assert main(["--contenders", "ours", "trl", "--trl-rows", "2", "--tokens", "5", *SMALL, *folders, *trl]) == 0
    variants = json.loads(out.read_text(encoding="utf-8"))["variants"]
    assert variants["ours@5"]["loss_before"] == pytest.approx(variants["trl@5"]["loss_before"], abs=1e-5)
    assert variants["ours@5"]["prompt_tokens"] == variants["trl@5"]["prompt_tokens"]
    assert variants["trl@5"]["trained_tokens"] == 20


@pytest.mark.parametrize("option", [["--trl-rows", "3"], ["--group", "1"], ["--tokens", "0"]])
def test_impossible_settings_are_refused(tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--contenders", "ours", *SMALL, *option, "--work", str(tmp_path)]) == 2
    assert option[0] in capsys.readouterr().err


def test_times_are_compared_round_by_round() -> None:
    def variant(memory: float, *seconds: float) -> dict[str, Any]:
        return {"peak_memory_gb": memory, "turns": [{"step_seconds": each} for each in seconds]}

    # The second round was slow for both; the third was disturbed.
    variants = {"ours@8": variant(1.0, 1, 2, 9), "trl@8": variant(4.0, 3, 6, 3), "ours@9": variant(1.0, 1, 1, 1)}
    assert ratios_of(variants) == {"ours/trl@8": 3.0, "ours/trl@8 memory": 0.25}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt_tokens": 11}, "prompts of 10 tokens, and of 11 in trl"),
        ({"loss": 1.5}, "losses before training differ"),
        ({"trained": 15}, "trl trained on 15 tokens instead of 16"),
    ],
)
def test_contenders_that_compute_something_else_are_refused(changes: dict[str, float], reason: str) -> None:
    def contender(name: str, **found: float) -> Any:
        figures = {"prompt_tokens": 10, "loss": 1.0, "trained": 16, **found}
        setup = Setup(name, "", "", 1, 1, 1, 1, 1, 1, group_size=4, new_tokens=4)
        return SimpleNamespace(setup=setup, facts=figures, turns=[figures])

    check([contender("ours"), contender("trl")])
    with pytest.raises(RuntimeError, match=reason):
        check([contender("ours"), contender("trl", **changes)])
