"""The one writer of built datasets: samples, index entry, report and rejects, all or nothing."""

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
from geotune.data.index import IndexMaker
from geotune.errors import ConfigError
from geotune.sample import Sample, sample_to_record
from geotune.system.digests import digest64
from geotune.system.files import open_atomically
from geotune.system.progress import duration

SHARDS = "shards"
"""Folder of `out` for what the jobs of a cluster write until it is merged."""
SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger(__name__)


def read_shard(shard: str | None) -> tuple[int, int] | None:
    """(i, n) of `i/n`, the first of n being 1. Raises ConfigError."""
    if shard is None:
        return None
    first, _, last = shard.partition("/")
    if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise ConfigError(f"shard={shard}: say which part of how many, from 1/n to n/n")


class DatasetWriter:
    """Writes one dataset into a folder; a context manager.

    While it is open, samples stream into a temporary file. On a clean exit everything takes its final name, the report
    last; on an error the temporary files go, and what an earlier build left stays as it was.

    Images named by a sample are absolute, or relative to `out`. With `paths="relative"` those inside `out` are
    written relative to it and those outside stay absolute (they are referred to, not copied); with
    `paths="absolute"` all are absolute.

    With `shard` it writes one part of a dataset that several jobs build, to be joined by `data_builders.merge`. Every
    job runs the builder on the whole source; only the questions about the part's own places are written. A builder
    that asks `mine` beforehand spares itself the work of the others.

    Raises:
        ConfigError: `out` can't be written, nothing was written, or the rejected share of the source records is
            more than `max_reject_fraction`.
        BadRecord: a sample that loaders of sharegpt records would refuse.
        ValueError: an id that was written before.
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
            raise ConfigError(f"paths={paths}: say relative or absolute")
        if not 0 <= max_reject_fraction <= 1:
            raise ConfigError(f"max_reject_fraction={max_reject_fraction}: must lie between 0 and 1")
        if not name or name != Path(name).name or name.startswith(".") or "," in name:
            raise ConfigError(
                f"name={name!r}: the dataset's name becomes a file name, and LLaMA-Factory parts names at commas; "
                "give a plain word"
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
        """What the builder found. A Counter counts what this job did: it is added up when jobs are merged."""
        self.extra: dict[str, Any] = {}
        """Further entries of the report (the builder's configuration and its fingerprint)."""
        self.report: dict[str, Any] = {}
        """The report as written; empty until the writer is closed."""
        self._rejected: Counter[str] = Counter()
        self._tasks: Counter[str] = Counter()
        self._ids: set[int] = set()
        """Digests of all ids: a dataset may have millions."""
        self._images = 0
        self._reused = 0
        self._source_records = 0
        self._files: ExitStack
        self._samples: IO[str]
        self._rejects: IO[str]
        self._started: float
        self._told: float

    @property
    def images_dir(self) -> Path:
        """Where a builder puts the images that it makes; exists while the writer is open."""
        return self.out / "images"

    @property
    def dataset_path(self) -> Path:
        return self.out / f"{self.name}.jsonl" if self.shard is None else self._shard_path("jsonl")

    @property
    def rejected_path(self) -> Path:
        return self.out / "rejected.jsonl" if self.shard is None else self._shard_path("rejected.jsonl")

    def _shard_path(self, suffix: str) -> Path:
        assert self.shard is not None
        return self.out / SHARDS / f"{self.name}.{self.shard[0]:05d}-of-{self.shard[1]:05d}.{suffix}"

    def mine(self, place: str) -> bool:
        """Whether this job writes the questions about `place` (of a sample without a place: its id)."""
        return self.turn(place) == 0

    def turn(self, place: str) -> int:
        """How many jobs on, in a circle, is the one that writes the questions about `place`; 0 for this one.

        Jobs that all need all places' images begin with their own and go on by this number: on a shared disk each
        then finds most of the others' made.
        """
        return 0 if self.shard is None else (zlib.crc32(place.encode()) - self.shard[0] + 1) % self.shard[1]

    def write(self, sample: Sample) -> None:
        """Append one sample, unless it is another job's; its id must be new."""
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
            self._tell()

    def reject(self, record_id: str, reason: str, detail: str = "") -> None:
        """Note one source record that gave no samples. `reason` is a short word to count by; `detail` is free text."""
        line = {"id": record_id, "reason": reason, "detail": detail}
        self._rejects.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._rejected[reason] += 1

    def count_images(self, n: int, reused: int = 0) -> None:
        """Add `n` to the number of images that this build made, and `reused` to those that an earlier one had made."""
        self._images += n
        self._reused += reused

    def count_source(self, n: int) -> None:
        """Add `n` to the number of source records, of which rejects are a fraction.

        A builder that never calls this has as many source records as it wrote samples and rejected records.
        """
        self._source_records += n

    def _clear_leftovers(self) -> None:
        """Delete what killed builds of this dataset on this machine had written so far."""
        for path in (self.dataset_path, self.rejected_path):
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                pid = left.name.split(".")[-2]
                if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
                    left.unlink(missing_ok=True)

    def _tell(self) -> None:
        """Now and then a line of the log on how the records come along."""
        now = time.perf_counter()
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            log.info("%s: %s records written in %s", self.name, f"{len(self._ids):,}", duration(now - self._started))

    def __enter__(self) -> DatasetWriter:
        with ExitStack() as opened:
            try:
                self.images_dir.mkdir(parents=True, exist_ok=True)
                self._clear_leftovers()
                self._samples = opened.enter_context(open_atomically(self.dataset_path))
                self._rejects = opened.enter_context(open_atomically(self.rejected_path))
            except (OSError, ConfigError) as error:
                raise ConfigError(f"out={self.out}: can't write there ({error}); choose another folder") from error
            self._files = opened.pop_all()
        self._started = self._told = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._files.__exit__(kind, error, trace)
            return
        if self.shard is not None:
            with self._files:
                self._shard_path("report.json").unlink(missing_ok=True)
            self.report = self._report() | self._for_merge()
            self._write_json(str(self._shard_path("report.json").relative_to(self.out)), self.report)
            return
        with self._files:
            self._check()
            known = self._known_datasets()
            # Gone before the files are replaced and back after them: a report means a complete dataset.
            (self.out / "build_report.json").unlink(missing_ok=True)
        self._write_json("dataset_info.json", known | {self.name: self._dataset_info()})
        self._write_report()
        self.index.keep(self.dataset_path)

    def _write_report(self) -> None:
        """The page, then the report: what the builder found, and what the records show."""
        # Not at the top: only here are tokenizers and images looked at.
        from data_builders.audit.findings import Findings
        from data_builders.audit.page import page

        findings = Findings(self.survey, self.out)
        self.audit = findings.report() | self.audit
        self.report = self._report()
        with open_atomically(self.out / "build_report.html") as file:
            file.write(page(self.report, findings))
        self._write_json("build_report.json", self.report)

    def _for_merge(self) -> dict[str, Any]:
        """What merging needs to know beside the report."""
        return {
            "shard": list(self.shard or ()),
            "source_counted": self._source_records > 0,
            "paths": self.paths,
            "max_reject_fraction": self.max_reject_fraction,
            "extra": self.extra,
            "counts": [key for key, value in self.audit.items() if isinstance(value, Counter)],
        }

    def _check(self) -> None:
        """Raises ConfigError unless what was written is worth keeping."""
        rejected, source = self._rejected.total(), self._source
        if rejected > self.max_reject_fraction * source:
            worst = ", ".join(f"{reason} ({count})" for reason, count in self._rejected.most_common(3))
            self._rejects.flush()
            shutil.copyfile(self._rejects.name, self.out / "rejected.jsonl")
            raise ConfigError(
                f"max_reject_fraction={self.max_reject_fraction}: {rejected} of {source} source records were rejected: "
                f"{worst}. See {self.out / 'rejected.jsonl'}; mend the source or raise max_reject_fraction"
            )
        if not self._ids:
            raise ConfigError(f"out={self.out}: the builder wrote no sample; check its source and tasks")

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
        """LLaMA-Factory's entries of other datasets in the same folder."""
        path = self.out / "dataset_info.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise ConfigError(f"out={self.out}: dataset_info.json there is no JSON object; remove or mend it")
        return known

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with open_atomically(self.out / name) as file:
            # ASCII: LLaMA-Factory opens its index in the encoding of the locale.
            json.dump(content, file, indent=2)
            file.write("\n")

    def _image_name(self, image: str) -> str:
        # Text, not Path objects: every image of every sample passes here.
        root = f"{self.out}{os.sep}"
        path = os.path.normpath(os.path.join(root, image))
        if self.paths == "relative" and path.startswith(root):
            return path.removeprefix(root).replace(os.sep, "/")
        return path
