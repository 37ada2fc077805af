"""Paths of datasets that the user typed: a misspelled one must not be built by the builder of the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from geotune.config.compositions import COMPOSITIONS
from geotune.config.overrides import DELETE, sort_overrides
from geotune.config.parameters import parameters_of
from geotune.config.targets import options_of
from geotune.errors import ConfigError, Problem


def check_typed_paths(overrides: Sequence[str], cfg: DictConfig) -> None:
    """Require that the datasets exist whose paths are overridden and whose builders are not.

    The builder of a dataset at a path that is overridden may not replace it in a newer version, unless told to.

    overrides, cfg: those of a training, and its complete config. Raises ConfigError that lists every missing dataset.
    """
    groups, values = sort_overrides(overrides, COMPOSITIONS["train"])
    typed = {".".join(path) for path, text in values if text is not DELETE}
    chosen = {key.partition("@")[2] for key in groups}
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    problems = []
    for parts, node in _built_datasets(plain):
        key = ".".join(parts)
        if f"{key}.path" not in typed:
            continue
        build = f"{key}.build"
        is_build_typed = build in chosen or any(name == build or name.startswith(f"{build}.") for name in typed)
        if not is_build_typed and not _holds_records(Path(node["path"])):
            remedy = f"correct the path, or give a key of {build} as well to build it there"
            problems.append(Problem(f"{key}.path", node["path"], "there is no dataset", remedy))
        elif node["build"].get("overwrite") is None and _can_overwrite(node["build"], build):
            builder = cfg
            for part in (*parts, "build"):
                builder = builder[part]
            with open_dict(builder):
                builder.overwrite = False
    if problems:
        raise ConfigError(*problems)


def _built_datasets(node: Mapping[str, Any], within: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the keys and the content of every node that has a path and a builder for it."""
    if isinstance(node.get("path"), str) and isinstance(node.get("build"), Mapping):
        yield within, node
    for name, inner in node.items():
        if isinstance(inner, Mapping):
            yield from _built_datasets(inner, (*within, str(name)))


def _holds_records(path: Path) -> bool:
    """Return whether a path is a file, or a folder with a file of records."""
    return path.is_file() or (path.is_dir() and any(path.glob("*.json*")))


def _can_overwrite(build: Mapping[str, Any], key: str) -> bool:
    return "overwrite" in parameters_of(options_of(build["_target_"], key))
