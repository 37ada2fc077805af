"""A chain of runs: its legs one after the other, each a training in a process of its own."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.config.composing import compose
from geotune.config.override_text import as_overrides
from geotune.config.typed_paths import check_typed_paths
from geotune.config.variables import WANDB_VARIABLES, values_of
from geotune.errors import ABSENT, ConfigError, Problem
from geotune.runs.chain import CHAIN_FILE, Leg, is_chain, read_chain, write_chain
from geotune.runs.directory import (
    CHECKPOINTS,
    METRICS_FILE,
    find_checkpoint,
    has_checkpoint,
    is_finished,
    read_json,
    read_state,
)
from geotune.system.interruption import SIGNALS, Stopped
from geotune.system.launchers import is_first_process
from geotune.training.inputs import built_paths, check_data
from geotune.training.starting import differences, differences_from, misfit, model_of
from geotune.training.training_process import TrainingProcess

if TYPE_CHECKING:
    from omegaconf import DictConfig

LONGEST_WAIT = 3600.0
"""Seconds that a process waits for the first one to end its leg, which may still have figures to upload."""
POLL = 0.5
"""Seconds between two looks at the state that the first process writes."""
LOCK_FILE = ".chain.lock"
"""File of a chain's folder whose lock the processes that train there hold."""
log = logging.getLogger(__name__)


def run_chain(cfg: DictConfig, show: Callable[[str], None]) -> dict[str, Any]:
    """Train the unfinished legs of a chain, and return the final figures of its last leg.

    Under a launcher every process runs the chain, and each starts its own process of a leg; the first one alone writes
    the state. With `cfg.dry_run` the dry run of every leg is shown.

    cfg: config of `geotune.config.chain`. show: prints a text.

    Raises ConfigError for a mistake of the user, Stopped after a request to stop once the running leg has written its
    checkpoint, and SystemExit with the exit status of a leg that failed.
    """
    folder, is_first = Path(cfg.run_dir).absolute(), is_first_process()
    legs = [
        Leg(name, f"{number}_{name}", list(leg.own), list(leg.overrides))
        for number, (name, leg) in enumerate(cfg.chain.items(), 1)
    ]
    nodes = {leg.name: compose("train", leg.overrides) for leg in legs}
    if not cfg.dry_run and cfg.resume is None:  # a dry run checks every leg itself
        _check_data(legs, nodes)
    if cfg.resume is None:
        _check_starts(legs, nodes, cfg.start, folder)
    if cfg.dry_run:
        _set_starts(legs, nodes, folder, cfg.start)
        with TrainingProcess().signals() as child:
            _show_legs(legs, child, show)
        return {}
    if cfg.resume is not None and not is_chain(folder):
        raise ConfigError(Problem("resume", "last", f"{folder} holds no {CHAIN_FILE}", "start without resume"))
    with _locked(folder, is_first=is_first) as lock, TrainingProcess(lock).signals() as child:
        if cfg.resume is not None:
            legs = _continued(legs, folder)
            _check_data(legs, nodes)
        _set_starts(legs, nodes, folder, cfg.start)
        for number, leg in enumerate(legs, 1):
            if leg.state == "finished":
                continue
            if is_first:
                log.info("leg %d of %d, %s: %s", number, len(legs), leg.name, folder / leg.folder)
                leg.state, leg.started_at, leg.exit_status = "running", leg.started_at or _now(), None
                write_chain(folder, legs)
            group = as_overrides({"wandb.group": f"{cfg.recipe}-{folder.name}"})
            group = [] if "wandb.group" in values_of(WANDB_VARIABLES) else group
            given = [*group, *leg.overrides, *_position(leg, folder)]
            status = child.run(given, _rendezvous(leg, is_first=is_first))
            if is_first:
                status = 1 if status == 0 and not is_complete(folder / leg.folder) else status
                leg.state = (
                    "finished" if status == 0 else "waiting" if child.stopped or _is_interrupted(status) else "failed"
                )
                leg.exit_status, leg.ended_at = status, _now()
                write_chain(folder, legs)
            elif status == 0:
                status = _status_of_first(leg.name, folder)
            if status or child.stopped:
                raise _stop(leg, number, len(legs), status, child.stopped, folder)
    if is_first:
        log.info("the chain is finished; its last leg is %s", folder / legs[-1].folder)
    return read_json(folder / legs[-1].folder / METRICS_FILE) or {}


