"""Writes built datasets: samples, index entry, report and rejected records, either all of them or none."""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
import time
import zlib
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from data_builders.audit.survey import Survey
from geotune.data.building import UNFINISHED
from geotune.data.index import IndexMaker
from geotune.errors import LONGEST_VALUE, ConfigError, Problem, as_typed
from geotune.sample import Sample, sample_to_record
from geotune.system.digests import digest64
from geotune.system.files import open_atomically
from geotune.system.image_names import file_name
from geotune.system.progress import duration

SHARDS = "shards"
"""Folder of `out` in which the jobs of a cluster write their parts of a dataset."""
SECONDS_BETWEEN_LINES = 30.0
"""Shortest time between two lines of the log about progress."""
REASONS_SHOWN = 5
"""Number of reasons for rejecting records that a message lists, the most frequent first."""

log = logging.getLogger(__name__)


def read_shard(shard: str | None) -> tuple[int, int] | None:
    """(i, n) for the text `i/n`, counted from 1; None for None. Raises ConfigError for any other text."""
    if shard is None:
        return None
    first, _, last = shard.partition("/")
    if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise ConfigError(Problem("shard", shard, "this is no part of a dataset", "give one from 1/n to n/n"))


def shard_path(out: Path, name: str, shard: tuple[int, int], suffix: str) -> Path:
    """The file with this suffix of part `shard` (number and count) of the dataset `name` in `out`."""
    return out / SHARDS / f"{name}.{shard[0]:05d}-of-{shard[1]:05d}.{suffix}"


class PostponedBuild(Exception):  # noqa: N818 - it is no error
    """Raised by a builder that has nothing to write yet, which is no mistake.

    Its text says what comes first, and how to go on. The writer then ends without a dataset and without an error, and
    the text is the entry `postponed` of the report.
    """


