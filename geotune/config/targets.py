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
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")) or "." not in target:
        raise ConfigError(
            Problem(f"{where}._target_", target, "expected the dotted name of a class, package.module.Class")
        )
    parts = target.split(".")
    found: Any = None
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        if depth == 1 or not hasattr(found, parts[depth - 1]):
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise  # the module exists, but an import inside it fails
                meant = near(parts[depth - 1], dir(found)) if depth > 1 else ""
                raise ConfigError(Problem(f"{where}._target_", target, f"there is no {module}", meant)) from None
        else:
            found = getattr(found, parts[depth - 1])
    if not callable(found):
        raise ConfigError(
            Problem(
                f"{where}._target_", target, "this is no class", "give the dotted name of a class, package.module.Class"
            )
        )
    return found
