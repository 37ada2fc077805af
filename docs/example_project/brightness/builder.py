"""The builder: draws plain photos, some bright and some dark, and asks the task about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from brightness.task import BRIGHTNESS
from data_builders.builder import Builder
from data_builders.questions.sample import question_sample
from data_builders.writer import DatasetWriter
from geotune.config.rules import at_least
from geotune.errors import Problem


@dataclass
class Photos(Builder):
    """Builder of photos of one random gray each, with noise."""

    version: ClassVar[int] = 1
    """Increase it when the same settings would produce different records."""

    photos: int = 64
    """Number of photos."""
    seed: int = 0
    """Seed of the photos."""

    def check(self) -> Iterator[Problem]:
        yield from at_least("photos", self.photos, 1)

    def build(self, writer: DatasetWriter) -> None:
        random = np.random.default_rng(self.seed)
        for number in range(self.photos):
            gray = int(random.choice([*range(20, 90), *range(166, 236)]))
            image = writer.images_dir / f"{number}.png"
            pixels = random.normal(gray, 10, (56, 56, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(image)
            writer.count_source(1)
            writer.count_images(1)
            writer.write(
                question_sample(
                    f"brightness/{self.seed}/{number}",
                    BRIGHTNESS.name,
                    BRIGHTNESS.gold({"gray": gray}),
                    [str(image)],
                    source=f"seed{self.seed}",
                    place=f"brightness/{self.seed}/{number}",
                    meta={"gray": gray},
                )
            )