class DatasetWriter:
    """Writes one dataset into a folder; a context manager.

    While the writer is open, samples stream into a temporary file. On exit without an error every file takes its final
    name, the report last. On an error the temporary files are deleted, and the files of an earlier build stay as they
    are.

    A sample names its images by absolute paths or by paths relative to `out`. With `paths="relative"`, images inside
    `out` are written relative to it, and images outside stay absolute, because they are referred to and not copied.
    With `paths="absolute"`, all are absolute.

    With `shard`, the writer writes one part of a dataset that several jobs build, to be joined by
    `data_builders.merge`. Every job runs the builder on the whole source, but only the samples of the part's own places
    are written. A builder can skip the work for other places by asking `mine` first.

    Raises:
        ConfigError: `out` can't be written, no sample was written, or the rejected share of the source records is
            larger than `max_reject_fraction`.
        BadRecord: Loaders of sharegpt records would refuse a sample.
        ValueError: A sample's id was written before.
    """

    def __init__(
        self,
        out: str | Path,
        name: str,
        *,
        paths: Literal["relative", "absolute"] = "relative",
        max_reject_fraction: float = 0.01,
        shard: tuple[int, int] | None = None,
    ) -> None:
        if paths not in ("relative", "absolute"):
            raise ConfigError(Problem("paths", paths, "choose relative or absolute"))
        if not 0 <= max_reject_fraction <= 1:
            raise ConfigError(Problem("max_reject_fraction", max_reject_fraction, "must lie between 0 and 1"))
        if not name or name != Path(name).name or name.startswith(".") or "," in name:
            raise ConfigError(
                Problem(
                    "name",
                    name,
                    "the dataset's name becomes a file name, and LLaMA-Factory splits names at commas",
                    "give a plain word",
                )
            )
        self.out = Path(out).absolute()
        if set("[]") & set(str(self.out)):
            log.warning("out=%s: LLaMA-Factory and ms-swift can't read a folder with brackets in its name", self.out)
        self.name = name
        self.paths = paths
        self.max_reject_fraction = max_reject_fraction
        self.shard = shard
        self.survey = Survey()
        self.index = IndexMaker()
        self.audit: dict[str, Any] = {}
        """The builder's findings. Entries that are a Counter are added up when the parts of several jobs are merged."""
        self.extra: dict[str, Any] = {}
        """Further entries of the report (the builder's configuration and its fingerprint)."""
        self.report: dict[str, Any] = {}
        """The report as it was written; empty while the writer is open."""
        self._rejected: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        """The first record that was rejected for each reason, with its detail."""
        self._tasks: Counter[str] = Counter()
        self._ids: set[int] = set()
        """Digests of all ids, which take less memory than the ids of millions of samples."""
        self._images = 0
        self._reused = 0
        self._source_records = 0
        self._files: ExitStack
        self._samples: IO[str]
        self._rejects: IO[str]
        self._started: float
        self._last_progress: float

    @property
    def images_dir(self) -> Path:
        """Folder for the images that a builder makes; it exists while the writer is open."""
        return self.out / "images"

    @property
    def dataset_path(self) -> Path:
        """The file of the samples, of this part if there are several."""
        return self.out / f"{self.name}.jsonl" if self.shard is None else self._part_path("jsonl")

    @property
    def rejected_path(self) -> Path:
        """The file of the rejected source records, of this part if there are several."""
        return self.out / "rejected.jsonl" if self.shard is None else self._part_path("rejected.jsonl")

    def _part_path(self, suffix: str) -> Path:
        assert self.shard is not None
        return shard_path(self.out, self.name, self.shard, suffix)

    def mine(self, place: str) -> bool:
        """Whether this job writes the samples of `place`; a sample without a place goes by its id."""
        return self.turn(place) == 0

    def turn(self, place: str) -> int:
        """Distance, counted around the circle of jobs, from this job to the job that writes the samples of `place`.

        0 means this job. If every job needs the images of all places, it makes them in the order of this number: it
        begins with its own, and finds most of the others already made on a shared disk.
        """
        return 0 if self.shard is None else (zlib.crc32(place.encode()) - self.shard[0] + 1) % self.shard[1]

    def write(self, sample: Sample) -> None:
        """Append one sample, unless it belongs to another job. Raises ValueError if its id was written before."""
        if not self.mine(sample.place or sample.id):
            return
        digest = digest64(sample.id)
        if digest in self._ids:
            raise ValueError(f"{sample.id}: this id was written before")
        sample = replace(sample, images=tuple(self._image_name(image) for image in sample.images))
        line = json.dumps(sample_to_record(sample), ensure_ascii=False) + "\n"
        self._samples.write(line)
        self._ids.add(digest)
        self._tasks[sample.task] += 1
        if self.shard is None:
            self.index.add(sample, line)
            self.survey.add(sample)
        if len(self._ids) % 1000 == 0:
            self._log_progress()

    def reject(self, record_id: str, reason: str, detail: str = "") -> None:
        """Record that a source record gave no sample: `reason` is a name to count by, `detail` is free text."""
        line = {"id": record_id, "reason": reason, "detail": detail}
        self._rejects.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._rejected[reason] += 1
        self._examples.setdefault(reason, f"{record_id}: {detail}" if detail else record_id)

    def count_images(self, n: int, reused: int = 0) -> None:
        """Add to the number `n` of images that this build made and to the number `reused` from an earlier build."""
        self._images += n
        self._reused += reused

    def count_source(self, n: int) -> None:
        """Add `n` to the number of source records, to which the number of rejected ones is compared.

        If a builder never calls this, the source records are the samples written plus the records rejected.
        """
        self._source_records += n

    def _clear_leftovers(self) -> None:
        """Delete the temporary files of this dataset whose process on this machine was killed."""
        for path in (self.dataset_path, self.rejected_path):
            for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                pid = leftover.name.split(".")[-2]
                if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
                    leftover.unlink(missing_ok=True)

    def _log_progress(self) -> None:
        """Log the number of samples written, unless that was done a moment ago."""
        now = time.perf_counter()
        if now - self._last_progress >= SECONDS_BETWEEN_LINES:
            self._last_progress = now
            log.info("%s: %s records written in %s", self.name, f"{len(self._ids):,}", duration(now - self._started))

    def __enter__(self) -> DatasetWriter:
        with ExitStack() as opened:
            try:
                self.images_dir.mkdir(parents=True, exist_ok=True)
                self._clear_leftovers()
                self._samples = opened.enter_context(open_atomically(self.dataset_path))
                self._rejects = opened.enter_context(open_atomically(self.rejected_path))
            except (OSError, ConfigError) as error:
                raise ConfigError(
                    Problem("out", self.out, f"can't write there ({error})", "choose another folder")
                ) from error
            self._files = opened.pop_all()
        self._started = self._last_progress = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        is_postponed = isinstance(error, PostponedBuild)
        if error is not None:
            try:
                if is_postponed:
                    self._check_rejects()
            finally:
                self._files.__exit__(kind, error, trace)
            if is_postponed:
                self.report = self._report() | {"postponed": str(error)}
            return is_postponed
        if self.shard is not None:
            with self._files:
                self._part_path("report.json").unlink(missing_ok=True)
            self.report = self._report() | self._for_merge()
            self._write_json(self._part_path("report.json"), self.report)
            return False
        with self._files:
            self._check()
            known = self._known_datasets()
            # The report is deleted before the files are replaced and written after them: it means a complete dataset.
            (self.out / UNFINISHED).touch()
            (self.out / "build_report.json").unlink(missing_ok=True)
        self._write_json(self.out / "dataset_info.json", known | {self.name: self._dataset_info()})
        self._write_report()
        (self.out / UNFINISHED).unlink(missing_ok=True)
        self.index.keep(self.dataset_path)
        return False

    def _write_report(self) -> None:
        """Write the HTML page and then the report, with the findings of the builder and those of the audit."""
        # Imported here, because a part of a dataset needs no tokenizer and opens no image.
        from data_builders.audit.findings import Findings
        from data_builders.audit.page import page

        findings = Findings(self.survey, self.out)
        self.audit = findings.report() | self.audit
        self.report = self._report()
        with open_atomically(self.out / "build_report.html") as file:
            file.write(page(self.report, findings))
        self._write_json(self.out / "build_report.json", self.report)

    def _for_merge(self) -> dict[str, Any]:
        """Further entries of a part's report, which merging needs."""
        return {
            "shard": list(self.shard or ()),
            "source_counted": self._source_records > 0,
            "paths": self.paths,
            "max_reject_fraction": self.max_reject_fraction,
            "extra": self.extra,
            "counts": [key for key, value in self.audit.items() if isinstance(value, Counter)],
        }

    def _check(self) -> None:
        """Raise ConfigError if too many source records were rejected or no sample was written."""
        self._check_rejects()
        if self._ids:
            return
        if self._rejected:
            raise ConfigError(
                Problem("out", self.out, f"the builder wrote no sample: {self._rejects_in_words()}", "fix the source")
            )
        raise ConfigError(
            Problem(
                "out",
                self.out,
                f"the builder wrote no sample and rejected none of {self._source:,} source records",
                "check its source and tasks",
            )
        )

    def _check_rejects(self) -> None:
        """Raise ConfigError if too many source records were rejected."""
        if self._rejected.total() > self.max_reject_fraction * self._source:
            raise ConfigError(
                Problem(
                    "max_reject_fraction",
                    self.max_reject_fraction,
                    self._rejects_in_words(),
                    "fix the source or raise max_reject_fraction" if self._ids else "fix the source",
                )
            )

    def _rejects_in_words(self) -> str:
        """The number of rejected records, their reasons and an example. Keeps the list of all of them in `out`."""
        self._rejects.flush()
        kept = self.out / "rejected.jsonl"
        shutil.copyfile(self._rejects.name, kept)
        common = self._rejected.most_common()
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in common[:REASONS_SHOWN])
        more = f" and {len(common) - REASONS_SHOWN} more reasons" if len(common) > REASONS_SHOWN else ""
        example = as_typed(self._examples[common[0][0]], LONGEST_VALUE)
        return (
            f"{self._rejected.total():,} of {self._source:,} source records were rejected: {reasons}{more}; for "
            f"example {example}. See {kept}"
        )

    @property
    def _source(self) -> int:
        return self._source_records or len(self._ids) + self._rejected.total()

    def _report(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "written": len(self._ids),
            "source_records": self._source,
            "rejected": dict(sorted(self._rejected.items())),
            "tasks": dict(self._tasks),
            "images": self._images,
            "images_reused": self._reused,
            "seconds": round(time.perf_counter() - self._started, 3),
            "audit": self.audit,
            **self.extra,
        }

    def _dataset_info(self) -> dict[str, Any]:
        columns = {"messages": "conversations", "system": "system", "images": "images"}
        return {"file_name": self.dataset_path.name, "formatting": "sharegpt", "columns": columns}

    def _known_datasets(self) -> dict[str, Any]:
        """The entries of LLaMA-Factory's index in this folder, of this dataset and others."""
        path = self.out / "dataset_info.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise ConfigError(
                Problem("out", self.out, "dataset_info.json in this folder is no JSON object", "fix or remove it")
            )
        return known

    def _write_json(self, path: Path, content: dict[str, Any]) -> None:
        with open_atomically(path) as file:
            # Written as ASCII, because LLaMA-Factory reads its index in the encoding of the locale.
            json.dump(content, file, indent=2)
            file.write("\n")

    def _image_name(self, image: str) -> str:
        """The name under which a sample's record refers to an image."""
        # Strings instead of Path objects, for speed: this runs for every image of every sample.
        root = f"{self.out}{os.sep}"
        path = os.path.normpath(os.path.join(root, file_name(image)))
        if self.paths == "relative" and path.startswith(root):
            return path.removeprefix(root).replace(os.sep, "/")
        return path
