from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_builders.writer import DatasetWriter, PostponedBuild
from geotune.data import index
from geotune.data.cache import CACHE
from geotune.data.sample_file import SampleFile
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample, Turn

SAMPLE = Sample(
    id="city/a/1/N/pose_fixed/full",
    images=("images/view.png",),
    turns=(Turn("user", "<image>\nWhich way?"), Turn("assistant", '{"direction": "N"}')),
    system="Answer in JSON.",
    task="pose_fixed",
    answer="N",
    source="a",
    place="a/1.000000,2.000000",
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_writes_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DatasetWriter(tmp_path / "out", "city", max_reject_fraction=0.5) as writer:
        assert writer.images_dir.is_dir()
        writer.write(SAMPLE)
        writer.write(replace(SAMPLE, id="2", task="cross_map"))
        writer.reject("city/b", "missing_image", "no such file")
        writer.count_images(3)
        writer.audit["shortcuts"] = {"zoom": {"a": 0.5}}
        assert names(tmp_path / "out").isdisjoint({"city.jsonl", "build_report.json"})
    out = tmp_path / "out"
    reports = {"build_report.json", "build_report.html"}
    assert names(out) == {"city.jsonl", "dataset_info.json", "rejected.jsonl", "images", CACHE, *reports}
    monkeypatch.setattr(index, "_make_index", lambda *_: pytest.fail("a pass over the file"))
    assert SampleFile(out / "city.jsonl")[0] == SAMPLE, "it need not be read for its index"
    report = json.loads((out / "build_report.json").read_text())
    assert report == writer.report
    assert report["written"] == 2
    assert report["images"] == 3
    assert report["rejected"] == {"missing_image": 1}
    assert report["tasks"] == {"pose_fixed": 1, "cross_map": 1}
    assert report["audit"]["shortcuts"] == {"zoom": {"a": 0.5}}
    assert report["audit"]["answers"] == {"cross_map": {"N": 1}, "pose_fixed": {"N": 1}}
    assert report["seconds"] >= 0
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert rejected == [{"id": "city/b", "reason": "missing_image", "detail": "no such file"}]
    assert next(iter(read_samples(out / "city.jsonl"))) == SAMPLE


def test_paths(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "images, (old)" / "a.png"
    sample = replace(
        SAMPLE,
        images=("images/x.png", str(out / "images" / "y.png"), str(elsewhere)),
        turns=(Turn("user", "<image><image><image>"), SAMPLE.turns[1]),
    )
    written = {}
    for paths in ("relative", "absolute"):
        with DatasetWriter(out, paths, paths=paths) as writer:
            writer.write(sample)
        written[paths] = json.loads((out / f"{paths}.jsonl").read_text())["images"]
    assert written["relative"] == ["images/x.png", "images/y.png", str(elsewhere)]
    assert written["absolute"] == [str(out / "images/x.png"), str(out / "images/y.png"), str(elsewhere)]
    assert set(json.loads((out / "dataset_info.json").read_text())) == {"relative", "absolute"}


def test_an_error_leaves_the_earlier_build(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, "city") as writer:
        writer.write(SAMPLE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def fail_halfway() -> None:
        with DatasetWriter(tmp_path, "city") as writer:
            writer.write(SAMPLE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_too_many_rejects(tmp_path: Path) -> None:
    def build(rejects: int) -> None:
        with DatasetWriter(tmp_path, "city", max_reject_fraction=0.1) as writer:
            writer.write(SAMPLE)
            writer.count_source(20)
            for number in range(rejects):
                writer.reject(str(number), "broken_image")

    with pytest.raises(ConfigError, match=r"max_reject_fraction=0.1: 3 of 20 .*broken_image \(3\).*rejected.jsonl"):
        build(3)
    assert names(tmp_path) == {"images", "rejected.jsonl"}
    build(2)
    assert "city.jsonl" in names(tmp_path)


def test_nothing_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="wrote no sample and rejected none of 3 source records; check its source and"),
        DatasetWriter(tmp_path, "city") as writer,
    ):
        writer.count_source(3)
    assert names(tmp_path) == {"images"}


@pytest.mark.parametrize("fraction", [0.01, 1.0])
def test_if_every_record_is_rejected_the_reasons_are_told_and_listed(tmp_path: Path, fraction: float) -> None:
    reasons = [f"reason_{number}" for number in range(7) for _ in range(7 - number)]

    def build() -> None:
        with DatasetWriter(tmp_path, "city", max_reject_fraction=fraction) as writer:
            for number, reason in enumerate(reasons):
                writer.reject(f"r/{number}", reason, f"{number} is wrong, {'very ' * 100}")

    with pytest.raises(ConfigError) as error:
        build()
    told = str(error.value)
    assert ("wrote no sample: 28 of 28" if fraction == 1 else "max_reject_fraction=0.01: 28 of 28") in told
    assert ": reason_0 (7), reason_1 (6), reason_2 (5), reason_3 (4), reason_4 (3) and 2 more reasons; for" in told
    assert "for example r/0: 0 is wrong, very" in told
    assert told.endswith(f"See {tmp_path / 'rejected.jsonl'}; fix the source"), "a larger fraction would not help"
    assert len(told) < 700
    kept = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in kept] == reasons
    assert names(tmp_path) == {"images", "rejected.jsonl"}


def test_a_postponed_build_is_no_dataset_and_no_error(tmp_path: Path) -> None:
    def postpone(rejects: int) -> DatasetWriter:
        with DatasetWriter(tmp_path, "city", max_reject_fraction=0.5) as writer:
            writer.count_source(4)
            for number in range(rejects):
                writer.reject(str(number), "broken_image")
            raise PostponedBuild("ask first")
        return writer

    assert postpone(1).report["postponed"] == "ask first"
    assert names(tmp_path) == {"images"}
    with pytest.raises(ConfigError, match=r"3 of 4 .*broken_image \(3\)"):
        postpone(3)
    assert names(tmp_path) == {"images", "rejected.jsonl"}


def test_a_foreign_index_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("[]")

    def build() -> None:
        with DatasetWriter(tmp_path, "city") as writer:
            writer.write(SAMPLE)

    with pytest.raises(ConfigError, match=r"dataset_info\.json in this folder is no JSON object"):
        build()
    assert names(tmp_path) == {"images", "dataset_info.json"}


def test_bad_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't write there"), DatasetWriter(tmp_path / "file" / "out", "city"):
        pass
    for name in ("", "../city", "a/b", ".hidden", "a,b"):
        with pytest.raises(ConfigError, match="name="):
            DatasetWriter(tmp_path, name)
    with pytest.raises(ConfigError, match="max_reject_fraction=2"):
        DatasetWriter(tmp_path, "city", max_reject_fraction=2)


def test_a_folder_that_other_loaders_can_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with DatasetWriter(tmp_path / "city [1]", "city") as writer:
        writer.write(SAMPLE)
    assert "brackets" in caplog.text


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (replace(SAMPLE, images=()), "1 <image> in the turns, but 0 images"),
        (replace(SAMPLE, turns=SAMPLE.turns[:1]), "alternate"),
        (replace(SAMPLE, turns=SAMPLE.turns[::-1]), "alternate"),
        (replace(SAMPLE, system="<image>"), "system prompt"),
        (replace(SAMPLE, turns=(SAMPLE.turns[0], Turn("assistant", "<image>"))), "is an answer"),
    ],
)
def test_refuses_what_loaders_refuse(tmp_path: Path, broken: Sample, said: str) -> None:
    with DatasetWriter(tmp_path, "city") as writer:
        writer.write(replace(SAMPLE, id="ok"))
        with pytest.raises(ValueError, match=said):
            writer.write(broken)
        with pytest.raises(ValueError, match="written before"):
            writer.write(replace(SAMPLE, id="ok"))
