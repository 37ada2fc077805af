"""The Optuna study of a sweep: where it is kept, who asks for the next trial, and trials whose process is gone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.config.wording import as_typed
from geotune.errors import ConfigError
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
"""Attribute of a study: what its trials have in common."""
SQLITE_TIMEOUT = 120
"""Seconds to wait for another process's write."""
CLOCK_STEP = 60.0
"""Seconds by which setting the clock may move the start of a process, as its machine tells it."""


class TrialAttribute(StrEnum):
    """What a study keeps about a trial beside its parameters and values."""

    RUN_DIR = "run_dir"
    """Folder of the trial, below sweep_dir."""
    OWNER = "owner"
    """Process that looks after the trial, as [host, pid, start of the process]."""
    HEARTBEAT = "heartbeat"
    """When that process last said so, in seconds since the epoch."""
    RETRY_OF = "retry_of"
    """Number of the trial that this one continues."""
    WITHDRAWN = "withdrawn"
    """Whether the trial was one too many."""
    ERROR = "error"
    """Why the trial failed."""
    FIGURES = "figures"
    """Headline figures of its last evaluation."""
    STEP = "step"
    """Update of its newest evaluation."""
    SECONDS = "seconds"
    """How long it ran, in all."""


def require() -> None:
    """Raise ConfigError unless the libraries of the extra `sweep` are installed."""
    try:
        import optuna
        import plotly  # noqa: F401
        import psutil  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; sweeps need it: pip install 'geotune[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(where: str | None, sweep_dir: Path) -> BaseStorage:
    """An SQL database for a URL, else a journal file. Raises ConfigError when it can't be opened."""
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
            raise ConfigError(f"storage={without_password(where)}: can't be opened ({reason})") from None
    file = Path(where) if where is not None else sweep_dir / JOURNAL
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        path = str(file.resolve())
        return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"storage={file}: can't be opened as a journal ({error}); name another file") from error


def without_password(url: str) -> str:
    """A database URL that may be shown."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition("://")[0] + "://..."


def open_study(plan: SweepPlan, storage: BaseStorage) -> Study:
    """The sweep's study, begun or gone on with. Raises ConfigError when it is one of other trainings."""
    import optuna

    study = optuna.create_study(
        study_name=plan.study,
        storage=storage,
        pruner=make_pruner(plan.cfg.pruner, plan.cfg.startup, plan.cfg.prune_after),
        direction=plan.direction,
        load_if_exists=True,
    )
    then = study.user_attrs.get(IDENTITY)
    if then is None:
        study.set_user_attr(IDENTITY, plan.identity)
        return study
    keys = [key for key in {**then, **plan.identity} if then.get(key) != plan.identity.get(key)]
    if keys == ["metric"] and not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        study.set_user_attr(IDENTITY, plan.identity)  # the name was wrong, and no figure was read by it
    elif keys:
        changes = [f"{key} was {as_typed(then.get(key))}, now {as_typed(plan.identity.get(key))}" for key in keys]
        more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
        raise ConfigError(
            f"study={plan.study}: its trials were others: {'; '.join(changes[:5])}{more}; "
            "give the same command, or study=<another name>"
        )
    return study


def make_sampler(plan: SweepPlan, number: int) -> BaseSampler:
    """The sampler of the trial `number`, whose draws are a function of (seed, number, results so far).

    So neither a study that is gone on with nor a second machine draws the same values again.
    """
    import numpy as np
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([plan.cfg.seed or 0, number]).generate_state(1)[0])
    if plan.cfg.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=plan.cfg.startup)
    return RandomSampler(seed=seed)


def make_pruner(name: str, startup: int, prune_after: int) -> BasePruner:
    """Optuna's pruner. asha: Li et al. 2020, rungs a factor of 4 apart from `prune_after` updates on."""
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if name == "median":
        return MedianPruner(n_startup_trials=startup, n_warmup_steps=prune_after)
    if name == "asha":
        return SuccessiveHalvingPruner(min_resource=prune_after or "auto")
    return NopPruner()


