"""Files of `recipes/`: the groups, the choices in each group, and the user's own files, which lie elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geotune.config.wording import near
from geotune.errors import ConfigError, Problem
from geotune.system.digests import digest64

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


def is_own_file(choice: str) -> bool:
    """Return whether a choice names a YAML file instead of a file of the group."""
    return Path(choice).suffix in (".yaml", ".yml")


def chosen_file(key: str, choice: str) -> Path:
    """Return the file that `<key>=<choice>` names: a file of the group, or any YAML file.

    Raises ConfigError if the group has no such file.
    """
    group = key.partition("@")[0]
    if is_own_file(choice):
        return Path(choice)
    names = choices_of(group)
    if choice not in names:
        meant = near(choice, names)
        known = f"there are {', '.join(names)}, or name a YAML file"
        raise ConfigError(Problem(key, choice, f"there is no such {group}", f"{known}; {meant}" if meant else known))
    return RECIPES / group / f"{choice}.yaml"


_STEMS: dict[str, str] = {}
"""Stem of each file that was registered, by its name in its group."""


def stem_of(choice: str) -> str:
    """Return the name of a choice as a user knows it: the stem of an own file, or the name in the group."""
    return _STEMS.get(choice, choice)


def register_file(group: str, path: Path, within: tuple[Path, ...] = ()) -> str:
    """Add a YAML file that lies elsewhere to a group. Returns its name in the group, of which `stem_of` gives the stem.

    The file's `defaults` may name files of our groups, and YAML files beside it. within: files whose defaults lead to
    this one. Raises ConfigError if the file can't be read, holds no mapping or is among its own defaults.
    """
    here = path.resolve()
    if here in within:
        raise ConfigError(Problem(group, path, "the file is among its own defaults", "remove it from `defaults`"))
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
    if isinstance(node.get("defaults"), ListConfig):
        node.defaults = [_own_default(group, entry, path.parent, (*within, here)) for entry in node.defaults]
    # The digest keeps files of one name in different folders apart, and Hydra can read it, whatever the file's name is.
    name = f"file/own_{digest64(str(here)):016x}"
    _STEMS[name] = path.stem
    ConfigStore.instance().store(
        name=name.rpartition("/")[2],
        node=node,
        group=f"{group}/file",
        package="_global_" if group in ("recipe", "sweep") else None,
        provider=str(path),
    )
    return name


def _own_default(group: str, entry: Any, folder: Path, within: tuple[Path, ...]) -> Any:
    """Return an entry of the `defaults` of a user's file in `folder` as Hydra finds it, and register files beside it.

    `base` or `base.yaml` is a file beside, or else one of our group; `/builder@data.build: mine.yaml` is a file beside.
    """
    if isinstance(entry, DictConfig):
        named = {}
        for key, choice in entry.items():
            own = isinstance(choice, str) and is_own_file(choice)
            of = str(key).split()[-1].lstrip("/").partition("@")[0]
            named[key] = register_file(of, folder / choice, within) if own else choice
        return named
    if not isinstance(entry, str) or entry == "_self_" or entry.startswith("/"):
        return entry
    own_file = _file_beside(entry, folder)
    name = entry if own_file is None else register_file(group, own_file, within)
    return f"/{group}/{name}@_here_"  # at the place of the file itself, wherever that is put


def _file_beside(entry: str, folder: Path) -> Path | None:
    """Return the YAML file in `folder` that an entry of `defaults` names, with or without its ending."""
    beside = [folder / f"{entry}{suffix}" for suffix in ("", ".yaml", ".yml")]
    return next((path for path in beside if is_own_file(path.name) and path.is_file()), None)


def base_recipe(entry: str, folder: Path) -> Path | None:
    """Return the recipe file that an entry of the `defaults` of a recipe in `folder` names: one beside, or ours."""
    ours = RECIPES / "recipe" / f"{entry}.yaml"
    return _file_beside(entry, folder) or (ours if ours.is_file() else None)


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
