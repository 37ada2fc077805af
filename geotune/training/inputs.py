"""What a training needs to find: devices, weights and data, checked before anything is loaded or built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.config.parameters import parameters_of
from geotune.config.targets import options_of
from geotune.data.building import find_dataset
from geotune.data.sample_file import SampleFile, check_tasks
from geotune.errors import ConfigError, Problem


def check_inputs(cfg: DictConfig) -> None:
    """Check what can be checked of a training's devices, weights and data without loading a model or building data.

    cfg: the complete config of a training. Raises ConfigError that lists every mistake.
    """
    from geotune.backbones.pretrained import refuse_missing_model
    from geotune.training.trainer import check_devices

    _run(
        partial(check_devices, cfg.trainer, cfg.backbone),
        partial(refuse_missing_model, cfg.backbone.path),
        *_data_checks(cfg),
    )


def check_data(cfg: DictConfig) -> None:
    """Check the datasets and tasks that `check_inputs` checks, without importing torch."""
    _run(*_data_checks(cfg))


def _run(*checks: Callable[[], object]) -> None:
    """Run all checks, and raise the mistakes that they found as one ConfigError."""
    problems = [problem for check in checks for problem in _problems_of(check)]
    if problems:
        raise ConfigError(*problems)


def _data_checks(cfg: DictConfig) -> Iterator[Callable[[], object]]:
    node: Any = OmegaConf.to_container(cfg, resolve=True)
    built = built_paths(cfg)
    yield partial(_check_training_data, node["data"], built)
    for key, suite in _suites(node):
        if _reads_dataset(suite, key):
            yield partial(_found, suite["path"], suite.get("build"), built, key=f"{key}.path")


def built_paths(cfg: DictConfig) -> set[str]:
    """Return the paths of the datasets that a training builds if they are missing: of its data and of its suites."""
    node: Any = OmegaConf.to_container(cfg, resolve=True)
    nodes = [node["data"], *(suite for _, suite in _suites(node))]
    return {each["path"] for each in nodes if each.get("build") and each.get("path") is not None}


def _suites(node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the suites of a training that are nodes of its config, each with its key."""
    for name, suite in ((node["evaluator"] or {}).get("suites") or {}).items():
        if isinstance(suite, Mapping):
            yield f"evaluator.suites.{name}", suite


def _found(path: str, build: Mapping[str, Any] | None, built: Collection[str], *, key: str) -> Path | None:
    """Return the file of a dataset, or None if it is yet to be built. Raises ConfigError if it will be missing."""
    return None if build is None and path in built else find_dataset(path, build, key=key)


def _problems_of(check: Callable[[], object]) -> tuple[Problem, ...]:
    try:
        check()
    except ConfigError as error:
        return error.problems
    return ()


def _check_training_data(data: Mapping[str, Any], built: Collection[str]) -> None:
    """Check that the training data exists or will be built, and that it has the tasks if it exists."""
    found = [_found(data["path"], data["build"], built, key="data.path")]
    found += [_found(path, None, built, key="data.mix") for path in data["mix"]]
    files = [file for file in found if file is not None]
    if data["tasks"] is not None and len(files) == len(found):
        check_tasks(data["tasks"], [SampleFile(file) for file in files])


def _reads_dataset(suite: Mapping[str, Any], key: str) -> bool:
    """Return whether a suite takes its samples from a dataset that a builder may make."""
    options = parameters_of(options_of(suite["_target_"], key))
    return {"path", "build"} <= options.keys() and suite.get("path") is not None
