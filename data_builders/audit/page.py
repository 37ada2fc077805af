"""Writes build_report.html: the report and the findings of the audit as one page without outside resources."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.audit.drawing import bar_histogram, bars, point_map, thumbnail
from data_builders.audit.findings import Findings
from data_builders.audit.rules import Score
from data_builders.audit.survey import AuditSample
from geotune.sample import IMAGE_TAG, Sample

SAMPLES_PER_TASK = 3
"""Number of samples per task on the page."""
SAMPLES = 30
"""Largest number of samples on the page."""
INSET_SHARE = 0.25
"""A second, closer map is drawn if the places span less than this share of the world's width."""
RULES = {
    "zoom": "zoom",
    "known_map": "known map",
    "file_size": "file size",
    "brightness": "brightness",
    "aspect_ratio": "aspect ratio",
    "answer_prior": "top answer",
    "place": "place",
}
"""Headings of the rules."""
STYLE = """
:root { --ink: #1b2733; --soft: #5c6b7a; --line: #d9e0e7; --paper: #ffffff; --tint: #f3f6f9; --mark: #1f6f8b;
  --bad: #b3261e; --badtint: #fdecea; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 32px 28px 64px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 27px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 10px; }
p { margin: 6px 0 12px; max-width: 84ch; } .soft { color: var(--soft); font-size: 13.5px; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 8px; }
.card { background: var(--tint); border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px;
  min-width: 128px; }
.card b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; } .card span { color: var(--soft);
  font-size: 13px; }
.card.bad { background: var(--badtint); border-color: #f1b8b3; } .card.bad b { color: var(--bad); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .scroll { overflow-x: auto; }
th, td { text-align: right; padding: 5px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
th:first-child, td:first-child, .names { text-align: left; }
details { margin: 14px 0; } summary { cursor: pointer; color: var(--mark); }
td.bad { background: var(--badtint); color: var(--bad); font-weight: 600; } td.none { color: var(--soft); }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 3px 10px; align-items: center;
  max-width: 560px; font-size: 13.5px; font-variant-numeric: tabular-nums; }
.bars i { display: block; height: 13px; background: var(--mark); border-radius: 2px; min-width: 1px; }
.balance { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 22px 40px; }
.balance h3 { font-size: 14px; margin: 0 0 6px; }
svg { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 8px;
  background: #eef4f8; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 16px; }
.question { border: 1px solid var(--line); border-radius: 8px; padding: 12px; font-size: 13px;
  overflow-wrap: anywhere; }
.question img { height: 66px; max-width: 100%; margin: 0 4px 4px 0; border-radius: 3px; vertical-align: top; }
.question img:first-child { height: 132px; } .question b { color: var(--mark); }
.question .said { background: var(--tint); border-radius: 4px; padding: 5px 8px; margin-top: 6px;
  white-space: pre-wrap; }
.gone { display: inline-block; color: var(--bad); border: 1px dashed; padding: 20px 10px; margin-right: 4px; }
"""


def page(report: Mapping[str, Any], findings: Findings) -> str:
    """The HTML of the whole page, for a report and the findings that it is drawn from."""
    survey, leaks = findings.survey, findings.leaks()
    rejected = sum(report["rejected"].values())
    duplicates = survey.duplicates()
    cards = [
        (f"{report['written']:,}", "samples", False),
        (f"{survey.n_places:,}", "places", False),
        (f"{rejected:,}", f"of {report['source_records']:,} source records rejected", rejected > 0),
        (f"{duplicates['repeated_questions']:,}", "repeated samples", duplicates["repeated_questions"] > 0),
        (f"{len(leaks):,}", "shortcuts found", bool(leaks)),
        (f"{report['images']:,}", f"images made, {report['images_reused']:,} reused", False),
        (f"{report['seconds']:,.0f} s", "to build", False),
    ]
    sections = [
        _count_section(findings),
        _reject_section(report["rejected"], duplicates),
        _shortcut_section(findings, leaks),
        _answer_section(findings),
        _length_section(findings),
        _place_section(findings),
        _date_section(survey.gaps),
        _sample_section(findings),
    ]
    name = html.escape(report["name"])
    boxes = "".join(
        f'<div class="card{" bad" if bad else ""}"><b>{value}</b><span>{html.escape(label)}</span></div>'
        for value, label, bad in cards
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: build report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f'<h1>{name}</h1><p class="soft">{html.escape(_description(report))}</p><div class="cards">{boxes}</div>'
        f"{''.join(sections)}</body></html>\n"
    )


def _description(report: Mapping[str, Any]) -> str:
    """The builder's class and its settings in one line."""
    builder = report.get("builder")
    if not isinstance(builder, Mapping):
        return "Build report"
    settings = ", ".join(f"{key}={value}" for key, value in builder.items() if key not in ("_target_", "version"))
    return f"{str(builder.get('_target_', '')).rpartition('.')[2]}: {settings}"


