"""Several jobs build one dataset: it equals that of a single build, in any order of the jobs and after a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data_builders.builder import Builder
from data_builders.merge import main, merge_shards
from data_builders.synthetic.builder import SyntheticCity
from data_builders.writer import DatasetWriter, read_shard
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample, Turn

PARTS = 3


@dataclass
class Toy(Builder):
    """Two questions per place, from a source of whose records one in nine is rejected."""

    places: int = 30
    asks: bool = True
    """Whether the builder skips the places of other jobs."""
    made: ClassVar[list[int]] = []

    def build(self, writer: DatasetWriter) -> None:
        asked: Counter[str] = Counter()
        for place in range(self.places):
            writer.count_source(1)
            if place == 17:  # a record that the source has twice
                writer.reject("toy/17", "broken", "as ever")
            if place % 9 == 8:
                writer.reject(f"toy/{place}", "broken", "as ever")
                continue
            if self.asks and not writer.mine(f"p/{place}"):
                continue
            self.made.append(place)
            asked["places"] += 1
            writer.count_images(2)
            for heading in "NE":
                said = (Turn("user", f"Where? {place}"), Turn("assistant", heading))
                writer.write(Sample(f"toy/{place}/{heading}", (), said, task="toy", answer=heading, place=f"p/{place}"))
        writer.audit["kind"] = "toy"
        writer.audit["asked"] = asked
        writer.audit["own"] = len(self.made)


@dataclass
class Nothing(Builder):
    """A source of which every record is rejected."""

    def build(self, writer: DatasetWriter) -> None:
        for number in range(5):
            writer.reject(f"toy/{number}", "missing_image", "a.jpg is missing")


def records(path: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in read_samples(path)}


@pytest.mark.parametrize("asks", [True, False])
def test_the_parts_are_the_whole(tmp_path: Path, asks: bool) -> None:
    Toy.made.clear()
    toy = Toy(asks=asks)
    whole = toy.make(tmp_path / "whole", "toy", max_reject_fraction=0.2)
    Toy.made.clear()
    for number in (2, 3, 1):
        part = toy.make(tmp_path / "out", "toy", max_reject_fraction=0.2, shard=f"{number}/{PARTS}")
        assert 0 < part["written"] < whole["written"]
        assert not (tmp_path / "out" / "toy.jsonl").exists()
    assert len(Toy.made) == (27 if asks else 27 * PARTS)
    merged = merge_shards(tmp_path / "out")
    assert records(tmp_path / "out" / "toy.jsonl") == records(tmp_path / "whole" / "toy.jsonl")
    for key in ("written", "source_records", "rejected", "tasks", "fingerprint", "builder"):
        assert merged[key] == whole[key]
    assert merged["audit"]["answers"] == whole["audit"]["answers"]
    assert merged["audit"]["kind"] == "toy"
    assert merged["audit"]["asked"] == {"places": 27 if asks else 27 * PARTS}
    assert len(merged["audit"]["by_shard"]["own"]) == PARTS
    if asks:
        assert merged["images"] == whole["images"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


def test_a_real_builder_draws_its_own_places_only(tmp_path: Path) -> None:
    city = SyntheticCity(places=6, crops_per_view=1, workers=1)
    whole = city.make(tmp_path / "whole", "city")
    parts = [city.make(tmp_path / "out", "city", shard=f"{number}/2") for number in (1, 2)]
    assert sum(part["images"] for part in parts) == whole["images"]
    assert all(part["images"] < whole["images"] for part in parts)
    merge_shards(tmp_path / "out", "city")
    assert records(tmp_path / "out" / "city.jsonl") == records(tmp_path / "whole" / "city.jsonl")


def test_what_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([f"out={out}"]) == 2
    assert "has no part of a dataset" in capsys.readouterr().err
    for number in (1, 3):
        Toy().make(out, "toy", max_reject_fraction=0.2, shard=f"{number}/{PARTS}")
    with pytest.raises(ConfigError, match=r"1 of 3 parts are missing; build shard=2/3"):
        merge_shards(out)
    Toy(places=31).make(out, "toy", max_reject_fraction=0.2, shard="2/3")
    with pytest.raises(ConfigError, match="different settings"):
        merge_shards(out)
    with pytest.raises(ConfigError, match=r"name=b: .* has parts of toy only"):
        merge_shards(out, "b")
    assert not (out / "toy.jsonl").exists()


def test_losing_too_much_is_told_of_the_whole(tmp_path: Path) -> None:
    for number in range(1, PARTS + 1):
        Toy().make(tmp_path, "toy", max_reject_fraction=0.05, shard=f"{number}/{PARTS}")
    with pytest.raises(ConfigError, match=r"4 of 30 source records were rejected"):
        merge_shards(tmp_path)


def test_rejecting_all_is_told_of_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part is written, because another may have samples."""
    for number in range(1, PARTS + 1):
        part = Nothing().make(tmp_path, "toy", max_reject_fraction=1, shard=f"{number}/{PARTS}")
        assert (part["written"], part["rejected"]) == (0, {"missing_image": 5})
    assert main([f"out={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert (
        f"out={tmp_path}: the builder wrote no sample: 5 of 5 source records were rejected: missing_image (5)" in told
    )
    assert f"for example toy/0: a.jpg is missing. See {tmp_path / 'rejected.jsonl'}" in told
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("shard", ["0/3", "4/3", "a/b", "1", "1/", "-1/3"])
def test_shards_that_are_none(shard: str) -> None:
    with pytest.raises(ConfigError, match=r"shard=.*from 1/n to n/n"):
        read_shard(shard)


def _build(out: str) -> None:
    SyntheticCity(places=400, crops_per_view=1, workers=1).make(out, "city")


def test_a_killed_build_goes_on_with_the_images_it_made(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_build, args=(str(tmp_path),))
    process.start()
    images = tmp_path / "images"
    while process.is_alive() and len(list(images.glob("*/*/*.png"))) < 100:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "build_report.json").exists()
    there = sum(1 for _ in images.glob("*/*/*.png"))
    report: dict[str, Any] = SyntheticCity(places=8, crops_per_view=1, workers=1).make(tmp_path, "city")
    assert report["images_reused"] >= min(there, 8 * 44) - 44
    assert json.loads((tmp_path / "build_report.json").read_text())["written"] == report["written"]
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*.partial"))
