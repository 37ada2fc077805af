"""IMAGEO-Bench's three data sets (arXiv 2508.01608) -> addresses with coordinates.

Expected layout: `root/dataset<N>_info.csv` for each data set, with its photos below `root/dataset<N>/`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from data_builders.builder import Builder
from data_builders.sources.photos import Photo, PhotoFolder, photo_sample, read_photos
from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.tables import open_table
from data_builders.writer import DatasetWriter
from geotune.config.rules import are_among, at_least, is_folder
from geotune.errors import Problem
from geotune.tasks.coordinates import Coordinates

SETS = (1, 2, 3)
TASKS = ("address", "geolocate")
US_SET = 2
"""The data set whose photos are all from the United States; its table has no column for the country."""
US_BOX = ((17.5, 71.6), (-179.3, -64.5))
"""Ranges of latitude and longitude of the fifty states, DC and Puerto Rico, without the Aleutians beyond the
antimeridian."""
_STATE_AND_CODE = re.compile(r"(?P<state>[A-Z]{2})(?: [0-9]{5}(?:-[0-9]{4})?)?")


@dataclass
class Imageo(Builder):
    """Builder of IMAGEO-Bench's three data sets.

    Raises:
        ConfigError: A folder or table is missing, or a data set or task is unknown.
    """

    version: ClassVar[int] = 2
    """Increase it when the same settings would produce different records."""

    root: Path
    """Folder with dataset1_info.csv and dataset1/, dataset2_info.csv and dataset2/, and so on."""
    sets: list[int] | None = None
    """Numbers of the data sets to read, among 1, 2 and 3; null: all whose table exists."""
    tasks: list[str] = field(default_factory=lambda: ["address"])
    """Tasks of the samples: address (with coordinates and confidence, as in the benchmark), geolocate, or both."""
    max_image_pixels: int = 50_000_000
    """Number of pixels above which an image is rejected."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that decode images; null: one per usable core."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if self.sets is None:
            self.sets = [number for number in SETS if self._table(number).is_file()]
        super().__post_init__()

    def check(self) -> Iterator[Problem]:
        for number in self.sets or ():
            if number not in SETS:
                yield Problem("sets", number, "IMAGEO-Bench has the data sets 1, 2 and 3")
        yield from are_among("tasks", self.tasks, TASKS)
        yield from at_least("workers", self.workers, 1)

    def check_inputs(self) -> Iterator[Problem]:
        yield from is_folder("root", self.root, "give the folder of the download")
        if self.root.is_dir() and not self.sets:
            expected = "expected dataset1_info.csv, dataset2_info.csv ..."
            yield Problem("root", self.root, "this folder has no table", expected)

    def _table(self, number: int) -> Path:
        return self.root / f"dataset{number}_info.csv"

    def build(self, writer: DatasetWriter) -> None:
        """Write the samples of each photo, data set by data set, and report how many addresses were fixed."""
        fixed: Counter[str] = Counter()
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
                    corrected = _with_fixed_address(photo) if number == US_SET else photo
                    samples = [photo_sample("imageo", source, corrected, task) for task in self.tasks]
                except RejectedRecordError as rejected:
                    writer.reject(rejected.record_id, rejected.reason, rejected.detail)
                    continue
                for sample in samples:
                    writer.write(sample)
                fixed[source] += corrected is not photo
            tables[source] = table.summary()
        writer.audit["tables"] = tables
        writer.audit["mended_addresses"] = fixed


def _with_fixed_address(photo: Photo) -> Photo:
    """A photo of the United States, with its address fixed if the table cut it at the wrong comma.

    An example of such a row: the city is `AL 35203` and the state is empty, while the full address ends in
    `, Birmingham, AL 35203, United States`.

    Raises:
        RejectedRecordError: The coordinates lie outside the country (one row puts an address in Boston at longitude
            180).
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
