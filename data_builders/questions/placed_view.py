"""The seven cross-view questions about a placed view: its maps, its gold answers, and the samples.

A placed view is a ground view whose coordinates and heading are known. Each question shows it with its own map, with
one map that may be another place's (localization), or with four candidate maps of which one is its own (cross map).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_builders.imagery.prepare import ImageFile
from data_builders.questions.draw import draw_others, spread_labels
from data_builders.questions.sample import question_sample
from geotune.imagery.crops import CROPS
from geotune.imagery.symmetry import IDENTITY, Symmetry
from geotune.sample import Sample
from geotune.tasks import get_task
from geotune.tasks.cross_view import N_CANDIDATES

FULL = "full"
"""Name of a whole map where a question may also show one of its crops."""
CROPS_FOLDER = "crops"
"""Folder of the crops inside a dataset's folder of images."""
OWN_MAP, LOCALIZATION, CROSS_MAP = "own_map", "localization", "cross_map"
KIND_OF_TASK = {
    "pose_fixed": OWN_MAP,
    "pose_random": OWN_MAP,
    "localization_prior": LOCALIZATION,
    "localization_no_prior": LOCALIZATION,
    "intra_map": OWN_MAP,
    "cross_map": CROSS_MAP,
    "cross_map_random": CROSS_MAP,
}
"""Which maps each task shows."""
POSES = ("pose_fixed", "pose_random")
"""Tasks whose answer is the heading."""
OTHERS_SHOWN = {LOCALIZATION: 1, CROSS_MAP: N_CANDIDATES - 1}
"""Number of other places' maps that a question shows if it shows any."""


@dataclass(frozen=True, slots=True)
class PlacedView:
    """One ground view with everything that its questions have in common."""

    id: str
    """`<builder>/<source>/<image_id>/<heading>`: the ids of its samples begin with it."""
    source: str
    place: str
    ground: Path
    heading: str
    """Compass point that the camera faces on the maps as they are shown."""
    facts: Mapping[str, Any]
    """Entries of `meta` that stand before those of the question."""
    more_facts: Mapping[str, Any] = field(default_factory=dict)
    """Entries of `meta` that stand after those of the question."""
    symmetry: Symmetry = IDENTITY
    """Symmetry under which the images are shown."""
    explanation: str | None = None
    """Text that stands before each answer; None asks for the answer alone."""


@dataclass(frozen=True, slots=True)
class MapShown:
    """One map or crop of a map as a question shows it."""

    name: str
    scale: str
    """`zoom18` or `view2`; empty if the source does not say."""
    file: str


@dataclass(frozen=True, slots=True)
class MapChoice:
    """Which maps a view is shown with."""

    maps: tuple[int, ...]
    """Numbers of the maps, in the order in which they are shown."""
    true_map: int | None
    """Position of the view's own map among them; None if it is not shown."""


def crops_of(task: str) -> tuple[str, ...]:
    """The crops that a task asks about one by one, or `full` alone."""
    return CROPS if get_task(task).cropped else (FULL,)


def map_file(path: Path, crop: str, prepared: Mapping[Path, ImageFile], images_dir: Path) -> str:
    """File of the map `path` or of one of its crops.

    Args:
        crop: The name of a crop, or `full`.
        prepared: The maps whose crops have been cut into `images_dir`.
    """
    return str(path) if crop == FULL else str(images_dir / CROPS_FOLDER / prepared[path].crop(crop))


def draw_maps(
    kind: str,
    own: Sequence[int],
    groups: Sequence[Hashable],
    n_maps: int,
    others: Callable[[int], NDArray[np.intp]],
    rng: Generator,
) -> list[MapChoice | None]:
    """Draw the maps that each view is shown with, so that no answer can be told from the draw.

    Half of the localization questions show the view's own map. In a cross-map question the own map stands at each
    position equally often. Both hold overall and within each group. All maps are used as other places' maps about
    equally often.

    Args:
        kind: LOCALIZATION or CROSS_MAP.
        own: The number of each view's own map, in range(n_maps).
        groups: The group of each view (its place).
        others: Returns the numbers of the maps that may stand beside a given map.

    Returns:
        One choice per view; None for a view that has too few other maps.
    """
    local = kind == LOCALIZATION
    labels = spread_labels(groups, 2 if local else N_CANDIDATES, rng)
    # A localization question with label 0 shows the own map and needs no other.
    needing = [map_ for map_, label in zip(own, labels, strict=True) if not local or label == 1]
    drawn = iter(draw_others(needing, OTHERS_SHOWN[kind], n_maps, others, rng))
    choices: list[MapChoice | None] = []
    for map_, label in zip(own, labels, strict=True):
        if local and label == 0:
            choices.append(MapChoice((map_,), 0))
            continue
        found = next(drawn)
        if found is None:
            choices.append(None)
        elif local:
            choices.append(MapChoice(tuple(found), None))
        else:
            choices.append(MapChoice((*found[:label], map_, *found[label:]), label))
    return choices


def gold_answer(task: str, heading: str, crop: str, true_map: int | None) -> str:
    """The answer to a task about a view.

    Args:
        heading: The compass point that the camera faces on the map.
        crop: The crop that is shown, or `full`.
        true_map: The position of the view's own map among those shown; None if it is not shown.
    """
    if KIND_OF_TASK[task] == CROSS_MAP:
        return str(true_map)
    if KIND_OF_TASK[task] == LOCALIZATION:
        return "false" if true_map is None else "true"
    return heading if task in POSES else crop


def view_sample(view: PlacedView, task: str, crop: str, maps: Sequence[MapShown], true_map: int | None) -> Sample:
    """The sample that asks a task about a view.

    Args:
        crop: The crop's name on the map before the view's symmetry is applied, or `full`.
        maps: The maps as they are shown.
        true_map: The position of the view's own map among them; None if it is not shown.
    """
    crop_shown = view.symmetry.crop(crop)
    asked = {
        "crop": crop_shown,
        "maps": [shown.name for shown in maps],
        "map_scales": [shown.scale for shown in maps],
        "true_map": true_map,
    }
    return question_sample(
        f"{view.id}/{task}/{crop}",
        task,
        gold_answer(task, view.heading, crop_shown, true_map),
        (str(view.ground), *(shown.file for shown in maps)),
        source=view.source,
        place=view.place,
        meta={**view.facts, **asked, **view.more_facts},
        explain=view.explanation is not None,
        explanation=view.explanation,
    )
