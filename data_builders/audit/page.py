"""build_report.html: the report as one page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_builders.audit.findings import Findings
from data_builders.audit.rules import Score
from data_builders.audit.survey import Looked
from geotune.errors import BadRecord
from geotune.gazetteer import entries
from geotune.system.images import load_image, resolve_image

SHOWN_PER_TASK = 3
SHOWN = 30
THUMBNAIL_PX = 132
BINS = 10
"""Bars of a histogram."""
WORLD = (720, 360)
"""Size of a map in its own units."""
INSET_SHARE = 0.25
"""Places that span less of the world's width than this are drawn on a map of their own as well."""
RULES = {
    "zoom": "zoom",
    "known_map": "known map",
    "file_size": "file size",
    "brightness": "brightness",
    "aspect_ratio": "aspect ratio",
    "answer_prior": "top answer",
    "place": "place",
}
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
    """The whole page."""
    survey, leaks = findings.survey, findings.leaks()
    rejected = sum(report["rejected"].values())
    duplicates = survey.duplicates()
    cards = [
        (f"{report['written']:,}", "questions", False),
        (f"{survey.n_places:,}", "places", False),
        (f"{rejected:,}", f"of {report['source_records']:,} source records rejected", rejected > 0),
        (f"{duplicates['repeated_questions']:,}", "repeated questions", duplicates["repeated_questions"] > 0),
        (f"{len(leaks):,}", "shortcuts found", bool(leaks)),
        (f"{report['images']:,}", f"images made, {report['images_reused']:,} reused", False),
        (f"{report['seconds']:,.0f} s", "to build", False),
    ]
    sections = [
        _counts(findings),
        _rejects(report["rejected"], duplicates),
        _shortcuts(findings, leaks),
        _balance(findings),
        _tokens(findings),
        _where(findings),
        _when(survey.gaps),
        _contact_sheet(findings),
    ]
    name = html.escape(report["name"])
    shown = "".join(
        f'<div class="card{" bad" if bad else ""}"><b>{value}</b><span>{html.escape(label)}</span></div>'
        for value, label, bad in cards
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: build report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f'<h1>{name}</h1><p class="soft">{html.escape(_about(report))}</p><div class="cards">{shown}</div>'
        f"{''.join(sections)}</body></html>\n"
    )


def _about(report: Mapping[str, Any]) -> str:
    builder = report.get("builder")
    if not isinstance(builder, Mapping):
        return "Build report"
    said = ", ".join(f"{key}={value}" for key, value in builder.items() if key not in ("_target_", "version"))
    return f"{str(builder.get('_target_', '')).rpartition('.')[2]}: {said}"


def _counts(findings: Findings) -> str:
    survey = findings.survey
    parts = [
        f"<div><h3>{head}</h3>{_bars([(name or '(none)', count) for name, count in counts.most_common(30)])}</div>"
        for head, counts in (("By task", survey.tasks), ("By source", survey.sources))
    ]
    return f"<h2>Counts</h2><div class='balance'>{''.join(parts)}</div>"


def _rejects(rejected: Mapping[str, int], duplicates: Mapping[str, int]) -> str:
    text = "<h2>Left out, and seen twice</h2>"
    if rejected:
        text += _bars(sorted(rejected.items(), key=lambda entry: -entry[1]))
        text += '<p class="soft">One line per rejected source record stands in rejected.jsonl.</p>'
    else:
        text += "<p>No source record was rejected.</p>"
    return text + (
        f"<p>{duplicates['repeated_questions']:,} questions show the images and words of an earlier one; "
        f"{duplicates['contradictions']:,} of these are answered differently.</p>"
    )


def _shortcuts(findings: Findings, leaks: Sequence[tuple[str, str, str, Score]]) -> str:
    text = (
        "<h2>Shortcuts</h2><p>How often a rule is right that sees one thing only, which should not tell the answer. "
        "Rules are learned on four fifths of the places and scored on the rest; what knows nothing scores the chance. "
        "Of several sources, the mean; red where a source is above chance by more than luck. Zoom: of one map, the "
        "most frequent answer of each zoom. Known map: one that stood in questions about other places. Top answer: "
        "always the most frequent one. Place: where it lies.</p>"
    )
    names = [rule for rule in RULES if rule in findings.rules]
    tasks = [task for task in findings.survey.tasks if any(task in findings.rules[rule] for rule in names)]
    if not tasks:
        return text + "<p>No task has options to choose from.</p>" + _constant(findings)
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
            '<h3>Where</h3><div class="scroll"><table><tr><th>rule</th><th class=names>task</th>'
            "<th class=names>source</th><th>right</th>"
            f"<th>chance</th><th>questions</th></tr>{lines}</table></div>"
        )
    return text + _by_source(findings, tasks, names) + _constant(findings)


