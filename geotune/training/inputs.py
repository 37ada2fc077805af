"""What a training needs to find: devices, weights and data, checked before anything is loaded or built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
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
    yield partial(_check_training_data, node["data"])
    for name, suite in ((node["evaluator"] or {}).get("suites") or {}).items():
        key = f"evaluator.suites.{name}"
        if isinstance(suite, Mapping) and _reads_dataset(suite, key):
            yield partial(find_dataset, suite["path"], suite.get("build"), key=f"{key}.path")


def _problems_of(check: Callable[[], object]) -> tuple[Problem, ...]:
    try:
        check()
    except ConfigError as error:
        return error.problems
    return ()


def _check_training_data(data: Mapping[str, Any]) -> None:
    """Check that the training data exists or can be built, and that it has the tasks if it exists."""
    found = [find_dataset(data["path"], data["build"], key="data.path")]
    found += [find_dataset(path, None, key="data.mix") for path in data["mix"]]
    files = [file for file in found if file is not None]
    if data["tasks"] is not None and len(files) == len(found):
        check_tasks(data["tasks"], [SampleFile(file) for file in files])


def _reads_dataset(suite: Mapping[str, Any], key: str) -> bool:
    """Return whether a suite takes its samples from a dataset that a builder may make."""
    options = parameters_of(options_of(suite["_target_"], key))
    return {"path", "build"} <= options.keys() and suite.get("path") is not None
