"""The Optuna study of a sweep: its storage, the queue of its trials, and trials whose process is gone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.errors import ConfigError, Problem, as_typed
from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.space import VARIANT

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"
IDENTITY = "identity"
"""Attribute of a study that holds `SweepPlan.identity`."""
SQLITE_TIMEOUT = 120
"""Seconds to wait while another process writes to the database."""
CLOCK_STEP = 60.0
"""Seconds by which an adjustment of the system clock may change the reported start time of a process."""


class TrialAttribute(StrEnum):
    """Attributes that a study stores for a trial beside its parameters and values."""

    RUN_DIR = "run_dir"
    """Folder of the trial, relative to sweep_dir."""
    OWNER = "owner"
    """Sweep process that runs the trial, as [host, pid, start time of the process]."""
    HEARTBEAT = "heartbeat"
    """Time of the owner's last heartbeat, in seconds since the epoch."""
    RETRY_OF = "retry_of"
    """Number of the trial that this one continues."""
    WITHDRAWN = "withdrawn"
    """Set on a trial that was given up because the study already had enough trials."""
    ERROR = "error"
    """Reason why the trial failed."""
    FIGURES = "figures"
    """Figures of the last evaluation that tables show."""
    STEP = "step"
    """Step of the newest evaluation."""
    SECONDS = "seconds"
    """Total run time in seconds, over all attempts."""


def require() -> None:
    """Raise ConfigError unless the libraries of the extra `sweep` are installed; quiet Optuna's log."""
    try:
        import optuna
        import plotly  # noqa: F401
        import psutil  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; sweeps need it: pip install 'geotune[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(where: str | None, sweep_dir: Path) -> BaseStorage:
    """Open the storage of the study: an SQL database if `where` is a URL, else a journal file.

    Raises:
        ConfigError: the storage can't be opened.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if where is not None and "://" in where:
        from sqlalchemy.exc import SQLAlchemyError

        # SQLite gives up after five seconds when another process is writing.
        waits = {"connect_args": {"timeout": SQLITE_TIMEOUT}} if where.startswith("sqlite") else {}
        try:
            return RDBStorage(where, engine_kwargs=waits)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(Problem("storage", without_password(where), f"can't be opened ({reason})")) from None
    file = Path(where) if where is not None else sweep_dir / JOURNAL
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        path = str(file.resolve())
        return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            Problem("storage", file, f"can't be opened as a journal ({error})", "name another file")
        ) from error


def without_password(url: str) -> str:
    """Return a database URL with its password hidden, fit for messages and files."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition("://")[0] + "://..."


def open_study(plan: SweepPlan, storage: BaseStorage) -> Study:
    """Create the study of the sweep, or load it to continue it.

    Raises:
        ConfigError: the stored study belongs to other trainings.
    """
    import optuna

    study = optuna.create_study(
        study_name=plan.study,
        storage=storage,
        pruner=make_pruner(plan.cfg.pruner, plan.cfg.startup, plan.cfg.prune_after),
        direction=plan.direction,
        load_if_exists=True,
    )
    stored = study.user_attrs.get(IDENTITY)
    if stored is None:
        study.set_user_attr(IDENTITY, plan.identity)
        return study
    keys = [key for key in {**stored, **plan.identity} if stored.get(key) != plan.identity.get(key)]
    if keys == ["metric"] and not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        study.set_user_attr(IDENTITY, plan.identity)  # a misspelled metric: no figure has been stored under it
    elif keys:
        changes = [f"{key} was {as_typed(stored.get(key))}, now {as_typed(plan.identity.get(key))}" for key in keys]
        more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
        raise ConfigError(
            Problem(
                "study",
                plan.study,
                f"its trials had other settings: {'; '.join(changes[:5])}{more}",
                "give the command that started it, or study=<another name>",
            )
        )
    return study


def make_sampler(plan: SweepPlan, number: int) -> BaseSampler:
    """Make the sampler of the trial `number`, whose draws depend only on (seed, number, results so far).

    Neither a continued study nor a second machine therefore draws the same values again.
    """
    import numpy as np
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([plan.cfg.seed or 0, number]).generate_state(1)[0])
    if plan.cfg.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=plan.cfg.startup)
    return RandomSampler(seed=seed)


def make_pruner(name: str, startup: int, prune_after: int) -> BasePruner:
    """Make Optuna's pruner. `asha` (Li et al. 2020) has rungs a factor of 4 apart, beginning at `prune_after`."""
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if name == "median":
        return MedianPruner(n_startup_trials=startup, n_warmup_steps=prune_after)
    if name == "asha":
        return SuccessiveHalvingPruner(min_resource=prune_after or "auto")
    return NopPruner()


def this_process() -> tuple[str, int, float]:
    """Return host, pid and start time of this process, which together identify it."""
    import psutil

    return socket.gethostname(), os.getpid(), psutil.Process().create_time()


