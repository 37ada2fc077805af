"""CVUSA, VIGOR, CVGlobal, OmniCity and LLMGeo as downloaded -> the seven cross-view tasks."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from data_builders.builder import Builder
from data_builders.imagery.place_images import (
    ImageJob,
    ImageSettings,
    PlaceImages,
    draw_turned,
    make_place_images,
    turned_map,
)
from data_builders.imagery.prepare import ImageFile, prepare_images
from data_builders.questions.draw import balanced_choice, draw_among, generator, spread_labels
from data_builders.questions.sample import question_sample
from data_builders.sources.blocks import Blocks, PlaceIndex
from data_builders.sources.cross_view_places import READERS, SourcePlace
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter
from geotune.data.building import ensure_dataset
from geotune.errors import BadRecord, ConfigError
from geotune.geo import COMPASS_POINTS, compass_to_heading, haversine_km, metres_per_pixel
from geotune.imagery.crops import CROPS
from geotune.imagery.symmetry import SYMMETRIES, Symmetry
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import CROSS_VIEW_TASKS, get_task
from geotune.tasks.cross_view import HEADINGS, N_CANDIDATES

FULL = "full"
POSES = ("pose_fixed", "pose_random")
LOCALIZATIONS = ("localization_prior", "localization_no_prior")
CROSS_MAPS = ("cross_map", "cross_map_random")
KINDS = {"localization": LOCALIZATIONS, "cross_map": CROSS_MAPS}
"""The tasks that need other places' maps, by what is drawn for them."""
ENOUGH_OTHERS = 64
"""A draw of other places' maps is made among at least this many, where there are so many."""
NEAREST_SHOWN = 20


