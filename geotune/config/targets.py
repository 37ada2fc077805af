"""The resolver of targets: it imports the class that a dotted name means, and finds the options of that class."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from geotune.config.options import PartOptions
from geotune.config.recipe_files import targets_of
from geotune.config.wording import near
from geotune.errors import ConfigError, Problem


def resolve_target(target: Any, where: str) -> Callable[..., Any]:
    """Import and return the class or function that `_target_` names.

    where: key of the node that names it, for messages. Raises ConfigError if there is no such class or function.
    """
    key = f"{where}._target_"
    found = resolve_name(target, key, "a class, package.module.Class")
    if not callable(found):
        raise ConfigError(
            Problem(key, target, "this is no class", "give the dotted name of a class, package.module.Class")
        )
    resolved: Callable[..., Any] = found
    return resolved


def resolve_name(name: Any, key: str, kind: str) -> Any:
    """Import and return the object that a dotted name means.

    key: key that holds the name. kind: description of the expected object and its name. Both are for messages. Raises
    ConfigError if there is no such object.
    """
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")) or "." not in name:
        raise ConfigError(Problem(key, name, f"expected the dotted name of {kind}"))
    parts = name.split(".")
    found: Any = None
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        if depth == 1 or not hasattr(found, parts[depth - 1]):
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise  # the module exists, but an import inside it fails
                nowhere = "start the command in the folder that holds it, or name that folder in PYTHONPATH"
                meant = near(parts[depth - 1], dir(found)) if depth > 1 else nowhere
                raise ConfigError(Problem(key, name, f"there is no {module}", meant)) from None
        else:
            found = getattr(found, parts[depth - 1])
    return found


def options_of(target: Any, where: str) -> Any:
    """Return the option dataclass of the class that `_target_` names: its attribute `Config`, or the class itself.

    Raises ConfigError if there is no such class, or if neither is a dataclass.
    """
    found: Any = resolve_target(target, where)
    options = getattr(found, "Config", found)
    if not dataclasses.is_dataclass(options):
        raise ConfigError(
            Problem(
                f"{where}._target_",
                target,
                "this class names no options",
                "make it a dataclass, or give it a dataclass as the class attribute Config",
            )
        )
    return options


def slot_options(slot: type[PartOptions], target: Any, group: str) -> type[PartOptions]:
    """Return the option dataclass of a part of a run: that of the class that `_target_` names.

    For the classes that the files of recipes/<group>/ name, which are not imported, it is the subclass of `slot` that
    lists the class in `targets`, or else `slot`. A class of your own names a subclass of `slot` as its attribute
    `Config`. Raises ConfigError if it does not.
    """
    if isinstance(target, str) and target in targets_of(group):
        return next((options for options in slot.__subclasses__() if target in options.targets), slot)
    options = options_of(target, group)
    if not issubclass(options, slot):
        raise ConfigError(
            Problem(
                f"{group}._target_",
                target,
                f"the options of this class are no {slot.__name__}",
                f"give it a subclass of {slot.__module__}.{slot.__name__} as the class attribute Config",
            )
        )
    found: type[PartOptions] = options
    return found
