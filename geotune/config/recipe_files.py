"""Files of `recipes/`: the groups, the choices in each group, and recipe files that lie elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geotune.config.wording import near
from geotune.errors import ConfigError, Problem

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
"""Folder beside this package; in an installation it is the package data of `recipes`."""


def group_names() -> list[str]:
    """Return the names of the groups, which are the folders of `recipes/`."""
    return sorted(path.name for path in RECIPES.iterdir() if path.is_dir() and any(path.glob("*.yaml")))


def choices_of(group: str) -> list[str]:
    """Return the names that can be chosen in a group."""
    return [path.stem for path in files_of(group)]


def files_of(group: str) -> list[Path]:
    """Return the files of a group, ordered by name."""
    return sorted((RECIPES / group).glob("*.yaml"))


def targets_of(group: str) -> set[str]:
    """Return the classes that the files of a group name by `_target_`."""
    nodes = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in files_of(group))
    return {node["_target_"] for node in nodes if isinstance(node, dict) and "_target_" in node}


def chosen_file(key: str, choice: str) -> Path:
    """Return the file that `<key>=<choice>` names: a file of the group, or any YAML file for a recipe or a sweep.

    Raises ConfigError if the group has no such file.
    """
    group = key.partition("@")[0]
    if group in ("recipe", "sweep") and Path(choice).suffix in (".yaml", ".yml"):
        return Path(choice)
    names = choices_of(group)
    if choice not in names:
        meant = near(choice, names)
        known = f"there are {', '.join(names)}"
        raise ConfigError(Problem(key, choice, f"there is no such {group}", f"{known}; {meant}" if meant else known))
    return RECIPES / group / f"{choice}.yaml"


def register_file(group: str, path: Path) -> str:
    """Add a YAML file that lies elsewhere to the group `recipe` or `sweep`. Returns its name in the group.

    Raises ConfigError if the file is no recipe.
    """
    try:
        node = OmegaConf.load(path)
    except (OSError, yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(
            Problem(
                group,
                path,
                f"this file can't be read as a {group} ({first_lines(error)})",
                f"name a YAML file, or one of {', '.join(choices_of(group))}",
            )
        ) from error
    if not isinstance(node, DictConfig):
        raise ConfigError(
            Problem(group, path, f"a {group} is a mapping of keys, but this file holds a list", f"see recipes/{group}/")
        )
    ConfigStore.instance().store(
        name=path.stem, node=node, group=f"{group}/file", package="_global_", provider=str(path)
    )
    return f"file/{path.stem}"


def header_of(path: Path) -> list[str]:
    """Return the comment lines at the top of a recipe file, without Hydra's own."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def first_lines(error: Exception) -> str:
    """Return the message of a library's error without the list of places that it searched."""
    return re.split(r"\n\s*(?:Config search path|full_key|object_type)", str(error).strip())[0]
