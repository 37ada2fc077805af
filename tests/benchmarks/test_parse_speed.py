"""The benchmark runs two checkouts in turn, and its result has the agreed keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.parse_speed import PIECES, ROOT, long_texts, main, ratios_of, short_answers
from geotune.tasks import get_task


@pytest.mark.parametrize("arguments", [[], [str(ROOT)]])
def test_a_checkout_alone_and_two_in_turn(tmp_path: Path, arguments: list[str]) -> None:
    out = tmp_path / "parse_speed.json"
    assert main([*arguments, "--size", "200", "--pairs", "1", "--passes", "1", "--out", str(out)]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result.keys() >= {"bench", "command", "machine", "versions", "variants", "ratios"}
    assert result["variants"].keys() == ({"old", "new"} if arguments else {"new"})
    (turn,) = result["variants"]["new"]["turns"]
    assert result["ratios"].keys() == (turn.keys() if arguments else set())
    assert {"predictions", "JSON, geolocate", "prose, address"} < turn.keys()


def test_the_predictions_of_a_run(tmp_path: Path) -> None:
    file, out = tmp_path / "step_000001.jsonl", tmp_path / "result.json"
    file.write_text(json.dumps({"task": "geolocate", "raw": "48.85, 2.35"}) + "\n", encoding="utf-8")
    short = ["--size", "9", "--pairs", "1", "--passes", "1", "--out", str(out)]
    assert main(["--predictions", str(file), *short]) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["settings"]["predictions"] == 1


def test_a_checkout_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    assert main([str(tmp_path), "--size", "9", "--out", str(out)]) == 1
    assert "holds no geotune" in capsys.readouterr().err
    assert not out.exists()


def test_the_answers_are_always_the_same_and_some_are_read() -> None:
    answers = list(short_answers(each=5))
    assert answers == list(short_answers(each=5))
    read = [get_task(task).parse(text).answer is not None for task, text in answers]
    assert 0.4 < sum(read) / len(read) < 0.9
    assert all(len(text) == 1000 for _, text in long_texts(1000))
    assert len(set(PIECES)) == len(PIECES)


def test_checkouts_are_compared_pair_by_pair() -> None:
    both = {
        "old": {"turns": [{"a": 4.0}, {"a": 8.0}, {"a": 9.0}]},
        "new": {"turns": [{"a": 2.0}, {"a": 4.0}, {"a": 1.0}]},
    }
    assert ratios_of(both) == {"a": 2.0}
    assert ratios_of({"new": both["new"]}) == {}
