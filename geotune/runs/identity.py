"""What a checkpoint depends on besides its own weights, and how that is compared with what is there now.

An identity has four parts: `data`, `weights` (of the base model), `processor` and `prompt`. Each part is a mapping from
the name of a fact to its value as text; two parts are the same if all facts are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from geotune.config.parts import IdentityPart
from geotune.errors import ConfigError, Problem
from geotune.runs.directory import read_state
from geotune.system.digests import fingerprint_of

if TYPE_CHECKING:
    from geotune.runs.directory import State

Identity = Mapping[str, Mapping[str, str]]
"""Facts by part."""
IDENTITY_PARTS: tuple[IdentityPart, ...] = get_args(IdentityPart)
MODEL_PARTS: tuple[IdentityPart, ...] = ("weights", "processor", "prompt")
"""The parts that a trained model depends on wherever it is used."""
IDENTITY_FILE = "identity.json"
"""File of an exported adapter that holds the identity of its checkpoint."""
TEMPLATE = "chat template and system prompt"
"""The fact of the part `prompt`."""
IMAGE_LIMITS = "image size"
"""The fact of the part `processor` that a user may set."""
NAMES = {"data": "training data", "weights": "base weights", "processor": "processor", "prompt": "prompt"}
"""The parts in words."""
log = logging.getLogger(__name__)


def fingerprint_of_facts(facts: Mapping[str, str]) -> str:
    """Return a short digest of a part of an identity."""
    return fingerprint_of(json.dumps(facts, sort_keys=True))


def identity_of(state: State) -> Identity:
    """Return what the checkpoint of `state` depends on; an older version has noted the prompt alone."""
    return {"prompt": {TEMPLATE: state.template_hash}} if state.identity is None else state.identity


def saved_identity(folder: Path, kind: str) -> Identity:
    """Return what the trained weights in `folder`, a checkpoint or an exported adapter, depend on, as far as noted."""
    if kind == "checkpoint":
        return identity_of(read_state(folder))
    try:
        content: Identity = json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))
        return {part: dict(facts) for part, facts in content.items()}
    except FileNotFoundError:  # written by an older version
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / IDENTITY_FILE}: can't be read ({error}); export the checkpoint again") from error


@dataclass(frozen=True)
class Dependence:
    """What trained weights depend on, to be compared with what they are about to be used with."""

    key: str
    """Key of the config that names the trained weights."""
    named: Any
    """Value of that key."""
    then: Identity
    """What they were trained with, as far as it is known."""
    allowed: Collection[str] = ()
    """Parts that may differ: the value of `allow_changes`."""
    free: Collection[str] = ()
    """Names of facts that may differ."""

    def check(self, now: Identity, parts: Collection[IdentityPart], *, quiet: bool = False) -> None:
        """Raise ConfigError if one of `parts` is another one in `now`, unless that is allowed.

        The log says what differs although it is allowed, and what can't be compared. quiet: whether the log is left
        to another process.
        """
        say = log.debug if quiet else log.warning
        unknown = [NAMES[part] for part in parts if part not in self.then]
        if unknown:
            say(
                "%s=%s was written by an older version: whether it is used with the same %s can't be compared",
                self.key,
                self.named,
                " and ".join(unknown),
            )
        found = {part: told for part in parts if (told := list(self._changes(part, now)))}
        refused = [part for part in found if part not in self.allowed]
        differences = "; ".join(f"the {NAMES[part]} changed: {'; '.join(changes)}" for part, changes in found.items())
        if refused:
            allow = ",".join(part for part in IDENTITY_PARTS if part in {*refused, *self.allowed})
            remedy = f"use what it was trained with, or go on with what there is now by allow_changes=[{allow}]"
            raise ConfigError(Problem(self.key, self.named, differences, remedy))
        if found:
            say("%s=%s: %s; this is allowed, and the run goes on", self.key, self.named, differences)

    def _changes(self, part: str, now: Identity) -> Iterator[str]:
        """Yield each fact of a part that differs, in words."""
        if part not in self.then:
            return
        before, after = self.then[part], now.get(part, {})
        for fact in dict.fromkeys((*before, *after)):
            was, is_now = before.get(fact, "absent"), after.get(fact, "absent")
            if was != is_now and fact not in self.free:
                yield f"{fact}: {was} then, {is_now} now"
