"""Builds missing datasets: a config may name a builder beside a path, and the builder runs if there is no dataset."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geotune.config.instantiation import instantiate_checked
from geotune.config.trees import flatten
from geotune.data.scratch import scratch_folder
from geotune.errors import ABSENT, BadRecord, ConfigError, Problem, as_typed
from geotune.system.digests import fingerprint_of
from geotune.system.file_kinds import json_suffix, kind_of_file

REPORT = "build_report.json"
"""Name of the report that a builder writes into the dataset's folder."""
UNFINISHED = ".unfinished_build"
"""Name of the file that marks a dataset's folder while a builder replaces the files of an earlier build."""
_SUFFIXES = (".jsonl", ".json")
_NOT_SAMPLES = frozenset({REPORT, "dataset_info.json", "rejected.jsonl"})

log = logging.getLogger(__name__)


class NotBuiltError(ConfigError):
    """Raised within `only_in_scratch` for a dataset that a run would build."""


def ensure_dataset(path: str | Path, build: Mapping[str, Any] | None, *, key: str = "path") -> Path:
    """Return the file of samples that `path` names, and build it first if it is missing.

    A dataset that an older version of the same builder wrote with the same settings is built again, with a line in the
    log, unless the builder's `overwrite` is false. One that was built with other settings is replaced only if
    `overwrite` is true. A dataset that no builder wrote is never replaced. If several processes call this function at
    the same time, the dataset is built once.

    A .json array is never built, so it is used as it is whatever `build` says, and the log says so.

    Args:
        path: A .jsonl or .json file, or a folder that holds one. A builder writes <folder>/<folder's name>.jsonl.
        build: The config of a builder (`_target_` and its fields); None if the dataset must exist already.
        key: The key of `path` in the config, for error messages.

    Raises:
        ConfigError: There is no dataset, the file is none, the folder holds another dataset or one that was built with
            other settings, or the build cannot write there.
        NotBuiltError: Nothing may be built, because this is a dry run.
    """
    found = find_dataset(path, build, key=key)
    if found is not None:
        return found
    if scratch_folder() is not None:
        raise NotBuiltError(Problem(key, path, "is not built yet"))
    assert build is not None
    return _Build(Path(path), build, key).run()


def find_dataset(path: str | Path, build: Mapping[str, Any] | None, *, key: str = "path") -> Path | None:
    """Return the file of samples that `path` names, or None if `build` has to make it first.

    Raises ConfigError as `ensure_dataset` does, also for what the builder lacks.
    """
    found = Path(path) if Path(path).is_file() else _find(Path(path), key) if build is None else None
    if found is not None:
        _refuse_other_kinds(found, key)
    if build is None:
        if found is None:
            raise ConfigError(Problem(key, path, "there is no dataset", "give a .jsonl file or a builder's folder"))
        return found
    if found is not None and found.suffix == ".json":
        log.warning("%s=%s is used as it is; %s does not run", key, path, _build_key(key))
        return found
    wanted = _Build(Path(path), build, key)
    if wanted.is_current():
        return wanted.target
    wanted.refuse_others()
    return None


def _build_key(key: str) -> str:
    """Return the key of the builder of the dataset whose path has the key `key`."""
    return f"{key.rpartition('.')[0]}.build".lstrip(".")


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


