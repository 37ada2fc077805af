"""Datasets are built when they are missing or out of date, and never overwritten by mistake."""

from __future__ import annotations

import json
import sys
import threading
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data_builders.builder import Builder
from geotune.data.building import builder_config, config_fingerprint, ensure_dataset
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample, Turn


@dataclass
class ToyBuilder(Builder):
    places: int = 2
    word: str = "N"
    workers: int = field(default=1, compare=False)
    runs: ClassVar[list[str]] = []

    def build(self, writer: Any) -> None:
        self.runs.append(self.word)
        for place in range(self.places):
            said = (Turn("user", "Which way?"), Turn("assistant", self.word))
            writer.write(Sample(id=f"toy/{place}", images=(), turns=said, task="toy", answer=self.word))
            if self.word == "fail":
                raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The config node of a builder that counts its runs."""
    module = types.ModuleType("toy_builders")
    module.ToyBuilder = ToyBuilder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_builders", module)
    ToyBuilder.runs.clear()
    return {"_target_": "toy_builders.ToyBuilder"}


def answers(path: Path) -> list[str]:
    return [sample.answer for sample in read_samples(path)]


def test_builds_once_and_again_when_the_settings_change(tmp_path: Path, toy: dict[str, Any]) -> None:
    path = tmp_path / "a, b" / "toy"
    built = ensure_dataset(str(path), toy)
    assert built == path / "toy.jsonl"
    assert answers(built) == ["N", "N"]
    assert ensure_dataset(str(path), toy) == built
    assert ensure_dataset(str(path), {**toy, "places": 2, "workers": 3}) == built  # defaults spelt out, workers aside
    assert ToyBuilder.runs == ["N"]
    assert ensure_dataset(str(path), {**toy, "word": "E"}) == built
    assert answers(built) == ["E", "E"]
    report = json.loads((path / "build_report.json").read_text())
    assert report["builder"]["word"] == "E"
    assert report["fingerprint"] == config_fingerprint(report["builder"])


def test_a_version_of_the_builder_counts(tmp_path: Path, toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_dataset(str(tmp_path / "toy"), toy)
    monkeypatch.setattr(ToyBuilder, "version", 2, raising=False)
    ensure_dataset(str(tmp_path / "toy"), toy)
    assert len(ToyBuilder.runs) == 2
    assert builder_config(ToyBuilder())["version"] == 2


def test_names_a_file_or_what_a_command_built(tmp_path: Path, toy: dict[str, Any]) -> None:
    assert ensure_dataset(str(tmp_path / "x" / "train.jsonl"), toy) == tmp_path / "x" / "train.jsonl"
    ToyBuilder().make(tmp_path / "y", "other")
    assert ensure_dataset(str(tmp_path / "y"), toy) == tmp_path / "y" / "other.jsonl"
    assert len(ToyBuilder.runs) == 2


def test_several_askers_build_once(tmp_path: Path, toy: dict[str, Any]) -> None:
    threads = [threading.Thread(target=ensure_dataset, args=(str(tmp_path / "toy"), toy)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ToyBuilder.runs == ["N"]


def test_never_overwrites_what_it_did_not_build(tmp_path: Path, toy: dict[str, Any]) -> None:
    mine = tmp_path / "toy" / "toy.jsonl"
    mine.parent.mkdir()
    mine.write_text("precious\n")
    with pytest.raises(ConfigError, match=r"data.path=.*not built by data.build; use it as it is with data.build=null"):
        ensure_dataset(str(mine), toy, key="data.path")
    assert mine.read_text() == "precious\n"
    ensure_dataset(str(tmp_path / "city" / "train.jsonl"), toy)
    with pytest.raises(ConfigError, match=r"already holds the dataset 'train'; give each built dataset a folder"):
        ensure_dataset(str(tmp_path / "city" / "test.jsonl"), {**toy, "word": "E"})


def test_a_failed_build_leaves_the_earlier_one(tmp_path: Path, toy: dict[str, Any]) -> None:
    built = ensure_dataset(str(tmp_path / "toy"), toy)
    with pytest.raises(ConfigError, match=r"can't build there \(No space left on device\)"):
        ensure_dataset(str(tmp_path / "toy"), {**toy, "word": "fail"})
    assert answers(built) == ["N", "N"]
    ensure_dataset(str(tmp_path / "toy"), toy)
    assert ToyBuilder.runs == ["N", "fail"]


@pytest.mark.parametrize("names", [["d.jsonl"], ["any.jsonl"], ["any.json", "dataset_info.json", "rejected.jsonl"]])
def test_finds_the_records_of_a_folder(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("[]")
    assert ensure_dataset(str(folder), None) == folder / names[0]
    assert ensure_dataset(str(folder / names[0]), None) == folder / names[0]


def test_mistakes(tmp_path: Path, toy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^data.path=.*nowhere: there is no dataset"):
        ensure_dataset(str(tmp_path / "nowhere"), None, key="data.path")
    (tmp_path / "one.jsonl").touch()
    (tmp_path / "two.jsonl").touch()
    with pytest.raises(ConfigError, match=r"several datasets \(one.jsonl, two.jsonl\); name the file"):
        ensure_dataset(str(tmp_path), None)
    with pytest.raises(ConfigError, match=r"name it x.jsonl"):
        ensure_dataset(str(tmp_path / "x.json"), toy)
    with pytest.raises(ConfigError, match=r"data.build.placse"):
        ensure_dataset(str(tmp_path / "toy"), {**toy, "placse": 3}, key="data.path")
    with pytest.raises(ConfigError, match=r"can't build there"):
        ensure_dataset(str(tmp_path / "one.jsonl" / "toy"), toy)
