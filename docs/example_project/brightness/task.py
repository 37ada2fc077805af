"""The task: is the photo bright or dark?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geotune.tasks.choice import ChoiceTask
from geotune.tasks.wording import wording


@dataclass(frozen=True)
class BrightnessTask(ChoiceTask):
    """Asks which of two words fits the photo."""

    def question(self) -> str:
        return "Is the photo bright or dark?"

    def form(self) -> str:
        return f'{{"{self.key}": ...}}, bright or dark.'

    def gold(self, record: Mapping[str, Any], *, crop: str = "full") -> str:
        """Return the answer for the mean gray level (0 to 255) of a photo."""
        return "bright" if record["gray"] >= 128 else "dark"


BRIGHTNESS = BrightnessTask(
    "brightness.task.BRIGHTNESS",  # the name of an own task is the dotted name of the object
    ("brightness",),
    ("bright", "dark"),
    1 / 2,
    wording=wording(
        r"(?i:\b(?P<word>bright|dark)\b)", lambda match: match["word"].lower(), cue=r"\b(?:photo|brightness) is\b"
    ),
)
