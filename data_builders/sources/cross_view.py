"""Builder of the seven cross-view tasks from CVUSA, VIGOR, CVGlobal, OmniCity and LLMGeo as downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from data_builders.builder import Builder
from data_builders.imagery.place_images import ImageJob, ImageSettings, PlaceImages, make_place_images
from data_builders.questions.draw import generator
from data_builders.sources.cross_view_place import SourcePlace
from data_builders.sources.cross_view_questions import CrossViewQuestions
from data_builders.sources.cross_view_readers import READERS
from data_builders.sources.cross_view_settings import CrossViewSettings
from data_builders.sources.cross_view_split import places_of_part
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter
from geotune.errors import ABSENT, ConfigError, Problem
from geotune.geo import COMPASS_POINTS
from geotune.imagery.symmetry import SYMMETRIES, Symmetry
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks.cross_view import HEADINGS


@dataclass
class CrossView(CrossViewSettings, Builder):
    """Builds cross-view questions from raw imagery.

    The camera stands at the center of every map, and a panorama gives one view per heading. Other places' maps come
    from the same source, scale and side of the split, lie at a distance within `negative_km`, and are used evenly.

    Raises:
        ConfigError: Files of the source are missing, it publishes no split, or a setting is impossible.
    """

    version: ClassVar[int] = 3

    def build(self, writer: DatasetWriter) -> None:
        """Write the questions about all places of this side of the split; the report says what was left out."""
        texts = self._texts()
        places = places_of_part(self, list(self._read(writer)), writer)
        symmetries = {place.record_id: self._symmetry(place) for place in places}
        images = self._make_images(places, symmetries, writer)
        places = [place for place in places if _accept(place, images[place.record_id], writer)]
        questions = CrossViewQuestions(self, places, symmetries, images, texts, writer.mine)
        questions.draw_others(writer)
        questions.choose()
        questions.prepare(writer)
        for sample in questions.samples(writer.images_dir):
            writer.write(sample)
        writer.audit["other_maps_km"] = questions.distances()

    def _read(self, writer: DatasetWriter) -> Iterator[SourcePlace]:
        """The valid places of the source that the settings keep; each scale of a place comes by itself."""
        seen: set[str] = set()
        found = False
        for place in READERS[self.source](self.root.absolute()):
            found = True
            if isinstance(place, RejectedRecordError):
                writer.count_source(1)
                writer.reject(place.record_id, place.reason, place.detail)
                continue
            if self.scales is not None and place.source.rpartition("_")[2] not in self.scales:
                continue
            if place.record_id in seen:
                writer.count_source(1)
                writer.reject(place.record_id, "duplicate_record", "the source holds this place twice")
                continue
            seen.add(place.record_id)
            yield self._adjusted(place)
        if not found:
            raise ConfigError(
                Problem("root", self.root, f"there is no image of {self.source}", "give the download's folder")
            )

    def _adjusted(self, place: SourcePlace) -> SourcePlace:
        """The place with the heading and the zoom that the settings give."""
        if self.heading_from_name is not None and place.is_panorama:
            place = replace(place, centre_heading_deg=place.degrees_in_name if self.heading_from_name else 0.0)
        if self.zoom is not None:
            base, named, _ = place.source.partition("_zoom")
            source = f"{base}_zoom{self.zoom}" if named or self.tiles else base
            place = replace(place, zoom=self.zoom, source=source)
        return place

    def _symmetry(self, place: SourcePlace) -> Symmetry:
        """The symmetry of a place, which depends on the seed and on the place alone."""
        kinds = SYMMETRIES[self.augment]
        return kinds[int(generator(self.seed, place.place).integers(len(kinds)))]

    def _texts(self) -> dict[str, str]:
        """Descriptions by image name; the suffix of an image file is removed."""
        if self.texts is None:
            return {}
        try:
            texts = json.loads(self.texts.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise ConfigError(Problem("texts", self.texts, f"can't be read ({error})", "give a JSON object")) from error
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise ConfigError(
                Problem("texts", self.texts, "is no map from image names to texts", "give a JSON object of strings")
            )
        return {
            Path(name).stem if Path(name).suffix.lower() in (".jpg", ".png") else name: text
            for name, text in texts.items()
        }

    def _make_images(
        self, places: Sequence[SourcePlace], symmetries: Mapping[str, Symmetry], writer: DatasetWriter
    ) -> dict[str, PlaceImages]:
        """Make the views and maps of all places, this job's own places first; returns them by record id."""
        settings = ImageSettings(
            view_size=self.view_size,
            map_size=self.map_size,
            fov_deg=self.fov_deg,
            headings=COMPASS_POINTS if self.views == 8 else tuple(HEADINGS),
            max_pixels=self.max_image_pixels,
            heading_offset_deg=self.heading_offset_deg,
            span_deg=self.span_deg,
            tiles=self.tiles,
            tile_pattern=self.tile_pattern,
            tile_size=self.tile_size,
            stitched_px=self.stitched_px,
        )
        make = partial(make_place_images, settings=settings, folder=writer.images_dir)
        jobs = [
            _image_job(place, symmetries[place.record_id].mirrored)
            for place in sorted(places, key=lambda place: writer.turn(place.place))
        ]
        made: dict[str, PlaceImages] = {}
        try:
            with parallel_map(self.workers, len(jobs)) as run, progress_bar("places", len(jobs)) as advance:
                for images in run(make, jobs):
                    made[images.key] = images
                    writer.count_images(images.made, reused=images.reused)
                    advance()
        except OSError as error:
            raise ConfigError(
                Problem("out", ABSENT, f"can't write images to {writer.images_dir} ({error.strerror})")
            ) from error
        return made


def _image_job(place: SourcePlace, mirrored: bool) -> ImageJob:
    return ImageJob(
        key=place.record_id,
        ground=place.ground,
        is_panorama=place.is_panorama,
        centre_heading_deg=place.centre_heading_deg,
        span_of_2_to_1=place.span_of_2_to_1,
        lat=place.lat,
        lon=place.lon,
        zoom=place.zoom,
        satellite=place.satellite,
        camera_px=place.camera_px,
        nominal_px=place.nominal_px,
        keep=place.keep,
        mirrored=mirrored,
    )


def _accept(place: SourcePlace, images: PlaceImages, writer: DatasetWriter) -> bool:
    """Returns whether the images of a place can be used; rejects the place otherwise."""
    if images.reason:
        writer.reject(place.record_id, images.reason, images.detail)
    return not images.reason
