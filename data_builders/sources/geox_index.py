"""GeoX-Bench's published index files (arXiv 2511.13259) -> the seven cross-view tasks.

Expected layout: `index_dir/<index>/<source>.json` and `image_root/<family of sources>/<path in the index>`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from data_builders.builder import Builder
from data_builders.imagery.prepare import ImageFile, prepare_images
from data_builders.questions.draw import draw_others, generator, spread_labels
from data_builders.questions.sample import question_sample
from data_builders.sources.geox_records import (
    CROSS_MAP,
    LOCALIZATION,
    POOL,
    POSE,
    MapRef,
    View,
    canonical_names,
    index_files,
    read_views,
)
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError
from geotune.geo import haversine_km, metres_per_pixel
from geotune.imagery.crops import CROPS
from geotune.sample import Sample
from geotune.tasks import CROSS_VIEW_TASKS, get_task
from geotune.tasks.cross_view import N_CANDIDATES

KIND_OF_TASK = {
    "pose_fixed": POSE,
    "pose_random": POSE,
    "localization_prior": LOCALIZATION,
    "localization_no_prior": LOCALIZATION,
    "intra_map": POSE,
    "cross_map": CROSS_MAP,
    "cross_map_random": CROSS_MAP,
}
TRAINED_TASKS = ("pose_fixed", "localization_prior", "intra_map", "cross_map")
NEAR_TRAINING_M = 150.0
CROPS_FOLDER = "crops"


@dataclass
class GeoxIndex(Builder):
    """Builder of GeoX-Bench's index files.

    Raises:
        ConfigError: a folder or file that is missing, an index that is not JSON, an unknown task or source.
    """

    version: ClassVar[int] = 1
    """Raise it when the same settings come to give other records."""

    index_dir: Path
    """Folder of the published indices (Orin4_SameLocation, Location4_50_in_range, LocationSelection, ...)."""
    image_root: Path
    """Folder of the images: one folder per family (CVGloable, CVUSA, LMMGeo, OmniCity, VIGOR_Chicago)."""
    set: Literal["benchmark", "train"] = "benchmark"
    """benchmark: 39 questions a view; train: 48 questions a location of the training pool."""
    tasks: list[str] | None = None
    """Which tasks to write; null: all seven of the benchmark, or the four that are trained on."""
    sources: list[str] | None = None
    """Which families (CVUSA) or index files (CVUSA_zoom18) to read; null: all that are there."""
    seed: int = 0
    """Of what is drawn for set=train: other places' maps, and where the true one stands."""
    min_distance_m: float = 500.0
    """For set=train, another place's map lies at least this far away, and at least the diagonal of a map."""
    max_image_pixels: int = 50_000_000
    """Larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Processes that check images and cut crops; null: one per usable core."""

    def __post_init__(self) -> None:
        self.index_dir, self.image_root = Path(self.index_dir), Path(self.image_root)
        for key, folder in (("index_dir", self.index_dir), ("image_root", self.image_root)):
            if not folder.is_dir():
                raise ConfigError(f"{key}={folder}: there is no such folder")
        if self.set not in ("benchmark", "train"):
            raise ConfigError(f"set={self.set}: say benchmark or train")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: at least one process has to do the work")
        for task in self.tasks or ():
            if task not in self._legal_tasks:
                raise ConfigError(f"tasks={task}: set={self.set} has {', '.join(self._legal_tasks)}")

    @property
    def _legal_tasks(self) -> tuple[str, ...]:
        return TRAINED_TASKS if self.set == "train" else CROSS_VIEW_TASKS

    def build(self, writer: DatasetWriter) -> None:
        """Write every question, place by place, and what the audit found."""
        tasks = [task for task in self._legal_tasks if self.tasks is None or task in self.tasks]
        views = list(self._read(tasks, writer))
        if self.set == "benchmark":  # for training every place's map may stand beside every other's
            views = [view for view in views if writer.mine(view.place)]
        images = self._prepare(views, tasks, writer)
        views = [view for view in views if _accept(view, images, writer)]
        if self.set == "train":
            views = list(self._with_other_maps(views, tasks, images, writer))
        answers: dict[str, Counter[str]] = {task: Counter() for task in tasks}
        for task, view in _questions(views, tasks):
            for sample in _samples(view, task, images, writer.images_dir):
                writer.write(sample)
                answers[task][sample.answer] += 1
        writer.audit["shortcuts"] = {"zoom": scale_shortcut(views)}
        writer.audit["answers"] = {task: dict(sorted(counts.items())) for task, counts in answers.items()}
        writer.audit["repeated_candidates"] = [
            view.record_id for view in views if len({aerial.path for aerial in view.maps}) < len(view.maps)
        ]
        writer.audit["near_training"] = self._near_training(sorted({view.family for view in views}))

    def _read(self, tasks: Iterable[str], writer: DatasetWriter) -> Iterator[View]:
        """The valid records of every index that the tasks need."""
        kinds = [POOL] if self.set == "train" else list(dict.fromkeys(KIND_OF_TASK[task] for task in tasks))
        files = {kind: index_files(self.index_dir, kind, self.sources) for kind in kinds}
        every_source = {source for found in files.values() for source in found}
        known = every_source | {canonical_names(source)[1] for source in every_source}
        for name in self.sources or ():
            if canonical_names(name)[0] not in known:
                raise ConfigError(f"sources={name}: no index file of {', '.join(kinds)} in index_dir is called so")
        if not every_source:
            raise ConfigError(f"index_dir={self.index_dir}: no index file of {', '.join(kinds)} there")
        for kind, found in files.items():
            if missing := sorted(every_source - set(found)):
                raise ConfigError(
                    f"index_dir={self.index_dir}: {kind} lacks {', '.join(missing)}; add the files, "
                    "or choose tasks= or sources= that do without"
                )
        # Source by source, so that the questions of a place stand together in what is written.
        for source in sorted(every_source):
            for kind in kinds:
                for view in read_views(files[kind][source], kind, self.index_dir, self.image_root.absolute()):
                    writer.count_source(1)
                    if isinstance(view, RejectedRecordError):
                        writer.reject(view.record_id, view.reason, view.detail)
                    else:
                        yield view

    def _prepare(self, views: Iterable[View], tasks: Iterable[str], writer: DatasetWriter) -> dict[Path, ImageFile]:
        cropped = {POOL if self.set == "train" else KIND_OF_TASK[task] for task in tasks if get_task(task).cropped}
        images = prepare_images(
            {path for view in views for path in (view.ground, *(aerial.path for aerial in view.maps))},
            {aerial.path for view in views if view.kind in cropped for aerial in view.maps},
            crops_root=writer.images_dir / CROPS_FOLDER,
            max_pixels=self.max_image_pixels,
            workers=self.workers,
        )
        # Maps of one content under several paths share their crops.
        made: dict[str, int] = {}
        for image in images.values():
            if image.crops:
                made[image.crops] = max(image.made, made.get(image.crops, 0))
        writer.count_images(sum(made.values()), reused=len(made) * len(CROPS) - sum(made.values()))
        return images

    def _with_other_maps(
        self, pool: list[View], tasks: Iterable[str], images: Mapping[Path, ImageFile], writer: DatasetWriter
    ) -> Iterator[View]:
        """Each asked view of the pool, and what the pool's records do not carry: views with other places' maps.

        A location that stands in several files (one per zoom) is asked about with the maps of one of them; its maps in
        the others still serve as other places' maps there.
        """
        asked = _file_of_panorama(pool, self.seed)
        by_source: dict[str, list[View]] = defaultdict(list)
        for view in pool:
            by_source[view.source].append(view)
        for source, views in by_source.items():
            atlas = _Atlas(views, images, self.min_distance_m)
            views = [view for view in views if asked[view.family, view.panorama] == source]
            yield from (replace(view, kind=POSE) for view in views)
            for kind, count in ((LOCALIZATION, 1), (CROSS_MAP, N_CANDIDATES - 1)):
                if any(KIND_OF_TASK[task] == kind for task in tasks):
                    yield from self._ask_about_others(kind, count, views, atlas, writer)

    def _ask_about_others(
        self, kind: str, count: int, views: list[View], atlas: _Atlas, writer: DatasetWriter
    ) -> Iterator[View]:
        if not views:
            return
        rng = generator(self.seed, kind, views[0].source)
        panoramas = [view.panorama for view in views]
        labels = spread_labels(panoramas, 2 if kind == LOCALIZATION else N_CANDIDATES, rng)
        # Of localization, only the false half (label 1) needs another place's map.
        needing = [view for view, label in zip(views, labels, strict=True) if kind == CROSS_MAP or label == 1]
        others = iter(atlas.draw(needing, count, rng))
        for view, label in zip(views, labels, strict=True):
            if kind == LOCALIZATION and label == 0:
                yield replace(view, kind=kind)
                continue
            drawn = next(others)
            if drawn is None:
                detail = (
                    f"fewer than {count} maps of its scale lie {self.min_distance_m:.0f} m away; see min_distance_m"
                )
                writer.reject(f"{view.record_id}/{kind}", "too_few_other_maps", detail)
            elif kind == LOCALIZATION:
                yield replace(view, kind=kind, maps=drawn, true_map=None)
            else:
                yield replace(view, kind=kind, maps=(*drawn[:label], view.maps[0], *drawn[label:]), true_map=label)

    def _near_training(self, families: list[str]) -> dict[str, Any] | None:
        """Benchmark places close to places of the training pool; None unless the index folder holds both."""
        benchmark = self._places(POSE, families)
        pool = self._places(POOL, families)
        if not benchmark or not pool:
            return None
        near = []
        for place, (family, lat, lon) in benchmark.items():
            same = {name: at for name, at in pool.items() if at[0] == family}
            if not same:
                continue
            lats, lons = np.array([at[1:] for at in same.values()]).T
            metres = 1000 * np.asarray(haversine_km(lat, lon, lats, lons))
            closest = int(metres.argmin())
            if metres[closest] < NEAR_TRAINING_M:
                near.append({"place": place, "training_place": list(same)[closest], "metres": round(metres[closest])})
        return {"threshold_m": NEAR_TRAINING_M, "places": len(benchmark), "near": near}

    def _places(self, kind: str, families: list[str]) -> dict[str, tuple[str, float, float]]:
        """Family and coordinates of each place of an index."""
        files = index_files(self.index_dir, kind, families)
        views = (view for path in files.values() for view in read_views(path, kind, self.index_dir, self.image_root))
        return {view.place: (view.family, view.lat, view.lon) for view in views if isinstance(view, View)}