def _count_section(findings: Findings) -> str:
    survey = findings.survey
    parts = [
        f"<div><h3>{head}</h3>{bars([(name or '(none)', count) for name, count in counts.most_common(30)])}</div>"
        for head, counts in (("By task", survey.tasks), ("By source", survey.sources))
    ]
    return f"<h2>Counts</h2><div class='balance'>{''.join(parts)}</div>"


def _reject_section(rejected: Mapping[str, int], duplicates: Mapping[str, int]) -> str:
    text = "<h2>Rejected and repeated</h2>"
    if rejected:
        text += bars(sorted(rejected.items(), key=lambda entry: -entry[1]))
        text += '<p class="soft">The file rejected.jsonl has one line per rejected source record.</p>'
    else:
        text += "<p>No source record was rejected.</p>"
    return text + (
        f"<p>{duplicates['repeated_questions']:,} samples repeat the images and the question of an earlier sample; "
        f"{duplicates['contradictions']:,} of them have a different answer.</p>"
    )


def _shortcut_section(findings: Findings, leaks: Sequence[tuple[str, str, str, Score]]) -> str:
    text = (
        "<h2>Shortcuts</h2><p>A shortcut is a simple rule that answers better than chance from one property of a "
        "question that should not reveal the answer. The table shows the accuracy of each rule. Rules are learned on "
        "four fifths of the places and scored on the rest; a rule that knows nothing scores the chance. Figures are "
        "means over the sources, and a red figure means that at least one source is significantly above chance.</p>"
        '<p class="soft">Zoom: the zoom levels of the maps; with one map, the most frequent answer of each level, '
        "with nothing held out. Known map: the map, recognized from questions about other places. File size, "
        "brightness, aspect ratio: these measures of the images. Top answer: always the most frequent answer. Place: "
        "the region in which the place lies.</p>"
    )
    names = [rule for rule in RULES if rule in findings.rules]
    tasks = [task for task in findings.survey.tasks if any(task in findings.rules[rule] for rule in names)]
    if not tasks:
        return text + "<p>No task has a fixed set of answers.</p>" + _constant_answer(findings)
    head = "".join(f"<th>{RULES[rule]}</th>" for rule in names)
    rows = []
    for task in tasks:
        cells = [_cell(findings.rules[rule].get(task, {}).values()) for rule in names]
        chance = next(score.chance for rule in names for score in findings.rules[rule].get(task, {}).values())
        rows.append(f"<tr><td>{html.escape(task)}</td><td>{chance:.2f}</td>{''.join(cells)}</tr>")
    text += f'<div class="scroll"><table><tr><th>task</th><th>chance</th>{head}</tr>{"".join(rows)}</table></div>'
    if leaks:
        lines = "".join(
            f"<tr><td>{RULES[rule]}</td><td class=names>{html.escape(task)}</td>"
            f"<td class=names>{html.escape(source)}</td>"
            f"<td>{score.accuracy:.2f}</td><td>{score.chance:.2f}</td><td>{score.n:,}</td></tr>"
            for rule, task, source, score in leaks[:25]
        )
        text += (
            '<h3>Shortcuts found</h3><div class="scroll"><table><tr><th>rule</th><th class=names>task</th>'
            "<th class=names>source</th><th>accuracy</th>"
            f"<th>chance</th><th>questions</th></tr>{lines}</table></div>"
        )
    return text + _source_table(findings, tasks, names) + _constant_answer(findings)


def _source_table(findings: Findings, tasks: Sequence[str], names: Sequence[str]) -> str:
    rows = []
    for task in tasks:
        for source in sorted({source for rule in names for source in findings.rules[rule].get(task, {})}):
            scores = [findings.rules[rule].get(task, {}).get(source) for rule in names]
            cells = "".join(_cell([score] if score else []) for score in scores)
            chance = next(score.chance for score in scores if score)
            named = f"<td>{html.escape(task)}</td><td class=names>{html.escape(source)}</td>"
            rows.append(f"<tr>{named}<td>{chance:.2f}</td>{cells}</tr>")
    head = "".join(f"<th>{RULES[rule]}</th>" for rule in names)
    return (
        '<details><summary>All figures by source</summary><div class="scroll"><table>'
        f"<tr><th>task</th><th class=names>source</th><th>chance</th>{head}</tr>{''.join(rows)}</table></div></details>"
    )


def _constant_answer(findings: Findings) -> str:
    if not findings.constant:
        return ""
    shares = ", ".join(f"{share:.1%} within {name[4:-2]} km" for name, share in findings.constant.items())
    return f"<p>One constant answer to all geolocation questions would reach this share of the photos: {shares}.</p>"


