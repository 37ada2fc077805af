"""`config.yaml` of a run directory: the resolved config and the versions that the run used."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from geotune.system.files import open_atomically

VERSIONED_PACKAGES = ("torch", "transformers", "peft", "lightning", "geotune")
"""Packages whose versions are written down."""


def config_text(cfg: DictConfig) -> str:
    """Return the resolved config and the versions of Python and of `PACKAGES`, as YAML."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return OmegaConf.to_yaml(OmegaConf.create({**config, "versions": versions}))


def write_config(run_dir: Path, cfg: DictConfig) -> None:
    """Write `config.yaml` to `run_dir`."""
    with open_atomically(run_dir / "config.yaml") as file:
        file.write(config_text(cfg))
