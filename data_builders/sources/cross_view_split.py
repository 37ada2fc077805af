"""The places of one side of a split, without those that other datasets forbid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_builders.questions.draw import generator
from data_builders.sources.blocks import Blocks, PlaceIndex
from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.cross_view_settings import CrossViewSettings, as_list
from data_builders.writer import DatasetWriter
from geotune.data.building import ensure_dataset
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.records import read_samples

NEAREST_SHOWN = 20
"""Number of overlapping training places that the report lists."""


def places_of_part(
    settings: CrossViewSettings, places: Sequence[SourcePlace], writer: DatasetWriter
) -> list[SourcePlace]:
    """The places of `settings.part` that the settings keep, in the order of `places`.

    The report's audit says how the places were split and how many were left out.

    Raises:
        ConfigError: No place is left, the source publishes no split, or a named dataset can't be read.
    """
    sides = _sides(settings, places)
    counts = Counter(sides)
    mine = [place for place, side in zip(places, sides, strict=True) if side == settings.part]
    audit: dict[str, Any] = {
        "scheme": settings.split,
        "places": dict(sorted(counts.items())),
        "guard_km": settings.guard_km,
    }
    if settings.split == "published":
        audit["overlap"] = _overlap(places, sides, settings.guard_km)
    if settings.part == "train" and settings.held_out:
        held_out = {at for dataset in as_list(settings.held_out) for at in _places_of(dataset, "held_out")}
        index = PlaceIndex.of(held_out)
        kept = [place for place in mine if index.nearest(place.lat, place.lon, settings.guard_km) is None]
        audit["near_held_out"] = len(mine) - len(kept)
        mine = kept
    if settings.exclude:
        taken = {at for dataset in as_list(settings.exclude) for at in _places_of(dataset, "exclude")}
        kept = [place for place in mine if (round(place.lat, 6), round(place.lon, 6)) not in taken]
        audit["excluded"] = len(mine) - len(kept)
        mine = kept
    if settings.places is not None:
        mine = _draw_places(mine, settings.places, settings.seed)
    writer.count_source(len(mine))
    audit["asked"] = len(mine)
    writer.audit["split"] = audit
    if not mine:
        raise ConfigError(
            Problem(
                "part",
                settings.part,
                f"none of {len(places)} places is left ({dict(counts)})",
                "change split=, guard_km=, exclude= or held_out=",
            )
        )
    return mine


def _sides(settings: CrossViewSettings, places: Sequence[SourcePlace]) -> list[str]:
    """The side of each place: train, test, guard (between blocks) or none (unpublished)."""
    if settings.split == "blocks":
        blocks = Blocks(settings.block_km, settings.guard_km, settings.test_share, settings.split_seed)
        return [blocks.split(place.lat, place.lon) for place in places]
    if places and not any(place.split for place in places):
        raise ConfigError(
            Problem(
                "split", "published", f"{settings.source} at {settings.root} publishes no split", "use split=blocks"
            )
        )
    return [place.split or "none" for place in places]


def _draw_places(places: Sequence[SourcePlace], count: int, seed: int) -> list[SourcePlace]:
    """The records of `count` places drawn by seed; all scales and views of a place stay together."""

    def rank(name: str) -> int:
        return int(generator(seed, f"keep {name}").integers(2**60))

    kept = set(sorted({place.place for place in places}, key=rank)[:count])
    return [place for place in places if place.place in kept]


def _overlap(places: Sequence[SourcePlace], sides: Sequence[str], guard_km: float) -> dict[str, Any]:
    """Training places of a published split that lie within the guard of a held-out place."""
    held_out = [place for place, side in zip(places, sides, strict=True) if side == "test"]
    train = {place.place: place for place, side in zip(places, sides, strict=True) if side == "train"}
    index = PlaceIndex.of((place.lat, place.lon) for place in held_out)
    near = [
        (found[1], name, held_out[found[0]].place)
        for name, place in train.items()
        if (found := index.nearest(place.lat, place.lon, guard_km)) is not None
    ]
    nearest = [{"place": a, "held_out": b, "metres": round(1000 * km)} for km, a, b in sorted(near)[:NEAREST_SHOWN]]
    return {"training_places": len(train), "near": len(near), "nearest": nearest}


def _places_of(dataset: str, key: str) -> set[tuple[float, float]]:
    """Coordinates of all places of a dataset, to the six decimals of a sample's `place`."""
    path = ensure_dataset(dataset, None, key=key)
    found: set[tuple[float, float]] = set()
    try:
        for sample in read_samples(path):
            try:
                lat, lon = (float(value) for value in sample.place.rpartition("/")[2].split(","))
            except ValueError:
                raise ConfigError(
                    Problem(
                        key,
                        dataset,
                        f"the place {sample.place!r} of {sample.id} holds no coordinates",
                        "choose a dataset of placed samples",
                    )
                ) from None
            found.add((round(lat, 6), round(lon, 6)))
    except BadRecord as error:
        raise ConfigError(Problem(key, dataset, str(error), "fix or rebuild the dataset")) from error
    return found
