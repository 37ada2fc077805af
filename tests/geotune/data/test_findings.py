"""What is said of a run's data: findings of the audit, and questions about images or places that are trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geotune.data.findings import audit_lines, shared_line
from geotune.data.sample_file import ChosenSamples, SampleFile
from geotune.sample import Sample

City = tuple[Path, list[Sample]]


def score(accuracy: float, *, leaks: bool) -> dict[str, Any]:
    return {"src": {"accuracy": accuracy, "chance": 0.25, "leaks": leaks}}


def test_the_findings_of_an_audit_are_told(tmp_path: Path) -> None:
    rules = {"file_size": {"pose_fixed": score(0.44, leaks=True), "cross_map": score(0.9, leaks=False)}}
    rules["zoom"] = {f"t{number}": score(0.5 + number / 100, leaks=True) for number in range(5)}
    duplicates = {"repeated_questions": 1200, "contradictions": 0}
    report = {"name": "city", "audit": {"rules": rules, "duplicates": duplicates}}
    (tmp_path / "build_report.json").write_text(json.dumps(report))
    shortcuts, doubles = audit_lines(tmp_path / "city.jsonl")
    assert shortcuts.startswith("the audit found shortcuts: zoom answers t4 (54%, chance 25%), zoom answers t3 (53%")
    assert f"and 2 more; see {tmp_path / 'build_report.html'}" in shortcuts
    assert doubles == "the audit found 1,200 repeated questions"
    assert audit_lines(tmp_path / "other.jsonl") == []


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"name": "d", "audit": {"rules": {"a": 1}}}', '{"name": "d"}'])
def test_a_report_that_says_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "build_report.json").write_text(text)
    assert audit_lines(tmp_path / "d.jsonl") == []


def test_what_a_suite_shares_is_counted(city: City, tmp_path: Path) -> None:
    folder, samples = city
    file = SampleFile(folder / "city.jsonl")
    first = [ChosenSamples(file, np.array([0, 1]))]  # two views, of places 0 and 1
    asked = [sample.in_folder(folder) for sample in samples]
    images = {image for sample in asked for image in sample.images}
    trained = {image for sample in asked[:2] for image in sample.images}
    line = shared_line(first, asked)
    assert line is not None
    assert line.startswith(f"{len(trained)} of its {len(images)} images and 2 of its 6 places are trained on")
    copied = shutil.copytree(folder, tmp_path / "copied")
    elsewhere = [replace(sample, place="").in_folder(copied) for sample in samples[:1]]
    line = shared_line(first, elsewhere)  # a copy of an image is the same image
    assert line is not None
    assert line.startswith(f"{len(samples[0].images)} of its {len(samples[0].images)} images are trained on")
    new = [replace(sample, place="a", images=(str(copied / "view5.png"),)) for sample in samples[:1]]
    assert shared_line(first, new) is None
