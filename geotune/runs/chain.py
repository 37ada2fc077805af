"""The folder of a chain of runs: its legs, their states, and the folders in which they lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from geotune.errors import ConfigError
from geotune.system.strict_json import write_json

CHAIN_FILE = "chain.json"
"""File that makes a folder that of a chain."""


@dataclass
class Leg:
    """One leg of a chain, as `chain.json` holds it."""

    name: str
    folder: str
    """Name of its run directory in the chain's folder."""
    own: list[str]
    """Overrides that the recipe of the chain and the command line give to this leg alone."""
    overrides: list[str]
    """All its overrides but for folder and start: its own, and those that the command line gives to every leg."""
    state: Literal["waiting", "running", "finished", "failed"] = "waiting"
    """An interrupted leg is waiting."""
    start: str | None = None
    """What it starts from, as its `start=`; None if it has no start or its own recipe names one."""
    exit_status: int | None = None
    """Exit status of its last process; None before it ended."""
    started_at: str | None = None
    """Time at which it began, in ISO 8601."""
    ended_at: str | None = None
    """Time at which its last process ended, in ISO 8601."""


def is_chain(folder: Path) -> bool:
    """Return whether `folder` is that of a chain."""
    return (folder / CHAIN_FILE).is_file()


def read_chain(folder: Path) -> list[Leg]:
    """Return the legs of the chain in `folder`. Raises ConfigError if its file can't be read."""
    file = folder / CHAIN_FILE
    try:
        return [Leg(**leg) for leg in json.loads(file.read_text(encoding="utf-8"))["legs"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file}: this is not the state of a chain ({error}); name another folder") from error


def write_chain(folder: Path, legs: Sequence[Leg]) -> None:
    """Write the legs of the chain in `folder`."""
    write_json(folder / CHAIN_FILE, {"legs": [asdict(leg) for leg in legs]})


def time_of_chain(folder: Path) -> float:
    """Return when the chain in `folder` last began or ended a leg, in seconds since 1970.

    Raises ConfigError if its file can't be read.
    """
    times = [time for leg in read_chain(folder) for time in (leg.started_at, leg.ended_at) if time is not None]
    if not times:
        return (folder / CHAIN_FILE).stat().st_mtime
    return max(datetime.fromisoformat(time).timestamp() for time in times)


def run_in(folder: Path) -> Path | None:
    """Return the run directory that `folder` means: itself, or that of a chain's last finished leg (None: no such).

    Raises ConfigError if the file of the chain can't be read.
    """
    if not is_chain(folder):
        return folder
    finished = [leg for leg in read_chain(folder) if leg.state == "finished"]
    return folder / finished[-1].folder if finished else None
