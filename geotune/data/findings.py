"""What a user should know of a run's data: what the audit of a build found, and what suites share with it."""

from __future__ import annotations

import filecmp
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geotune.data.building import REPORT
from geotune.data.index import key_of
from geotune.data.sample_file import ChosenSamples
from geotune.sample import Sample

SHORTCUTS_SHOWN = 4
"""Number of shortcuts that a line names, the strongest first."""


def audit_lines(file: Path) -> list[str]:
    """Return what the audit of the dataset `file` found, in at most two lines; none if it found or saw nothing."""
    try:
        report = json.loads((file.parent / REPORT).read_text(encoding="utf-8"))
        audit: Mapping[str, Any] = report["audit"] if report["name"] == file.stem else {}
        shortcuts = sorted(
            (
                score["chance"] - score["accuracy"],
                f"{rule} answers {task} ({score['accuracy']:.0%}, chance {score['chance']:.0%})",
            )
            for rule, by_task in audit.get("rules", {}).items()
            for task, by_source in by_task.items()
            for score in by_source.values()
            if score["leaks"]
        )
        doubles = {name: int(count) for name, count in audit.get("duplicates", {}).items() if count}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a dataset from elsewhere
        return []
    lines = []
    if shortcuts:
        more = f" and {len(shortcuts) - SHORTCUTS_SHOWN} more" if len(shortcuts) > SHORTCUTS_SHOWN else ""
        shown = ", ".join(text for _, text in shortcuts[:SHORTCUTS_SHOWN])
        lines.append(f"the audit found shortcuts: {shown}{more}; see {file.parent / 'build_report.html'}")
    if doubles:
        told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in doubles.items())
        lines.append(f"the audit found {told}")
    return lines


def shared_line(training: Sequence[ChosenSamples], questions: Sequence[Sample]) -> str | None:
    """Return a line on how many images and places of a suite's questions are trained on; None if there are none.

    Two images are the same if they are one file, or files of the same name and content.
    """
    asked = {os.path.normpath(image) for sample in questions for image in sample.images}
    places = {key_of(sample.place) for sample in questions if sample.place}
    by_name = defaultdict(list)
    for image in asked:
        by_name[os.path.basename(image)].append(image)
    shared: set[str] = set()
    trained_places: set[int] = set()
    for part in training:
        names = part.file.image_names()
        for number in part.file.images_of(part.numbers).tolist():
            for image in by_name.get(os.path.basename(names[number]), ()):
                path = os.path.normpath(os.path.join(part.file.image_folder, names[number]))
                if image not in shared and (path == image or _is_same(path, image)):
                    shared.add(image)
        groups = np.unique(part.file.groups[part.numbers])
        trained_places.update(part.file.group_keys[groups].tolist())
    counts = [(len(shared), len(asked), "images"), (len(places & trained_places), len(places), "places")]
    told = [f"{count:,} of its {total:,} {what}" for count, total, what in counts if count]
    return f"{' and '.join(told)} are trained on, so its figures are no measure of new ones" if told else None


def _is_same(path: str, other: str) -> bool:
    """Return whether two files have the same content; False if one can't be read."""
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False
