"""Samples, records and image files that several test modules share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from geotune.sample import Sample, Turn, sample_to_record

GRE = {
    "image": "images/7.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhere is it?"},
        {"from": "gpt", "value": "<answer>..</answer>"},
    ],
    "gt_lat": 48.85,
    "gt_lon": 2.35,
}


def a_sample(name: str = "a", *, images: tuple[str, ...] = (), question: str = "Where?", **fields: Any) -> Sample:
    text = "<image>\n" * len(images) + question
    return Sample(id=name, images=images, turns=(Turn("user", text), Turn("assistant", "Here.")), **fields)


def a_record(**changes: Any) -> dict[str, Any]:
    record = {**sample_to_record(a_sample()), **changes}
    return {key: value for key, value in record.items() if value is not ...}


def says(*texts: str, first: str = "human") -> list[dict[str, str]]:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": speakers[i % 2], "value": text} for i, text in enumerate(texts)]


TEXT = st.text(st.characters(codec="utf-8"), max_size=30).filter(
    lambda text: not any(tag in text for tag in ("<image>", "<video>", "<audio>"))
)
SAID = TEXT.filter(str.strip)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any sample that keeps the rules."""
    images = tuple(draw(st.lists(TEXT.filter(lambda name: name and ":" not in name), max_size=4)))
    rounds = draw(st.integers(1, 3))
    asked = draw(st.lists(SAID, min_size=rounds, max_size=rounds))
    for _ in images:
        at = draw(st.integers(0, rounds - 1))
        asked[at] = draw(st.sampled_from(["<image>\n{}", "{}<image>"])).format(
            asked[at].replace("{", "(").replace("}", ")")
        )
    turns = [turn for text in asked for turn in (Turn("user", text), Turn("assistant", draw(SAID)))]
    meta = json.dumps(draw(st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=3)))
    system, task, answer, source, place = (draw(TEXT) for _ in range(5))
    return Sample(draw(TEXT.filter(bool)), images, tuple(turns), system, task, answer, source, place, meta)


def noisy_image(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> Path:
    """Write an image of noise to `path` and return the path; `options` go to Pillow's `save`."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.squeeze(), mode).save(path, **options)
    return path
