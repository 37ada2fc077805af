"""GRE Suite's records: which samples they become, which defects are fixed, and what is rejected for which reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_builders.build import main
from data_builders.sources.gre import Gre
from eval.suites import DistanceSuite
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.tasks import SYSTEM_PROMPT, get_task
from geotune.tasks.geolocate import GEOLOCATE

PARIS = (48.8584, 2.2945)
SAID = "<think>An iron tower beside a river.</think><answer>Latitude: 48.86, Longitude: 2.29</answer>"


def photo(root: Path, part: str, name: str) -> None:
    path = root / part / "imgs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (len(name) * 9 % 255, 80, 40)).save(path)


def cot(name: str = "images/a.jpg", said: str = SAID, at: tuple[Any, Any] = PARIS, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhere is this?"}, {"from": "gpt", "value": said}]
    return {"image": name, "conversations": turns, "gt_lat": at[0], "gt_lon": at[1], **more}


def judge(name: str = "images/a.jpg", verdict: str = "True", **more: Any) -> dict[str, Any]:
    fields = {"predicted_cot": "An iron tower.", "predicted_answer": "48.86, 2.29", **more}
    return cot(name, verdict, **fields)


def write(root: Path, file: str, records: Any) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")


def build(root: Path, out: Path, part: str, **settings: Any) -> tuple[dict[str, Any], list[Sample]]:
    report = Gre(root=root, part=part, workers=1, **settings).make(out, "gre", max_reject_fraction=1)
    return report, list(read_samples(out / "gre.jsonl", check_images=True))


def rejects(out: Path) -> dict[str, str]:
    lines = (json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines())
    return {line["id"].rpartition("/")[2]: line["reason"] for line in lines}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "GRE30K, copy (1)"
    for part in ("gre_cot", "gre_judge", "gre_seed", "bench_data"):
        for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
            photo(folder, part, name)
    return folder


def test_the_published_reasoning_is_kept_word_for_word(root: Path, tmp_path: Path) -> None:
    write(root, "gre_cot/gre_cot.json", [cot(), cot("images/sub/c.jpg"), cot("images/a.jpg", SAID + " Indeed.")])
    report, samples = build(root, tmp_path / "out", "cot")
    assert report["tasks"] == {"geolocate": 3}
    assert [sample.id for sample in samples] == [
        "gre/gre_cot/a/geolocate/0",
        "gre/gre_cot/c/geolocate/0",
        "gre/gre_cot/a/geolocate/1",
    ]
    first = samples[0]
    assert (first.prompt, first.response, first.system) == ("<image>\nWhere is this?", SAID, "")
    assert first.place == "GRE/48.858400,2.294500"
    assert GEOLOCATE.coordinates(first.answer).lat == 48.8584
    assert first.images == (str(root / "gre_cot" / "imgs" / "a.jpg"),)
    assert json.loads(first.meta)["answer_km"] == pytest.approx(0.4, abs=0.1)
    assert report["audit"]["answer_km"]["cot"]["within_25"] == 1


def test_the_projects_own_wording_keeps_reasoning_and_published_coordinates(root: Path, tmp_path: Path) -> None:
    write(root, "gre_cot/gre_cot.json", [cot()])
    _, (sample,) = build(root, tmp_path / "out", "cot", wording="geotune")
    assert sample.prompt == GEOLOCATE.prompt(explain=True)
    assert sample.response == 'An iron tower beside a river.\n{"latitude": 48.86, "longitude": 2.29}'
    assert sample.system == SYSTEM_PROMPT


FIXED: list[tuple[str, Mapping[str, Any], str]] = [
    ("absolute_path", cot("/home/somebody/data/imgs/b.jpg"), "b.jpg"),
    ("absolute_path", cot("D:\\data\\b.jpg"), "b.jpg"),
    ("backslash_path", cot("images\\sub\\c.jpg"), "c.jpg"),
    ("truth_swapped", cot(said="<answer>35.66, 139.7</answer>", at=(139.7, 35.66)), "a.jpg"),
    ("truth_as_text", cot(at=("48.8584", "2.2945")), "a.jpg"),
    ("truth_as_text", cot(at=("48.8584\u00b0 N", "2.2945\u00b0 E")), "a.jpg"),
    ("truth_as_text", cot(at=("48\u00b051'30\"N", "2\u00b017'40\"E")), "a.jpg"),
    (
        "image_mark_missing",
        cot() | {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": SAID}]},
        "a.jpg",
    ),
]


@pytest.mark.parametrize(("defect", "record", "name"), FIXED)
def test_defects_that_can_be_fixed_are_fixed_and_counted(
    root: Path, tmp_path: Path, defect: str, record: Mapping[str, Any], name: str
) -> None:
    write(root, "gre_cot/gre_cot.json", [cot("images/b.jpg", SAID + " Yes."), record])
    report, samples = build(root, tmp_path / "out", "cot")
    assert len(samples) == 2
    assert report["audit"]["mended"] == {defect: {"records": 1, "examples": ["gre_cot.json/1"]}}
    assert Path(samples[1].images[0]).name == name
    assert samples[1].prompt.startswith("<image>\n")
    assert float(json.loads(samples[1].meta)["answer_km"]) < 1


REJECTED: list[tuple[str, Any]] = [
    ("answer_missing", cot(said="<think>A tower.</think>Somewhere in France.")),
    ("answer_empty", cot(said="  ")),
    ("answer_incomplete", cot(said="<answer>Latitude: 48.86</answer>")),
    ("answer_out_of_range", cot(said="<answer>Latitude: 98.86, Longitude: 2.29</answer>")),
    ("answer_swapped", cot(said="<answer>Latitude: 2.2945, Longitude: 48.8584</answer>")),
    ("truth_out_of_range", cot(at=(99.0, 200.0))),
    ("truth_null_island", cot(at=(0, 0.0))),
    ("truth_missing", cot(at=(None, 2.0))),
    ("truth_missing", cot(at=(" ", 2.0))),
    ("truth_not_a_number", cot(at=("north", 2.0))),
    ("truth_not_a_number", cot(at=("unknown", "unknown"))),
    ("truth_not_a_number", cot(at=(True, 2.0))),
    ("truth_not_a_number", cot(at=([48.9], 2.0))),
    ("truth_ambiguous", cot(at=("48.8584 W", "2.2945"))),
    # No answer confirms that the two have changed places.
    ("truth_out_of_range", cot(at=(139.7, 35.66))),
    ("missing_image", cot("images/none.jpg")),
    ("image_not_a_file", cot("https://x.org/images/b.jpg")),
    ("broken_image", cot("images/broken.jpg")),
    ("path_outside", cot("images/../../secret.jpg")),
    ("invalid_record", cot("")),
    ("invalid_record", "no record"),
    ("invalid_record", cot() | {"conversations": [{"from": "gpt", "value": SAID}]}),
    (
        "image_marks",
        cot() | {"conversations": [{"from": "human", "value": "<image><image>"}, {"from": "gpt", "value": SAID}]},
    ),
    ("invalid_record", cot(said=SAID + "<image>")),
    ("duplicate_record", cot("images/b.jpg", SAID)),
]


def test_every_rejected_record_has_its_reason(root: Path, tmp_path: Path) -> None:
    (root / "gre_cot" / "imgs" / "broken.jpg").write_bytes(b"\xff\xd8\xff cut")
    write(root, "gre_cot/gre_cot.json", [cot("images/b.jpg"), *(record for _, record in REJECTED)])
    out = tmp_path / "out"
    report, samples = build(root, out, "cot")
    assert [sample.id for sample in samples] == ["gre/gre_cot/b/geolocate/0"]
    assert rejects(out) == {str(index): reason for index, (reason, _) in enumerate(REJECTED, start=1)}
    assert report["source_records"] == 1 + len(REJECTED)
    assert sum(report["rejected"].values()) == len(REJECTED)


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("<answer>Latitude: 98.86, Longitude: 2.29</answer>", "the coordinates of the gpt turn are out_of_range"),
        ("<think>It is at 48.86, 2.29.</think>It is in Paris.", "coordinates in its thought only"),
        ("<think>A tower.</think>It is in Paris.", "the final answer of the gpt turn has no latitude and longitude"),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(root: Path, tmp_path: Path, said: str, detail: str) -> None:
    write(root, "gre_cot/gre_cot.json", [cot(), cot("images/b.jpg", said)])
    build(root, tmp_path / "out", "cot")
    assert detail in (tmp_path / "out/rejected.jsonl").read_text()


def test_an_explanation_does_not_end_in_an_open_box(root: Path, tmp_path: Path) -> None:
    write(root, "gre_cot/gre_cot.json", [cot(said="A tower, so \\boxed{48.8584, 2.2945}")])
    _, (sample,) = build(root, tmp_path / "out", "cot", wording="geotune")
    assert "boxed" not in sample.response


def test_a_torn_file_loses_nothing_silently(root: Path, tmp_path: Path) -> None:
    lines = [json.dumps(cot()), "{torn", json.dumps(cot("images/b.jpg"))]
    write(root, "gre_cot/gre_cot.jsonl", "\n".join(lines))
    report, samples = build(root, tmp_path / "out", "cot")
    assert len(samples) == 2
    assert report["rejected"] == {"invalid_record": 1}


def test_verdicts(root: Path, tmp_path: Path) -> None:
    records = [
        judge(),
        judge("images/b.jpg", "False.", predicted_answer="40.0, -75.0"),
        judge("images/sub/c.jpg", "True", predicted_answer="-33.9, 151.2"),
        judge("images/b.jpg", "False"),
        judge(verdict="perhaps"),
        judge(predicted_answer=""),
    ]
    write(root, "gre_judge/gre_judge.json", records)
    out = tmp_path / "out"
    report, samples = build(root, out, "judge")
    assert [(sample.task, sample.answer) for sample in samples] == [
        ("judge", "true"),
        ("judge", "false"),
        ("judge", "true"),
        ("judge", "false"),
    ]
    assert rejects(out) == {"4": "answer_no_answer", "5": "prediction_lost"}
    assert samples[1].response == "False."
    # The published question lacks the prediction to be judged, so the builder adds it.
    assert samples[0].prompt == "<image>\nWhere is this?\nAn iron tower.\n48.86, 2.29"
    counted = {
        kind: {name: each["records"] for name, each in report["audit"][kind].items()} for kind in ("mended", "doubtful")
    }
    assert counted == {
        "mended": {"prediction_not_in_question": 4},
        "doubtful": {"judged_true_though_far": 1, "judged_false_though_near": 1},
    }
    assert report["audit"]["answer_km"]["judged_true"]["n"] == 2
    _, ours = build(root, tmp_path / "ours", "judge", wording="geotune")
    task = get_task("judge")
    assert ours[0].prompt == task.prompt_for(records[0], explain=False)
    assert [task.parse(sample.response).answer for sample in ours] == [sample.answer for sample in samples]


def test_an_answer_that_differs_from_the_truth_becomes_no_target(root: Path, tmp_path: Path) -> None:
    said = "An iron tower.<answer>48.87, 2.29</answer>"
    write(root, "gre_cot/gre_cot.json", [cot(), cot("images/b.jpg", said)])
    report, samples = build(root, tmp_path / "published", "cot")
    assert samples[1].response == said
    assert report["audit"]["mended"] == {}
    assert report["audit"]["doubtful"] == {"answer_differs": {"records": 1, "examples": ["gre_cot.json/1"]}}
    _, ours = build(root, tmp_path / "ours", "cot", wording="geotune")
    assert [sample.images[0][-5:] for sample in ours] == ["a.jpg"]
    (line,) = (tmp_path / "ours/rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "answer_differs"
    assert json.loads(line)["detail"] == "the answer states 48.87, 2.29; the photo is at 48.8584, 2.2945, 1.331 km away"


def test_records_that_differ_in_their_answer_alone_are_kept(root: Path, tmp_path: Path) -> None:
    records = [cot(said=f"{SAID} Seen {number} times.") for number in range(50)]
    write(root, "gre_cot/gre_cot.json", [*records, records[7]])
    _, samples = build(root, tmp_path / "out", "cot")
    assert len(samples) == 50
    assert rejects(tmp_path / "out") == {"50": "duplicate_record"}


def test_a_truth_under_another_spelling(root: Path, tmp_path: Path) -> None:
    record = cot()
    record["gt_long"] = record.pop("gt_lon")
    write(root, "gre_cot/gre_cot.json", [record])
    _, (sample,) = build(root, tmp_path / "out", "cot")
    assert sample.place == "GRE/48.858400,2.294500"


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("lines", [True, False])
def test_seeds_hold_the_truth_as_their_answer(root: Path, tmp_path: Path, suffix: str, lines: bool) -> None:
    """Published as an array under either name; JSON lines are read as well."""
    records = [
        {"image": f"images/{name}", "instructions": "Think, then answer.", "gt_lat": lat, "gt_lon": lon}
        for name, lat, lon in (("a.jpg", *PARIS), ("b.jpg", -33.9, 151.2))
    ]
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records, indent=1)
    write(root, f"gre_seed/gre_seed.{suffix}", text)
    _, samples = build(root, tmp_path / "out", "seed")
    assert [sample.prompt for sample in samples] == ["<image>\nThink, then answer."] * 2
    for sample in samples:
        assert get_task("geolocate").parse(sample.response).answer == sample.answer
        assert json.loads(sample.meta)["reinforcement_only"] is True


def test_the_benchmark_is_ready_to_evaluate_on(root: Path, tmp_path: Path) -> None:
    records = [
        {
            "sample_id": 7,
            "image_path": "imgs/a.jpg",
            "gt_cot": "Iron lattice, so Paris.",
            "gt_lat": 48.8584,
            "gt_lon": 2.2945,
        },
        {"sample_id": 8, "image_path": "b.jpg", "gt_cot": "Sails, so Sydney.", "gt_lat": -33.8568, "gt_lon": 151.2153},
    ]
    write(root, "bench_data/GREval-Bench.json", records)
    out = tmp_path / "out"
    build(root, out, "bench")
    samples = DistanceSuite(path=str(out)).load("evaluator.suites.gre")
    assert [sample.id for sample in samples] == [f"gre/GREval-Bench/{n}/geolocate/0" for n in (7, 8)]
    assert samples[0].prompt == GEOLOCATE.prompt(explain=True)
    assert json.loads(samples[0].meta)["reference_cot"] == "Iron lattice, so Paris."
    assert samples[0].response.startswith("Iron lattice, so Paris.\n{")


def test_mistakes_name_the_key(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="part=all"):
        Gre(root=root, part="all")
    with pytest.raises(ConfigError, match="root="):
        Gre(root=tmp_path / "nowhere", part="cot").make(tmp_path / "out", "gre")
    with pytest.raises(ConfigError, match=r"it has no file of part=seed"):
        build(root, tmp_path / "out", "seed")


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "gre_cot/gre_cot.json", [cot()])
    out = tmp_path / "built, here"
    assert main(["builder=gre", f"root={root}", "part=cot", f"out={out}", "workers=1"]) == 0
    assert json.loads((out / "build_report.json").read_text())["written"] == 1
    assert main(["builder=gre", f"root={root}", "part=juge", f"out={out}"]) == 2
    assert "part" in capsys.readouterr().err
    assert main(["builder=gre", "--help"]) == 0
