"""The audit of a build: statistics of bounded size, complete findings, and a page without outside resources."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_builders.audit import survey as survey_module
from data_builders.audit.survey import BottomK, Survey
from data_builders.sources.geox_index import GeoxIndex
from data_builders.writer import DatasetWriter
from geotune.sample import Sample, Turn


def asked(number: int, **meta: Any) -> Sample:
    return Sample(
        id=f"s/{number}",
        images=("view.png", "map.png"),
        turns=(Turn("user", f"<image><image>Is it {number}?"), Turn("assistant", "yes" if number % 2 else "no")),
        task="toy",
        answer="true" if number % 2 else "false",
        source="src",
        place=f"src/{number // 2}",
        meta=json.dumps(meta),
    )


def test_counts_duplicates_and_dates() -> None:
    survey = Survey()
    for number in range(10):
        survey.add(asked(number, lat=1.0, lon=2.0, capture_time="2020-03", map_time="2018-01"))
    survey.add(replace(asked(3), id="again"))
    survey.add(replace(asked(3), id="otherwise", turns=(asked(3).turns[0], Turn("assistant", "no"))))
    assert survey.answers["toy"] == {"true": 7, "false": 5}
    assert survey.duplicates() == {"repeated_questions": 2, "contradictions": 1}
    assert survey.gaps == {-26: 10}
    assert survey.n_places == 5
    assert len(survey.points) == 5


def test_a_survey_looks_at_a_bounded_number_whatever_the_order() -> None:
    chosen = []
    for numbers in (range(100), reversed(range(100))):
        survey = Survey(per_group=7)
        for number in numbers:
            survey.add(asked(number))
        ((_, looked),) = survey.examined.items()
        chosen.append([one.sample.id for one in looked])
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 7


def test_the_items_with_the_smallest_keys_are_kept() -> None:
    bottom = BottomK(3)
    for key in (5, 1, 9, 1, 4, 7, 0):
        if bottom.wants(key):
            bottom.add(key, str(key))
    assert bottom.items == ["0", "1", "4"]


def test_an_open_answer_has_no_options() -> None:
    survey = Survey()
    for number in range(200):
        survey.add(replace(asked(number), answer=f"{number}"))
    assert survey.open == {"toy"}
    assert not survey.scale_tables()


class Page(HTMLParser):
    """What a page refers to, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_of_a_real_build(every_shape: Any, tmp_path: Path) -> None:
    report = GeoxIndex(**every_shape.settings()).make(tmp_path, "geox (real) & <more>", max_reject_fraction=1)
    page = Page((tmp_path / "build_report.html").read_text(encoding="utf-8"))
    assert not page.open
    assert page.references
    assert all(reference.startswith("data:image/jpeg;base64,") for reference in page.references)
    text = " ".join(page.words)
    assert "geox (real) & <more>" in text
    for said in ("Shortcuts", "Places", "intra_map", "CVUSA_zoom19", f"{report['written']:,}"):
        assert said in text
    assert not re.search(r"https?://", (tmp_path / "build_report.html").read_text())
    rules = report["audit"]["rules"]
    assert set(rules) >= {"zoom", "file_size", "brightness", "aspect_ratio", "answer_prior", "place", "known_map"}
    for by_task in rules.values():
        for by_source in by_task.values():
            for score in by_source.values():
                assert 0 <= score["accuracy"] <= 1
    assert report["audit"]["tokens"]["text"]["median"] > 10
    # What the builder finds of its views is what the records show.
    zoom = {source: score["accuracy"] for source, score in rules["zoom"]["localization_prior"].items()}
    assert zoom == report["audit"]["shortcuts"]["zoom"]


@pytest.mark.parametrize("missing", [True, False])
def test_a_shortcut_is_told(tmp_path: Path, missing: bool) -> None:
    """Bright maps are the true ones; missing images hide that, and are no error."""
    for number in range(120):
        shade = 200 if number % 2 else 40
        if not missing:
            Image.new("RGB", (12, 12), (shade + number % 30,) * 3).save(tmp_path / f"{number}.png")
    with DatasetWriter(tmp_path, "toy") as writer:
        for number in range(120):
            writer.write(replace(asked(number), images=(f"{number - number % 2}.png", f"{number}.png")))
    rules = writer.report["audit"]["rules"]
    if missing:
        assert "brightness" not in rules
        assert "no image" in (tmp_path / "build_report.html").read_text()
    else:
        assert rules["brightness"]["toy"]["src"]["leaks"]
        assert rules["brightness"]["toy"]["src"]["accuracy"] > 0.95
        assert not rules["aspect_ratio"]["toy"]["src"]["leaks"]


def test_memory_of_a_survey_is_a_few_bytes_a_record() -> None:
    survey = Survey()
    for number in range(3000):
        survey.add(asked(number, lat=1.0, lon=2.0))
    held = sum(len(group) for group in survey.examined.values())
    assert held == survey_module.PER_GROUP
    assert len(survey._questions) * survey._questions.itemsize == 3000 * 8