@contextmanager
def _locked(folder: Path, *, is_first: bool) -> Iterator[int | None]:
    """Hold the lock of the chain's folder, which the process of a leg holds as well. Yields its file descriptor.

    The claim of the folder keeps other chains out. But if an earlier chain was killed, its last leg may still be
    writing a checkpoint: wait for it. Other processes than the first follow that one, without a lock.
    """
    import fcntl

    if not is_first:
        yield None
        return
    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("run_dir=%s: another process still trains here; waiting until it ends", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _check_data(legs: Sequence[Leg], nodes: Mapping[str, DictConfig]) -> None:
    """Raise ConfigError if a leg after the first can't find its data: the first one would train before that is told.

    What a leg before it builds may be missing, and all that only finished legs need.
    """
    problems: list[Problem] = []
    built: set[str] = set()
    for number, leg in enumerate(legs):
        built |= built_paths(nodes[legs[number - 1].name]) if number else set()
        if number == 0 or leg.state == "finished":
            continue
        try:
            check_typed_paths(leg.overrides, nodes[leg.name])
            check_data(nodes[leg.name])
        except ConfigError as error:
            mistakes = [problem for problem in error.problems if str(problem.value) not in built]
            problems += [problem.below(f"chain.{leg.name}") for problem in mistakes]
    if problems:
        raise ConfigError(*problems)


def _check_starts(legs: Sequence[Leg], nodes: Mapping[str, DictConfig], start: str | None, folder: Path) -> None:
    """Raise ConfigError if a leg can't start from what it names, or from the weights that the leg before will train.

    nodes: config of each leg. start: start of the chain. A start inside the chain's `folder` does not exist yet.
    """
    from geotune.inference.loading import find_source

    trained: dict[str, Any] = {}
    model: str | None = None
    for number, leg in enumerate(legs):
        named = start if number == 0 and start is not None else nodes[leg.name].start
        own: dict[str, Any] = dict(nodes[leg.name].backbone)
        where = f"chain.{leg.name}."
        if named is not None or number == 0 or _names_start(leg, nodes[leg.name]):
            model = None
        if named is not None and not Path(named).absolute().is_relative_to(folder):
            source = find_source(named, f"{where}start")
            model = model_of(source)
            own["path"] = model or own["path"]
            if changes := differences_from(source, own):
                raise misfit(named, changes, where)
        elif named is None and number and not _names_start(leg, nodes[leg.name]):
            own["path"] = model or own["path"]
            if changes := differences(trained, own):
                raise misfit(f"leg {legs[number - 1].name}", changes, where)
        trained = own


def _names_start(leg: Leg, node: DictConfig) -> bool:
    """Return whether a leg has a start of its own: by its recipe or its overrides, which may say null."""
    return node.start is not None or any(given.lstrip("+~").partition("=")[0] == "start" for given in leg.own)


def _set_starts(legs: Sequence[Leg], nodes: Mapping[str, DictConfig], folder: Path, start: str | None) -> None:
    """Set what each leg starts from: the first leg from `start` (None: as before), any other from the one before it."""
    if start is not None:
        legs[0].start = str(Path(start).absolute()) if Path(start).is_dir() else start
    for before, leg in pairwise(legs):
        named = _names_start(leg, nodes[leg.name])
        leg.start = None if named else str(folder / before.folder / CHECKPOINTS / "last")


def _continued(legs: Sequence[Leg], folder: Path) -> list[Leg]:
    """Return the legs as the chain in `folder` left them; those that have not begun get their present overrides.

    Raises ConfigError if the legs were others, if one that has begun had other overrides of its own, or if the chain is
    finished.
    """
    earlier = read_chain(folder)
    then, now = [leg.name for leg in earlier], [leg.name for leg in legs]
    changes = [] if then == now else [f"its legs were {', '.join(then)}, now they are {', '.join(now)}"]
    for before, leg in zip(earlier, legs, strict=False):
        if before.name != leg.name:
            break
        if before.state != "finished" and is_complete(folder / before.folder):  # killed before it was written down
            before.state = "finished"
        if before.state == "finished" or has_checkpoint(folder / before.folder):
            if told := _changes(before.own, leg.own):
                changes.append(f"leg {leg.name} {told}")
            elif told := _changes(before.overrides, leg.overrides):
                log.warning("leg %s, which has begun, %s", leg.name, told)
        before.own, before.overrides = leg.own, leg.overrides
    if changes:
        remedy = "give these legs as they were, or start a new chain without resume"
        raise ConfigError(Problem("resume", "last", f"{folder}: {'; '.join(changes)}", remedy))
    if all(leg.state == "finished" for leg in earlier):
        raise ConfigError(
            Problem("resume", "last", f"{folder}: every leg is finished, nothing is left to train", "start a new chain")
        )
    return earlier


def _changes(before: Sequence[str], now: Sequence[str]) -> str:
    """Return in words how the overrides of a leg have changed; empty if they have not."""
    gone, new = ([o for o in one if o not in other] for one, other in ((before, now), (now, before)))
    told = [f"no longer has {' '.join(gone)}"] * bool(gone) + [f"now has {' '.join(new)}"] * bool(new)
    return " and ".join(told) or ("" if list(before) == list(now) else "has its overrides in another order")


def is_complete(run: Path) -> bool:
    """Return whether a leg has trained to its end and written its final figures."""
    if not has_checkpoint(run):
        return False
    checkpoint = find_checkpoint("last", run)
    state = read_state(checkpoint)
    return state.step >= state.total_updates and is_finished(checkpoint, state.step)


def _position(leg: Leg, folder: Path) -> list[str]:
    """Return the overrides that say where a leg writes and where it begins."""
    run = folder / leg.folder
    values: dict[str, Any] = {"run_dir": str(run), "resume": "last" if has_checkpoint(run) else None}
    return as_overrides(values if leg.start is None else {**values, "start": leg.start})


def _show_legs(legs: Sequence[Leg], child: TrainingProcess, show: Callable[[str], None]) -> None:
    """Show the dry run of every leg. Raises SystemExit if one fails."""
    for number, leg in enumerate(legs, 1):
        later = number > 1 and leg.start is not None
        begins = f", which starts from the last checkpoint of leg {number - 1}" if later else ""
        show(f"# Leg {number} of {len(legs)}: {leg.name}{begins}\n")
        # The checkpoint that a later leg starts from does not exist yet.
        start = {} if leg.start is None else {"start": None if later else leg.start}
        status = child.run([*leg.overrides, *as_overrides({**start, "run_dir": leg.folder}), "dry_run=true"], {})
        if status or child.stopped:
            raise _stop(leg, number, len(legs), status, child.stopped, None)
        show("")


def _is_interrupted(status: int) -> bool:
    """Return whether a leg ended with this exit status because it was asked to stop."""
    return status - 128 in SIGNALS


def _stop(leg: Leg, number: int, count: int, status: int, stopped: int, folder: Path | None) -> BaseException:
    """Say how a chain that stopped goes on. Returns the exception that ends this process with the right status."""
    if not stopped and _is_interrupted(status):
        stopped = status - 128
    if is_first_process() and folder is not None:
        how = "interrupted" if stopped else f"exit status {status}"
        log.warning(
            "the chain stopped in leg %d of %d, %s (%s); go on with resume=last run_dir=%s",
            *(number, count, leg.name, how, folder),
        )
    return Stopped(stopped) if stopped else SystemExit(status)


def _status_of_first(name: str, folder: Path) -> int:
    """Wait until the first process has ended its leg of that name, and return its exit status.

    The next leg may begin only then: its processes could meet those of this leg otherwise.
    """
    until = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < until:
        leg = next(leg for leg in read_chain(folder) if leg.name == name)
        if leg.exit_status is not None:
            return leg.exit_status
        time.sleep(POLL)
    raise ConfigError(
        Problem(f"chain.{name}", ABSENT, f"the first process has not ended this leg after {LONGEST_WAIT:.0f} s")
    )


def _rendezvous(leg: Leg, *, is_first: bool) -> dict[str, str]:
    """Return the environment variables by which the processes of a leg find each other.

    The processes of a job that torchrun started meet in a store of torchrun, which still holds the addresses of the leg
    before. So each leg gets a store of its own on a free port of the first process, which tells it to the others.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    from torch.distributed import TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=LONGEST_WAIT))
    key = f"geotune/{leg.folder}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if is_first:
        with socket.socket() as free:
            free.bind(("", 0))
            store.set(key, str(free.getsockname()[1]))
    return {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": store.get(key).decode()}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