def _cell(scores: Iterable[Score]) -> str:
    """A table cell with the mean accuracy over several sources, red if one of them leaks."""
    by_source = list(scores)
    if not by_source:
        return '<td class="none">-</td>'
    mean = sum(score.accuracy * score.n for score in by_source) / sum(score.n for score in by_source)
    return f"<td{' class=bad' if any(score.leaks for score in by_source) else ''}>{mean:.2f}</td>"


def _answer_section(findings: Findings) -> str:
    survey = findings.survey
    parts = []
    for task, counts in survey.answers.items():
        if not survey.options_of(task):
            parts.append(f"<div><h3>{html.escape(task)}</h3><p class='soft'>The answers are open-ended.</p></div>")
        else:
            rows = sorted(counts.items())[:20]
            parts.append(f"<div><h3>{html.escape(task or '(no task)')}</h3>{bars(rows)}</div>")
    return f"<h2>Answers</h2><div class='balance'>{''.join(parts)}</div>"


def _length_section(findings: Findings) -> str:
    text = "<h2>Length</h2><div class='balance'>"
    for name, title in (("text", "Tokens of the text"), ("with_pictures", "Tokens of text and images")):
        if values := findings.tokens[name]:
            summary = f"median {int(np.median(values)):,}, longest {max(values):,}, over {len(values):,} samples"
            text += f"<div><h3>{title}</h3>{bar_histogram(values)}<p class='soft'>{summary}</p></div>"
    return (
        text + "</div><p class='soft'>Text is counted with the tokenizer of the embedded backbone, whose vocabulary is "
        "small; images are counted unscaled, at one token per 28 x 28 px. To count with the backbone that will be "
        "trained, run geotune train with dry_run=true.</p>"
    )


def _place_section(findings: Findings) -> str:
    points = findings.survey.points
    if not points:
        return "<h2>Places</h2><p>The records do not say where their photos were taken.</p>"
    lat, lon = np.array([point[:2] for point in points]).T
    text = f"<h2>Places</h2>{point_map(points, (-180.0, -90.0, 180.0, 90.0))}"
    middle = (lon.min() + lon.max()) / 2, (lat.min() + lat.max()) / 2
    span = max(float(np.ptp(lon)), 2 * float(np.ptp(lat)))
    if span < INSET_SHARE * 360:
        half = max(span * 0.55, 0.01)
        box = (middle[0] - half, middle[1] - half / 2, middle[0] + half, middle[1] + half / 2)
        text += f"<p></p>{point_map(points, box)}"
    return (
        f"{text}<p class='soft'>The map shows {len(points):,} of {findings.survey.n_places:,} places; gray dots are "
        f"towns, for orientation. Latitude {lat.min():.3f} to {lat.max():.3f}, "
        f"longitude {lon.min():.3f} to {lon.max():.3f}.</p>"
    )


def _date_section(gaps: Mapping[int, int]) -> str:
    if not gaps:
        return "<h2>Age of the maps</h2><p>No record has the dates of both its photo and its map.</p>"
    months = [gap for gap, count in gaps.items() for _ in range(count)]
    years = sum(count for gap, count in gaps.items() if abs(gap) > 24) / len(months)
    return (
        f"<h2>Age of the maps</h2>{bar_histogram(months, unit='months')}<p class='soft'>Months from the photo to "
        f"its map, negative if the map is older; {years:.0%} are more than two years apart.</p>"
    )


def _sample_section(findings: Findings) -> str:
    """A few samples of each task, from different sources if there are several."""
    by_task: dict[str, list[AuditSample]] = {}
    for (task, _), examined in findings.examined.items():
        by_task.setdefault(task, []).extend(examined[:SAMPLES_PER_TASK])
    chosen: list[AuditSample] = []
    for turn in range(SAMPLES_PER_TASK):
        for candidates in by_task.values():
            chosen += candidates[turn * max(1, len(candidates) // SAMPLES_PER_TASK) :][:1]
    tasks = list(by_task)
    ordered = sorted(chosen[:SAMPLES], key=lambda entry: tasks.index(entry.sample.task))
    sheet = "".join(_sample_box(entry.sample, findings.folder) for entry in ordered)
    return f"<h2>Samples</h2><div class='sheet'>{sheet}</div>"


def _sample_box(sample: Sample, folder: Path) -> str:
    images = "".join(thumbnail(folder, name) for name in sample.images)
    question = " ".join(sample.prompt.replace(IMAGE_TAG, " ").split())
    return (
        f'<div class="question"><div>{images}</div><b>{html.escape(sample.task)}</b> '
        f'<span class="soft">{html.escape(sample.id)}</span><div>{html.escape(_short(question, 420))}</div>'
        f'<div class="said">{html.escape(_short(sample.response, 420))}</div></div>'
    )


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]} …"