def this_process() -> tuple[str, int, float]:
    """Host, pid and start of this process, which together name it."""
    import psutil

    return socket.gethostname(), os.getpid(), psutil.Process().create_time()


class Queue:
    """Deals out the trials of a study, to this process and to all others on its storage."""

    def __init__(self, study: Study, plan: SweepPlan) -> None:
        self.study = study
        self.plan = plan
        self.me = list(this_process())
        self._signs: dict[int, tuple[Any, float]] = {}
        """Of other processes' trials: the last sign of life, and when it was first seen, on this clock."""
        self._made_up = {trial.number for trial in shown(self.trials()) if trial.state.name == "FAIL"}
        """Failed before this process began: they don't use up `trials`."""
        there = {trial.user_attrs.get(VARIANT) for trial in self._using_up()}
        for name in plan.variants:
            if name not in there:
                study.enqueue_trial({VARIANT: name}, user_attrs={VARIANT: name})

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study."""
        return self.study.get_trials(deepcopy=False)

    def _using_up(self) -> list[FrozenTrial]:
        return [trial for trial in shown(self.trials()) if trial.number not in self._made_up]

    def has_more(self) -> bool:
        """Whether a trial is left to start."""
        trials = self._using_up()
        open_ended = not self.plan.variants and len(trials) < self.plan.cfg.trials
        return open_ended or any(trial.state.name == "WAITING" for trial in trials)

    def ask(self, run_dir: Callable[[int], str]) -> Trial | None:
        """The next trial to run, with its parameters; None when there is none left.

        run_dir: names the folder of a trial that has none yet.
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
        """Whether processes that asked at the same time have taken one trial too many: the later number gives way."""
        if TrialAttribute.RETRY_OF in trial.user_attrs:
            return False
        before = [other for other in self._using_up() if other.number < trial.number]
        if self.plan.variants:
            return trial.user_attrs.get(VARIANT) in {None, *(other.user_attrs.get(VARIANT) for other in before)}
        return len(before) >= self.plan.cfg.trials

    def beat(self, trial: Trial) -> None:
        """Say that this process still looks after `trial`."""
        trial.set_user_attr(TrialAttribute.HEARTBEAT, time.time())

    def abandoned(self) -> list[FrozenTrial]:
        """Running trials whose process is gone: on this host, by looking; elsewhere, by its silence."""
        found = []
        for trial in self.trials():
            owner = trial.user_attrs.get(TrialAttribute.OWNER)
            if trial.state.name != "RUNNING" or owner == self.me:
                continue
            sign, now = trial.user_attrs.get(TrialAttribute.HEARTBEAT), time.monotonic()
            if trial.number not in self._signs or self._signs[trial.number][0] != sign:
                self._signs[trial.number] = (sign, now)
            silent = now - self._signs[trial.number][1] > self.plan.cfg.stale_after
            if silent or (owner is not None and owner[0] == self.me[0] and not is_alive(owner[1], owner[2])):
                found.append(trial)
        return found

    def tell(self, number: int, *, state: str = "COMPLETE", value: float | None = None) -> bool:
        """Settle a trial; False if another process has done so before."""
        import optuna

        try:
            self.study.tell(number, value, optuna.trial.TrialState[state])
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            return False
        return True

    def requeue(self, number: int) -> bool:
        """Put a trial back that was not brought to its end, to go on in its folder; False if another process has."""
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
    """Whether the process with this pid is still the one that started then."""
    import psutil

    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < CLOCK_STEP and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def shown(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials as a table lists them: each once, however often it was taken up again."""
    continued = {trial.user_attrs.get(TrialAttribute.RETRY_OF) for trial in trials}
    return [
        trial for trial in trials if trial.number not in continued and TrialAttribute.WITHDRAWN not in trial.user_attrs
    ]
