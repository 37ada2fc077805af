"""`geotune eval`: models beside each other, what the recipe of a model asks, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.run import evaluator_for, main, with_suites
from geotune.config.composing import compose
from geotune.inference.loading import Source
from geotune.records import read_samples, write_samples


@pytest.fixture
def photos(city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small dataset: two questions of three tasks."""
    monkeypatch.chdir(tmp_path)
    chosen: dict[str, list[Any]] = {"pose_fixed": [], "cross_map": [], "geolocate": []}
    for sample in read_samples(city / "city.jsonl"):
        if sample.task in chosen and len(chosen[sample.task]) < 2:
            chosen[sample.task].append(sample.in_folder(city))
    write_samples(tmp_path / "photos.jsonl", [sample for samples in chosen.values() for sample in samples])
    return tmp_path / "photos.jsonl"


def suites(photos: Path, *names: str) -> list[str]:
    return [f"suites=[{','.join(names)}]", *(f"suites.{name}.path={photos}" for name in names)]


def test_names_of_suites_are_choices_of_files() -> None:
    assert with_suites(["suites=[cross_view, my/own.yaml]", "batch_size=3"]) == [
        "+suite@suites.cross_view=cross_view",
        "+suite@suites.own=my/own.yaml",
        "batch_size=3",
    ]
    assert with_suites(["suites=null", "suites={}"]) == ["suites=null", "suites={}"]
    assert with_suites(["suites=distance"]) == ["+suite@suites.distance=distance"]
    assert with_suites(["suites.distance.path=a,b"]) == ["suites.distance.path=a,b"]


def test_the_embedded_backbone_is_asked_once(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    command = [*suites(photos, "cross_view", "distance"), "max_new_tokens=4"]
    assert main([*command, "dry_run=true"]) == 0
    assert "4 to ask of embedded" in caplog.text
    assert not list(tmp_path.glob("runs/eval/*/local-*"))
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "cross_view: generate" in shown
    assert "geoscore" in shown
    assert len(list(tmp_path.glob("runs/eval/*/local-*/config.yaml"))) == 2
    files = sorted(path.relative_to(tmp_path / "runs/eval").parts[0] for path in tmp_path.rglob("metrics.json"))
    assert files == ["cross_view", "distance"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("outcomes.jsonl")}
    caplog.clear()
    assert main(command) == 0
    assert "4 answers are there, 0 to ask of embedded" in caplog.text
    assert {path: path.read_bytes() for path in tmp_path.rglob("outcomes.jsonl")} == before
    assert main([*command, "answer_mode=choice"]) == 0
    assert "questions and settings: generate" in caplog.text, "the difference is named"
    assert len(list(tmp_path.glob("runs/eval/cross_view/local-*"))) == 2


def test_a_model_that_cannot_be_loaded_stops_no_other(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from geotune.system.files import ASSETS

    command = [*suites(photos, "cross_view"), "answer_mode=choice"]
    with pytest.raises(SystemExit) as ended:
        main([f"checkpoint=[{tmp_path}/none,{ASSETS / 'tiny'}]", "max_pixels=9216", *command])
    assert "1 of 2 models can't be evaluated" in str(ended.value.code)
    assert "there is no such folder" in caplog.text
    [content] = [json.loads(path.read_text()) for path in tmp_path.rglob("metrics.json")]
    assert content["checkpoint"] == str(ASSETS / "tiny")
    assert content["suites"]["cross_view"]["tasks"].keys() == {"pose_fixed", "cross_map"}
    assert main([f"checkpoint=[{tmp_path}/none]", *command]) == 2
    assert "checkpoint" in capsys.readouterr().err


def test_a_model_is_asked_what_its_recipe_asked(photos: Path, tmp_path: Path) -> None:
    """With the recipe's mode and limits, unless the command says otherwise."""
    node = {"_target_": "eval.suites.CrossViewSuite", "path": str(photos), "tasks": ["pose_fixed"]}
    recipe = {"evaluator": {"suites": {"mine": node}, "answer_mode": "choice", "max_new_tokens": 7, "batch_size": 50}}
    source = Source(tmp_path, "checkpoint", {}, recipe)
    evaluator = evaluator_for(compose("eval", []), source, "model")
    assert (evaluator.config.answer_mode, evaluator.config.max_new_tokens) == ("choice", 7)
    assert evaluator.config.batch_size == 50
    assert [sample.task for sample in evaluator.samples("mine")] == ["pose_fixed"] * 2
    changed = evaluator_for(
        compose("eval", ["answer_mode=generate", "max_new_tokens=9", "batch_size=2"]), source, "model"
    )
    assert (changed.config.answer_mode, changed.config.max_new_tokens, changed.config.batch_size) == ("generate", 9, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "embedded has no recipe with suites"),
        (["suites=[no_such_suite]"], "no_such_suite"),
        (["checkpoint=[a,a]", "suites=[distance]", "suites.distance.path=x"], "a is named twice"),
        (["suites=[distance]", "suites.distance.path=nowhere"], "suites.distance.path"),
        (["suites=[distance]", "suites.distance.path=x", "batch_size=0"], "batch_size"),
    ],
)
def test_mistakes(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert told in " ".join(capsys.readouterr().err.split())