def scale_shortcut(views: Iterable[View]) -> dict[str, float]:
    """Accuracy on localization of a rule that sees the map's scale alone, by source: each scale's majority answer.

    The chance is 0.5; more means that the maps of other places differ in zoom from those of the places themselves.
    """
    counts: dict[str, Counter[tuple[str, bool]]] = defaultdict(Counter)
    for view in views:
        if view.kind == LOCALIZATION:
            counts[view.source][view.maps[0].scale, view.true_map is not None] += 1
    return {
        source: round(
            sum(max(seen[scale, True], seen[scale, False]) for scale in {scale for scale, _ in seen}) / seen.total(), 4
        )
        for source, seen in counts.items()
    }


class _Atlas:
    """The maps of one index file, with where they lie: what may stand beside a view as another place's map."""

    def __init__(self, views: Iterable[View], images: Mapping[Path, ImageFile], min_distance_m: float) -> None:
        places = {view.maps[0].path: view for view in views}
        self.number = {path: number for number, path in enumerate(places)}
        self.maps: list[MapRef] = [view.maps[0] for view in places.values()]
        self.lats = np.array([view.lat for view in places.values()])
        self.lons = np.array([view.lon for view in places.values()])
        self.scales = np.array([aerial.scale for aerial in self.maps])
        self.contents = np.array([images[path].digest or str(path) for path in places])
        self.apart_m = np.array([max(min_distance_m, _diagonal_m(view, images)) for view in places.values()])

    def allowed(self, own: int) -> NDArray[np.bool_]:
        """Maps (n,) of the own map's scale that show none of the same ground."""
        metres = 1000 * np.asarray(haversine_km(self.lats[own], self.lons[own], self.lats, self.lons))
        same_scale = self.scales == self.scales[own]
        return same_scale & (metres > self.apart_m[own]) & (self.contents != self.contents[own])

    def draw(self, views: Iterable[View], count: int, rng: np.random.Generator) -> Iterator[tuple[MapRef, ...] | None]:
        own = [self.number[view.maps[0].path] for view in views]
        for drawn in draw_others(own, count, len(self.maps), self.allowed, rng):
            yield None if drawn is None else tuple(self.maps[number] for number in drawn)


