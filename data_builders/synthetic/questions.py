"""The questions that can be asked of a place: images, gold answers and truthful short explanations."""

from __future__ import annotations

import json
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
    place_text,
    plaza_text,
    plazas_text,
    view_text,
)
from geotune.imagery.crops import CROPS


@dataclass(frozen=True)
class Question:
    """One question about a place. `maps` names satellite images as (index of the town, crop or `full`)."""

    task: str
    heading: str
    crop: str
    maps: tuple[tuple[int, str], ...]
    answer: str
    explanation: str


def questions(place: Place, tasks: tuple[str, ...], crops_per_view: int = len(CROPS)) -> Iterator[Question]:
    """All questions of a place about `tasks`, in an order that does not change.

    Each ground view gives what GeoX-Bench asks of one: a question for each full-map task, one per crop for the others.
    Half of the localization questions show one of the neighbourhood's maps instead of the place's own.

    Args:
        crops_per_view: how many of the nine crops a view is asked about, drawn anew for each.
    """
    town = place.towns[0]
    for heading in HEADINGS:
        left, right = town.around()[heading]
        seen = view_text(town.center_plaza, left, right)
        side = heading_text(left, right, heading)
        rng = place.rng(f"ask {heading}")
        crops = [CROPS[i] for i in sorted(rng.permutation(len(CROPS))[:crops_per_view])]
        for crop in [FULL, *crops]:
            own = ((0, crop),)
            # Drawn whether asked or not, so that the choice of tasks changes no question.
            other = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
            order = tuple(int(i) for i in rng.permutation(4))
            index = order.index(0)
            several = tuple((i, crop) for i in order)
            here = ((other, crop),)
            truth = "false" if other else "true"
            asked: tuple[tuple[str, tuple[tuple[int, str], ...], str, list[str]], ...]
            if crop == FULL:
                center = place.towns[other].center_plaza
                compared = [plaza_text(center, "center"), comparison_text(town.center_plaza, center)]
                centers = [place.towns[i].center_plaza for i in order]
                chosen = [centers_text(centers), choice_text(town.center_plaza, index)]
                asked = (
                    ("pose_fixed", own, heading, [around_text(town.around()), side]),
                    ("localization_prior", here, truth, compared),
                    ("cross_map", several, str(index), chosen),
                )
            else:
                listed = plazas_text(town.plazas_in(crop))
                found = plaza_text(town.center_plaza, crop)
                shown = plazas_text(place.towns[other].plazas_in(crop))
                here_or_not = plaza_text(town.center_plaza, NOWHERE if other else crop)
                everywhere = all_plazas_text([list(place.towns[i].plazas_in(crop).values()) for i in order])
                chosen = [everywhere, choice_text(town.center_plaza, index)]
                asked = (
                    ("pose_random", own, heading, [listed, found, around_text(town.around()), side]),
                    ("localization_no_prior", here, truth, [shown, here_or_not]),
                    ("intra_map", own, crop, [listed, found]),
                    ("cross_map_random", several, str(index), chosen),
                )
            for task, maps, answer, reasons in asked:
                if task in tasks:
                    yield Question(task, heading, crop, maps, answer, " ".join([seen, *reasons]))
        if "geolocate" in tasks:
            gold = json.dumps({"latitude": round(place.lat, 4), "longitude": round(place.lon, 4)})
            yield Question("geolocate", heading, FULL, (), gold, place_text(place.ground, place.trim))
