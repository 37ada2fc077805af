from __future__ import annotations

import json
from pathlib import Path

import pytest

from geotune.runs.predictions import Prediction, read_predictions, write_predictions
from geotune.system.strict_json import finite, write_json

BASE = {"suite": "geox", "id": "a/1", "task": "pose_fixed", "place": "p", "source": "s", "gold": "N"}


def test_round_trip_of_what_models_say(tmp_path: Path) -> None:
    said = ['{"direction": "N"}', "line one\nline two \u2028 \x85 \x00 é 北", "lone \ud800 surrogate", ""]
    predictions = [
        Prediction(**BASE, raw=said[0], answer="N", reason=None, score=1.0),
        *(Prediction(**BASE, raw=text, answer=None, reason="missing", score=0.0) for text in said[1:]),
        Prediction(**BASE, raw="x", answer="N", reason=None, score=1.0, option_logprobs=(-0.1, None)),
        Prediction(**BASE, raw="x", answer="N", reason=None, score=1.0, repeat=3),
    ]
    path = tmp_path / "new" / "step_000000.jsonl"
    write_predictions(path, predictions)
    assert len(path.read_bytes().splitlines()) == 6
    assert list(read_predictions(path)) == predictions
    assert not {"option_logprobs", "repeat"} & json.loads(path.read_text().splitlines()[0]).keys()
    assert [file.name for file in path.parent.iterdir()] == ["step_000000.jsonl"]


@pytest.mark.parametrize("line", ["[]", "{", '{"id": "x"}', "3"])
def test_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"p.jsonl:1: not a prediction"):
        list(read_predictions(path))


def test_json_has_no_nan(tmp_path: Path) -> None:
    content = {"a": float("nan"), "b": [1.5, float("-inf")], "c": {"d": (float("inf"), "x", None, True)}}
    assert finite(content) == {"a": None, "b": [1.5, None], "c": {"d": [None, "x", None, True]}}
    write_json(tmp_path / "m.json", content)
    assert json.loads((tmp_path / "m.json").read_text(), parse_constant=pytest.fail) == finite(content)
