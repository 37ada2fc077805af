"""One camera position of a raw cross-view dataset, whichever dataset it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_builders.imagery.panorama import FULL_SPAN, Span
from data_builders.questions.sample import place_name


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """One camera position: its panorama or single view, and its satellite image if the dataset has one."""

    source: str
    """Family and scale: `CVUSA_zoom19`, `OmniCity_view2`."""
    family: str
    """The source without its scale, in the spelling of GeoX-Bench's index files."""
    image_id: str
    lat: float
    lon: float
    split: str
    """`train` or `test` as published; empty if no split is published."""
    ground: Path
    """File of the panorama or view."""
    is_panorama: bool = True
    centre_heading_deg: float = 0.0
    """Heading of a panorama's center column, or of a single view."""
    span_of_2_to_1: Span = FULL_SPAN
    """Extent in degrees that a panorama covers if it is twice as wide as high."""
    fov_deg: float | None = None
    """Field of view of a single view; None for a panorama."""
    satellite: Path | None = None
    zoom: int | None = None
    """Zoom level of the satellite image; None if the dataset does not state it."""
    camera_px: tuple[float, float] = (0.0, 0.0)
    """Offset of the camera right of and below the satellite image's center, in pixels of an image `nominal_px` wide."""
    nominal_px: int | None = None
    """Published width of the satellite images; None takes the width of the file."""
    keep: float = 1.0
    """Share of the satellite image's side that is kept around the camera."""
    capture_time: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    """Further entries of the samples' `meta`."""

    @property
    def place(self) -> str:
        """Family and coordinates: the unit of splitting and grouping."""
        return place_name(self.family, self.lat, self.lon)

    @property
    def record_id(self) -> str:
        """Id under which the record is rejected, and the name of its map."""
        return f"{self.source}/{self.image_id}"

    @property
    def scale(self) -> str:
        """Scale of the map: `zoom18` or `view2`; empty if the dataset does not state it."""
        suffix = self.source.rpartition("_")[2]
        if suffix.startswith(("zoom", "view")):
            return suffix
        return f"zoom{self.zoom}" if self.zoom is not None else ""

    @property
    def degrees_in_name(self) -> float:
        """The d<degrees> in the file name of a street view; 0 if there is none."""
        parts = [part for part in self.ground.stem.split("_") if part.startswith("d") and part[1:].isdigit()]
        return float(parts[-1][1:]) if parts else 0.0