@dataclass
class CrossView(Builder):
    """Builder of cross-view questions from raw imagery.

    The camera stands at the middle of every map; a panorama gives one view towards each heading. Other places' maps
    come from the same source, scale and side of the split, at a distance within `negative_km`, and are used evenly.

    Raises:
        ConfigError: a source's files that are not there, a split that it does not publish, an impossible setting.
    """

    version: ClassVar[int] = 1

    source: Literal["cvusa", "vigor", "cvglobal", "omnicity", "llmgeo"]
    """Which dataset lies at `root`."""
    root: Path
    """Folder of the download."""
    part: Literal["train", "test"] = "train"
    """Which side of the split to write."""
    split: Literal["published", "blocks"] = "published"
    """published: the dataset's own, its overlap is reported; blocks: blocked in space, the same for every source."""
    guard_km: float = 0.5
    """No training place is nearer to a held-out one (with split=blocks, and to places of `held_out`)."""
    block_km: float = 5.0
    """Side of a block."""
    test_share: float = 0.1
    """Share of the blocks that is held out."""
    split_seed: int = 0
    """Decides which blocks are held out; keep it the same over all datasets that go together."""
    held_out: str | list[str] = field(default_factory=list)
    """A dataset, or several, to be evaluated on: training places within `guard_km` of theirs are left out."""
    exclude: str | list[str] = field(default_factory=list)
    """An earlier dataset, or several: places that they hold are left out, so that subsets are disjoint."""
    tasks: list[str] | None = None
    """Which of the seven; null: all."""
    scales: list[str] | None = None
    """Which scales of the source (zoom19, view1) or cities of VIGOR; null: all."""
    places: int | None = None
    """At most this many places, drawn by seed; null: all."""
    samples_per_task: int | None = None
    """At most this many questions a task, even over answers and spread over places; null: all."""
    views: Literal[4, 8] = 4
    """Headings a panorama is seen towards; the four between the winds ask nothing about heading."""
    fov_deg: float = 90.0
    """Field of view of the ground views."""
    view_size: int = 512
    """Width of a ground view in pixels."""
    map_size: int = 512
    """Side of a map in pixels."""
    negative_km: tuple[float, float] = (0.3, 5.0)
    """How far away the other places are whose maps stand beside the true one."""
    augment: Literal["none", "turn", "mirror", "both"] = "none"
    """Each place under one exact symmetry, drawn by seed: quarter turns of maps, mirrored views and maps, or both."""
    texts: Path | None = None
    """A JSON object of descriptions by image name; what is described is explained so before it is answered."""
    heading_offset_deg: float = 0.0
    """Added to the heading of a panorama's centre column, where a copy of the data is turned otherwise."""
    heading_from_name: bool | None = None
    """Whether the d<degrees> of a name is that heading; null: as the source has it (CVGlobal yes, OmniCity no)."""
    span_deg: tuple[float, float] | None = None
    """Degrees that the panoramas cover, across and up; null: by their aspect ratio."""
    tiles: Path | None = None
    """Folder of web-mercator tiles, from which the maps are stitched instead of the source's own (LLMGeo has none)."""
    tile_pattern: str = "{zoom}/{x}/{y}.png"
    """How the tiles are named."""
    tile_size: int = 256
    """Side of a tile in pixels."""
    stitched_px: int = 512
    """Side of the stitched window in the tiles' pixels, before it is rescaled to `map_size`."""
    zoom: int | None = None
    """Zoom of the tiles, or of the source's maps where it says none or another."""
    map_time: str | None = None
    """When the maps were taken (YYYY, YYYY-MM or YYYY-MM-DD), which no source says; the audit then shows the gaps."""
    seed: int = 0
    """Of everything that is drawn."""
    max_image_pixels: int = 50_000_000
    """Larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Processes that draw; null: one per usable core."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self.tiles = None if self.tiles is None else Path(self.tiles).absolute()
        self.texts = None if self.texts is None else Path(self.texts)
        self.held_out, self.exclude = _listed(self.held_out), _listed(self.exclude)
        for key, options in (
            ("source", READERS),
            ("part", ("train", "test")),
            ("split", ("published", "blocks")),
            ("views", (4, 8)),
            ("augment", SYMMETRIES),
        ):
            if getattr(self, key) not in options:
                raise ConfigError(f"{key}={getattr(self, key)}: say {' or '.join(map(str, options))}")
        for key in ("root", "tiles"):
            folder = getattr(self, key)
            if folder is not None and not folder.is_dir():
                raise ConfigError(f"{key}={folder}: there is no such folder")
        if not 0 < self.fov_deg <= 150:
            raise ConfigError(f"fov_deg={self.fov_deg}: a flat image shows more than 0 and at most 150 degrees")
        low, high = self.negative_km
        if not 0 < low < high:
            raise ConfigError(f"negative_km={list(self.negative_km)}: give two distances, [nearest, farthest], above 0")
        if self.guard_km < 0 or self.block_km <= 0 or not 0 < self.test_share < 1:
            raise ConfigError(
                f"guard_km={self.guard_km}, block_km={self.block_km}, test_share={self.test_share}: "
                "the guard may not be negative, blocks have a size, and the share lies between 0 and 1"
            )
        for key in ("view_size", "map_size", "stitched_px", "tile_size"):
            if getattr(self, key) < 24:
                raise ConfigError(f"{key}={getattr(self, key)}: images need at least 24 pixels a side")
        for key in ("places", "samples_per_task", "workers"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: ask for at least 1, or null")
        if self.map_time is not None and not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", self.map_time):
            raise ConfigError(f"map_time={self.map_time}: say YYYY, YYYY-MM or YYYY-MM-DD")
        if self.tiles is not None and self.zoom is None and self.source in ("omnicity", "llmgeo"):
            raise ConfigError(f"zoom=null: {self.source} does not say its zoom; give the zoom of the tiles")
        for task in self.tasks or ():
            if task not in CROSS_VIEW_TASKS:
                raise ConfigError(f"tasks={task}: one of {', '.join(CROSS_VIEW_TASKS)}")

    def build(self, writer: DatasetWriter) -> None:
        """Read, split, draw and ask; what was found stands in the report's audit."""
        texts = self._texts()
        places = self._chosen(list(self._read(writer)), writer)
        kinds = SYMMETRIES[self.augment]
        # One draw a place, whatever becomes of the others.
        symmetries = {place.record_id: kinds[_share(self.seed, place.place, len(kinds))] for place in places}
        images = self._draw(places, symmetries, writer)
        places = [place for place in places if _accept(place, images[place.record_id], writer)]
        asker = _Asker(self, places, symmetries, images, texts, writer.mine)
        asker.draw_others(writer)
        asker.choose()
        asker.prepare(writer)
        for sample in asker.samples(writer.images_dir):
            writer.write(sample)
        writer.audit["other_maps_km"] = asker.distances()

    # Which places

    def _read(self, writer: DatasetWriter) -> Iterator[SourcePlace]:
        """Valid places of the source, settings applied; each scale of a place stands for itself."""
        seen: set[str] = set()
        found = False
        for place in READERS[self.source](self.root.absolute()):
            found = True
            if isinstance(place, RejectedRecordError):
                writer.count_source(1)
                writer.reject(place.record_id, place.reason, place.detail)
                continue
            if self.scales is not None and place.source.rpartition("_")[2] not in self.scales:
                continue
            if place.record_id in seen:
                writer.count_source(1)
                writer.reject(place.record_id, "duplicate_record", "this place stands in the source already")
                continue
            seen.add(place.record_id)
            yield self._as_set(place)
        if not found:
            raise ConfigError(f"root={self.root}: no image of {self.source} there; name the download's folder")

    def _as_set(self, place: SourcePlace) -> SourcePlace:
        if self.heading_from_name is not None and place.is_panorama:
            place = replace(place, centre_heading_deg=_degrees_in_name(place) if self.heading_from_name else 0.0)
        if self.zoom is not None:
            base, named, _ = place.source.partition("_zoom")
            source = f"{base}_zoom{self.zoom}" if named or self.tiles else base
            place = replace(place, zoom=self.zoom, source=source)
        return place

    def _chosen(self, places: list[SourcePlace], writer: DatasetWriter) -> list[SourcePlace]:
        """The places of this side of the split, without those that other datasets forbid."""
        sides = self._sides(places)
        counts = Counter(sides)
        mine = [place for place, side in zip(places, sides, strict=True) if side == self.part]
        audit: dict[str, Any] = {
            "scheme": self.split,
            "places": dict(sorted(counts.items())),
            "guard_km": self.guard_km,
        }
        if self.split == "published":
            audit["overlap"] = _overlap(places, sides, self.guard_km)
        if self.part == "train" and self.held_out:
            kept = self._far_from(mine)
            audit["near_held_out"] = len(mine) - len(kept)
            mine = kept
        if self.exclude:
            taken = {at for dataset in _listed(self.exclude) for at in _places_of(dataset, "exclude")}
            kept = [place for place in mine if (round(place.lat, 6), round(place.lon, 6)) not in taken]
            audit["excluded"] = len(mine) - len(kept)
            mine = kept
        if self.places is not None:
            # By place, so that its scales and views stay together.
            keep = sorted({place.place for place in mine}, key=lambda name: _share(self.seed, f"keep {name}", 2**60))
            kept_names = set(keep[: self.places])
            mine = [place for place in mine if place.place in kept_names]
        writer.count_source(len(mine))
        audit["asked"] = len(mine)
        writer.audit["split"] = audit
        if not mine:
            raise ConfigError(
                f"part={self.part}: of {len(places)} places none is left ({dict(counts)}); "
                "change split=, guard_km=, exclude= or held_out="
            )
        return mine

    def _sides(self, places: Sequence[SourcePlace]) -> list[str]:
        if self.split == "blocks":
            blocks = Blocks(self.block_km, self.guard_km, self.test_share, self.split_seed)
            return [blocks.split(place.lat, place.lon) for place in places]
        if places and not any(place.split for place in places):
            raise ConfigError(f"split=published: {self.source} at {self.root} publishes no split; use split=blocks")
        return [place.split or "none" for place in places]

    def _far_from(self, places: list[SourcePlace]) -> list[SourcePlace]:
        """Those that no place of `held_out` is near to."""
        at = [point for dataset in _listed(self.held_out) for point in _places_of(dataset, "held_out")]
        lats, lons = np.array(at, np.float64).reshape(-1, 2).T
        index = PlaceIndex(lats, lons)
        return [place for place in places if index.nearest(place.lat, place.lon, self.guard_km) is None]

    def _texts(self) -> dict[str, str]:
        if self.texts is None:
            return {}
        try:
            held = json.loads(self.texts.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"texts={self.texts}: can't be read ({error}); give a JSON object") from error
        if not isinstance(held, dict) or not all(isinstance(text, str) for text in held.values()):
            raise ConfigError(f"texts={self.texts}: must be a JSON object of texts by image name")
        return {
            Path(name).stem if Path(name).suffix.lower() in (".jpg", ".png") else name: t for name, t in held.items()
        }

    # Images

    def _draw(
        self, places: Sequence[SourcePlace], symmetries: Mapping[str, Symmetry], writer: DatasetWriter
    ) -> dict[str, PlaceImages]:
        headings = COMPASS_POINTS if self.views == 8 else tuple(HEADINGS)
        settings = ImageSettings(
            view_size=self.view_size,
            map_size=self.map_size,
            fov_deg=self.fov_deg,
            headings=headings,
            max_pixels=self.max_image_pixels,
            heading_offset_deg=self.heading_offset_deg,
            span_deg=self.span_deg,
            tiles=self.tiles,
            tile_pattern=self.tile_pattern,
            tile_size=self.tile_size,
            stitched_px=self.stitched_px,
        )
        draw = partial(make_place_images, settings=settings, folder=writer.images_dir)
        jobs = [
            _job(place, symmetries[place.record_id].mirrored)
            for place in sorted(places, key=lambda place: writer.turn(place.place))
        ]
        drawn: dict[str, PlaceImages] = {}
        try:
            with parallel_map(self.workers, len(jobs)) as run, progress_bar("places", len(jobs)) as advance:
                for images in run(draw, jobs):
                    drawn[images.key] = images
                    writer.count_images(images.made, reused=images.reused)
                    advance()
        except OSError as error:
            raise ConfigError(f"out: can't write images to {writer.images_dir} ({error.strerror})") from error
        return drawn


