"""Builds missing datasets: a config may name a builder beside a path, and the builder runs if there is no dataset."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geotune.config.instantiation import instantiate_checked
from geotune.errors import ABSENT, BadRecord, ConfigError, Problem
from geotune.system.digests import fingerprint_of
from geotune.system.file_kinds import json_suffix, kind_of_file

REPORT = "build_report.json"
"""Name of the report that a builder writes into the dataset's folder."""
_SUFFIXES = (".jsonl", ".json")
_NOT_SAMPLES = frozenset({REPORT, "dataset_info.json", "rejected.jsonl"})

log = logging.getLogger(__name__)


def ensure_dataset(path: str | Path, build: Mapping[str, Any] | None, *, key: str = "path") -> Path:
    """Return the file of samples that `path` names, and build it first if it is missing or out of date.

    A built dataset is out of date if it was built with other settings of its builder. If several processes call this
    function at the same time, the dataset is built once. A dataset that this builder did not write is never
    overwritten.

    A .json array is never built, so it is used as it is whatever `build` says, and the log says so.

    Args:
        path: A .jsonl or .json file, or a folder that holds one. A builder writes <folder>/<folder's name>.jsonl.
        build: The config of a builder (`_target_` and its fields); None if the dataset must exist already.
        key: The key of `path` in the config, for error messages.

    Raises:
        ConfigError: There is no dataset, the file is none, the folder holds another dataset, or the build cannot write
            there.
    """
    build_key = f"{key.rpartition('.')[0]}.build".lstrip(".")
    found = Path(path) if Path(path).is_file() else _find(Path(path), key) if build is None else None
    if found is not None:
        _refuse_other_kinds(found, key)
    if build is None:
        if found is None:
            raise ConfigError(Problem(key, path, "there is no dataset", "give a .jsonl file or a builder's folder"))
        return found
    if found is not None and found.suffix == ".json":
        log.warning("%s=%s is used as it is; %s does not run", key, path, build_key)
        return found

    builder = make_builder(build, build_key)
    fingerprint = config_fingerprint(builder_config(builder))
    out, target = _destination(Path(path), key)
    if _is_current(out, target, fingerprint):
        return target
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _build_locked(builder, fingerprint, out, target, key, build_key)
    except OSError as error:
        raise ConfigError(
            Problem(key, path, f"can't build there ({error.strerror or error})", "choose a folder that is writable")
        ) from error


def make_builder(node: Mapping[str, Any], key: str) -> Any:
    """Make the builder of the config node at `key`. Raises ConfigError if its target is no builder."""
    builder = instantiate_checked(node, key)
    if not hasattr(builder, "make"):
        target = node.get("_target_")
        raise ConfigError(
            Problem(f"{key}._target_", target, "this is not a builder", "choose one of the group `builder`")
        )
    return builder


