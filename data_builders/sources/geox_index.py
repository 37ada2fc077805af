"""Builder of the seven cross-view tasks from GeoX-Bench's published index files (arXiv 2511.13259).

Expected layout: `index_dir/<index>/<source>.json` and `image_root/<family of sources>/<path in the index>`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from data_builders.builder import Builder
from data_builders.imagery.prepare import ImageFile, prepare_images
from data_builders.questions.placed_view import (
    CROPS_FOLDER,
    KIND_OF_TASK,
    LOCALIZATION,
    OWN_MAP,
    MapShown,
    PlacedView,
    crops_of,
    map_file,
    view_sample,
)
from data_builders.sources.blocks import PlaceIndex
from data_builders.sources.geox_records import INDEX_NAMES, POOL, View, canonical_names, index_files, read_views
from data_builders.sources.geox_training import training_views
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter
from geotune.config.rules import at_least, is_folder
from geotune.errors import ConfigError, Problem
from geotune.imagery.crops import CROPS
from geotune.sample import Sample
from geotune.system.progress import progress_bar
from geotune.tasks import CROSS_VIEW_TASKS, get_task

TRAINED_TASKS = ("pose_fixed", "localization_prior", "intra_map", "cross_map")
"""Tasks that GeoX-Bench trains on."""
NEAR_TRAINING_M = 150.0
"""Distance in meters up to which a benchmark place counts as close to a training place."""


@dataclass
class GeoxIndex(Builder):
    """Builds cross-view questions from GeoX-Bench's index files.

    Raises:
        ConfigError: A folder or file is missing, an index is not JSON, or a task or source is unknown.
    """

    version: ClassVar[int] = 2

    index_dir: Path
    """Folder of the published indices (Orin4_SameLocation, Location4_50_in_range, LocationSelection, ...)."""
    image_root: Path
    """Folder of the images, with one folder per family (CVGloable, CVUSA, LMMGeo, OmniCity, VIGOR_Chicago)."""
    set: Literal["benchmark", "train"] = "benchmark"
    """Questions to write: `benchmark` gives 39 per view; `train` gives 48 per location of the training pool."""
    tasks: list[str] | None = None
    """Tasks to write; null writes all seven of the benchmark, or the four that GeoX-Bench trains on."""
    sources: list[str] | None = None
    """Families (CVUSA) or index files (CVUSA_zoom18) to read; null reads all that exist."""
    seed: int = 0
    """Seed of the draws for set=train: other places' maps and the position of the true map."""
    min_distance_m: float = 500.0
    """Smallest distance in meters to places whose maps are drawn for set=train; at least the diagonal of a map."""
    max_image_pixels: int = 50_000_000
    """Largest number of pixels of an image; larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that check images and cut crops; null uses one per usable core."""

    def check(self) -> Iterator[Problem]:
        yield from at_least("workers", self.workers, 1)
        yield from at_least("seed", self.seed, 0)
        for task in self.tasks or ():
            if task not in self._legal_tasks:
                yield Problem("tasks", task, f"set={self.set} has {', '.join(self._legal_tasks)}")

    def check_inputs(self) -> Iterator[Problem]:
        for key in ("index_dir", "image_root"):
            yield from is_folder(key, getattr(self, key))

    @property
    def _legal_tasks(self) -> tuple[str, ...]:
        return TRAINED_TASKS if self.set == "train" else CROSS_VIEW_TASKS

    def build(self, writer: DatasetWriter) -> None:
        """Write all questions, view by view, and fill the report's audit."""
        tasks = [task for task in self._legal_tasks if self.tasks is None or task in self.tasks]
        views = list(self._read(tasks, writer))
        if self.set == "benchmark":  # for training, any place's map may stand beside a view of this shard
            views = [view for view in views if writer.mine(view.place)]
        images = self._prepare(views, tasks, writer)
        views = [view for view in views if _accept(view, images, writer)]
        if self.set == "train":
            kinds = {KIND_OF_TASK[task] for task in tasks}
            distance_m = self.min_distance_m
            views = list(training_views(views, kinds, images, writer, seed=self.seed, min_distance_m=distance_m))
        answers: dict[str, Counter[str]] = {task: Counter() for task in tasks}
        asked = list(_questions(views, tasks))
        with progress_bar("writing questions", len(asked)) as advance:
            for task, view in asked:
                for sample in _samples(view, task, images, writer.images_dir):
                    writer.write(sample)
                    answers[task][sample.answer] += 1
                advance()
        writer.audit["shortcuts"] = {"zoom": scale_shortcut(views)}
        writer.audit["answers"] = {task: dict(sorted(counts.items())) for task, counts in answers.items()}
        writer.audit["repeated_candidates"] = [
            view.record_id for view in views if len({aerial.path for aerial in view.maps}) < len(view.maps)
        ]
        writer.audit["near_training"] = self._near_training(sorted({view.family for view in views}))

    def _read(self, tasks: Iterable[str], writer: DatasetWriter) -> Iterator[View]:
        """The valid records of all indices that the tasks need; invalid records are rejected."""
        kinds = [POOL] if self.set == "train" else list(dict.fromkeys(KIND_OF_TASK[task] for task in tasks))
        names = ", ".join(INDEX_NAMES[kind] for kind in kinds)
        files = {kind: index_files(self.index_dir, kind, self.sources) for kind in kinds}
        every_source = {source for found in files.values() for source in found}
        known = every_source | {canonical_names(source)[1] for source in every_source}
        for name in self.sources or ():
            if canonical_names(name)[0] not in known:
                raise ConfigError(
                    Problem(
                        "sources",
                        name,
                        f"no index file of {names} in index_dir has this name",
                        f"choose from {', '.join(sorted(known))}",
                    )
                )
        if not every_source:
            raise ConfigError(
                Problem("index_dir", self.index_dir, f"there is no index file of {names}", "give the published indices")
            )
        for kind, found in files.items():
            if missing := sorted(every_source - set(found)):
                raise ConfigError(
                    Problem(
                        "index_dir",
                        self.index_dir,
                        f"{INDEX_NAMES[kind]} lacks {', '.join(missing)}",
                        "add the files, or choose tasks= or sources= that do not need them",
                    )
                )
        # Source by source, so that the questions about a place stand together in the dataset.
        for source in sorted(every_source):
            for kind in kinds:
                for view in read_views(files[kind][source], kind, self.index_dir, self.image_root.absolute()):
                    writer.count_source(1)
                    if isinstance(view, RejectedRecordError):
                        writer.reject(view.record_id, view.reason, view.detail)
                    else:
                        yield view

    def _prepare(self, views: Iterable[View], tasks: Iterable[str], writer: DatasetWriter) -> dict[Path, ImageFile]:
        """Check all images of the views, and cut the maps that cropped tasks show."""
        cropped = {POOL if self.set == "train" else KIND_OF_TASK[task] for task in tasks if get_task(task).cropped}
        images = prepare_images(
            {path for view in views for path in (view.ground, *(aerial.path for aerial in view.maps))},
            {aerial.path for view in views if view.kind in cropped for aerial in view.maps},
            crops_root=writer.images_dir / CROPS_FOLDER,
            max_pixels=self.max_image_pixels,
            workers=self.workers,
        )
        # Maps that have one content under several paths share their crops.
        made: dict[str, int] = {}
        for image in images.values():
            if image.crops:
                made[image.crops] = max(image.made, made.get(image.crops, 0))
        writer.count_images(sum(made.values()), reused=len(made) * len(CROPS) - sum(made.values()))
        return images

    def _near_training(self, families: list[str]) -> dict[str, Any] | None:
        """Benchmark places close to places of the training pool; None unless the index folder holds both."""
        benchmark, pool = self._places(OWN_MAP, families), self._places(POOL, families)
        if not benchmark or not pool:
            return None
        names = {family: [name for name, at in pool.items() if at[0] == family] for family in families}
        indices = {family: PlaceIndex.of(pool[name][1:] for name in names[family]) for family in families}
        near = [
            {"place": place, "training_place": names[family][found[0]], "metres": round(1000 * found[1])}
            for place, (family, lat, lon) in benchmark.items()
            if (found := indices[family].nearest(lat, lon, NEAR_TRAINING_M / 1000)) is not None
            and found[1] < NEAR_TRAINING_M / 1000
        ]
        return {"threshold_m": NEAR_TRAINING_M, "places": len(benchmark), "near": near}

    def _places(self, kind: str, families: list[str]) -> dict[str, tuple[str, float, float]]:
        """Family, latitude and longitude of each place of an index."""
        files = index_files(self.index_dir, kind, families)
        views = (view for path in files.values() for view in read_views(path, kind, self.index_dir, self.image_root))
        return {view.place: (view.family, view.lat, view.lon) for view in views if isinstance(view, View)}