@dataclass(frozen=True, slots=True)
class _View:
    """One ground view of a place, by the place's number and the heading in the source."""

    place: int
    heading: str


class _Asker:
    """The questions about a set of drawn places."""

    def __init__(
        self,
        builder: CrossView,
        places: Sequence[SourcePlace],
        symmetries: Mapping[str, Symmetry],
        images: Mapping[str, PlaceImages],
        texts: Mapping[str, str],
        mine: Callable[[str], bool],
    ) -> None:
        self.builder = builder
        self.tasks = [task for task in CROSS_VIEW_TASKS if builder.tasks is None or task in builder.tasks]
        self.places = places
        self.symmetries = [symmetries[place.record_id] for place in places]
        self.images = [images[place.record_id] for place in places]
        self.texts = texts
        self.mine = [mine(place.place) for place in places]
        """Whose questions are written; all others are drawn from as well."""
        self.views = [_View(number, h) for number, held in enumerate(self.images) for h in held.views]
        self.others: dict[str, dict[int, list[int]]] = {"localization": {}, "cross_map": {}}
        """For each kind and view number, the other places whose maps are shown (none: the own map)."""
        self.true_at: dict[int, int] = {}
        """Where the own map stands among the four of a view."""
        self.chosen: set[tuple[int, str, str]] | None = None
        self.crops: dict[Path, ImageFile] = {}

    def draw_others(self, writer: DatasetWriter) -> None:
        """Decide for every view which other places' maps stand beside it, source by source."""
        by_source: dict[str, list[int]] = defaultdict(list)
        for number, view in enumerate(self.views):
            by_source[self.places[view.place].source].append(number)
        for source, numbers in by_source.items():
            atlas = _Atlas(self, sorted({self.views[number].place for number in numbers}))
            for kind, tasks in KINDS.items():
                if set(tasks) & set(self.tasks):
                    self._draw_kind(kind, source, numbers, atlas, writer)

    def _draw_kind(self, kind: str, source: str, numbers: list[int], atlas: _Atlas, writer: DatasetWriter) -> None:
        rng = generator(self.builder.seed, kind, source)
        groups = [self.views[number].place for number in numbers]
        local = kind == "localization"
        labels = spread_labels(groups, 2 if local else N_CANDIDATES, rng)
        needing = [(n, label) for n, label in zip(numbers, labels, strict=True) if not local or label == 1]
        count = 1 if local else N_CANDIDATES - 1
        own = [atlas.row[self.views[number].place] for number, _ in needing]
        drawn = draw_among(own, count, len(atlas.row), atlas.others(rng), rng)
        if local:
            self.others[kind] |= {n: [] for n, label in zip(numbers, labels, strict=True) if label == 0}
        lacking: set[int] = set()
        for (number, label), found in zip(needing, drawn, strict=True):
            if found is None:
                lacking.add(self.views[number].place)
                continue
            self.others[kind][number] = [atlas.place[row] for row in found]
            if not local:
                self.true_at[number] = label
        for place in sorted(lacking):
            # A place without others can only be true: its true questions would tell.
            for number in (n for n in numbers if self.views[n].place == place):
                self.others[kind].pop(number, None)
            low, high = self.builder.negative_km
            detail = f"fewer than {count} maps of its scale lie {low:g} to {high:g} km away; see negative_km"
            writer.reject(f"{self.places[place].record_id}/{kind}", "too_few_other_maps", detail)

    def choose(self) -> None:
        """Keep `samples_per_task` questions of each task."""
        limit = self.builder.samples_per_task
        if limit is None:
            return
        self.chosen = set()
        for task in self.tasks:
            asked = [(n, crop) for n in range(len(self.views)) for crop in self._crops(task, n)]
            answers = [self._answer(task, n, crop) for n, crop in asked]
            places = [self.places[self.views[n].place].place for n, _ in asked]
            kept = balanced_choice(answers, places, limit, generator(self.builder.seed, "choose", task))
            self.chosen |= {(asked[item][0], task, asked[item][1]) for item in kept}

    def prepare(self, writer: DatasetWriter) -> None:
        """Make the turned maps and the crops that the questions show."""
        turned: set[tuple[Path, Symmetry]] = set()
        cropped: set[Path] = set()
        for number, task, _ in self._asked():
            symmetry = self.symmetries[self.views[number].place]
            for place in self._maps(task, number):
                path = self.images[place].map
                turned.add((path, symmetry))
                if get_task(task).cropped:
                    cropped.add(turned_map(path, symmetry))
        jobs = sorted((job for job in turned if turned_map(*job) != job[0]), key=lambda job: (job[0], job[1].name))
        with parallel_map(self.builder.workers, len(jobs)) as run, progress_bar("turned maps", len(jobs)) as advance:
            for made in run(draw_turned, jobs):
                writer.count_images(int(made), reused=int(not made))
                advance()
        self.crops = prepare_images(
            (),
            cropped,
            crops_root=writer.images_dir / "crops",
            max_pixels=self.builder.max_image_pixels,
            workers=self.builder.workers,
        )
        made_crops = sum(image.made for image in self.crops.values())
        writer.count_images(made_crops, reused=len(self.crops) * len(CROPS) - made_crops)

    def samples(self, images_dir: Path) -> Iterator[Sample]:
        """Every question, all about one view in a row."""
        for number, task, crop in self._asked():
            view = self.views[number]
            place, symmetry = self.places[view.place], self.symmetries[view.place]
            shown = symmetry.crop(crop)
            maps = [turned_map(self.images[other].map, symmetry) for other in self._maps(task, number)]
            files = [str(path) for path in maps]
            if crop != FULL:
                files = [str(images_dir / "crops" / self.crops[path].crop(shown)) for path in maps]
            text = self.texts.get(place.image_id) or self.texts.get(place.ground.stem)
            yield question_sample(
                f"cross_view/{place.source}/{place.image_id}/{view.heading}/{task}/{crop}",
                task,
                self._answer(task, number, crop),
                (str(self.images[view.place].views[view.heading]), *files),
                source=place.source,
                place=place.place,
                meta=self._meta(task, number, shown),
                explain=text is not None,
                explanation=text,
            )

    def distances(self) -> dict[str, dict[str, float]]:
        """How far away the other places are, by what is drawn."""
        found: dict[str, dict[str, float]] = {}
        for kind, by_view in self.others.items():
            pairs = [(self.views[n].place, other) for n, others in by_view.items() for other in others]
            if pairs:
                km = np.array([_km(self.places[a], self.places[b]) for a, b in pairs])
                found[kind] = {
                    "n": len(pairs),
                    "min": round(float(km.min()), 3),
                    "median": round(float(np.median(km)), 3),
                    "max": round(float(km.max()), 3),
                }
        return found

    def _asked(self) -> Iterator[tuple[int, str, str]]:
        for number in (number for number, view in enumerate(self.views) if self.mine[view.place]):
            for task in self.tasks:
                for crop in self._crops(task, number):
                    if self.chosen is None or (number, task, crop) in self.chosen:
                        yield number, task, crop

    def _crops(self, task: str, number: int) -> tuple[str, ...]:
        """The crops (or "full") that a task asks a view about; none where it can't."""
        if task in POSES and self.views[number].heading not in HEADINGS:
            return ()
        for kind, tasks in KINDS.items():
            if task in tasks and number not in self.others[kind]:
                return ()
        return CROPS if get_task(task).cropped else (FULL,)

    def _maps(self, task: str, number: int) -> list[int]:
        """The places whose maps are shown, in order."""
        own = self.views[number].place
        if task in CROSS_MAPS:
            others, at = self.others["cross_map"][number], self.true_at[number]
            return [*others[:at], own, *others[at:]]
        if task in LOCALIZATIONS:
            return self.others["localization"][number] or [own]
        return [own]

    def _answer(self, task: str, number: int, crop: str) -> str:
        view = self.views[number]
        symmetry = self.symmetries[view.place]
        if task in CROSS_MAPS:
            return str(self.true_at[number])
        if task in LOCALIZATIONS:
            return "false" if self.others["localization"][number] else "true"
        return symmetry.crop(crop) if task == "intra_map" else symmetry.heading(view.heading)

    def _meta(self, task: str, number: int, shown: str) -> dict[str, Any]:
        view = self.views[number]
        place, symmetry = self.places[view.place], self.symmetries[view.place]
        maps = self._maps(task, number)
        return {
            "image_id": place.image_id,
            "split": self.builder.part,
            "lat": place.lat,
            "lon": place.lon,
            "heading_deg": compass_to_heading(symmetry.heading(view.heading)),
            "fov_deg": place.fov_deg or self.builder.fov_deg,
            "capture_time": place.capture_time,
            "map_time": self.builder.map_time,
            "crop": shown,
            "maps": [self.places[other].record_id for other in maps],
            "map_scales": [_scale(self.places[other]) for other in maps],
            "true_map": maps.index(view.place) if view.place in maps else None,
            "symmetry": symmetry.name,
            **place.extra,
        }


