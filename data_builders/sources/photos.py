"""Finds and decodes the photos that a table lists, and makes the samples that ask where they were taken."""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from data_builders.builder import Builder
from data_builders.imagery.prepare import ImageFile, prepare_image
from data_builders.questions.draw import generator
from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.tables import Row, Table, open_table, plain_name
from data_builders.writer import DatasetWriter
from geotune.config.rules import at_least
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.sample import Sample, Turn
from geotune.system.image_names import file_name, name_forms
from geotune.system.images import CAMERA_ENDINGS, foreign_format
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import SYSTEM_PROMPT, GoldError, get_task
from geotune.tasks.geolocate import degrees

BATCH = 1024
"""Number of rows that are held in memory and whose images are decoded at a time."""


class PhotoFolder:
    """An index by name of the images below a folder, at any depth.

    A photo that can't be opened, such as a HEIC of a phone, is found only if no image of the same name can be. The
    index holds a digest and a number per image, so that millions of names take tens of MB.

    Raises:
        ConfigError: The folder does not exist or has no image.
    """

    def __init__(self, root: Path, *, key: str = "images") -> None:
        if not root.is_dir():
            raise ConfigError(Problem(key, root, "there is no such folder", "give the folder of the photos"))
        self.root = root.absolute()
        places: dict[tuple[str, str], int] = {}
        digests, numbers = array("Q"), array("L")
        for folder, _, files in os.walk(self.root):
            for name in files:
                plain = plain_name(name)
                if plain != name:
                    digests.append(_digest(plain))
                    numbers.append(places.setdefault((folder, name[len(plain) :]), len(places)))
        if not digests:
            raise ConfigError(Problem(key, root, "this folder has no image", "give the folder of the photos"))
        if not any(_can_open(ending) for _, ending in places):
            kinds = ", ".join(sorted({ending for _, ending in places})[:5])
            raise ConfigError(
                Problem(key, root, f"none of its images can be opened here ({kinds})", "convert them to JPEG or PNG")
            )
        self._places = list(places)
        unsorted = np.frombuffer(digests, np.uint64)
        order = np.argsort(unsorted, kind="stable")
        self._digests = unsorted[order]
        self._numbers = np.frombuffer(numbers, np.dtype(f"u{numbers.itemsize}"))[order]

    def find(self, row: Row) -> Path:
        """The row's file, found by the path that the table gives or by its name, with any ending (even `.jpg.jpg`).

        Raises:
            RejectedRecordError: There is no file, there are several, it can't be opened, or it lies outside the folder.
        """
        unopenable: list[Path] = []
        elsewhere: list[Path] = []
        for name in (form.replace("\\", "/") for file in row.files for form in name_forms(file)):
            if ".." in name.split("/") or "\0" in name:
                raise RejectedRecordError(row.id, "outside_folder", f"{name!r} leaves the folder of photos")
            exact = self.root / name
            given = "/" in name and _can_open(name) and os.path.isfile(exact)
            named = [exact] if given else self._by_name(name)
            found = [path for path in named if given or self._fits(path, name, only=row.shared_name)]
            elsewhere += [path for path in named if path not in found]
            opened = [path for path in found if _can_open(path.name)]
            unopenable += [path for path in found if not opened]
            if len(opened) > 1:
                shown = ", ".join(str(path.relative_to(self.root)) for path in opened[:3])
                raise RejectedRecordError(row.id, "ambiguous_image", f"{len(opened)} files have this name: {shown}")
            if opened:
                # A path that the table gives may pass through links; a file found by name can only be a link itself.
                return self._checked(row, opened[0], may_be_link=given or opened[0].is_symlink())
        if unopenable:
            return self._with_wrong_ending(row, unopenable)
        try:
            names = " or ".join(map(file_name, row.files))
        except BadRecord as error:
            raise RejectedRecordError(
                row.id, error.code, f"{error.reason}; no photo below {self.root} has its name"
            ) from None
        near = f"; {elsewhere[0].relative_to(self.root)} is another photo's path" if elsewhere else ""
        raise RejectedRecordError(row.id, "missing_image", f"no image {names} below {self.root}{near}")

    def _fits(self, path: Path, name: str, *, only: bool) -> bool:
        """Whether a file may be the one that a table calls `name`.

        If the name has folders, the file's path below the root ends in it, or it ends in the file's path; those of an
        address do not count, because a download keeps its name alone. If another row's file has the same name but for
        folder or ending (`only`), the whole name has to be the end of the path.
        """
        given = PurePosixPath(_ADDRESS.sub("", name)).parts
        own = path.relative_to(self.root).parts
        if only:
            return own[-len(given) :] == given or (len(given) == 1 and "." not in name and plain_name(own[-1]) == name)
        if _ADDRESS.match(name):
            return True
        folders, own_folders = [part for part in given[:-1] if part not in ("/", ".")], list(own[:-1])
        shared = min(len(folders), len(own_folders))
        return folders[len(folders) - shared :] == own_folders[len(own_folders) - shared :]

    def _with_wrong_ending(self, row: Row, files: Sequence[Path]) -> Path:
        """The only file of the row, if only its ending says that it can't be opened; raises RejectedRecordError."""
        path = self._checked(row, files[0], may_be_link=True)
        foreign = foreign_format(path)
        if foreign is None and len(set(files)) == 1:
            return path
        shown = path.relative_to(self.root)
        detail = f"{shown} is {foreign or path.suffix[1:].upper()}, which can't be opened here, and no JPEG or PNG of "
        raise RejectedRecordError(row.id, "undecodable_image", f"{detail}this name lies in the folder; convert it")

    def _by_name(self, name: str) -> list[Path]:
        """The files with this name: the only one with the same ending, or else all with any ending.

        Files in the folder that the name gives go before those elsewhere.
        """
        plain = plain_name(name)
        first, last = (np.searchsorted(self._digests, np.uint64(_digest(plain)), side) for side in ("left", "right"))
        places = (self._places[number] for number in self._numbers[first:last])
        files = [Path(folder, plain + ending) for folder, ending in places]
        files = [file for file in files if os.path.isfile(file)]
        parent = (self.root / name).parent
        beside = [file for file in files if "/" in name and file.parent == parent and _can_open(file.name)]
        files = beside or files
        exact = [file for file in files if file.name == name.rpartition("/")[2] and _can_open(file.name)]
        return exact if len(exact) == 1 else files

    def _checked(self, row: Row, path: Path, *, may_be_link: bool) -> Path:
        """`path`, if it is UTF-8 and lies in the folder; raises RejectedRecordError if not."""
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise RejectedRecordError(row.id, "bad_file_name", f"{str(path)!r} is not UTF-8; rename it") from None
        if may_be_link and not path.resolve().is_relative_to(self.root.resolve()):
            raise RejectedRecordError(row.id, "outside_folder", f"{path} is a link to {path.resolve()}")
        return path


