"""The builder of the base skills, which the embedded backbone learns on the procedural city before any task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_builders.builder import Builder
from data_builders.synthetic.builder import city_fingerprint
from data_builders.synthetic.city import CITY_VERSION, MAP_UNITS
from data_builders.synthetic.exercises import SKILLS, Exchange, exchanges
from data_builders.synthetic.places import Place, draw_places, place_folder, write_images
from data_builders.synthetic.scenes import Context
from data_builders.writer import DatasetWriter
from geotune.config.rules import are_among, at_least
from geotune.errors import Problem
from geotune.sample import IMAGE_TAG, Sample, Turn
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import SYSTEM_PROMPT, TASKS

SOURCE = "synthetic_skills"


@dataclass
class SyntheticSkills(Builder):
    """Builds exercises of the base skills on the procedural city, as a function of the seed."""

    version: ClassVar[int] = CITY_VERSION

    places: int = 1000
    """Number of places, of a split that no task's dataset uses."""
    records_per_place: int = 60
    """Number of exercises that each place gives."""
    questions: int = 1
    """Largest number of questions that an exercise asks about its images, one after another."""
    seed: int = 0
    """Seed of the city and of the exercises."""
    skills: Sequence[str] | None = None
    """Names of the skills to write; null for all."""
    beside: bool = True
    """Whether a view and maps may stand in one exercise; false: they never do, and all maps are crops (easier)."""
    asides: int = 0
    """Largest number of random words that stand between the images and the first question of an exercise. Without them
    a model learns to see from the distances of the exercises' own prompts alone."""
    split: str = "pretrain"
    """pretrain to train, or validation to measure the skills on other places."""
    view_size: int = 64
    """Side of a ground view in pixels."""
    map_size: int = MAP_UNITS
    """Side of a satellite image in pixels."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that draw the images; null: one per core."""

    def check(self) -> Iterator[Problem]:
        if self.places < 2:
            yield Problem("places", self.places, "exercises show images of two places", "give at least 2")
        for key in ("records_per_place", "questions", "workers"):
            yield from at_least(key, getattr(self, key), 1)
        for key in ("seed", "asides"):
            yield from at_least(key, getattr(self, key), 0)
        yield from are_among("skills", self.skills, SKILLS)
        if not self.beside and "centers" in (SKILLS if self.skills is None else self.skills):
            reason = "centers shows full maps, and beside=false shows crops alone"
            yield Problem("skills", self.skills, reason, "name other skills")
        if self.split not in ("pretrain", "validation"):
            yield Problem("split", self.split, "choose pretrain or validation", "the others belong to the tasks")

    def build(self, writer: DatasetWriter) -> None:
        """Write the exercises, then draw the images that they show."""
        places = list(islice(draw_places(self.seed, self.split), self.places))
        wanted: dict[int, set[str]] = {index: set() for index in range(len(places))}
        names = list(SKILLS if self.skills is None else self.skills)
        shares = np.array([SKILLS[name][1] for name in names])
        for index, place in enumerate(places):
            rng, aside_rng = place.rng("skills"), place.rng("asides")
            for number in range(self.records_per_place):
                other = (index + 1 + int(rng.integers(len(places) - 1))) % len(places)
                skill = names[int(rng.choice(len(names), p=shares / shares.sum()))]
                context = Context(place, places[other], rng, self.beside)
                scene = context.scene(skill)
                asked = exchanges(context, scene, skill, names, self.questions)
                files = []
                for is_other, file in scene.images:
                    shown = other if is_other else index
                    wanted[shown].add(file)
                    folder = place_folder(writer.images_dir, places[shown], self.view_size, self.map_size)
                    files.append(str(folder / file))
                aside = _aside(aside_rng, self.asides) if files else ""
                writer.write(_sample(f"{place.name}/{number:03d}/{skill}", place, skill, asked, files, aside))
        draw = partial(write_shown_images, folder=writer.images_dir, view_size=self.view_size, map_size=self.map_size)
        jobs = [(place, frozenset(wanted[index])) for index, place in enumerate(places)]
        with (
            parallel_map(self.workers, len(jobs)) as run,
            progress_bar("drawing the city", len(jobs)) as advance,
        ):
            for (_, names_shown), made in zip(jobs, run(draw, jobs), strict=True):
                writer.count_images(made, reused=len(names_shown) - made)
                advance()
        writer.audit["city_fingerprint"] = city_fingerprint()


def _aside(rng: np.random.Generator, most: int) -> str:
    """Draw up to `most` words of the tasks' prompts, in random order; they mean nothing."""
    words = sorted({word for task in TASKS.values() for word in task.prompt(explain=True).split()} - {IMAGE_TAG})
    return "".join(f"{words[int(rng.integers(len(words)))]} " for _ in range(int(rng.integers(most + 1))))


def _sample(name: str, place: Place, skill: str, asked: Sequence[Exchange], files: list[str], aside: str) -> Sample:
    """The exercise as a sample, with the images `files` in its first turn, and then the words of `aside`."""
    turns = [turn for prompt, answer in asked for turn in (Turn("user", prompt), Turn("assistant", answer))]
    turns[0] = Turn("user", f"{IMAGE_TAG}\n" * len(files) + aside + turns[0].text)
    return Sample(
        id=f"{SOURCE}/{name}",
        images=tuple(files),
        turns=tuple(turns),
        system=SYSTEM_PROMPT,
        task=skill,
        answer=asked[-1][1],
        source=SOURCE,
        place=place.group(SOURCE),
    )


def write_shown_images(job: tuple[Place, frozenset[str]], folder: Path, view_size: int, map_size: int) -> int:
    """Draw a place's images and write the missing ones among those that the job names. Returns their number."""
    place, wanted = job
    images = {name: image for name, image in place.images(view_size, map_size).items() if name in wanted}
    return write_images(images, place_folder(folder, place, view_size, map_size))
