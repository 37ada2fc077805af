"""Photos with a table of coordinates (Im2GPS3k, YFCC4k, GWS15k, OSV-5M, Google World Streets, any CSV) -> geolocation.

Expected layout: a CSV file, and a folder that holds the photos at any depth, each named by its row's id or file name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from data_builders.sources.geox_records import RejectedRecordError
from data_builders.sources.photos import PhotoFolder, photo_sample, read_photos
from data_builders.sources.tables import open_table
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError


@dataclass
class GpsCsv:
    """Builder of one table of photos and coordinates.

    Raises:
        ConfigError: a file or folder that is missing, a table that can't be read or lacks a column.
    """

    version: ClassVar[int] = 1
    """Raise it when the same settings come to give other records."""

    csv: Path
    """The table: commas, semicolons or tabs; one row per photo."""
    images: Path
    """Folder of the photos; they are found by id or file name at any depth."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names of columns that can't be told from the header, by role (id, image, lat, lon, city, ...): columns.lat=Y."""
    task: Literal["geolocate", "address"] = "geolocate"
    """What to ask: coordinates, or the address with them (for tables that name city, state or country)."""
    limit: int | None = None
    """So many rows, drawn by the seed from the whole table; null: all."""
    seed: int = 0
    """Of the draw for limit."""
    max_image_pixels: int = 50_000_000
    """Larger pictures are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Processes that decode pictures; null: one per usable core."""

    def __post_init__(self) -> None:
        self.csv, self.images = Path(self.csv), Path(self.images)
        for key, count in (("limit", self.limit), ("workers", self.workers)):
            if count is not None and count < 1:
                raise ConfigError(f"{key}={count}: at least one is needed, or null")

    def build(self, writer: DatasetWriter) -> None:
        """Write one question per photo, in the table's order."""
        table = open_table(self.csv, self.columns)
        photos = read_photos(
            table,
            PhotoFolder(self.images),
            writer,
            source=self.csv.stem,
            max_pixels=self.max_image_pixels,
            workers=self.workers,
            limit=self.limit,
            seed=self.seed,
        )
        for photo in photos:
            try:
                writer.write(photo_sample("gps_csv", self.csv.stem, photo, self.task))
            except RejectedRecordError as rejected:
                writer.reject(rejected.record_id, rejected.reason, rejected.detail)
        writer.audit["table"] = table.summary()
