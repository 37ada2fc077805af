"""The builder of the procedural city: its places and images with the seven cross-view tasks and `geolocate`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from data_builders.builder import Builder
from data_builders.questions.sample import question_sample
from data_builders.synthetic.city import CITY_VERSION, MAP_UNITS
from data_builders.synthetic.places import Place, draw_places, map_name, place_folder, write_images
from data_builders.synthetic.questions import Question, questions
from data_builders.writer import DatasetWriter
from geotune.config.rules import are_among, at_least
from geotune.errors import Problem
from geotune.imagery.crops import CROPS
from geotune.sample import Sample
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import CROSS_VIEW_TASKS

SOURCE = "synthetic"
TASKS = (*CROSS_VIEW_TASKS, "geolocate")
MEAN_COLOR_TASKS = ("localization_prior", "localization_no_prior", "cross_map", "cross_map_random")
"""Tasks that ask which map belongs to a view."""
MeanColors = dict[str, list[float]]
"""Mean color of each image of a place, by file name."""


@dataclass
class SyntheticCity(Builder):
    """Builds a procedural city, for tests, for a first run and for the embedded backbone.

    A place depends on (seed, split, index of the place) alone: more places never change earlier ones.
    """

    version: ClassVar[int] = CITY_VERSION

    places: int = 100
    """Number of places, each with four ground views."""
    seed: int = 0
    """Seed of the city."""
    split: Literal["train", "test", "validation", "pretrain"] = "train"
    """One of train, test, validation and pretrain; places of different splits never overlap."""
    tasks: Sequence[str] | None = None
    """Names of the tasks to write; null for all eight."""
    explain: bool = True
    """Whether prompts ask for a short explanation and answers give it before the JSON."""
    crops_per_view: int = 9
    """Number of the nine crops that each view is asked about."""
    decimals: int = 4
    """Number of decimals, 0 to 6, of the degrees that `geolocate` answers. An image tells its place to some ten
    degrees: a small model learns sooner from whole degrees (0), because nothing predicts further digits."""
    view_size: int = 64
    """Side of a ground view in pixels."""
    map_size: int = MAP_UNITS
    """Side of a satellite image in pixels; the side of a crop is two thirds of it."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that draw the images; null: one per core."""

    def check(self) -> Iterator[Problem]:
        for key in ("places", "workers"):
            yield from at_least(key, getattr(self, key), 1)
        yield from at_least("seed", self.seed, 0)
        if not 0 <= self.crops_per_view <= len(CROPS):
            yield Problem("crops_per_view", self.crops_per_view, "a map has nine crops", "give 0 to 9")
        if not 0 <= self.decimals <= 6:
            yield Problem("decimals", self.decimals, "coordinates have at most six decimals", "give 0 to 6")
        for key in ("view_size", "map_size"):
            yield from at_least(key, getattr(self, key), 24, "an image needs that many pixels a side")
        yield from are_among("tasks", self.tasks, TASKS)

    def build(self, writer: DatasetWriter) -> None:
        """Draw the places and write their images and questions."""
        drawn = islice(draw_places(self.seed, self.split), self.places)
        places = [place for place in drawn if writer.mine(place.group(SOURCE))]
        tasks = TASKS if self.tasks is None else tuple(self.tasks)
        draw = partial(
            write_place_images,
            folder=writer.images_dir,
            view_size=self.view_size,
            map_size=self.map_size,
            maps=tasks != ("geolocate",),
        )
        means: dict[str, MeanColors] = {}
        asked: list[tuple[str, Question]] = []
        with (
            parallel_map(self.workers, len(places)) as run,
            progress_bar("drawing the city", len(places)) as advance,
        ):
            for place, (made, colors) in zip(places, run(draw, places), strict=True):
                writer.count_images(made, reused=len(colors) - made)
                means[place.name] = colors
                for question in questions(place, tasks, self.crops_per_view, self.decimals):
                    writer.write(self.sample(place, question, writer.images_dir))
                    asked.append((place.name, question))
                advance()
        writer.audit["city_fingerprint"] = city_fingerprint()
        writer.audit["shortcuts"] = {"mean_color": mean_color_rule(asked, means)}

    def sample(self, place: Place, question: Question, folder: Path) -> Sample:
        """Return a question as a sample, with its id and place in the form of every dataset."""
        images = place_folder(folder, place, self.view_size, self.map_size)
        maps = [map_name(town, crop) for town, crop in question.maps]
        return question_sample(
            f"{SOURCE}/{self.split}/{place.name}/{question.heading}/{question.task}/{question.crop}",
            question.task,
            question.answer,
            [str(images / file) for file in (f"{question.heading}.png", *maps)],
            source=SOURCE,
            place=place.group(SOURCE),
            meta={"crop": question.crop, "ground": place.ground, "trim": place.trim, "maps": maps},
            explain=self.explain,
            explanation=question.explanation if self.explain else None,
        )


def write_place_images(
    place: Place, folder: Path, view_size: int, map_size: int, *, maps: bool
) -> tuple[int, MeanColors]:
    """Draw a place's images and write the missing ones. Returns their number and the mean colors of all that it drew.

    maps: whether to draw the maps besides the views.
    """
    images = place.images(view_size, map_size, maps=maps)
    made = write_images(images, place_folder(folder, place, view_size, map_size))
    return made, {name: image.mean(axis=(0, 1)).tolist() for name, image in images.items()}


def mean_color_rule(asked: Sequence[tuple[str, Question]], means: dict[str, MeanColors]) -> dict[str, float]:
    """Return the accuracy per task of a rule that compares mean colors only, which shows whether the palette leaks.

    With four maps the rule takes the map whose mean color is nearest to the view's. With one map it answers true if
    the distance is below the median over all questions of the task.

    Args:
        asked: Questions, each with the name of its place.
        means: Mean colors by the name of the place.
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
            guesses = [str(i) for i in distances.argmin(axis=1)]
        else:
            near = distances[:, 0] < np.median(distances[:, 0])
            guesses = ["true" if is_near else "false" for is_near in near]
        accuracy[task] = round(
            float(np.mean([guess == answer for guess, answer in zip(guesses, gold, strict=True)])), 4
        )
    return accuracy


def _distance(means: MeanColors, question: Question, town: tuple[int, str]) -> float:
    """Distance between the mean colors of a question's view and one of its maps."""
    view, map_ = np.array(means[f"{question.heading}.png"]), np.array(means[map_name(*town)])
    return float(np.linalg.norm(view - map_))


def city_fingerprint() -> str:
    """Return a digest of two images and their questions, which changes whenever the city does."""
    place = next(draw_places(0, "test"))
    parts = [place.views(64)["E"].tobytes(), place.maps()[0].tobytes()]
    parts += [repr(question).encode() for question in questions(place, TASKS, 2)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