def builder_config(builder: Any) -> dict[str, Any]:
    """Return the settings that determine a builder's output, as JSON types: its class, its `version` and its fields.

    `version` is None for a class without one. Fields with `compare=False` (for example the number of workers) do not
    affect the output and are left out.
    """
    kind = type(builder)
    options = builder.config if hasattr(kind, "Config") else builder
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.compare}
    config = {
        "_target_": f"{kind.__module__}.{kind.__qualname__}",
        "version": getattr(kind, "version", None),
        **fields,
    }
    plain: dict[str, Any] = json.loads(json.dumps(config, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    is_instance = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_instance else str(value)


def config_fingerprint(config: Mapping[str, Any]) -> str:
    """Return a digest of a builder's config that does not depend on the order of its keys."""
    return fingerprint_of(json.dumps(config, sort_keys=True))


def _build_locked(builder: Any, fingerprint: str, out: Path, target: Path, key: str, build_key: str) -> Path:
    from filelock import FileLock

    with FileLock(out / ".build.lock"):
        if _is_current(out, target, fingerprint):  # another process has built it while this one waited
            return target
        _refuse_foreign(out, target, key, build_key)
        log.info("building %s", target)
        try:
            report = builder.make(out, target.stem)
        except BadRecord:
            raise
        except ConfigError as error:
            problems = (_as_problem_of(key, build_key, target, problem) for problem in error.problems)
            raise ConfigError(*problems) from error
    if "postponed" in report:
        raise ConfigError(Problem(build_key, ABSENT, report["postponed"]))
    return target


def _as_problem_of(key: str, build_key: str, target: Path, problem: Problem) -> Problem:
    """Return a builder's problem as one of a config that holds the builder at `build_key` and its dataset at `key`."""
    if problem.key in ("out", "name"):
        return dataclasses.replace(problem, key=key, value=target)
    if problem.key == "max_reject_fraction":
        remedy = f"fix the source, or build first with max_reject_fraction=, out={target.parent} and name={target.stem}"
        return dataclasses.replace(problem, key=build_key, value=ABSENT, remedy=remedy)
    return problem.below(build_key)


def _is_current(out: Path, target: Path, fingerprint: str) -> bool:
    report = _read_report(out)
    return target.is_file() and report.get("fingerprint") == fingerprint and report.get("name") == target.stem


def _refuse_foreign(out: Path, target: Path, key: str, build_key: str) -> None:
    """Raise ConfigError unless `out` is new or holds an earlier build of this dataset and no other samples."""
    report = _read_report(out)
    name = report.get("name", target.stem)
    as_it_is = f"use it as it is with {build_key}=null, or choose another path"
    if target.exists() and ("fingerprint" not in report or name != target.stem):
        raise ConfigError(Problem(key, target, f"this dataset was not built by {build_key}", as_it_is))
    if name != target.stem:
        raise ConfigError(
            Problem(
                key, target, f"{out} already holds the dataset {name!r}", "give each built dataset a folder of its own"
            )
        )
    if not report and (others := _sample_files(out)):
        names = ", ".join(file.name for file in others[:5])
        remedy = f"choose another path, or use {others[0]} as it is with {build_key}=null"
        raise ConfigError(Problem(key, out, f"this folder holds {names}, which {build_key} did not build", remedy))


def _read_report(out: Path) -> dict[str, Any]:
    """Return the report of the build in `out`, {} without a complete build: the report is the last file written."""
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _destination(path: Path, key: str) -> tuple[Path, Path]:
    """Return the folder and the file that a build for `path` writes."""
    if path.suffix == ".json":
        text = "there is no such file, and builders write JSON lines"
        raise ConfigError(Problem(key, path, text, f"name an array that exists, or {path.with_suffix('.jsonl').name}"))
    if path.suffix == ".jsonl":
        return path.parent, path
    return path, path / f"{_read_report(path).get('name', path.absolute().name)}.jsonl"


def _find(path: Path, key: str) -> Path | None:
    """Return the one file of samples in the folder `path`; None if there is none."""
    if not path.is_dir():
        return None
    built = path / f"{_read_report(path).get('name')}.jsonl"
    if built.is_file():
        return built
    files = _sample_files(path)
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise ConfigError(Problem(key, path, f"the folder holds several datasets ({names})", "name the file"))
    return files[0] if files else None


def _sample_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold samples, sorted."""
    return sorted(f for f in folder.iterdir() if f.suffix in _SUFFIXES and f.name not in _NOT_SAMPLES and f.is_file())


def _refuse_other_kinds(path: Path, key: str) -> None:
    """Raise ConfigError if a file is no dataset by its content, or if its name does not say which kind it is."""
    try:
        kind, suffix = kind_of_file(path), json_suffix(path)
    except OSError as error:
        raise ConfigError(Problem(key, path, f"can't be read ({error.strerror or error})")) from error
    if kind is not None:
        text, remedy = f"this file is {kind}", "give a .jsonl or .json file of sharegpt records"
        raise ConfigError(Problem(key, path, text, f"unpack it and {remedy}" if "compressed" in kind else remedy))
    if path.suffix not in _SUFFIXES:
        remedy = (
            "build a dataset from it, or give sharegpt records" if suffix is None else f"name it {path.stem}{suffix}"
        )
        raise ConfigError(Problem(key, path, "a dataset file ends in .jsonl or .json", remedy))
    if suffix not in (None, path.suffix):
        text = {".json": "this file is one array", ".jsonl": "this file is no array of records"}[suffix]
        remedy = f"name it {path.stem}{suffix}" + (" if it holds JSON lines" if suffix == ".jsonl" else "")
        raise ConfigError(Problem(key, path, text, remedy))