def _diagonal_m(view: View, images: Mapping[Path, ImageFile]) -> float:
    """Metres from corner to corner of the view's map; 0 where the index does not say its zoom."""
    aerial = view.maps[0]
    if aerial.zoom is None:
        return 0.0
    image = images[aerial.path]
    return math.hypot(image.width, image.height) * float(metres_per_pixel(view.lat, aerial.zoom))


def _file_of_panorama(pool: Iterable[View], seed: int) -> dict[tuple[str, str], str]:
    """Which source's file serves each (family, panorama); those that several files hold are spread evenly over them."""
    sources: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for view in pool:
        sources[view.family, view.panorama][view.source] = None
    together: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for panorama, held_by in sources.items():
        together[tuple(held_by)].append(panorama)
    chosen: dict[tuple[str, str], str] = {}
    for names, panoramas in together.items():
        labels = spread_labels(panoramas, len(names), generator(seed, "file", *names))
        chosen.update({panorama: names[label] for panorama, label in zip(panoramas, labels, strict=True)})
    return chosen


def _accept(view: View, images: Mapping[Path, ImageFile], writer: DatasetWriter) -> bool:
    """Whether all its images are; notes the first that is not."""
    for path in (view.ground, *(aerial.path for aerial in view.maps)):
        image = images[path]
        if image.reason:
            writer.reject(view.record_id, image.reason, image.detail)
            return False
    if view.true_map is not None:
        image = images[view.maps[view.true_map].path]
        across, down = view.camera_offset_px
        # Beyond a twelfth of the map, the camera lands in another ninth of the crops than their names say.
        if abs(across) > image.width / 12 or abs(down) > image.height / 12:
            writer.reject(
                view.record_id, "out_of_frame", f"the camera stands {across:.0f}, {down:.0f} px off the centre"
            )
            return False
    return True


