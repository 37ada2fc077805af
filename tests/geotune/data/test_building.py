"""Datasets are built when they are missing or out of date, and never overwritten by mistake."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data_builders.build import main as build_command
from data_builders.builder import Builder
from data_builders.writer import PostponedBuild
from geotune.data.building import (
    UNFINISHED,
    NotBuiltError,
    builder_config,
    config_fingerprint,
    ensure_dataset,
)
from geotune.data.sample_file import SampleFile
from geotune.data.scratch import only_in_scratch
from geotune.errors import ConfigError, Problem
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
            if self.word == "reject":
                writer.reject(f"bad/{place}", "missing_image", "a.jpg is missing")
            if self.word == "postpone":
                raise PostponedBuild("1 photo; set ask=true")
            if self.word == "wrong":
                raise ConfigError(Problem("word", self.word, "is wrong"), Problem("out", "x", "is full"), "no key")
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


def test_builds_once_and_refuses_other_settings(tmp_path: Path, toy: dict[str, Any]) -> None:
    path = tmp_path / "a, b" / "toy"
    built = ensure_dataset(str(path), toy)
    assert built == path / "toy.jsonl"
    assert answers(built) == ["N", "N"]
    assert ensure_dataset(str(path), toy) == built
    assert ensure_dataset(str(path), {**toy, "places": 2, "workers": 3}) == built  # defaults spelt out, workers aside
    assert ToyBuilder.runs == ["N"]
    said = r"^data.path=.*toy.jsonl: .* built with word=N, and the builder now has word=E; .*data.build.overwrite=true"
    with pytest.raises(ConfigError, match=said):
        ensure_dataset(str(path), {**toy, "word": "E"}, key="data.path")
    assert answers(built) == ["N", "N"]
    assert ensure_dataset(str(path), {**toy, "word": "E", "overwrite": True}) == built
    assert answers(built) == ["E", "E"]
    report = json.loads((path / "build_report.json").read_text())
    assert report["builder"]["word"] == "E"
    assert report["fingerprint"] == config_fingerprint(report["builder"])


def test_a_version_of_the_builder_counts(
    tmp_path: Path, toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_dataset(str(tmp_path / "toy"), toy)
    caplog.set_level("INFO")
    monkeypatch.setattr(ToyBuilder, "version", 2, raising=False)
    with pytest.raises(ConfigError, match=r"built with version=null, and the builder now has version=2"):
        ensure_dataset(str(tmp_path / "toy"), {**toy, "overwrite": False})
    with pytest.raises(ConfigError, match=r"built with places=2, and the builder now has places=3"):
        ensure_dataset(str(tmp_path / "toy"), {**toy, "places": 3})
    ensure_dataset(str(tmp_path / "toy"), toy)
    assert len(ToyBuilder.runs) == 2
    assert "version 0 of ToyBuilder wrote it, and this is version 2; it is built again" in caplog.text
    assert builder_config(ToyBuilder())["version"] == 2
    monkeypatch.setattr(ToyBuilder, "version", "2")
    ensure_dataset(str(tmp_path / "texts"), toy)
    monkeypatch.setattr(ToyBuilder, "version", 2)
    ensure_dataset(str(tmp_path / "texts"), toy)
    monkeypatch.setattr(ToyBuilder, "version", 3)  # a version that was written as a text was a number as well
    ensure_dataset(str(tmp_path / "texts"), toy)
    assert "version 2 of ToyBuilder wrote it, and this is version 3" in caplog.text
    monkeypatch.setattr(ToyBuilder, "version", 1)
    with pytest.raises(ConfigError, match=r"built with version=2, and the builder now has version=1"):
        ensure_dataset(str(tmp_path / "toy"), toy)


def test_a_build_that_was_killed_while_it_replaced_files_goes_on(tmp_path: Path, toy: dict[str, Any]) -> None:
    ensure_dataset(str(tmp_path / "toy"), toy)
    assert not (tmp_path / "toy" / UNFINISHED).exists()
    (tmp_path / "toy" / "build_report.json").unlink()
    (tmp_path / "toy" / UNFINISHED).touch()
    ensure_dataset(str(tmp_path / "toy"), toy)
    assert ToyBuilder.runs == ["N", "N"]
    assert not (tmp_path / "toy" / UNFINISHED).exists()


def test_the_command_replaces_no_other_dataset(
    tmp_path: Path, toy: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text("_target_: toy_builders.ToyBuilder\n")
    command = [f"builder={recipe}", f"out={tmp_path / 'city'}", "name=city"]
    assert [build_command(command), build_command(command)] == [0, 0]
    capsys.readouterr()
    assert build_command([*command, "word=E"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"out=\S+city.jsonl: this dataset was built with word=N, .* word=E; .*overwrite=true", error), (
        error
    )
    assert answers(tmp_path / "city/city.jsonl") == ["N", "N"]
    assert build_command([*command, "word=E", "overwrite=true"]) == 0
    assert answers(tmp_path / "city/city.jsonl") == ["E", "E"]


def test_a_dry_run_builds_nothing(tmp_path: Path, toy: dict[str, Any]) -> None:
    with only_in_scratch(), pytest.raises(NotBuiltError, match=r"data.path=.*is not built yet"):
        ensure_dataset(str(tmp_path / "toy"), toy, key="data.path")
    assert list(tmp_path.iterdir()) == []
    built = ensure_dataset(str(tmp_path / "toy"), {**toy, "places": 3})
    shutil.rmtree(tmp_path / "toy" / ".geotune")
    with only_in_scratch():
        assert len(SampleFile(ensure_dataset(str(tmp_path / "toy"), {**toy, "places": 3}))) == 3
    assert not (tmp_path / "toy" / ".geotune").exists()
    used = SampleFile(built).folder
    with only_in_scratch():
        assert SampleFile(built).folder.resolve() == used


def test_names_a_file_or_what_a_command_built(tmp_path: Path, toy: dict[str, Any]) -> None:
    assert ensure_dataset(str(tmp_path / "x" / "train.jsonl"), toy) == tmp_path / "x" / "train.jsonl"
    ToyBuilder().make(tmp_path / "y", "other")
    assert ensure_dataset(str(tmp_path / "y"), toy) == tmp_path / "y" / "other.jsonl"
    assert len(ToyBuilder.runs) == 2


def test_several_askers_build_once(tmp_path: Path, toy: dict[str, Any]) -> None:
    for number in range(5):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ensure_dataset, [str(tmp_path / f"toy{number}")] * 4, [toy] * 4))
    assert ToyBuilder.runs == ["N"] * 5


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
    with pytest.raises(ConfigError, match=r"can't be written \(No space left on device\)"):
        ensure_dataset(str(tmp_path / "toy"), {**toy, "word": "fail", "overwrite": True})
    assert answers(built) == ["N", "N"]
    ensure_dataset(str(tmp_path / "toy"), toy)
    assert ToyBuilder.runs == ["N", "fail"]


@pytest.mark.parametrize("names", [["d.jsonl"], ["any.jsonl"], ["any.json", "dataset_info.json", "rejected.jsonl"]])
def test_finds_the_records_of_a_folder(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("[]" if name.endswith(".json") else "{}")
    assert ensure_dataset(str(folder), None) == folder / names[0]
    assert ensure_dataset(str(folder / names[0]), None) == folder / names[0]


RECORD = {
    "conversations": [{"from": "human", "value": "Which way?"}, {"from": "gpt", "value": "S"}],
    "answer": "S",
}


def test_an_array_is_used_as_it_is(tmp_path: Path, toy: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text(f"\ufeff \n{json.dumps([RECORD])}")
    assert ensure_dataset(str(mine), toy, key="data.path") == mine
    assert answers(mine) == ["S"]
    assert ToyBuilder.runs == []
    assert f"data.path={mine} is used as it is; data.build does not run" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.json", json.dumps(RECORD).encode(), "no array of records; name it d.jsonl if it holds JSON lines"),
        ("d.jsonl", json.dumps([RECORD]).encode(), "one array; name it d.json"),
        ("d.ndjson", json.dumps(RECORD).encode(), "ends in .jsonl or .json; name it d.jsonl"),
        ("d", json.dumps([RECORD]).encode(), "name it d.json"),
        ("d.csv", b"id,lat,lon\n", "ends in .jsonl or .json; build a dataset from it"),
        ("d.jsonl.gz", gzip.compress(b"{}", mtime=0), r"compressed \(gzip\); unpack it"),
        ("d.jsonl", gzip.compress(b"{}", mtime=0), r"compressed \(gzip\); unpack it"),
        ("d.json", b"PK\x03\x04", "a zip archive or a spreadsheet; give a .jsonl or .json file"),
        ("d.parquet", b"PAR1", "a Parquet file"),
        ("d.jsonl", b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        ("d.json", "[]".encode("utf-16"), "UTF-16"),
    ],
)
@pytest.mark.parametrize("is_built", [False, True])
def test_files_that_are_no_dataset_say_what_they_are(
    tmp_path: Path, toy: dict[str, Any], name: str, content: bytes, said: str, is_built: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^data.path=.*{name}: .*{said}"):
        ensure_dataset(str(tmp_path / name), toy if is_built else None, key="data.path")
    assert ToyBuilder.runs == []


def test_builds_into_no_folder_of_other_samples(tmp_path: Path, toy: dict[str, Any]) -> None:
    """It would train on samples that are not those of the folder that was named."""
    (tmp_path / "a.json").write_text(json.dumps([RECORD]))
    with pytest.raises(
        ConfigError, match=r"holds a.json, which data.build did not build; .*use .*a.json as it is with data.build=null"
    ):
        ensure_dataset(str(tmp_path), toy, key="data.path")
    assert ensure_dataset(str(tmp_path), None) == tmp_path / "a.json"
    ensure_dataset(str(tmp_path / "city"), toy)
    (tmp_path / "city/mine.jsonl").write_text(json.dumps(RECORD))
    with pytest.raises(ConfigError, match=r"mine.jsonl: this dataset was not built by data.build; .*data.build=null"):
        ensure_dataset(str(tmp_path / "city/mine.jsonl"), toy, key="data.path")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("wrong", r"data.build.word=wrong: is wrong\ndata.path=\S+/toy/toy.jsonl: is full\nno key$"),
        (
            "reject",
            r"data.build: 2 of 4 .* missing_image \(2\); for example bad/0: a.jpg is missing. See \S+/rejected.jsonl"
            r"; fix the source, or build first with max_reject_fraction=, out=\S+/toy and name=toy$",
        ),
        ("postpone", "data.build: 1 photo; set ask=true$"),
    ],
)
def test_mistakes_on_the_way_name_the_keys_of_the_config(
    tmp_path: Path, toy: dict[str, Any], word: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        ensure_dataset(str(tmp_path / "toy"), {**toy, "word": word}, key="data.path")
    assert re.match(said, str(error.value)), str(error.value)
    assert not (tmp_path / "toy/toy.jsonl").exists()


def test_mistakes(tmp_path: Path, toy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^data.path=.*nowhere: there is no dataset"):
        ensure_dataset(str(tmp_path / "nowhere"), None, key="data.path")
    (tmp_path / "one.jsonl").touch()
    (tmp_path / "two.jsonl").touch()
    with pytest.raises(ConfigError, match=r"several datasets \(one.jsonl, two.jsonl\); name the file"):
        ensure_dataset(str(tmp_path), None)
    with pytest.raises(ConfigError, match=r"no such file, and builders write JSON lines; name an array .*, or x.jsonl"):
        ensure_dataset(str(tmp_path / "x.json"), toy)
    with pytest.raises(ConfigError, match=r"data.build.placse"):
        ensure_dataset(str(tmp_path / "toy"), {**toy, "placse": 3}, key="data.path")
    with pytest.raises(ConfigError, match=r"can't build there"):
        ensure_dataset(str(tmp_path / "one.jsonl" / "toy"), toy)
