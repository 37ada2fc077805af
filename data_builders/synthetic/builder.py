"""The builder of the procedural city: places, images, and all seven cross-view tasks with `geolocate`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_builders.builder import Builder
from data_builders.questions.sample import question_sample
from data_builders.synthetic.city import CITY_VERSION, MAP_UNITS
from data_builders.synthetic.places import SPLITS, Place, draw_places, map_name, place_folder, write_images
from data_builders.synthetic.questions import Question, questions
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError
from geotune.imagery.crops import CROPS
from geotune.sample import Sample
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import CROSS_VIEW_TASKS

SOURCE = "synthetic"
TASKS = (*CROSS_VIEW_TASKS, "geolocate")
MEAN_COLOR_TASKS = ("localization_prior", "localization_no_prior", "cross_map", "cross_map_random")


@dataclass
class SyntheticCity(Builder):
    """A procedural city, for tests, for a first run, and for the embedded backbone.

    Deterministic by (seed, split, index of the place): more places never change earlier ones.
    """

    version: ClassVar[str] = CITY_VERSION

    places: int = 100
    """How many places, each with four ground views."""
    seed: int = 0
    """The city is a pure function of it."""
    split: str = "train"
    """train, test, validation or pretrain: places of different splits never overlap."""
    tasks: Sequence[str] | None = None
    """Names of the tasks to write; null for all eight."""
    explain: bool = True
    """Whether answers give a short explanation before the JSON, and prompts ask for it."""
    crops_per_view: int = 9
    """How many of the nine crops each view is asked about."""
    view_size: int = 64
    """Pixels of a ground view's side."""
    map_size: int = MAP_UNITS
    """Pixels of a satellite image's side; its crops have two thirds of it."""
    workers: int | None = field(default=None, compare=False)
    """Processes that draw; null for all cores."""

    def __post_init__(self) -> None:
        if self.places < 1:
            raise ConfigError(f"places={self.places}: ask for at least one place")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must not be negative")
        if self.split not in SPLITS:
            raise ConfigError(f"split={self.split}: say one of {', '.join(SPLITS)}")
        if not 0 <= self.crops_per_view <= len(CROPS):
            raise ConfigError(f"crops_per_view={self.crops_per_view}: a map has nine crops")
        for key in ("view_size", "map_size"):
            if getattr(self, key) < 24:
                raise ConfigError(f"{key}={getattr(self, key)}: images need at least 24 pixels a side")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: name at least one process, or null for all cores")
        if self.tasks is not None and not self.tasks:
            raise ConfigError(f"tasks=[]: name some of {', '.join(TASKS)}, or null for all")
        for task in self.tasks or ():
            if task not in TASKS:
                raise ConfigError(f"tasks names {task!r}: this builder writes {', '.join(TASKS)}")

    def build(self, writer: DatasetWriter) -> None:
        """Draw the places and write their questions."""
        drawn = islice(draw_places(self.seed, self.split), self.places)
        places = [place for place in drawn if writer.mine(place_key(place))]
        tasks = TASKS if self.tasks is None else tuple(self.tasks)
        draw = partial(write_place_images, folder=writer.images_dir, view_size=self.view_size, map_size=self.map_size)
        means: dict[str, NDMeans] = {}
        asked: list[tuple[str, Question]] = []
        with (
            parallel_map(self.workers, len(places)) as run,
            progress_bar("drawing the city", len(places)) as advance,
        ):
            for place, (made, colors) in zip(places, run(draw, places), strict=True):
                writer.count_images(made, reused=len(colors) - made)
                means[place.name] = colors
                for question in questions(place, tasks, self.crops_per_view):
                    writer.write(self.sample(place, question, writer.images_dir))
                    asked.append((place.name, question))
                advance()
        writer.audit["city_fingerprint"] = city_fingerprint()
        writer.audit["shortcuts"] = {"mean_color": mean_color_rule(asked, means)}

    def sample(self, place: Place, question: Question, folder: Path) -> Sample:
        """A question as a sample; its id and place as in every other dataset."""
        shown = place_folder(folder, place, self.view_size, self.map_size)
        maps = [map_name(town, crop) for town, crop in question.maps]
        return question_sample(
            f"{SOURCE}/{self.split}/{place.name}/{question.heading}/{question.task}/{question.crop}",
            question.task,
            question.answer,
            [str(shown / file) for file in (f"{question.heading}.png", *maps)],
            source=SOURCE,
            place=place_key(place),
            meta={"crop": question.crop, "ground": place.ground, "trim": place.trim, "maps": maps},
            explain=self.explain,
            explanation=question.explanation if self.explain else None,
        )


def place_key(place: Place) -> str:
    """What the questions about a place are grouped by."""
    return f"{SOURCE}/{place.lat:.6f},{place.lon:.6f}"


NDMeans = dict[str, list[float]]
"""Mean colour of each image of a place, by file name."""


def write_place_images(place: Place, folder: Path, view_size: int, map_size: int) -> tuple[int, NDMeans]:
    """Draw a place's images and write those that are missing; returns how many, and the mean colours of all."""
    images = place.images(view_size, map_size)
    made = write_images(images, place_folder(folder, place, view_size, map_size))
    return made, {name: image.mean(axis=(0, 1)).tolist() for name, image in images.items()}


def mean_color_rule(asked: Sequence[tuple[str, Question]], means: dict[str, NDMeans]) -> dict[str, float]:
    """Accuracy of telling maps by how near their mean colour is to the view's: what a leak of palette would give.

    One of four: the nearest. True or false: nearer than the median of all questions of the task.
    """
    accuracy = {}
    for task in MEAN_COLOR_TASKS:
        rows = [
            (question.answer, [_distance(means[name], question, town) for town in question.maps])
            for name, question in asked
            if question.task == task
        ]
        if not rows:
            continue
        gold = [answer for answer, _ in rows]
        distances = np.array([distance for _, distance in rows])
        if distances.shape[1] > 1:
            said = [str(i) for i in distances.argmin(axis=1)]
        else:
            near = distances[:, 0] < np.median(distances[:, 0])
            said = ["true" if n else "false" for n in near]
        accuracy[task] = round(float(np.mean([a == b for a, b in zip(said, gold, strict=True)])), 4)
    return accuracy


def _distance(means: NDMeans, question: Question, town: tuple[int, str]) -> float:
    view, map_ = np.array(means[f"{question.heading}.png"]), np.array(means[map_name(*town)])
    return float(np.linalg.norm(view - map_))


def city_fingerprint() -> str:
    """Digest of two images and their questions: changes when the city that a model was trained on would."""
    place = next(draw_places(0, "test"))
    parts = [place.views(64)["E"].tobytes(), place.maps()[0].tobytes()]
    parts += [repr(question).encode() for question in questions(place, TASKS, 2)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
