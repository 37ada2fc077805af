"""Photos with a table of coordinates (Im2GPS3k, YFCC4k, GWS15k, OSV-5M, Google World Streets, any CSV) -> geolocation.

Expected layout: a CSV file, and a folder with the photos at any depth, each named by its row's id or file name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from data_builders.sources.photos import PhotoTable, photo_sample
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter


@dataclass
class GpsCsv(PhotoTable):
    """Builder that asks one question about each photo of a table of coordinates."""

    version: ClassVar[int] = 2
    """Increase it when the same settings would produce different records."""

    task: Literal["geolocate", "address"] = "geolocate"
    """Task of the samples: geolocate, or address (for tables that name city, state or country)."""

    def build(self, writer: DatasetWriter) -> None:
        """Write one sample per photo, in the table's order."""
        for photo in self.photos(writer):
            try:
                writer.write(photo_sample("gps_csv", self.source, photo, self.task))
            except RejectedRecordError as rejected:
                writer.reject(rejected.record_id, rejected.reason, rejected.detail)
