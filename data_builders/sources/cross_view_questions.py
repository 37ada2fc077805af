"""The questions about a set of places whose images have been made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.imagery.place_images import PlaceImages, draw_turned, turned_map
from data_builders.imagery.prepare import ImageFile, prepare_images
from data_builders.questions.draw import balanced_choice, generator
from data_builders.questions.placed_view import (
    CROPS_FOLDER,
    CROSS_MAP,
    KIND_OF_TASK,
    LOCALIZATION,
    OTHERS_SHOWN,
    OWN_MAP,
    POSES,
    MapChoice,
    MapShown,
    PlacedView,
    crops_of,
    draw_maps,
    gold_answer,
    map_file,
    view_sample,
)
from data_builders.sources.cross_view_atlas import MapAtlas
from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.cross_view_settings import CrossViewSettings
from data_builders.writer import DatasetWriter
from geotune.geo import compass_to_heading, haversine_km
from geotune.imagery.crops import CROPS
from geotune.imagery.symmetry import Symmetry
from geotune.sample import Sample
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import CROSS_VIEW_TASKS, get_task
from geotune.tasks.cross_view import HEADINGS


@dataclass(frozen=True, slots=True)
class _AskedView:
    """One ground view: the number of its place, and its heading in the source."""

    place: int
    heading: str


class CrossViewQuestions:
    """Decides which questions are asked about the views of some places, and gives them as samples.

    The methods are called in this order: `draw_others`, `choose`, `prepare`, `samples`.

    Args:
        symmetries: The symmetry of each place, by record id.
        images: The images of each place, by record id.
        texts: Descriptions of images, by image id or by the stem of the ground image.
        mine: Returns whether this job writes the questions about a place; maps of all places may be shown.
    """

    def __init__(
        self,
        settings: CrossViewSettings,
        places: Sequence[SourcePlace],
        symmetries: Mapping[str, Symmetry],
        images: Mapping[str, PlaceImages],
        texts: Mapping[str, str],
        mine: Callable[[str], bool],
    ) -> None:
        self.settings = settings
        self.tasks = [task for task in CROSS_VIEW_TASKS if settings.tasks is None or task in settings.tasks]
        self.places = places
        self.symmetries = [symmetries[place.record_id] for place in places]
        self.images = [images[place.record_id] for place in places]
        self.texts = texts
        self.mine = [mine(place.place) for place in places]
        self.views = [_AskedView(number, heading) for number, held in enumerate(self.images) for heading in held.views]
        self.choices: dict[str, dict[int, MapChoice]] = {
            OWN_MAP: {number: MapChoice((view.place,), 0) for number, view in enumerate(self.views)},
            LOCALIZATION: {},
            CROSS_MAP: {},
        }
        """For each kind of question, the maps (numbers of places) that each view is shown with."""
        self.chosen: set[tuple[int, str, str]] | None = None
        """The (view, task, crop) that are asked; None asks all."""
        self.crops: dict[Path, ImageFile] = {}

    def draw_others(self, writer: DatasetWriter) -> None:
        """Draw the other places' maps of every view, source by source.

        Places with too few other maps are rejected for the kind of question that needs them.
        """
        by_source: dict[str, list[int]] = defaultdict(list)
        for number, view in enumerate(self.views):
            by_source[self.places[view.place].source].append(number)
        for source, numbers in by_source.items():
            held = sorted({self.views[number].place for number in numbers})
            atlas = MapAtlas(self.settings, self.places, self.images, held)
            for kind in (LOCALIZATION, CROSS_MAP):
                if any(KIND_OF_TASK[task] == kind for task in self.tasks):
                    self._draw_kind(kind, source, numbers, atlas, writer)

    def _draw_kind(self, kind: str, source: str, numbers: list[int], atlas: MapAtlas, writer: DatasetWriter) -> None:
        rng = generator(self.settings.seed, kind, source)
        own = [self.views[number].place for number in numbers]
        choices = draw_maps(kind, own, own, len(self.places), atlas.others(rng), rng)
        lacking = {place for place, choice in zip(own, choices, strict=True) if choice is None}
        for number, place, choice in zip(numbers, own, choices, strict=True):
            # Of a place without other maps, only true localization questions would be left: they would be a shortcut.
            if choice is not None and place not in lacking:
                self.choices[kind][number] = choice
        low, high = self.settings.negative_km
        for place in sorted(lacking):
            detail = (
                f"fewer than {OTHERS_SHOWN[kind]} maps of its scale lie {low:g} to {high:g} km away; see negative_km"
            )
            writer.reject(f"{self.places[place].record_id}/{kind}", "too_few_other_maps", detail)

    def choose(self) -> None:
        """Draw `samples_per_task` questions of each task, even over answers and places, if that is set."""
        limit = self.settings.samples_per_task
        if limit is None:
            return
        self.chosen = set()
        for task in self.tasks:
            askable = [(number, crop) for number in range(len(self.views)) for crop in self._crops(task, number)]
            answers = [self._answer(task, number, crop) for number, crop in askable]
            places = [self.places[self.views[number].place].place for number, _ in askable]
            kept = balanced_choice(answers, places, limit, generator(self.settings.seed, "choose", task))
            self.chosen |= {(askable[item][0], task, askable[item][1]) for item in kept}

    def prepare(self, writer: DatasetWriter) -> None:
        """Make the turned maps and the crops that this job's questions show."""
        turned: set[tuple[Path, Symmetry]] = set()
        cropped: set[Path] = set()
        for number in self._own_views():
            symmetry = self.symmetries[self.views[number].place]
            for task, _ in self._asked(number):
                for place in self._choice(task, number).maps:
                    path = self.images[place].map
                    turned.add((path, symmetry))
                    if get_task(task).cropped:
                        cropped.add(turned_map(path, symmetry))
        jobs = sorted((job for job in turned if turned_map(*job) != job[0]), key=lambda job: (job[0], job[1].name))
        with parallel_map(self.settings.workers, len(jobs)) as run, progress_bar("turned maps", len(jobs)) as advance:
            for made in run(draw_turned, jobs):
                writer.count_images(int(made), reused=int(not made))
                advance()
        self.crops = prepare_images(
            (),
            cropped,
            crops_root=writer.images_dir / CROPS_FOLDER,
            max_pixels=self.settings.max_image_pixels,
            workers=self.settings.workers,
        )
        made_crops = sum(image.made for image in self.crops.values())
        writer.count_images(made_crops, reused=len(self.crops) * len(CROPS) - made_crops)

    def samples(self, images_dir: Path) -> Iterator[Sample]:
        """This job's questions, view by view."""
        for number in self._own_views():
            view = self._placed_view(self.views[number])
            for task, crop in self._asked(number):
                choice = self._choice(task, number)
                maps = [self._map_shown(place, view.symmetry, crop, images_dir) for place in choice.maps]
                yield view_sample(view, task, crop, maps, choice.true_map)

    def distances(self) -> dict[str, dict[str, float]]:
        """Statistics of the distances in km from places to the other places whose maps they show, by kind."""
        statistics: dict[str, dict[str, float]] = {}
        for kind in (LOCALIZATION, CROSS_MAP):
            pairs = [
                (self.places[self.views[number].place], self.places[other])
                for number, choice in self.choices[kind].items()
                for other in choice.maps
                if other != self.views[number].place
            ]
            if pairs:
                km = np.array([haversine_km(own.lat, own.lon, other.lat, other.lon) for own, other in pairs])
                statistics[kind] = {
                    "n": len(pairs),
                    "min": round(float(km.min()), 3),
                    "median": round(float(np.median(km)), 3),
                    "max": round(float(km.max()), 3),
                }
        return statistics

    def _own_views(self) -> Iterator[int]:
        """The numbers of the views that this job asks about."""
        return (number for number, view in enumerate(self.views) if self.mine[view.place])

    def _asked(self, number: int) -> Iterator[tuple[str, str]]:
        """The (task, crop) that a view is asked about."""
        for task in self.tasks:
            for crop in self._crops(task, number):
                if self.chosen is None or (number, task, crop) in self.chosen:
                    yield task, crop

    def _crops(self, task: str, number: int) -> tuple[str, ...]:
        """The crops (or `full`) that a task can ask a view about; none if it can't ask at all."""
        if task in POSES and self.views[number].heading not in HEADINGS:
            return ()
        return crops_of(task) if number in self.choices[KIND_OF_TASK[task]] else ()

    def _choice(self, task: str, number: int) -> MapChoice:
        return self.choices[KIND_OF_TASK[task]][number]

    def _answer(self, task: str, number: int, crop: str) -> str:
        view = self.views[number]
        symmetry = self.symmetries[view.place]
        true_map = self._choice(task, number).true_map
        return gold_answer(task, symmetry.heading(view.heading), symmetry.crop(crop), true_map)

    def _map_shown(self, place: int, symmetry: Symmetry, crop: str, images_dir: Path) -> MapShown:
        path = turned_map(self.images[place].map, symmetry)
        file = map_file(path, symmetry.crop(crop), self.crops, images_dir)
        return MapShown(self.places[place].record_id, self.places[place].scale, file)

    def _placed_view(self, view: _AskedView) -> PlacedView:
        place, symmetry = self.places[view.place], self.symmetries[view.place]
        heading = symmetry.heading(view.heading)
        facts: dict[str, Any] = {
            "image_id": place.image_id,
            "split": self.settings.part,
            "lat": place.lat,
            "lon": place.lon,
            "heading_deg": compass_to_heading(heading),
            "fov_deg": place.fov_deg or self.settings.fov_deg,
            "capture_time": place.capture_time,
            "map_time": self.settings.map_time,
        }
        return PlacedView(
            id=f"cross_view/{place.source}/{place.image_id}/{view.heading}",
            source=place.source,
            place=place.place,
            ground=self.images[view.place].views[view.heading],
            heading=heading,
            facts=facts,
            more_facts={"symmetry": symmetry.name, **place.extra},
            symmetry=symmetry,
            explanation=self.texts.get(place.image_id) or self.texts.get(place.ground.stem),
        )