class _Atlas:
    """The maps of one source and scale: what may stand beside a place's own."""

    def __init__(self, asker: _Asker, places: Sequence[int]) -> None:
        self.asker = asker
        self.place = list(places)
        self.row = {place: row for row, place in enumerate(places)}
        held = [asker.places[place] for place in places]
        self.lats, self.lons = np.array([p.lat for p in held]), np.array([p.lon for p in held])
        contents = {asker.images[place].digest for place in places}
        numbers = {digest: number for number, digest in enumerate(sorted(contents))}
        self.contents = np.array([numbers[asker.images[place].digest] for place in places])
        self.index = PlaceIndex(self.lats, self.lons)
        self.known: dict[int, NDArray[np.intp]] = {}

    def others(self, rng: np.random.Generator) -> Callable[[int], NDArray[np.intp]]:
        """The function that gives a row's candidates; one look-up serves all views of a place."""
        self.known = {}

        def find(row: int) -> NDArray[np.intp]:
            if row not in self.known:
                builder = self.asker.builder
                low, high = builder.negative_km
                low = max(low, self._width_km(row))
                lat, lon = float(self.lats[row]), float(self.lons[row])
                found = self.index.between(lat, lon, low, high, enough=ENOUGH_OTHERS, rng=rng)
                self.known = {row: found[self.contents[found] != self.contents[row]]}
            return self.known[row]

        return find

    def _width_km(self, row: int) -> float:
        """Half the diagonal of a map, within which another's camera would stand in it; 0 where no zoom is known."""
        place = self.asker.places[self.place[row]]
        builder = self.asker.builder
        if place.zoom is None:
            return 0.0
        pixels = builder.stitched_px if builder.tiles else (place.nominal_px or builder.map_size) * place.keep
        return float(metres_per_pixel(place.lat, place.zoom)) * pixels / 2 * 2**0.5 / 1000