class _Build:
    """A builder, and the dataset that it makes for the path of a config."""

    def __init__(self, path: Path, build: Mapping[str, Any], key: str) -> None:
        self.path, self.key, self.build_key = path, key, _build_key(key)
        self.builder = make_builder(build, self.build_key)
        self.out, self.target = _destination(path, key)
        self.fingerprint = config_fingerprint(builder_config(self.builder))

    def is_current(self) -> bool:
        """Return whether the dataset is there, built with the builder's settings."""
        report = _read_report(self.out)
        is_same = report.get("fingerprint") == self.fingerprint and report.get("name") == self.target.stem
        return is_same and self.target.is_file()

    def refuse_others(self) -> None:
        """Raise ConfigError if the folder holds what the builder may not replace."""
        _refuse_foreign(self.out, self.target, self.key, self.build_key)
        refuse_other_settings(
            self.builder,
            self.target,
            key=self.key,
            overwrite=getattr(self.builder, "overwrite", None),
            remedy=f"use it as it is with {self.build_key}=null, choose another {self.key}, or replace it with "
            + (f"{self.build_key}.overwrite=true" if hasattr(self.builder, "overwrite") else "an empty folder"),
        )

    def run(self) -> Path:
        """Build the dataset, unless another process does so meanwhile. Returns its file."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            return self._run_locked()
        except OSError as error:
            text = f"can't build there ({error.strerror or error})"
            raise ConfigError(Problem(self.key, self.path, text, "choose a folder that is writable")) from error

    def _run_locked(self) -> Path:
        from filelock import FileLock

        with FileLock(self.out / ".build.lock"):
            if self.is_current():  # another process has built it while this one waited
                return self.target
            self.refuse_others()
            log.info("building %s", self.target)
            try:
                report = self.builder.make(self.out, self.target.stem)
            except BadRecord:
                raise
            except ConfigError as error:
                problems = (_as_problem_of(self.key, self.build_key, self.target, each) for each in error.problems)
                raise ConfigError(*problems) from error
        if "postponed" in report:
            raise ConfigError(Problem(self.build_key, ABSENT, report["postponed"]))
        return self.target


def refuse_other_settings(builder: Any, target: Path, *, overwrite: bool | None, key: str, remedy: str) -> None:
    """Raise ConfigError if the dataset `target` was built with other settings than those of `builder`.

    overwrite: whether it may be replaced; None if only a newer version of the builder may do so. key, remedy: key of
    the dataset in the config and what the user can do, for the message.
    """
    report = _read_report(target.parent)
    if overwrite or not target.exists() or report.get("name") != target.stem or "builder" not in report:
        return
    before, now = (
        dict(flatten(config, is_leaf=lambda node: not isinstance(node, Mapping)))
        for config in (report["builder"], builder_config(builder))
    )
    old, new = _version_number(before.get("version")), _version_number(now["version"])
    is_newer = old is not None and new is not None and old < new
    if before == now or ({**before, "version": old} == {**now, "version": new} and old is not None):
        return
    # A newer version may have other fields.
    fields = sorted((before.keys() & now.keys() if is_newer else before.keys() | now.keys()) - {"version"})
    changed = [field for field in fields if before.get(field) != now.get(field)]
    if not changed and is_newer and overwrite is None:
        name = now["_target_"].rpartition(".")[2]
        log.info("%s: version %s of %s wrote it, and this is version %s; it is built again", target, old, name, new)
        return
    shown = changed or ["version"]
    then, wanted = (", ".join(f"{name}={as_typed(of.get(name))}" for name in shown) for of in (before, now))
    text = f"this dataset was built with {then}, and the builder now has {wanted}"
    raise ConfigError(Problem(key, target, text, remedy))


def _version_number(version: Any) -> int | None:
    """Return the version of a builder as a number, 0 for none; None for words. Some numbers were written as texts."""
    if isinstance(version, str) and version.isdecimal():
        return int(version)
    return version if isinstance(version, int) else None if version else 0


def _as_problem_of(key: str, build_key: str, target: Path, problem: Problem) -> Problem:
    """Return a builder's problem as one of a config that holds the builder at `build_key` and its dataset at `key`."""
    if problem.key in ("out", "name"):
        return dataclasses.replace(problem, key=key, value=target)
    if problem.key == "max_reject_fraction":
        remedy = f"fix the source, or build first with max_reject_fraction=, out={target.parent} and name={target.stem}"
        return dataclasses.replace(problem, key=build_key, value=ABSENT, remedy=remedy)
    return problem.below(build_key)


def _refuse_foreign(out: Path, target: Path, key: str, build_key: str) -> None:
    """Raise ConfigError unless `out` is new or holds an earlier build of this dataset and no other samples."""
    # A build of ours that was killed, or is at work in another process, has this file while it replaces the others, and
    # the report is its last one: to be looked at in this order.
    is_there, others, unfinished = target.exists(), _sample_files(out), out / UNFINISHED
    if unfinished.exists():
        return
    report = _read_report(out)
    if not report and unfinished.exists():
        return
    name = report.get("name", target.stem)
    as_it_is = f"use it as it is with {build_key}=null, or choose another path"
    if is_there and ("fingerprint" not in report or name != target.stem):
        raise ConfigError(Problem(key, target, f"this dataset was not built by {build_key}", as_it_is))
    if name != target.stem:
        raise ConfigError(
            Problem(
                key, target, f"{out} already holds the dataset {name!r}", "give each built dataset a folder of its own"
            )
        )
    if not report and others:
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
    """Return the files of a folder that may hold samples, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix in _SUFFIXES and f.name not in _NOT_SAMPLES and f.is_file())


def _refuse_other_kinds(path: Path, key: str) -> None:
    """Raise ConfigError if a file is no dataset by its content, or if its name does not say which kind it is."""
    try:
        kind, suffix = kind_of_file(path), json_suffix(path)
    except OSError as error:
        raise ConfigError(Problem(key, path, f"can't be read ({error.strerror or error})")) from error
    if kind is not None:
        text, remedy = f"this file is {kind}", "give a .jsonl or .json file of sharegpt records"
        first = "unpack it and " if "compressed" in kind else "run `git lfs pull`, or " if "LFS" in kind else ""
        raise ConfigError(Problem(key, path, text, first + remedy))
    if path.suffix not in _SUFFIXES:
        remedy = (
            "build a dataset from it, or give sharegpt records" if suffix is None else f"name it {path.stem}{suffix}"
        )
        raise ConfigError(Problem(key, path, "a dataset file ends in .jsonl or .json", remedy))
    if suffix not in (None, path.suffix):
        text = {".json": "this file is one array", ".jsonl": "this file is no array of records"}[suffix]
        remedy = f"name it {path.stem}{suffix}" + (" if it holds JSON lines" if suffix == ".jsonl" else "")
        raise ConfigError(Problem(key, path, text, remedy))
