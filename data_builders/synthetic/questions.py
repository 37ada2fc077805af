"""The questions that can be asked about a place: their images, gold answers and short, true explanations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_builders.synthetic.city import HEADINGS
from data_builders.synthetic.places import FULL, Place
from data_builders.synthetic.text import (
    NOWHERE,
    all_plazas_text,
    around_text,
    centers_text,
    choice_text,
    comparison_text,
    heading_text,
    located_text,
    plaza_text,
    plazas_text,
    view_text,
)
from geotune.imagery.crops import CROPS
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import coordinates_json


@dataclass(frozen=True)
class Question:
    """One question about a place."""

    task: str
    heading: str
    """Compass point of the ground view."""
    crop: str
    """Crop that the maps show, or `full`."""
    maps: tuple[tuple[int, str], ...]
    """The satellite images in order, each as (index of the town, crop or `full`)."""
    answer: str
    explanation: str


def questions(
    place: Place, tasks: tuple[str, ...], crops_per_view: int = len(CROPS), decimals: int = 4
) -> Iterator[Question]:
    """Yield every question about a place that belongs to one of `tasks`, in a fixed order.

    As in GeoX-Bench, each ground view gives one question for each full-map task and one per crop for the other tasks.
    Half of the localization questions show one of the neighborhood's maps instead of the place's own.

    Args:
        crops_per_view: Number of the nine crops that are asked about, drawn separately for each view.
        decimals: Number of decimals of the degrees that `geolocate` answers.
    """
    for heading in HEADINGS:
        rng = place.rng(f"ask {heading}")
        crops = [CROPS[i] for i in sorted(rng.permutation(len(CROPS))[:crops_per_view])]
        for crop in [FULL, *crops]:
            # Both are drawn whatever `tasks` holds, so that the choice of tasks changes no question.
            shown = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
            order = tuple(int(i) for i in rng.permutation(4))
            if crop == FULL:
                candidates = _full_map_questions(place, heading, shown, order)
            else:
                candidates = _crop_questions(place, heading, crop, shown, order)
            yield from (question for question in candidates if question.task in tasks)
        if "geolocate" in tasks:
            at = _rounded(place, decimals)
            located = located_text(place.ground, place.trim, at)
            yield Question("geolocate", heading, FULL, (), coordinates_json(at), located)


def _rounded(place: Place, decimals: int) -> Coordinates:
    """Return the coordinates of a place with that many decimals, or with more, because no reader takes 0, 0."""
    lat, lon = round(place.lat, decimals), round(place.lon, decimals)
    return Coordinates(lat, lon) if lat or lon else _rounded(place, decimals + 1)


def _full_map_questions(place: Place, heading: str, shown: int, order: tuple[int, ...]) -> Iterator[Question]:
    """Yield the questions that show full maps.

    Args:
        shown: Index of the town that the localization question shows.
        order: The four towns in the order of the cross-map question.
    """
    town, index = place.towns[0], order.index(0)
    view, side = _view_and_heading(place, heading)
    facing = [view, plaza_text(town.center_plaza, "center"), around_text(town.around()), side]
    yield Question("pose_fixed", heading, FULL, ((0, FULL),), heading, " ".join(facing))
    center = place.towns[shown].center_plaza
    compared = [view, plaza_text(center, "center"), comparison_text(town.center_plaza, center)]
    yield Question("localization_prior", heading, FULL, ((shown, FULL),), _is_here(shown), " ".join(compared))
    chosen = [view, centers_text([place.towns[i].center_plaza for i in order]), choice_text(town.center_plaza, index)]
    yield Question("cross_map", heading, FULL, tuple((i, FULL) for i in order), str(index), " ".join(chosen))


def _crop_questions(place: Place, heading: str, crop: str, shown: int, order: tuple[int, ...]) -> Iterator[Question]:
    """Yield the questions that show the crop `crop` of maps; the arguments are those of `_full_map_questions`."""
    town, index = place.towns[0], order.index(0)
    view, side = _view_and_heading(place, heading)
    listed, position = plazas_text(town.plazas_in(crop)), plaza_text(town.center_plaza, crop)
    own_map = ((0, crop),)
    facing = [view, listed, position, around_text(town.around()), side]
    yield Question("pose_random", heading, crop, own_map, heading, " ".join(facing))
    here = plaza_text(town.center_plaza, NOWHERE if shown else crop)
    compared = [view, plazas_text(place.towns[shown].plazas_in(crop)), here]
    yield Question("localization_no_prior", heading, crop, ((shown, crop),), _is_here(shown), " ".join(compared))
    yield Question("intra_map", heading, crop, own_map, crop, " ".join([view, listed, position]))
    everywhere = all_plazas_text([list(place.towns[i].plazas_in(crop).values()) for i in order])
    chosen = [view, everywhere, choice_text(town.center_plaza, index)]
    yield Question("cross_map_random", heading, crop, tuple((i, crop) for i in order), str(index), " ".join(chosen))


def _view_and_heading(place: Place, heading: str) -> tuple[str, str]:
    """The phrases for what a ground view shows and for the heading that follows from it."""
    town = place.towns[0]
    left, right = town.around()[heading]
    return view_text(town.center_plaza, left, right), heading_text(left, right, heading)


def _is_here(shown: int) -> str:
    """The answer to a localization question that shows the map of the town `shown`."""
    return "false" if shown else "true"
