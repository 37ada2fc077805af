"""Reads the records that GRE Suite publishes: their fields and images, and the defects that are found in them."""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from data_builders.sources.rejected import RejectedRecordError
from data_builders.sources.table_cells import read_cells
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.geo import haversine_km
from geotune.records import iter_json
from geotune.sample import IMAGE_TAG
from geotune.system.image_names import file_name, name_on_disk
from geotune.tasks.coordinates import SWAP_WITHIN_KM, CoordinateError, Coordinates

FILES: dict[str, tuple[str, ...]] = {
    "cot": ("gre_cot/gre_cot", "gre_cot"),
    "judge": ("gre_judge/gre_judge", "gre_judge"),
    "seed": ("gre_seed/gre_seed", "gre_seed"),
    "bench": ("bench_data/GREval-Bench", "benchmark/bench_data/GREval-Bench", "GREval-Bench"),
}
"""Paths below `root`, without suffix, at which the file of each part may lie."""
DOUBTS = frozenset(
    {
        *("answer_differs", "prediction_swapped", "prediction_unread"),
        *("judged_true_though_far", "judged_false_though_near"),
    }
)
"""Defects that are counted only, because nothing can be fixed."""
IMAGE_FOLDERS = ("imgs", "images")
EXAMPLES = 5
"""Number of records that the report names as examples of a defect."""


class GreFindings:
    """Collects the defects of a file's records, and how far the published answers lie from the truth."""

    def __init__(self) -> None:
        self.defects: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.distances_km: dict[str, list[float]] = defaultdict(list)

    def add_defect(self, name: str, record_id: str) -> None:
        """Count a defect, and keep the first few records as examples."""
        self.defects[name] += 1
        if len(self.examples[name]) < EXAMPLES:
            self.examples[name].append(record_id)

    def report(self) -> dict[str, Any]:
        """The findings as JSON.

        Both count records that were written nevertheless: `mended` those of which a defect was fixed, `doubtful` those
        that stay as they were published. `answer_km` summarizes the distances in km between answers and truth, by kind
        of answer.
        """
        counted = {
            name: {"records": count, "examples": self.examples[name]} for name, count in sorted(self.defects.items())
        }
        return {
            "mended": {name: entry for name, entry in counted.items() if name not in DOUBTS},
            "doubtful": {name: entry for name, entry in counted.items() if name in DOUBTS},
            "answer_km": {
                name: {
                    "n": len(values),
                    "median": round(statistics.median(values), 3),
                    "max": round(max(values), 3),
                    "within_25": round(sum(value <= 25 for value in values) / len(values), 4),
                }
                for name, values in sorted(self.distances_km.items())
            },
        }


