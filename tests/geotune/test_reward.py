"""`geotune reward`: what it prints, and what it says about mistakes; and rewards in recipes of trainings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from geotune.config.composing import compose
from geotune.config.instantiation import instantiate_checked
from geotune.reward import main
from geotune.rl.rewards import Reward
from geotune.sample import Sample, sample_to_record
from tests.geotune.commands import BODY, recipe_file
from tests.geotune.rl.questions import PARIS, TOKYO, photo, says
from tests.geotune.samples import a_sample

OWN_TERM = """
from dataclasses import dataclass
from geotune.rl.terms import Term, TermValue

@dataclass
class Shout(Term):
    factor: float = 1.0

    def __call__(self, text, sample):
        return TermValue(self.factor * text.isupper())
"""
OWN_STAGE = """
from __future__ import annotations
from dataclasses import dataclass
from geotune.config.parts import StageConfig
from geotune.config.reward import RewardConfig

@dataclass(kw_only=True)
class RewardedConfig(StageConfig):
    reward: RewardConfig

class Rewarded:
    Config = RewardedConfig

    def __init__(self, config: RewardedConfig) -> None:
        self.config = config
"""


def lines_file(folder: Path, *lines: tuple[str, Sample] | str) -> str:
    """`file=<path>` of a file with these lines."""
    path = folder / "lines.jsonl"
    rows = [
        line if isinstance(line, str) else json.dumps({"text": line[0], "sample": sample_to_record(line[1]), "more": 1})
        for line in lines
    ]
    path.write_text("".join(f"{row}\n" for row in rows))
    return f"file={path}"


def four(folder: Path) -> str:
    """A right, a swapped, an unreadable and a loosely written answer; a blank line stands between them."""
    texts = [says(*PARIS), says(PARIS[1], PARIS[0]), says(0, 0), "48.0, 3.0"]
    lines: list[tuple[str, Sample] | str] = [(text, photo(name=f"photo/{i}")) for i, text in enumerate(texts)]
    return lines_file(folder, *lines[:2], "", *lines[2:])


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward=geodesic", four(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(len(line) <= 80 for line in out.splitlines())
    rows = [line.split() for line in out.splitlines()]
    assert rows[:2] == [["reward", "geodesic"], ["line", "sample", "reward", "geodesic", "format", "km", "reason"]]
    assert rows[3] == ["1", "photo/0", "1.000", "1.000", "1.000", "0.0"]
    assert rows[4][-1] == "swapped"
    assert rows[5] == ["4", "photo/2", "0.000", "0.000", "0.000", "-", "null_island"]
    assert rows[6][:2] == ["5", "photo/3"]
    assert rows[6][-1] == "form"
    assert "4 completions, median 106.6 km of the places that were read" in out
    assert "swapped 1, null_island 1" in out
    assert "gated 2" in out


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward=geodesic", four(tmp_path), "format=json"]) == 0
    *rows, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["line"], row["id"], row["gated"]) for row in rows] == [
        (1, "photo/0", False), (2, "photo/1", False), (4, "photo/2", True), (5, "photo/3", True),
    ]  # fmt: skip
    assert rows[0]["reward"] == 1
    assert rows[0]["km"] == 0
    assert rows[1]["terms"]["geodesic"]["reason"] == "swapped"
    assert rows[2]["km"] is None
    assert rows[3]["terms"]["geodesic"] == {
        "value": rows[3]["terms"]["geodesic"]["value"], "reason": None, "read": '{"latitude": 48.0, "longitude": 3.0}',
    }  # fmt: skip
    totals = last["totals"]
    assert totals["n"] == 4
    assert totals["reward"] == pytest.approx(sum(row["reward"] for row in rows) / 4)
    assert totals["terms"]["format"] == {"value": 0.5, "reasons": {"null_island": 1, "form": 1}}


def test_keys_of_terms_are_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["gate=null", "terms.geodesic.kernel=piecewise", "terms.format.weight=1", "format=json"]
    assert main(["reward=geodesic", lines_file(tmp_path, (says(*TOKYO), photo())), *keys]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert row["terms"]["geodesic"]["value"] == pytest.approx(0.2 - 0.2 * (row["km"] - 2500) / 17500)
    assert row["reward"] == pytest.approx((1 + row["terms"]["geodesic"]["value"]) / 2)


def test_a_reward_and_a_term_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shouting.py").write_text(OWN_TERM)
    body = "_target_: geotune.rl.rewards.Reward\nterms:\n  shout: {_target_: shouting.Shout, weight: 2}\n"
    (tmp_path / "loud.yaml").write_text(body)
    file = lines_file(tmp_path, ("HELLO", photo()), ("hello", photo()))
    assert main(["reward=loud.yaml", file, "format=json", "terms.shout.factor=0.5"]) == 0
    *rows, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["reward"] for row in rows] == [0.5, 0]


GOOD = json.dumps({"text": "x", "sample": sample_to_record(photo())})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "a record is a JSON object"),
        ('{"sample": {}}', "no `text`"),
        ('{"text": 3, "sample": {}}', "`text` is 3; it must be a string"),
        ('{"text": "x"}', "no `sample`"),
        ('{"text": "x", "sample": "photo/1"}', "`sample` is 'photo/1'; it must be a record"),
        ('{"text": "x", "sample": {"id": "a"}}', "no `conversations`"),
        (GOOD.replace("geolocate", "geolocation"), "there is no such task"),
        (GOOD.replace("48.8566", "148.8566"), "the gold answer can't be read"),
        (json.dumps({"text": "x", "sample": sample_to_record(a_sample("h/1", task="pose_fixed", answer="N"))}), "h/1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, told: str) -> None:
    assert main(["reward=geodesic", lines_file(tmp_path, GOOD, line)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{tmp_path / 'lines.jsonl'}:2: " in err
    assert told in err


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["reward=geodesic"], "file"),
        (["file=lines.jsonl"], "choose a reward; there are accuracy, geodesic"),
        (["reward=geodesy", "file=lines.jsonl"], "there is no such reward"),
        (["reward=geodesic", "file=nowhere.jsonl"], "file=nowhere.jsonl: there is no such file"),
        (["reward=geodesic", "file= "], "the name is empty"),
        (["reward=geodesic", "file=lines.jsonl", "gate=form"], "reward.gate=form: there is no such term"),
        (
            ["reward=geodesic", "file=lines.jsonl", "terms.geodesic.theta=1"],
            "did you mean reward.terms.geodesic.theta_km",
        ),
        (["reward=geodesic", "file=lines.jsonl", "terms.geodesic.weight=0"], "at least one term a weight above 0"),
    ],
)
def test_mistakes(keys: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    lines_file(tmp_path, GOOD)
    assert main(keys) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err


def test_an_empty_file_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward=geodesic", lines_file(tmp_path, "", " ")]) == 2
    assert "holds no line" in capsys.readouterr().err


def test_its_help_lists_the_keys_of_the_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward=gre_coordinates", "--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: geotune reward file=<jsonl> reward=<name>" in out
    assert "terms.geodesic.least_theta_km" in out
    assert "[multiscale | exponential | sigmoid | piecewise | steps; sigmoid]" in out


def test_a_recipe_of_a_training_takes_a_reward_of_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewarded_stage.py").write_text(OWN_STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    defaults = "defaults:\n  - /reward@stage.reward: geodesic\n  - _self_\n"
    stage = "stage: {_target_: rewarded_stage.Rewarded, reward: {terms: {format: {weight: 0.5}}}}\n"
    own = recipe_file(tmp_path, f"{defaults}{BODY}{stage}")
    typed: list[Any] = ["stage.reward.terms.geodesic.kernel=sigmoid", "stage.reward.terms.geodesic.theta_km=500"]
    cfg = compose("train", [own, "evaluator=null", *typed])
    stage_made = instantiate_checked(cfg.stage, "stage")
    reward = Reward(stage_made.config.reward, "stage.reward")
    assert reward.geodesic is not None
    assert reward.geodesic[1].theta_km == 500
    assert reward.terms["format"].weight == 0.5
    chosen = compose("train", [own, "evaluator=null", "reward@stage.reward=accuracy"])
    assert list(chosen.stage.reward.terms) == ["accuracy", "format"]