def _by_source(findings: Findings, tasks: Sequence[str], names: Sequence[str]) -> str:
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


def _constant(findings: Findings) -> str:
    if not findings.constant:
        return ""
    said = ", ".join(f"{share:.1%} within {name[4:-2]} km" for name, share in findings.constant.items())
    return f"<p>Always giving the same coordinates is right for {said} of the geolocation questions.</p>"


def _cell(scores: Iterable[Score]) -> str:
    known = list(scores)
    if not known:
        return '<td class="none">-</td>'
    mean = sum(score.accuracy * score.n for score in known) / sum(score.n for score in known)
    return f"<td{' class=bad' if any(score.leaks for score in known) else ''}>{mean:.2f}</td>"


def _balance(findings: Findings) -> str:
    survey = findings.survey
    parts = []
    for task, counts in survey.answers.items():
        if not survey.options_of(task):
            parts.append(f"<div><h3>{html.escape(task)}</h3><p class='soft'>An open answer.</p></div>")
        else:
            shown = sorted(counts.items())
            parts.append(f"<div><h3>{html.escape(task or '(no task)')}</h3>{_bars(shown[:20])}</div>")
    return f"<h2>Answers</h2><div class='balance'>{''.join(parts)}</div>"


def _tokens(findings: Findings) -> str:
    text = "<h2>Length</h2><div class='balance'>"
    for name, title in (("text", "Tokens of the words"), ("with_pictures", "Tokens with the images")):
        if values := findings.tokens[name]:
            summary = f"median {int(np.median(values)):,}, longest {max(values):,}, {len(values):,} questions looked at"
            text += f"<div><h3>{title}</h3>{_histogram(values)}<p class='soft'>{summary}</p></div>"
    return (
        text + "</div><p class='soft'>Words as the embedded backbone cuts them, which has a small vocabulary; images "
        "at 28 x 28 px a token, unscaled. geotune train dry_run=true counts with the backbone that will be trained.</p>"
    )


def _where(findings: Findings) -> str:
    points = findings.survey.points
    if not points:
        return "<h2>Places</h2><p>The records do not say where their photos were taken.</p>"
    lat, lon = np.array([point[:2] for point in points]).T
    text = f"<h2>Places</h2>{_map(points, (-180.0, -90.0, 180.0, 90.0))}"
    middle = (lon.min() + lon.max()) / 2, (lat.min() + lat.max()) / 2
    span = max(float(np.ptp(lon)), 2 * float(np.ptp(lat)))
    if span < INSET_SHARE * 360:
        half = max(span * 0.55, 0.01)
        box = (middle[0] - half, middle[1] - half / 2, middle[0] + half, middle[1] + half / 2)
        text += f"<p></p>{_map(points, box)}"
    shown = "all" if len(points) == findings.survey.n_places else "a sample"
    return (
        f"{text}<p class='soft'>{len(points):,} places, {shown}. Grey: towns, for orientation. "
        f"Latitude {lat.min():.3f} to {lat.max():.3f}, longitude {lon.min():.3f} to {lon.max():.3f}.</p>"
    )