class GreRecord:
    """Typed access to the fields of one record.

    A method that finds an unusable field raises RejectedRecordError. A field that can be fixed is fixed, and its defect
    is added to `notes`.
    """

    def __init__(self, record: Mapping[str, Any], record_id: str, findings: GreFindings) -> None:
        self.record = record
        self.record_id = record_id
        self.findings = findings
        self.notes: set[str] = set()

    def rejected(self, reason: str, detail: str) -> RejectedRecordError:
        """The error that rejects this record."""
        return RejectedRecordError(self.record_id, reason, detail)

    def note(self, defect: str) -> None:
        """Remember a defect; each counts once per record."""
        self.notes.add(defect)

    def text(self, key: str, *, reason: str = "invalid_record") -> str:
        """The field `key`, which has to be a text that is not blank; `reason` is given if it is not."""
        value = self.record.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.rejected(reason, f"{key}={value!r:.80}")
        return value

    def note_path(self, name: str) -> None:
        """Note the defect of an image's path that is absolute or has backslashes."""
        if _is_absolute(name):
            self.note("absolute_path")
        elif "\\" in name:
            self.note("backslash_path")

    def truth(self, said: Coordinates | CoordinateError = CoordinateError.missing) -> Coordinates:
        """Where the photo was taken.

        A latitude beyond 90 is exchanged with the longitude if what the record's answer `said` confirms it.
        """
        lat, lon = self._degrees("gt_lat", "gt_latitude"), self._degrees("gt_lon", "gt_lng", "gt_long", "gt_longitude")
        truth, exchanged = read_cells(lat, lon), read_cells(lon, lat)
        if (
            truth is CoordinateError.out_of_range
            and isinstance(exchanged, Coordinates)
            and isinstance(said, Coordinates)
            and _distance_km(said, exchanged) <= SWAP_WITHIN_KM
        ):
            self.note("truth_swapped")
            return exchanged
        if isinstance(truth, CoordinateError):
            # Something stands in both fields, so that what the reader finds nothing in is no number.
            nothing = truth in (CoordinateError.missing, CoordinateError.incomplete)
            reason = CoordinateError.not_a_number if nothing else truth
            raise self.rejected(f"truth_{reason}", f"gt_lat={lat!r:.80}, gt_lon={lon!r:.80}")
        return truth

    def _degrees(self, *keys: str) -> str:
        """The first of the fields that the record has, as text."""
        key = next((key for key in keys if self.record.get(key) is not None), keys[0])
        value = self.record.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.rejected("truth_missing", f"{key}={value!r}")
        if isinstance(value, str):
            self.note("truth_as_text")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.rejected("truth_not_a_number", f"{key}={value!r:.80}")
        return repr(value)

    def turns(self) -> tuple[str, str]:
        """The turns of human and gpt; the human's has exactly one image tag."""
        turns = self.record.get("conversations")
        match turns:
            case [{"from": "human", "value": str(question)}, {"from": "gpt", "value": str(answer)}]:
                pass
            case _:
                raise self.rejected(
                    "invalid_record", f"conversations={turns!r:.120}; expected one human and one gpt turn"
                )
        if not answer.strip():
            raise self.rejected("answer_empty", "the gpt turn is empty")
        return self.with_image_tag(question), answer

    def with_image_tag(self, question: str) -> str:
        """The question with exactly one image tag, which is put in front if there is none."""
        tags = question.count(IMAGE_TAG)
        if tags > 1:
            raise self.rejected("image_marks", f"{tags} image tags for one photo")
        if not tags:
            self.note("image_mark_missing")
            return f"{IMAGE_TAG}\n{question}"
        return question

    def distance_km(self, kind: str, stated: Coordinates | CoordinateError, truth: Coordinates) -> float | None:
        """Distance in km from the truth to the coordinates that a text states, None if it states none.

        The findings keep the distance under `kind`.
        """
        if not isinstance(stated, Coordinates):
            return None
        distance = _distance_km(stated, truth)
        self.findings.distances_km[kind].append(distance)
        return distance


class GreImages:
    """Finds the images of one file: in the folder `imgs/` beside it, whatever name the records give that folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), root / IMAGE_FOLDERS[0])

    def paths(self, record: Mapping[str, Any] | BadRecord) -> Iterator[Path | None]:
        """The path of each image that a record names, as `path` returns it."""
        if isinstance(record, BadRecord):
            return
        for key in ("image", "image_path"):
            name = record.get(key)
            if isinstance(name, str) and name.strip():
                with contextlib.suppress(BadRecord):
                    yield self.path(name)

    def path(self, name: str) -> Path | None:
        """The path of the image `name`; None if the name leaves the folder.

        Of an absolute name only the file name is used, because it belongs to the authors' disk. Raises BadRecord if the
        name is the address of an image.
        """
        name = file_name(name)
        parts = PurePosixPath(posix_name(name)).parts
        if ".." in parts or "\0" in name or not parts:
            return None
        if _is_absolute(name):
            return name_on_disk(self.folder / parts[-1])
        if parts[0] in IMAGE_FOLDERS:
            return name_on_disk(self.folder.joinpath(*parts[1:]))
        inside = name_on_disk(self.folder.joinpath(*parts))
        beside = name_on_disk(self.root.joinpath(*parts))
        return beside if beside.is_file() and not inside.is_file() else inside


def find_gre_file(root: Path, part: str) -> Path:
    """The file of one part below `root`. Raises ConfigError if there is none."""
    candidates = [root / f"{name}{suffix}" for name in FILES[part] for suffix in (".json", ".jsonl")]
    for path in candidates:
        if path.is_file():
            return path
    names = ", ".join(str(path.relative_to(root)) for path in candidates[:2])
    raise ConfigError(
        Problem("root", root, f"it has no file of part={part} ({names})", "give the folder of the download")
    )


def iter_gre_records(file: Path) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
    """Every record of a file with its position; an array of records may have either suffix, as published."""
    with file.open("rb") as opened:
        start = opened.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return iter_json(file, ".json" if start.startswith(b"[") else ".jsonl")


def posix_name(name: str) -> str:
    """A path as records name it, with slashes in place of backslashes."""
    return name.replace("\\", "/")


def _distance_km(one: Coordinates, other: Coordinates) -> float:
    return float(haversine_km(one.lat, one.lon, other.lat, other.lon))


def _is_absolute(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).drive)