def _job(place: SourcePlace, mirrored: bool) -> ImageJob:
    return ImageJob(
        key=place.record_id,
        ground=place.ground,
        is_panorama=place.is_panorama,
        centre_heading_deg=place.centre_heading_deg,
        span_of_2_to_1=place.span_of_2_to_1,
        lat=place.lat,
        lon=place.lon,
        zoom=place.zoom,
        satellite=place.satellite,
        camera_px=place.camera_px,
        nominal_px=place.nominal_px,
        keep=place.keep,
        mirrored=mirrored,
    )


def _accept(place: SourcePlace, images: PlaceImages, writer: DatasetWriter) -> bool:
    if images.reason:
        writer.reject(place.record_id, images.reason, images.detail)
    return not images.reason


def _scale(place: SourcePlace) -> str:
    found = place.source.rpartition("_")[2]
    return found if found.startswith(("zoom", "view")) else f"zoom{place.zoom}" if place.zoom is not None else ""


def _overlap(places: Sequence[SourcePlace], sides: Sequence[str], guard_km: float) -> dict[str, Any]:
    """Training places of a published split that lie within the guard of a held-out one."""
    held = [place for place, side in zip(places, sides, strict=True) if side == "test"]
    train = {place.place: place for place, side in zip(places, sides, strict=True) if side == "train"}
    if not held:
        return {"training_places": len(train), "near": 0, "nearest": []}
    index = PlaceIndex(np.array([p.lat for p in held]), np.array([p.lon for p in held]))
    near = [
        (found[1], name, held[found[0]].place)
        for name, place in train.items()
        if (found := index.nearest(place.lat, place.lon, guard_km)) is not None
    ]
    nearest = [{"place": a, "held_out": b, "metres": round(1000 * km)} for km, a, b in sorted(near)[:NEAREST_SHOWN]]
    return {"training_places": len(train), "near": len(near), "nearest": nearest}