class Queue:
    """Hands out the trials of a study, to this process and to every other process that uses its storage."""

    def __init__(self, study: Study, plan: SweepPlan) -> None:
        self.study = study
        self.plan = plan
        self.me = list(this_process())
        self._heartbeats: dict[int, tuple[Any, float]] = {}
        """Newest heartbeat of each trial that another process runs, and when this process first saw it (monotonic)."""
        self._failed_before = {trial.number for trial in latest_attempts(self.trials()) if trial.state.name == "FAIL"}
        """Numbers of the trials that failed before this process began; they do not count towards `trials`."""
        queued = {trial.user_attrs.get(VARIANT) for trial in self._counted()}
        for name in plan.variants:
            if name not in queued:
                study.enqueue_trial({VARIANT: name}, user_attrs={VARIANT: name})

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the study."""
        return self.study.get_trials(deepcopy=False)

    def _counted(self) -> list[FrozenTrial]:
        """Return the trials that count towards the number of trials asked for."""
        return [trial for trial in latest_attempts(self.trials()) if trial.number not in self._failed_before]

    def has_more(self) -> bool:
        """Return whether a trial is left to start."""
        trials = self._counted()
        open_ended = not self.plan.variants and len(trials) < self.plan.cfg.trials
        return open_ended or any(trial.state.name == "WAITING" for trial in trials)

    def ask(self, run_dir: Callable[[int], str]) -> Trial | None:
        """Return the next trial to run, with its parameters, or None when no trial is left.

        Args:
            run_dir: names the folder of a trial that has none yet, from the trial's number.
        """
        while self.has_more():
            trial = self.study.ask()
            trial.set_user_attr(TrialAttribute.OWNER, self.me)
            if self._is_surplus(trial):
                trial.set_user_attr(TrialAttribute.WITHDRAWN, True)
                self.tell(trial.number, state="FAIL")
                continue
            self.study.sampler = make_sampler(self.plan, trial.number)
            for key, dimension in self.plan.dimensions.items():
                dimension.suggest(trial, key)
            if TrialAttribute.RUN_DIR not in trial.user_attrs:
                trial.set_user_attr(TrialAttribute.RUN_DIR, run_dir(trial.number))
            return trial
        return None

    def _is_surplus(self, trial: Trial) -> bool:
        """Return whether this trial must give way because processes that asked at the same time took too many."""
        if TrialAttribute.RETRY_OF in trial.user_attrs:
            return False
        earlier = [other for other in self._counted() if other.number < trial.number]
        if self.plan.variants:
            return trial.user_attrs.get(VARIANT) in {None, *(other.user_attrs.get(VARIANT) for other in earlier)}
        return len(earlier) >= self.plan.cfg.trials

    def beat(self, trial: Trial) -> None:
        """Store a heartbeat: this process still runs `trial`."""
        trial.set_user_attr(TrialAttribute.HEARTBEAT, time.time())

    def abandoned(self) -> list[FrozenTrial]:
        """Return the running trials whose sweep process is gone.

        On this host the process itself is looked up. A process on another host counts as gone after `stale_after`
        seconds without a heartbeat.
        """
        found = []
        for trial in self.trials():
            owner = trial.user_attrs.get(TrialAttribute.OWNER)
            if trial.state.name != "RUNNING" or owner == self.me:
                continue
            heartbeat, now = trial.user_attrs.get(TrialAttribute.HEARTBEAT), time.monotonic()
            if trial.number not in self._heartbeats or self._heartbeats[trial.number][0] != heartbeat:
                self._heartbeats[trial.number] = (heartbeat, now)
            silent = now - self._heartbeats[trial.number][1] > self.plan.cfg.stale_after
            if silent or (owner is not None and owner[0] == self.me[0] and not is_alive(owner[1], owner[2])):
                found.append(trial)
        return found

    def tell(self, number: int, *, state: str = "COMPLETE", value: float | None = None) -> bool:
        """Store the final state of a trial; return False if another process has already stored one."""
        import optuna

        try:
            self.study.tell(number, value, optuna.trial.TrialState[state])
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            return False
        return True

    def requeue(self, number: int) -> bool:
        """Queue an unfinished trial again, to continue in its folder; return False if another process has ended it."""
        trial = self.trials()[number]
        if not self.tell(number, state="FAIL"):
            return False
        kept = {
            key: value
            for key, value in trial.user_attrs.items()
            if key in (TrialAttribute.RUN_DIR, TrialAttribute.SECONDS, VARIANT)
        }
        fixed = {key: value for key, value in kept.items() if key == VARIANT} | trial.params
        self.study.enqueue_trial(fixed, user_attrs={TrialAttribute.RETRY_OF: number, **kept})
        return True


def is_alive(pid: int, started: float) -> bool:
    """Return whether the process `pid` runs and is the one that started at `started` (seconds since the epoch)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < CLOCK_STEP and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def latest_attempts(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Keep the last attempt of each trial that was continued, and drop withdrawn trials."""
    continued = {trial.user_attrs.get(TrialAttribute.RETRY_OF) for trial in trials}
    return [
        trial for trial in trials if trial.number not in continued and TrialAttribute.WITHDRAWN not in trial.user_attrs
    ]