def _map(points: Sequence[tuple[float, float, str]], box: tuple[float, float, float, float]) -> str:
    """Points on an equirectangular map of `box` (west, south, east, north in degrees), with a graticule."""
    west, south, east, north = box
    width, height = WORLD

    def at(lat: float, lon: float) -> tuple[float, float]:
        return (lon - west) / (east - west) * width, (north - lat) / (north - south) * height

    step = _round_step((east - west) / 12)
    lines = []
    for lon in np.arange(math.ceil(west / step) * step, east, step):
        x, _ = at(0, lon)
        lines.append(f'<path d="M{x:.1f} 0V{height}"/><text x="{x + 2:.1f}" y="{height - 3}">{lon:g}°</text>')
    for lat in np.arange(math.ceil(south / step) * step, north, step):
        _, y = at(lat, 0)
        lines.append(f'<path d="M0 {y:.1f}H{width}"/><text x="2" y="{y - 2:.1f}">{lat:g}°</text>')
    towns = "".join(
        f"M{x:.1f} {y:.1f}h0"
        for x, y in (
            at(town.lat, town.lon) for town in entries() if west < town.lon < east and south < town.lat < north
        )
    )
    marks = "".join(
        f"M{x:.1f} {y:.1f}h0"
        for x, y in (at(lat, lon) for lat, lon, _ in points if west <= lon <= east and south <= lat <= north)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="map of the places">'
        f'<g stroke="#c8d5df" stroke-width=".5" fill="none">{"".join(lines)}</g>'
        f'<path d="{towns}" stroke="#a9b7c2" stroke-width="1.6" stroke-linecap="round" fill="none"/>'
        f'<path d="{marks}" stroke="#c2410c" stroke-opacity=".75" stroke-width="4.5" stroke-linecap="round" '
        'fill="none"/>'
        "<style>text{font:7px sans-serif;fill:#7b8a97;stroke:none}</style></svg>"
    )


def _round_step(step: float) -> float:
    """The next larger of 1, 2, 3, 5 or 10 times a power of ten."""
    power = 10 ** math.floor(math.log10(step))
    return float(next(times * power for times in (1, 2, 3, 5, 10) if times * power >= step * 0.999))


def _when(gaps: Mapping[int, int]) -> str:
    if not gaps:
        return "<h2>From view to map</h2><p>No record dates both its photo and its map.</p>"
    months = [gap for gap, count in gaps.items() for _ in range(count)]
    years = sum(count for gap, count in gaps.items() if abs(gap) > 24) / len(months)
    return (
        f"<h2>From view to map</h2>{_histogram(months, unit='months')}<p class='soft'>Months from the photo to "
        f"its map, below zero where the map is older; {years:.0%} are more than two years apart.</p>"
    )


def _contact_sheet(findings: Findings) -> str:
    chosen: list[Looked] = []
    by_task: dict[str, list[Looked]] = {}
    for (task, _), some in findings.looked.items():
        by_task.setdefault(task, []).extend(some[:SHOWN_PER_TASK])
    for turn in range(SHOWN_PER_TASK):
        for some in by_task.values():
            # From a different source each time, where there are several.
            chosen += some[turn * max(1, len(some) // SHOWN_PER_TASK) :][:1]
    ordered = sorted(chosen[:SHOWN], key=lambda one: list(by_task).index(one.sample.task))
    return f"<h2>Samples</h2><div class='sheet'>{''.join(_question(one, findings.folder) for one in ordered)}</div>"


def _question(looked: Looked, folder: Path) -> str:
    sample = looked.sample
    images = "".join(_thumbnail(folder, name) for name in sample.images)
    asked = " ".join(sample.prompt.replace("<image>", " ").split())
    return (
        f'<div class="question"><div>{images}</div><b>{html.escape(sample.task)}</b> '
        f'<span class="soft">{html.escape(sample.id)}</span><div>{html.escape(_short(asked, 420))}</div>'
        f'<div class="said">{html.escape(_short(sample.response, 420))}</div></div>'
    )


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]} …"


def _thumbnail(folder: Path, name: str) -> str:
    try:
        image = load_image(resolve_image(folder, name))
    except BadRecord:
        return '<span class="gone">no image</span>'
    image.thumbnail((4 * THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=78)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _bars(rows: Sequence[tuple[str, int]]) -> str:
    most = max((count for _, count in rows), default=1)
    lines = "".join(
        f"<span>{html.escape(str(name))}</span><i style='width:{100 * count / most:.1f}%'></i><span>{count:,}</span>"
        for name, count in rows
    )
    return f"<div class='bars'>{lines}</div>"


def _histogram(values: list[int], *, unit: str = "") -> str:
    distinct = sorted(set(values))
    if len(distinct) <= BINS:
        return _bars([(f"{value:,} {unit}".strip(), values.count(value)) for value in distinct])
    counts, edges = np.histogram(values, bins=BINS)
    names = [f"{low:,.0f} to {high:,.0f} {unit}".strip() for low, high in itertools.pairwise(edges)]
    return _bars(list(zip(names, counts.tolist(), strict=True)))
