"""IMAGEO-Bench's three data sets (arXiv 2508.01608) -> addresses with coordinates.

Expected layout: `root/dataset<N>_info.csv` and the photos of each below `root/dataset<N>/`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from data_builders.builder import Builder
from data_builders.sources.photos import Photo, PhotoFolder, photo_sample, read_photos
from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.tables import open_table
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError
from geotune.tasks.coordinates import Coordinates

SETS = (1, 2, 3)
TASKS = ("address", "geolocate")
US_SET = 2
"""The set that lies in the United States alone; its table has no country."""
US_BOX = ((17.5, 71.6), (-179.3, -64.5))
"""Latitudes and longitudes of the fifty states, DC and Puerto Rico, but for the Aleutians beyond the antimeridian."""
_STATE_AND_CODE = re.compile(r"(?P<state>[A-Z]{2})(?: [0-9]{5}(?:-[0-9]{4})?)?")


@dataclass
class Imageo(Builder):
    """Builder of IMAGEO-Bench's truth tables.

    Raises:
        ConfigError: a folder or table that is missing, an unknown set or task.
    """

    version: ClassVar[int] = 1
    """Raise it when the same settings come to give other records."""

    root: Path
    """Folder that holds dataset1_info.csv and dataset1/, and so on."""
    sets: list[int] | None = None
    """Which of the data sets 1, 2, 3 to read; null: those whose table is there."""
    tasks: list[str] = field(default_factory=lambda: ["address"])
    """What to ask: address (with coordinates and confidence, as the benchmark does), geolocate, or both."""
    max_image_pixels: int = 50_000_000
    """Larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Processes that decode images; null: one per usable core."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if not self.root.is_dir():
            raise ConfigError(f"root={self.root}: there is no such folder")
        if self.sets is None:
            self.sets = [number for number in SETS if self._table(number).is_file()]
            if not self.sets:
                raise ConfigError(
                    f"root={self.root}: no table there; expected dataset1_info.csv, dataset2_info.csv ..."
                )
        for number in self.sets:
            if number not in SETS:
                raise ConfigError(f"sets={number}: IMAGEO-Bench has the data sets 1, 2 and 3")
        for task in self.tasks:
            if task not in TASKS:
                raise ConfigError(f"tasks={task}: this builder asks {' and '.join(TASKS)}")
        if not self.tasks:
            raise ConfigError(f"tasks=[]: name {' or '.join(TASKS)}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: at least one process has to do the work")

    def _table(self, number: int) -> Path:
        return self.root / f"dataset{number}_info.csv"

    def build(self, writer: DatasetWriter) -> None:
        """Write each photo's questions, set by set, and what was mended in the tables."""
        mended: Counter[str] = Counter()
        tables = {}
        for number in self.sets or ():
            table = open_table(self._table(number), key="root")
            folder = PhotoFolder(self.root / f"dataset{number}", key="root")
            source = f"dataset{number}"
            photos = read_photos(
                table, folder, writer, source=source, max_pixels=self.max_image_pixels, workers=self.workers
            )
            for photo in photos:
                try:
                    shown = _mended(photo) if number == US_SET else photo
                    samples = [photo_sample("imageo", source, shown, task) for task in self.tasks]
                except RejectedRecordError as rejected:
                    writer.reject(rejected.record_id, rejected.reason, rejected.detail)
                    continue
                for sample in samples:
                    writer.write(sample)
                mended[source] += shown is not photo
            tables[source] = table.summary()
        writer.audit["tables"] = tables
        writer.audit["mended_addresses"] = mended


def _mended(photo: Photo) -> Photo:
    """A photo of the set of the United States, its address set right where it was cut at the wrong comma.

    Published so: city `AL 35203`, state empty, where the address ends in `, Birmingham, AL 35203, United States`.
    Raises RejectedRecordError: coordinates outside the country (one row stands at longitude 180, an address in Boston).
    """
    row = photo.row
    if not _in_united_states(row.at):
        address = row.values.get("address", "")
        detail = f"{row.at.lat}, {row.at.lon} lies outside the United States; address {address!r}"
        raise RejectedRecordError(row.id, "outside_country", detail)
    parts = [part.strip() for part in row.values.get("address", "").split(",")]
    cut = _STATE_AND_CODE.fullmatch(row.names.get("city", ""))
    if cut is None or row.names.get("state") or row.names["city"] not in parts[2:]:
        return photo
    at = parts.index(row.names["city"], 2)
    names = {"street": ", ".join(parts[: at - 1]), "city": parts[at - 1], "state": cut["state"]}
    return replace(photo, row=replace(row, names={**row.names, **names}))


def _in_united_states(at: Coordinates) -> bool:
    (south, north), (west, east) = US_BOX
    aleutian = 51 <= at.lat <= 54 and 172 <= at.lon < 180
    return south <= at.lat <= north and (west <= at.lon <= east or aleutian)
