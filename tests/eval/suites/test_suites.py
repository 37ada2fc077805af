from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.suites import CrossViewSuite, DistanceSuite
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample, sample_to_record
from geotune.tasks import CROSS_VIEW_TASKS


def rewrite(city: Path, out: Path, change: Callable[[Sample], Sample], *, turned: bool = False) -> Path:
    """Write the changed records of the city, in reverse order if `turned`, beside a copy of its images."""
    shutil.copytree(city / "images", out / "images")
    records = [sample_to_record(change(sample)) for sample in read_samples(city / "city.jsonl")]
    path = out / "changed.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in (records[::-1] if turned else records)))
    return path


def test_takes_its_tasks_in_their_order(city: Path) -> None:
    samples = CrossViewSuite(path=str(city), samples_per_task=6).load("s")
    assert list(dict.fromkeys(sample.task for sample in samples)) == list(CROSS_VIEW_TASKS)
    assert set(Counter(sample.task for sample in samples).values()) == {6}
    pose = [sample for sample in samples if sample.task == "pose_fixed"]
    assert sorted(Counter(sample.answer for sample in pose).values()) == [1, 1, 2, 2]
    assert len({sample.place for sample in pose}) == 6
    some = CrossViewSuite(path=str(city), tasks=("cross_map", "pose_fixed")).load("s")
    assert list(dict.fromkeys(sample.task for sample in some)) == ["pose_fixed", "cross_map"]
    assert {s.task for s in DistanceSuite(path=str(city)).load("s")} == {"geolocate"}


def test_says_what_it_leaves_out(city: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    CrossViewSuite(path=str(city), tasks=("pose_fixed",), samples_per_task=6).load("evaluator.suites.geox")
    assert re.search(r"suite geox: not asked are [\d,]+ beyond samples_per_task=6, [\d,]+ of \w+", caplog.text)
    rewrite(city, tmp_path, lambda sample: replace(sample, task=sample.task.replace("cross_map", "geolocate")))
    suite = CrossViewSuite(path=str(tmp_path), tasks=("pose_fixed", "cross_map"))
    with pytest.raises(
        ConfigError, match=r"^s.tasks=\[pose_fixed,cross_map\]: .* no sample of cross_map, only of .*geolo"
    ):
        suite.load("s")


def test_order_of_the_file_does_not_matter(city: Path, tmp_path: Path) -> None:
    rewrite(city, tmp_path, lambda sample: sample, turned=True)
    one = CrossViewSuite(path=str(city), samples_per_task=7, seed=3).load("s")
    other = CrossViewSuite(path=str(tmp_path), samples_per_task=7, seed=3).load("s")
    assert [sample.id for sample in one] == [sample.id for sample in other]


@pytest.mark.parametrize(
    ("suite", "options", "words"),
    [
        (
            CrossViewSuite,
            {"tasks": ("pose", "geolocate")},
            "tasks=pose: choose from pose_fixed.*\\ntasks=geolocate: choose",
        ),
        (CrossViewSuite, {"tasks": ()}, r"tasks=\[\]"),
        (CrossViewSuite, {"samples_per_task": 0}, "samples_per_task=0"),
        (DistanceSuite, {"task": "find"}, "task=find: there is no such task"),
        (DistanceSuite, {"draws": 3}, "draws=3: fewer than 4 answers give no radius; give 0 for none, or at least 4"),
        (DistanceSuite, {"draws": -1}, "draws=-1: must be at least 0"),
        (DistanceSuite, {"draws": 4, "draw_temperature": 0}, "draw_temperature=0: give a number above 0"),
        (DistanceSuite, {"draw_temperature": float("nan")}, "draw_temperature=nan"),
        (DistanceSuite, {"draw_temperature": float("inf")}, "draw_temperature=inf"),
    ],
)
def test_mistakes_in_the_config(suite: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        suite(path="x", **options)


def test_mistakes_in_the_data(city: Path, tmp_path: Path) -> None:
    def loading(change: Callable[[Sample], Sample], suite: Any = CrossViewSuite) -> pytest.ExceptionInfo[ConfigError]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        path = rewrite(city, folder, change)
        with pytest.raises(ConfigError) as info:
            suite(path=str(path)).load("evaluator.suites.geox")
        assert str(info.value).startswith("evaluator.suites.geox.path=")
        return info

    def on(task: str, **changes: Any) -> Callable[[Sample], Sample]:
        return lambda sample: replace(sample, **changes) if sample.task == task else sample

    assert loading(on("pose_fixed", answer="NE")).match("gold answer 'NE'.*N, E, S, W")
    assert loading(on("pose_fixed", images=("images/gone.png", "images/map0.png"))).match("gone.png is missing")
    assert loading(on("pose_fixed", id="same")).match("changed.jsonl:[0-9]+: .*id is taken")
    assert loading(on("pose_fixed", images=("../../etc/passwd", "images/map0.png"))).match(
        "record 'city/x/0/.*leaves the dataset"
    )
    assert loading(on("geolocate", answer="here"), DistanceSuite).match("no gold coordinates in 'here'")
    assert loading(lambda sample: replace(sample, task="judge")).match("holds no sample of pose_fixed")


def test_a_bad_record_and_a_missing_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^k.path=.*there is no dataset"):
        CrossViewSuite(path=str(tmp_path / "none")).load("k")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(ConfigError, match=r"^k.path=.*bad.jsonl"):
        CrossViewSuite(path=str(tmp_path / "bad.jsonl")).load("k")