def _places_of(dataset: str, key: str) -> set[tuple[float, float]]:
    """Coordinates of every place of a dataset, to the six decimals of a sample's `place`."""
    path = ensure_dataset(dataset, None, key=key)
    found: set[tuple[float, float]] = set()
    try:
        for sample in read_samples(path):
            try:
                lat, lon = (float(value) for value in sample.place.rpartition("/")[2].split(","))
            except ValueError:
                raise ConfigError(
                    f"{key}={dataset}: {sample.id} names no coordinates in its place {sample.place!r}"
                ) from None
            found.add((round(lat, 6), round(lon, 6)))
    except BadRecord as error:
        raise ConfigError(f"{key}={dataset}: {error}; mend or rebuild the dataset") from error
    return found


def _degrees_in_name(place: SourcePlace) -> float:
    """The d<degrees> of a street view's name; 0 where there is none."""
    parts = [part for part in place.ground.stem.split("_") if part.startswith("d") and part[1:].isdigit()]
    return float(parts[-1][1:]) if parts else 0.0


def _km(a: SourcePlace, b: SourcePlace) -> float:
    return float(haversine_km(a.lat, a.lon, b.lat, b.lon))


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _share(seed: int, name: str, n: int) -> int:
    """A number in range(n) that depends on the seed and the name alone."""
    return int(generator(seed, name).integers(n))
