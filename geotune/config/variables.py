"""Variables of the environment that set keys of a config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

WANDB_VARIABLES = {
    "wandb.project": "WANDB_PROJECT",
    "wandb.entity": "WANDB_ENTITY",
    "wandb.group": "WANDB_RUN_GROUP",
    "wandb.name": "WANDB_NAME",
    "wandb.mode": "WANDB_MODE",
    "wandb.tags": "WANDB_TAGS",
}
"""Variables that W&B's users know, by the key that each sets; WANDB_TAGS is split at commas."""
_OLDER_MODES = {"dryrun": "offline", "run": "online"}
"""Modes by the older names that WANDB_MODE may hold."""


def values_of(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of those variables that are set, by key; an empty variable counts as not set."""
    texts = {key: os.environ.get(variable, "") for key, variable in variables.items()}
    return {key: _read(key, text) for key, text in texts.items() if text.strip()}


def _read(key: str, text: str) -> Any:
    if key == "wandb.tags":
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    return _OLDER_MODES.get(text, text) if key == "wandb.mode" else text