_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+:/+", re.IGNORECASE)


def _can_open(name: str) -> bool:
    return name.rpartition(".")[2].lower() not in CAMERA_ENDINGS


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(os.fsencode(name), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Photo:
    """A row of a table with its image, which can be used."""

    row: Row
    image: ImageFile


@dataclass
class PhotoTable(Builder):
    """Base class of the builders that read one table of photos.

    Raises:
        ConfigError: A file or folder is missing, or the table can't be read or lacks a column.
    """

    csv: Path
    """Table with one row per photo: its id or file name, and its coordinates; split by commas, semicolons or tabs."""
    images: Path
    """Folder of the photos, which are found by id or file name at any depth."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns that the header does not reveal, by role (id, image, lat, lon, lat_ref, city, ...), as columns.lat=Y."""
    limit: int | None = None
    """Number of rows, drawn at random from the whole table; null: all rows."""
    seed: int = 0
    """Seed of the draw of rows for limit."""
    max_image_pixels: int = 50_000_000
    """Number of pixels above which an image is rejected."""
    workers: int | None = field(default=None, compare=False)
    """Number of processes that decode images; null: one per usable core."""

    def check(self) -> Iterator[Problem]:
        for key in ("limit", "workers"):
            yield from at_least(key, getattr(self, key), 1)
        yield from at_least("seed", self.seed, 0)

    @property
    def source(self) -> str:
        """The source that the samples name: the table's file name without its ending."""
        return self.csv.stem

    def photos(self, writer: DatasetWriter) -> Iterator[Photo]:
        """The usable photos in the table's order, as `read_photos`; the audit says how the table was read."""
        table, folder = open_table(self.csv, self.columns), PhotoFolder(self.images)
        writer.audit["table"] = table.summary()
        return read_photos(
            table,
            folder,
            writer,
            source=self.source,
            max_pixels=self.max_image_pixels,
            workers=self.workers,
            limit=self.limit,
            seed=self.seed,
        )


def draw_rows(n_rows: int, limit: int | None, seed: int) -> Container[int] | None:
    """The numbers, from 0, of `limit` rows drawn at random from the whole table; None for all rows."""
    if limit is None or limit >= n_rows:
        return None
    return frozenset(generator(seed, "rows").choice(n_rows, limit, replace=False).tolist())


def read_photos(
    table: Table,
    folder: PhotoFolder,
    writer: DatasetWriter,
    *,
    source: str,
    max_pixels: int,
    workers: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Photo]:
    """The usable photos of a table, in its order.

    Every image is decoded fully. The writer counts all rows; rows and images that can't be used are rejected there,
    and the photos of other jobs (`writer.mine`) are skipped.

    Args:
        source: The source that the samples will name.
        max_pixels: Number of pixels above which an image is rejected.
        workers: Number of processes that decode images; None for one per usable core.
        limit: Number of rows to draw, as for `draw_rows`; None for all.
        seed: Seed of this draw.
    """
    only = draw_rows(table.n_rows, limit, seed)
    decode = partial(prepare_image, crops_root=None, max_pixels=max_pixels)
    rows = table.rows(only)
    with parallel_map(workers, table.n_rows) as run, progress_bar("photos", table.n_rows) as advance:
        while batch := list(islice(rows, BATCH)):
            writer.count_source(len(batch))
            found: list[tuple[Row, Path]] = []
            for row in batch:
                advance()
                try:
                    if isinstance(row, RejectedRecordError):
                        raise row
                    if writer.mine(place_of(source, row)):
                        found.append((row, folder.find(row)))
                except RejectedRecordError as rejected:
                    writer.reject(rejected.record_id, rejected.reason, rejected.detail)
            for (row, _), image in zip(found, run(decode, [path for _, path in found]), strict=True):
                if image.reason:
                    writer.reject(row.id, image.reason, image.detail)
                else:
                    yield Photo(row, image)


def photo_sample(builder: str, source: str, photo: Photo, task_name: str) -> Sample:
    """The sample of one photo for a task. Raises RejectedRecordError if the table lacks the answer."""
    task, row = get_task(task_name), photo.row
    try:
        answer = task.gold({"latitude": degrees(row.at.lat), "longitude": degrees(row.at.lon), **row.names})
    except GoldError as error:
        raise RejectedRecordError(row.id, "no_answer_in_table", f"{task_name}: {error}") from None
    return Sample(
        id=f"{builder}/{source}/{row.id}/{task_name}",
        images=(str(photo.image.path),),
        turns=(Turn("user", task.prompt(explain=False)), Turn("assistant", task.target(answer))),
        system=SYSTEM_PROMPT,
        task=task_name,
        answer=answer,
        source=source,
        place=place_of(source, row),
        meta=json.dumps(meta_of(row), ensure_ascii=False),
    )


def place_of(source: str, row: Row) -> str:
    """The place that a sample names: the source and the coordinates to six decimals."""
    return f"{source}/{row.at.lat:.6f},{row.at.lon:.6f}"


def meta_of(row: Row) -> dict[str, object]:
    """The facts about a photo that a sample's `meta` holds."""
    return {"image_id": row.id, "lat": row.at.lat, "lon": row.at.lon, **row.names}
