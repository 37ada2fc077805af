"""Photos of a table: their files found by name, decoded once, and asked where they were taken."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np

from data_builders.builder import Builder
from data_builders.imagery.prepare import ImageFile, prepare_image
from data_builders.questions.draw import generator
from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.tables import Row, Table, open_table, plain_name
from data_builders.writer import DatasetWriter
from geotune.errors import ConfigError
from geotune.sample import Sample, Turn
from geotune.system.parallel import parallel_map
from geotune.system.progress import progress_bar
from geotune.tasks import SYSTEM_PROMPT, GoldError, get_task
from geotune.tasks.geolocate import degrees

BATCH = 1024
"""Rows whose images are decoded at a time: what is held in memory of a table."""


class PhotoFolder:
    """The images below a folder, at any depth, by name.

    Of each it keeps a digest of the name and a number, so that millions of names take tens of MB.

    Raises:
        ConfigError: there is no such folder, or no image in it.
    """

    def __init__(self, root: Path, *, key: str = "images") -> None:
        if not root.is_dir():
            raise ConfigError(f"{key}={root}: there is no such folder; give the folder of the photos")
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
            raise ConfigError(f"{key}={root}: there is no image in this folder; give the folder of the photos")
        self._places = list(places)
        held = np.frombuffer(digests, np.uint64)
        order = np.argsort(held, kind="stable")
        self._digests = held[order]
        self._numbers = np.frombuffer(numbers, np.dtype(f"u{numbers.itemsize}"))[order]

    def find(self, row: Row) -> Path:
        """The row's file, by the path that the table gives or by its name, whatever its ending (`.jpg.jpg` too).

        Raises RejectedRecordError: none, several, or one that leads out of the folder.
        """
        for name in row.files:
            name = name.replace("\\", "/")
            if ".." in name.split("/") or "\0" in name:
                raise RejectedRecordError(row.id, "outside_folder", f"{name!r} leaves the folder of photos")
            exact = self.root / name
            given = "/" in name and os.path.isfile(exact)
            found = [exact] if given else self._by_name(name)
            if len(found) > 1:
                shown = ", ".join(str(path.relative_to(self.root)) for path in found[:3])
                raise RejectedRecordError(row.id, "ambiguous_image", f"{len(found)} files are called so: {shown}")
            if found:
                # A path in a table may lead through links; above a listed file there are none.
                return self._checked(row, found[0], may_be_link=given or found[0].is_symlink())
        raise RejectedRecordError(row.id, "missing_image", f"no image {' or '.join(row.files)} below {self.root}")

    def _by_name(self, name: str) -> list[Path]:
        plain = plain_name(name)
        first, last = (np.searchsorted(self._digests, np.uint64(_digest(plain)), side) for side in ("left", "right"))
        places = (self._places[number] for number in self._numbers[first:last])
        files = [Path(folder, plain + ending) for folder, ending in places]
        files = [file for file in files if os.path.isfile(file)]
        exact = [file for file in files if file.name == name.rpartition("/")[2]]
        return exact if len(exact) == 1 else files

    def _checked(self, row: Row, path: Path, *, may_be_link: bool) -> Path:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise RejectedRecordError(row.id, "bad_file_name", f"{str(path)!r} is not UTF-8; rename it") from None
        if may_be_link and not path.resolve().is_relative_to(self.root.resolve()):
            raise RejectedRecordError(row.id, "outside_folder", f"{path} leads to {path.resolve()}")
        return path


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(os.fsencode(name), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Photo:
    """A row whose image can be used."""

    row: Row
    image: ImageFile


@dataclass
class PhotoTable(Builder):
    """What builders of one table of photos have in common.

    Raises:
        ConfigError: a file or folder that is missing, a table that can't be read or lacks a column.
    """

    csv: Path
    """The table: commas, semicolons or tabs; one row per photo, with its id or file name and its coordinates."""
    images: Path
    """Folder of the photos; they are found by id or file name at any depth."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names of columns that can't be told from the header, by role (id, image, lat, lon, city, ...): columns.lat=Y."""
    limit: int | None = None
    """So many rows, drawn by the seed from the whole table; null: all."""
    seed: int = 0
    """Of the draw for limit."""
    max_image_pixels: int = 50_000_000
    """Larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Processes that decode images; null: one per usable core."""

    def __post_init__(self) -> None:
        self.csv, self.images = Path(self.csv), Path(self.images)
        for key in ("limit", "workers"):
            if (count := getattr(self, key)) is not None and count < 1:
                raise ConfigError(f"{key}={count}: must be at least 1, or null")

    @property
    def source(self) -> str:
        """What the samples name as their source."""
        return self.csv.stem

    def photos(self, writer: DatasetWriter) -> Iterator[Photo]:
        """The photos that can be used, in the table's order, each decoded; how the table was read goes to the audit."""
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
    """Numbers of `limit` rows, spread over the table by a seeded draw; None for all."""
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
    """The table's photos in its order; every other row is noted with the writer, which counts all.

    source: what the samples will name. limit, seed: as for `draw_rows`. Images are decoded fully, in `workers`
    processes; those of other jobs (`writer.mine`) are passed over.
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
    """The task's question about one photo. Raises RejectedRecordError when the table does not say enough for it."""
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
    return f"{source}/{row.at.lat:.6f},{row.at.lon:.6f}"


def meta_of(row: Row) -> dict[str, object]:
    return {"image_id": row.id, "lat": row.at.lat, "lon": row.at.lon, **row.names}
