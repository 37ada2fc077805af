"""The settings of the builder `cross_view`, with their checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_builders.sources.cross_view_readers import READERS
from geotune.config.options import Options
from geotune.config.rules import above_zero, are_among, at_least, is_folder
from geotune.errors import Problem
from geotune.tasks import CROSS_VIEW_TASKS


@dataclass
class CrossViewSettings(Options):
    """Settings of the builder of cross-view questions from raw imagery.

    Raises:
        ConfigError: A value is impossible, or `root` or `tiles` is no folder.
    """

    source: Literal["cvusa", "vigor", "cvglobal", "omnicity", "llmgeo"]
    """Dataset whose download lies at `root`."""
    root: Path
    """Folder of the download."""
    part: Literal["train", "test"] = "train"
    """Side of the split to write."""
    split: Literal["published", "blocks"] = "published"
    """Origin of the split: `published` is the dataset's own; `blocks` holds out blocks of the earth by `split_seed`."""
    guard_km: float = 0.5
    """Smallest distance in km from a training place to a held-out place (split=blocks) and to places of `held_out`."""
    block_km: float = 5.0
    """Side of a block in km."""
    test_share: float = 0.1
    """Share of the blocks that is held out."""
    split_seed: int = 0
    """Seed that decides which blocks are held out; use one value for all datasets that are used together."""
    held_out: str | list[str] = field(default_factory=list)
    """Evaluation dataset, or a list of them: training places within `guard_km` of their places are left out."""
    exclude: str | list[str] = field(default_factory=list)
    """Dataset built earlier, or a list of them: their places are left out, so that subsets are disjoint."""
    tasks: list[str] | None = None
    """Cross-view tasks to write; null writes all seven."""
    scales: list[str] | None = None
    """Scales of the source (zoom19, view1) or cities of VIGOR to write; null writes all."""
    places: int | None = None
    """Largest number of places, drawn by seed; null writes all."""
    samples_per_task: int | None = None
    """Largest number of questions per task, balanced over answers and spread over places; null writes all."""
    views: Literal[4, 8] = 4
    """Number of headings at which a panorama is seen; NE, SE, SW and NW have no questions about the heading."""
    fov_deg: float = 90.0
    """Horizontal field of view of the ground views in degrees."""
    view_size: int = 512
    """Width of a ground view in pixels."""
    map_size: int = 512
    """Side of a map in pixels."""
    negative_km: tuple[float, float] = (0.3, 5.0)
    """Smallest and largest distance in km to the other places whose maps stand beside a place's own map."""
    augment: Literal["none", "turn", "mirror", "both"] = "none"
    """Exact symmetry of a place's images, drawn by seed: quarter turns of maps, mirrored views and maps, or both."""
    texts: Path | None = None
    """JSON object of descriptions by image name; the answer to a question about a described image follows its text."""
    heading_offset_deg: float = 0.0
    """Degrees to add to the heading of a panorama's center column, for a copy of the data that is rotated."""
    heading_from_name: bool | None = None
    """Whether d<degrees> in a file name is the center column's heading; null follows the source (CVGlobal: yes)."""
    span_deg: tuple[float, float] | None = None
    """Horizontal and vertical extent of the panoramas in degrees; null derives it from their aspect ratio."""
    tiles: Path | None = None
    """Folder of web-mercator tiles to stitch maps from; null uses the source's own maps (LLMGeo has none)."""
    tile_pattern: str = "{zoom}/{x}/{y}.png"
    """Path of a tile inside `tiles`."""
    tile_size: int = 256
    """Side of a tile in pixels."""
    stitched_px: int = 512
    """Side of the stitched window in pixels of the tiles, before it is resized to `map_size`."""
    zoom: int | None = None
    """Zoom level of the tiles, or of the source's maps where it states none or a wrong one."""
    map_time: str | None = None
    """Date of the maps (YYYY, YYYY-MM or YYYY-MM-DD), which no source states; the audit then shows the gaps."""
    seed: int = 0
    """Seed of all draws but the split by blocks."""
    max_image_pixels: int = 50_000_000
    """Largest number of pixels of an image; larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that make images; null uses one per usable core."""

    def __post_init__(self) -> None:
        self.tiles = None if self.tiles is None else Path(self.tiles).absolute()
        self.held_out, self.exclude = as_list(self.held_out), as_list(self.exclude)
        super().__post_init__()

    def check(self) -> Iterator[Problem]:
        yield from are_among("source", [self.source], READERS)
        yield from self._check_numbers()
        if self.map_time is not None and not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", self.map_time):
            yield Problem("map_time", self.map_time, "give YYYY, YYYY-MM or YYYY-MM-DD")
        if self.tiles is not None and self.zoom is None and self.source in ("omnicity", "llmgeo"):
            yield Problem("zoom", None, f"{self.source} does not state a zoom level", "give the one of the tiles")
        yield from are_among("tasks", self.tasks, CROSS_VIEW_TASKS)

    def check_inputs(self) -> Iterator[Problem]:
        for key in ("root", "tiles"):
            yield from is_folder(key, getattr(self, key))

    def _check_numbers(self) -> Iterator[Problem]:
        if not 0 < self.fov_deg <= 150:
            yield Problem("fov_deg", self.fov_deg, "must be above 0 and at most 150, which a flat image can show")
        low, high = self.negative_km
        if not 0 < low < high:
            yield Problem("negative_km", list(self.negative_km), "give two distances above 0, [nearest, farthest]")
        yield from at_least("guard_km", self.guard_km, 0)
        yield from at_least("seed", self.seed, 0)
        yield from above_zero("block_km", self.block_km)
        if not 0 < self.test_share < 1:
            yield Problem("test_share", self.test_share, "must be above 0 and below 1")
        for key in ("view_size", "map_size", "stitched_px", "tile_size"):
            yield from at_least(key, getattr(self, key), 24, "an image needs that many pixels a side")
        for key in ("places", "samples_per_task", "workers"):
            yield from at_least(key, getattr(self, key), 1)


def as_list(names: str | list[str]) -> list[str]:
    """A list of names, which may be given as one name."""
    return [names] if isinstance(names, str) else names
