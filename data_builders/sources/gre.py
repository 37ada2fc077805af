"""GRE Suite's published records (arXiv 2505.18700) -> geolocate and judge samples, and GREval-Bench to evaluate on.

Expected layout, as published: `root/gre_cot/gre_cot.json`, `root/gre_judge/gre_judge.json`,
`root/gre_seed/gre_seed.jsonl` (`.json` and `.jsonl` are both read, also an array that is called `.jsonl`),
`root/bench_data/GREval-Bench.json`, each with its images in `imgs/` beside it, which the records call `images/`.
`root` may also be the folder of the file itself.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, Literal

from data_builders.builder import Builder
from data_builders.imagery.prepare import ImageFile, prepare_images
from data_builders.sources.rejected import RejectedRecordError
from data_builders.writer import DatasetWriter
from geotune.errors import BadRecord, ConfigError
from geotune.geo import haversine_km
from geotune.records import iter_json
from geotune.sample import IMAGE_TAG, Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.base import GoldError, Task
from geotune.tasks.coordinates import CoordinateError, Coordinates, check_coordinates, right_if_swapped
from geotune.tasks.geolocate import GEOLOCATE, coordinates_json, read_coordinates
from geotune.tasks.judge import JUDGE

FILES: dict[str, tuple[str, ...]] = {
    "cot": ("gre_cot/gre_cot", "gre_cot"),
    "judge": ("gre_judge/gre_judge", "gre_judge"),
    "seed": ("gre_seed/gre_seed", "gre_seed"),
    "bench": ("bench_data/GREval-Bench", "benchmark/bench_data/GREval-Bench", "GREval-Bench"),
}
"""Where the file of each part may lie under `root`, without its suffix."""
IMAGE_FOLDERS = ("imgs", "images")
SWAP_WITHIN_KM = 25.0
"""An answer this close to the truth once latitude and longitude change places was written in the wrong order."""
NEAR_KM, FAR_KM = 1.0, 2500.0
"""A verdict of false below the one, or of true beyond the other, is counted: no threshold of the field gives it."""
EXAMPLES = 5
_THOUGHT = re.compile(r"</?\s?(?:think(?:ing)?|answer)\s?>", re.IGNORECASE)


@dataclass
class Gre(Builder):
    """Builder of GRE30K's three parts and of GREval-Bench.

    `cot` and `judge` keep the published answers, checked against the truth; `seed` has none, so that the assistant's
    turn holds the true coordinates, and serves reinforcement learning only; `bench` is for evaluation, its reference
    reasoning is the explanation. Every record of the file is written, or rejected with a reason; what had to be mended
    on the way is counted by name in the report's audit.

    Raises:
        ConfigError: no such folder, file or part.
    """

    version: ClassVar[int] = 1

    root: Path
    """Folder of the download."""
    part: Literal["cot", "judge", "seed", "bench"]
    """Which records: the reasoning of stage 1, the verdicts of stage 2, the photos of stage 3, or GREval-Bench."""
    wording: Literal["published", "geotune"] = "published"
    """published: prompts and answers word for word; geotune: this project's prompts, and answers in its JSON."""
    max_image_pixels: int = 50_000_000
    """Larger images are rejected."""
    workers: int | None = field(default=None, compare=False)
    """Processes that check images; null: one per usable core."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if self.part not in FILES:
            raise ConfigError(f"part={self.part}: say one of {', '.join(FILES)}")
        if self.wording not in ("published", "geotune"):
            raise ConfigError(f"wording={self.wording}: say published or geotune")
        if not self.root.is_dir():
            raise ConfigError(f"root={self.root}: there is no such folder")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: at least one process has to do the work")

    def build(self, writer: DatasetWriter) -> None:
        """Write every record that can be used, and what was found wrong with the others."""
        file = self._file()
        findings = _Findings()
        folder = _ImageFolder(file.parent.absolute())
        # Two passes over the file, so that records need not be held: first the images, then the questions.
        named = {path for _, record in _records(file) for path in folder.paths(record) if path is not None}
        images = prepare_images(
            named, (), crops_root=writer.images_dir, max_pixels=self.max_image_pixels, workers=self.workers
        )
        asked: Counter[str] = Counter()
        seen: set[int] = set()
        for index, (where, record) in enumerate(_records(file)):
            writer.count_source(1)
            record_id = f"{file.name}/{index}"
            try:
                if isinstance(record, BadRecord):
                    raise RejectedRecordError(record_id, "invalid_record", f"{where}: {record.reason}")
                sample = self._sample(record, record_id, file.stem, folder, images, findings, seen)
                # A photo may stand in several records of a file: they are numbered in its order.
                writer.write(replace(sample, id=f"{sample.id}/{asked[sample.id]}"))
                asked[sample.id] += 1
            except RejectedRecordError as rejected:
                writer.reject(rejected.record_id, rejected.reason, rejected.detail)
            except BadRecord as error:
                writer.reject(record_id, "invalid_record", error.reason)
        writer.audit |= findings.report()

    def _file(self) -> Path:
        tried = [self.root / f"{name}{suffix}" for name in FILES[self.part] for suffix in (".json", ".jsonl")]
        for path in tried:
            if path.is_file():
                return path
        names = ", ".join(str(path.relative_to(self.root)) for path in tried[:2])
        raise ConfigError(f"root={self.root}: part={self.part} has no file there ({names}); name the download's folder")

    def _sample(
        self,
        record: Mapping[str, Any],
        record_id: str,
        stem: str,
        folder: _ImageFolder,
        images: Mapping[Path, ImageFile],
        findings: _Findings,
        seen: set[int],
    ) -> Sample:
        """The sample of one record; raises RejectedRecordError."""
        fields = _Record(record, record_id, findings)
        name = fields.text("image_path" if self.part == "bench" else "image")
        path = folder.path(name)
        if path is None:
            raise fields.rejected("path_outside", f"image {name!r} leaves the folder of images")
        fields.note_path(name)
        image = images[path]
        if image.reason:
            raise fields.rejected(image.reason, image.detail)
        truth = fields.truth()
        task: Task = JUDGE if self.part == "judge" else GEOLOCATE
        said = _WRITERS[self.part](fields, truth, self.wording)
        key = hash((path, truth, said.prompt, said.response))
        if key in seen:
            raise fields.rejected("duplicate_record", "the same photo, question and answer stand in the file already")
        seen.add(key)
        for defect in sorted(fields.notes):
            findings.defect(defect, record_id)
        image_id = str(fields.record.get("sample_id") or PurePosixPath(_posix(name)).with_suffix("").name)
        return Sample(
            id=f"gre/{stem}/{image_id}/{task.name}",
            images=(str(path),),
            turns=(Turn("user", said.prompt), Turn("assistant", said.response)),
            system="" if self.wording == "published" and self.part != "bench" else SYSTEM_PROMPT,
            task=task.name,
            answer=said.answer,
            source=stem,
            place=f"GRE/{truth.lat:.6f},{truth.lon:.6f}",
            meta=json.dumps({"record": record_id, "lat": truth.lat, "lon": truth.lon, **said.meta}, ensure_ascii=False),
        )


@dataclass(frozen=True)
class _Said:
    """What a record says: both turns, the gold answer, and what later analysis asks beyond that."""

    prompt: str
    response: str
    answer: str
    meta: dict[str, Any]


class _Findings:
    """Defects by name, and how far the published answers lie from the truth."""

    def __init__(self) -> None:
        self.defects: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.distances_km: dict[str, list[float]] = defaultdict(list)

    def defect(self, name: str, record_id: str) -> None:
        self.defects[name] += 1
        if len(self.examples[name]) < EXAMPLES:
            self.examples[name].append(record_id)

    def report(self) -> dict[str, Any]:
        """`mended`: defects of records that were written all the same; `answer_km`: by what was said."""
        return {
            "mended": {
                name: {"records": count, "examples": self.examples[name]}
                for name, count in sorted(self.defects.items())
            },
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


class _Record:
    """Typed access to a record; what is wrong rejects it, what can be mended is noted."""

    def __init__(self, record: Mapping[str, Any], record_id: str, findings: _Findings) -> None:
        self.record = record
        self.record_id = record_id
        self.findings = findings
        self.notes: set[str] = set()

    def rejected(self, reason: str, detail: str) -> RejectedRecordError:
        return RejectedRecordError(self.record_id, reason, detail)

    def note(self, defect: str) -> None:
        """Remember what had to be mended, once a record."""
        self.notes.add(defect)

    def text(self, key: str, *, reason: str = "invalid_record") -> str:
        value = self.record.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.rejected(reason, f"{key}={value!r:.80}")
        return value

    def note_path(self, name: str) -> None:
        if _is_absolute(name):
            self.note("absolute_path")
        elif "\\" in name:
            self.note("backslash_path")

    def truth(self) -> Coordinates:
        """Where the photo was taken; a pair whose latitude is impossible and whose swap is not was swapped."""
        lat, lon = (self._number(key) for key in ("gt_lat", "gt_lon"))
        found = check_coordinates(lat, lon)
        if (
            isinstance(found, CoordinateError)
            and abs(lat) > 90
            and isinstance(check_coordinates(lon, lat), Coordinates)
        ):
            self.note("truth_swapped")
            found = check_coordinates(lon, lat)
        if isinstance(found, CoordinateError):
            raise self.rejected(f"truth_{found}", f"gt_lat={lat}, gt_lon={lon}")
        return Coordinates(round(found.lat, 6), round(found.lon, 6))

    def _number(self, key: str) -> float:
        value = self.record.get(key)
        if isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                raise self.rejected("truth_missing", f"{key}={value!r:.80}") from None
            self.note("truth_as_text")
            return number
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.rejected("truth_missing", f"{key}={value!r:.80}")
        return float(value)

    def turns(self) -> tuple[str, str]:
        """What human and gpt say, with exactly one image mark in front of the question."""
        turns = self.record.get("conversations")
        match turns:
            case [{"from": "human", "value": str(asked)}, {"from": "gpt", "value": str(said)}]:
                pass
            case _:
                raise self.rejected(
                    "invalid_record", f"conversations={turns!r:.120}; expected one human and one gpt turn"
                )
        if not said.strip():
            raise self.rejected("answer_lost", "the gpt turn is empty")
        return self.with_mark(asked), said

    def with_mark(self, asked: str) -> str:
        marks = asked.count(IMAGE_TAG)
        if marks > 1:
            raise self.rejected("image_marks", f"{marks} image marks for one photo")
        if not marks:
            self.note("image_mark_missing")
            return f"{IMAGE_TAG}\n{asked}"
        return asked

    def distance(self, kind: str, text: str, truth: Coordinates) -> float | None:
        """Distance in km from the truth to the coordinates that a text gives (noted under `kind`); None without any."""
        stated = read_coordinates(text, pair_order="lat_lon")
        if not isinstance(stated, Coordinates):
            return None
        distance = float(haversine_km(stated.lat, stated.lon, truth.lat, truth.lon))
        self.findings.distances_km[kind].append(distance)
        return distance


def _cot(fields: _Record, truth: Coordinates, wording: str) -> _Said:
    asked, said = fields.turns()
    if right_if_swapped(said, truth.lat, truth.lon, within_km=SWAP_WITHIN_KM):
        raise fields.rejected("answer_swapped", f"...{said[-80:]!r}; the photo is at {truth.lat}, {truth.lon}")
    distance = fields.distance("cot", said, truth)
    stated = read_coordinates(said, pair_order="lat_lon")
    if distance is None or not isinstance(stated, Coordinates):
        raise fields.rejected("answer_lost", f"no coordinates in the gpt turn ({stated}): ...{said[-80:]!r}")
    meta = {"answer_km": round(distance, 3)}
    gold = coordinates_json(truth)
    if wording == "published":
        return _Said(asked, said, gold, meta)
    return _Said(
        GEOLOCATE.prompt(explain=True), GEOLOCATE.target(coordinates_json(stated), _reasoning(said)), gold, meta
    )


def _judge(fields: _Record, truth: Coordinates, wording: str) -> _Said:
    asked, said = fields.turns()
    predicted = fields.text("predicted_answer", reason="prediction_lost")
    try:
        verdict = JUDGE.gold(fields.record)
    except GoldError as error:
        raise fields.rejected("answer_lost", str(error)) from None
    distance = fields.distance(f"judged_{verdict}", predicted, truth)
    if right_if_swapped(predicted, truth.lat, truth.lon, within_km=SWAP_WITHIN_KM):
        fields.note("prediction_swapped")
    if distance is not None and verdict == "true" and distance > FAR_KM:
        fields.note("judged_true_though_far")
    if distance is not None and verdict == "false" and distance <= NEAR_KM:
        fields.note("judged_false_though_near")
    meta = {"predicted_answer": predicted, "predicted_km": None if distance is None else round(distance, 3)}
    if wording == "geotune":
        return _Said(JUDGE.prompt_for(fields.record, explain=False), JUDGE.target(verdict), verdict, meta)
    if predicted not in asked:
        # The published question does not hold what is to be judged: it stands in fields of its own.
        fields.note("prediction_not_in_question")
        shown = [
            str(fields.record.get(key) or "").replace(IMAGE_TAG, "[image]")
            for key in ("predicted_cot", "predicted_answer")
        ]
        asked = "\n".join([asked.rstrip(), *(text for text in shown if text.strip())])
    return _Said(asked, said, verdict, meta)


def _seed(fields: _Record, truth: Coordinates, wording: str) -> _Said:
    gold = coordinates_json(truth)
    if wording == "geotune":
        return _Said(GEOLOCATE.prompt(explain=True), GEOLOCATE.target(gold), gold, {"reinforcement_only": True})
    asked = fields.record.get("instructions")
    if not isinstance(asked, str) or not asked.strip():
        raise fields.rejected("question_lost", f"instructions={asked!r:.80}")
    marked = asked if IMAGE_TAG in asked else f"{IMAGE_TAG}\n{asked}"
    return _Said(fields.with_mark(marked), f"<answer>{gold}</answer>", gold, {"reinforcement_only": True})


def _bench(fields: _Record, truth: Coordinates, wording: str) -> _Said:
    reference = fields.text("gt_cot", reason="answer_lost").replace(IMAGE_TAG, "[image]")
    gold = coordinates_json(truth)
    prompt, response = GEOLOCATE.prompt(explain=True), GEOLOCATE.target(gold, reference)
    return _Said(prompt, response, gold, {"reference_cot": reference})


_WRITERS = {"cot": _cot, "judge": _judge, "seed": _seed, "bench": _bench}


def _reasoning(said: str) -> str:
    """What a published answer says before its coordinates, without the tags."""
    thought, found, _ = said.partition("<answer>")
    return _THOUGHT.sub("", thought if found else GEOLOCATE.answer_prefix(said)).replace(IMAGE_TAG, "[image]").strip()


def _records(file: Path) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
    """Every record of a file and where it stands; an array of records is read as such under either suffix."""
    with file.open("rb") as opened:
        start = opened.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return iter_json(file, ".json" if start.startswith(b"[") else ".jsonl")


def _posix(name: str) -> str:
    return name.replace("\\", "/")


def _is_absolute(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).drive)


class _ImageFolder:
    """Where the images of one file lie: beside it, in `imgs/`, whatever the records call that folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), root / IMAGE_FOLDERS[0])

    def paths(self, record: Mapping[str, Any] | BadRecord) -> Iterator[Path | None]:
        """The image that a record names, if it names one."""
        if isinstance(record, BadRecord):
            return
        for key in ("image", "image_path"):
            name = record.get(key)
            if isinstance(name, str) and name.strip():
                yield self.path(name)

    def path(self, name: str) -> Path | None:
        """Where an image lies; None for a name that leaves the folder. Of an absolute name only the file counts."""
        parts = PurePosixPath(_posix(name)).parts
        if ".." in parts or "\0" in name or not parts:
            return None
        if _is_absolute(name):
            return self.folder / parts[-1]
        if parts[0] in IMAGE_FOLDERS:
            return self.folder.joinpath(*parts[1:])
        inside = self.folder.joinpath(*parts)
        beside = self.root.joinpath(*parts)
        return beside if beside.is_file() and not inside.is_file() else inside
