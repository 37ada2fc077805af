"""The resolver of targets: it imports the class or function that a dotted name means."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

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