def scale_shortcut(views: Iterable[View]) -> dict[str, float]:
    """Accuracy on localization, by source, of a rule that sees only the map's scale and gives its majority answer.

    Chance is 0.5. A higher accuracy means that the maps of other places differ in zoom from the places' own maps.
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


def _accept(view: View, images: Mapping[Path, ImageFile], writer: DatasetWriter) -> bool:
    """Returns whether all images of a view can be used; rejects the view otherwise."""
    for path in (view.ground, *(aerial.path for aerial in view.maps)):
        image = images[path]
        if image.reason:
            writer.reject(view.record_id, image.reason, image.detail)
            return False
    if view.true_map is not None:
        image = images[view.maps[view.true_map].path]
        across, down = view.camera_offset_px
        # Beyond a twelfth of the map, the camera falls into a different ninth of a crop than the crop's name says.
        if abs(across) > image.width / 12 or abs(down) > image.height / 12:
            writer.reject(
                view.record_id, "out_of_frame", f"the camera stands {across:.0f}, {down:.0f} px off the center"
            )
            return False
    return True


def _questions(views: Iterable[View], tasks: Iterable[str]) -> Iterator[tuple[str, View]]:
    """Yield (task, view) so that all questions about one ground view come in a row."""
    together: dict[tuple[str, str, str], dict[str, View]] = defaultdict(dict)
    for view in views:
        together[view.source, view.image_id, view.heading][view.kind] = view
    for by_kind in together.values():
        for task in tasks:
            if KIND_OF_TASK[task] in by_kind:
                yield task, by_kind[KIND_OF_TASK[task]]


def _samples(view: View, task: str, images: Mapping[Path, ImageFile], images_dir: Path) -> Iterator[Sample]:
    """The questions of a task about a view: one that shows whole maps, or one per crop."""
    placed = PlacedView(
        id=f"geox_index/{view.source}/{view.image_id}/{view.heading}",
        source=view.source,
        place=view.place,
        ground=view.ground,
        heading=view.heading,
        facts={
            "index": view.index,
            "image_id": view.image_id,
            "original_id": view.original_id,
            "split": view.split,
            "lat": view.lat,
            "lon": view.lon,
            "heading_deg": view.heading_deg,
            "fov_deg": view.fov_deg,
            "capture_time": view.capture_time,
        },
    )
    for crop in crops_of(task):
        maps = [
            MapShown(aerial.name, aerial.scale, map_file(aerial.path, crop, images, images_dir)) for aerial in view.maps
        ]
        yield view_sample(placed, task, crop, maps, view.true_map)