def _questions(views: Iterable[View], tasks: Iterable[str]) -> Iterator[tuple[str, View]]:
    """(task, view) with all questions about one ground view in a row."""
    together: dict[tuple[str, str, str], dict[str, View]] = defaultdict(dict)
    for view in views:
        together[view.source, view.image_id, view.heading][view.kind] = view
    for by_kind in together.values():
        for task in tasks:
            if KIND_OF_TASK[task] in by_kind:
                yield task, by_kind[KIND_OF_TASK[task]]


def _samples(view: View, task: str, images: Mapping[Path, ImageFile], images_dir: Path) -> Iterator[Sample]:
    """The task's questions about a view: one with full maps, or one per crop."""
    asked = get_task(task)
    for crop in CROPS if asked.cropped else ("full",):
        if crop == "full":
            maps = [str(aerial.path) for aerial in view.maps]
        else:
            maps = [str(images_dir / CROPS_FOLDER / images[aerial.path].crop(crop)) for aerial in view.maps]
        yield question_sample(
            f"geox_index/{view.source}/{view.image_id}/{view.heading}/{task}/{crop}",
            task,
            _answer(view, task, crop),
            (str(view.ground), *maps),
            source=view.source,
            place=view.place,
            meta=_meta(view, crop),
        )


def _answer(view: View, task: str, crop: str) -> str:
    if KIND_OF_TASK[task] == CROSS_MAP:
        return str(view.true_map)
    if KIND_OF_TASK[task] == LOCALIZATION:
        return "false" if view.true_map is None else "true"
    return crop if task == "intra_map" else view.heading


def _meta(view: View, crop: str) -> dict[str, Any]:
    """What later analysis asks of a question beyond its columns."""
    return {
        "index": view.index,
        "image_id": view.image_id,
        "original_id": view.original_id,
        "split": view.split,
        "lat": view.lat,
        "lon": view.lon,
        "heading_deg": view.heading_deg,
        "fov_deg": view.fov_deg,
        "capture_time": view.capture_time,
        "crop": crop,
        "maps": [aerial.name for aerial in view.maps],
        "map_scales": [aerial.scale for aerial in view.maps],
        "true_map": view.true_map,
    }
