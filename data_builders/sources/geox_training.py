"""Other places' maps for GeoX-Bench's training pool, whose records name each view's own map alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_builders.imagery.prepare import ImageFile
from data_builders.questions.draw import generator, spread_labels
from data_builders.questions.placed_view import CROSS_MAP, LOCALIZATION, OTHERS_SHOWN, OWN_MAP, draw_maps
from data_builders.sources.geox_records import INDEX_NAMES, MapRef, View
from data_builders.writer import DatasetWriter
from geotune.geo import haversine_km, metres_per_pixel


def training_views(
    pool: Sequence[View],
    kinds: Collection[str],
    images: Mapping[Path, ImageFile],
    writer: DatasetWriter,
    *,
    seed: int,
    min_distance_m: float,
) -> Iterator[View]:
    """The views of the pool that are asked about, and further copies of them that show other places' maps.

    A location that several files hold (one file per zoom) is asked about with the maps of one of them. Its maps in the
    remaining files still serve as other places' maps there. A view without enough other maps is rejected.

    Args:
        kinds: The kinds of questions that are asked (OWN_MAP, LOCALIZATION, CROSS_MAP).
        min_distance_m: Smallest distance in meters to the places whose maps are drawn.
    """
    chosen = _source_of_panorama(pool, seed)
    by_source: dict[str, list[View]] = defaultdict(list)
    for view in pool:
        by_source[view.source].append(view)
    for source, views in by_source.items():
        atlas = _TrainingMaps(views, images, min_distance_m)
        asked = [view for view in views if chosen[view.family, view.panorama] == source]
        yield from (replace(view, kind=OWN_MAP) for view in asked)
        for kind in (LOCALIZATION, CROSS_MAP):
            if kind in kinds:
                rng = generator(seed, INDEX_NAMES[kind], source)
                yield from _with_other_maps(kind, asked, atlas, rng, min_distance_m, writer)


def _with_other_maps(
    kind: str,
    views: Sequence[View],
    atlas: _TrainingMaps,
    rng: np.random.Generator,
    min_distance_m: float,
    writer: DatasetWriter,
) -> Iterator[View]:
    own = [atlas.number[view.maps[0].path] for view in views]
    choices = draw_maps(kind, own, [view.panorama for view in views], len(atlas.maps), atlas.others, rng)
    for view, own_map, choice in zip(views, own, choices, strict=True):
        if choice is None:
            detail = (
                f"fewer than {OTHERS_SHOWN[kind]} maps of its scale lie {min_distance_m:.0f} m away; see min_distance_m"
            )
            writer.reject(f"{view.record_id}/{INDEX_NAMES[kind]}", "too_few_other_maps", detail)
            continue
        maps = tuple(view.maps[0] if number == own_map else atlas.maps[number] for number in choice.maps)
        yield replace(view, kind=kind, maps=maps, true_map=choice.true_map)


class _TrainingMaps:
    """The maps of one index file with their coordinates; finds those that may stand beside a view's own map."""

    def __init__(self, views: Iterable[View], images: Mapping[Path, ImageFile], min_distance_m: float) -> None:
        view_of = {view.maps[0].path: view for view in views}
        self.number = {path: number for number, path in enumerate(view_of)}
        self.maps: list[MapRef] = [view.maps[0] for view in view_of.values()]
        self.lats = np.array([view.lat for view in view_of.values()])
        self.lons = np.array([view.lon for view in view_of.values()])
        self.scales = np.array([aerial.scale for aerial in self.maps])
        self.contents = np.array([images[path].digest or str(path) for path in view_of])
        self.apart_m = np.array([max(min_distance_m, _diagonal_m(view, images)) for view in view_of.values()])

    def others(self, own: int) -> NDArray[np.intp]:
        """Numbers of the maps that have the scale of the map `own` and show none of its ground."""
        metres = 1000 * np.asarray(haversine_km(self.lats[own], self.lons[own], self.lats, self.lons))
        same_scale = self.scales == self.scales[own]
        return np.flatnonzero(same_scale & (metres > self.apart_m[own]) & (self.contents != self.contents[own]))


def _diagonal_m(view: View, images: Mapping[Path, ImageFile]) -> float:
    """Diagonal of the view's map in meters; 0 if the index does not state its zoom."""
    aerial = view.maps[0]
    if aerial.zoom is None:
        return 0.0
    image = images[aerial.path]
    return math.hypot(image.width, image.height) * float(metres_per_pixel(view.lat, aerial.zoom))


def _source_of_panorama(pool: Iterable[View], seed: int) -> dict[tuple[str, str], str]:
    """The source whose maps each (family, panorama) is asked about with.

    Panoramas that several sources hold are spread evenly over these sources.
    """
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
