"""The one form in which every builder writes a question about images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT, get_task


def place_name(family: str, lat: float, lon: float) -> str:
    """A sample's `place`, the unit of splitting and grouping: a family of sources and coordinates in degrees."""
    return f"{family}/{lat:.6f},{lon:.6f}"


def question_sample(
    sample_id: str,
    task_name: str,
    answer: str,
    images: Sequence[str],
    *,
    source: str,
    place: str,
    meta: Mapping[str, Any],
    explain: bool = False,
    explanation: str | None = None,
) -> Sample:
    """The sample that asks the task `task_name` about images.

    Args:
        answer: The gold answer, one that the task accepts.
        images: Files of the images: the photo first, then its maps.
        meta: Facts that are stored with the sample as a JSON object.
        explain: Whether the prompt asks for an explanation.
        explanation: Text of the assistant before the answer; None answers without one.
    """
    task = get_task(task_name)
    return Sample(
        id=sample_id,
        images=tuple(images),
        turns=(
            Turn("user", task.prompt(explain=explain)),
            Turn("assistant", task.target(answer, explanation)),
        ),
        system=SYSTEM_PROMPT,
        task=task_name,
        answer=answer,
        source=source,
        place=place,
        meta=json.dumps(meta, ensure_ascii=False),
    )
