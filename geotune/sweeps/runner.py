"""Run the trials of a sweep on the slots of this machine, read their evaluations, and store their results."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.config.override_text import as_overrides
from geotune.runs.directory import METRICS_FILE, evaluations, has_checkpoint, is_last, read_json
from geotune.runs.figures import figure, table_figures
from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.processes import ProcessTree, Slot, start, stderr_tail
from geotune.sweeps.study import Queue, TrialAttribute
from geotune.system.interruption import Interruption, Stopped, stoppable

if TYPE_CHECKING:
    from optuna import Trial


NOTICE = "interrupted: waiting for the trials to write a checkpoint; interrupt again to kill them"
POLL = 0.5
"""Seconds between two checks of the running trials."""
log = logging.getLogger(__name__)


class TooManyFailuresError(Exception):
    """`max_failed` trials in a row have failed; the message ends with the error output of the last one."""


@dataclass
class Running:
    """A trial that is running."""

    trial: Trial
    process: ProcessTree
    folder: Path
    slot: Slot
    began: float = field(default_factory=time.monotonic)
    beat: float = field(default_factory=time.monotonic)
    """Monotonic time of the last heartbeat."""
    step: int = -1
    """Step of the newest evaluation."""
    value: float | None = None
    stopped: str | None = None
    """Why the trial was told to end: `pruned`, `interrupted` or `lost` (another machine has taken it over)."""


class Runner:
    """Keeps every slot busy until the study has all its trials.

    Args:
        command: makes the command line of a training from its overrides and its number of processes.
        settled: called after each trial that has ended.
    """

    def __init__(
        self,
        plan: SweepPlan,
        queue: Queue,
        slots: Sequence[Slot],
        *,
        command: Callable[[Sequence[str], int], list[str]],
        settled: Callable[[], Any] = lambda: None,
    ) -> None:
        self.plan = plan
        self.queue = queue
        self.free = list(slots)
        self.command = command
        self.settled = settled
        self.running: list[Running] = []
        self.interruption = Interruption()
        """Requests to stop this process: the first one ends the trials gently, the second one kills them."""
        self.failed_in_a_row = 0

    def run(self) -> None:
        """Run until no trial is left to start and none is running.

        No process is left behind, whatever ends the run, and unfinished trials are queued again.

        Raises:
            Stopped: the process was asked to stop, by Ctrl-C, SIGTERM or SIGHUP.
            TooManyFailuresError: `max_failed` trials in a row have failed.
            ConfigError: the evaluations have no such metric.
        """
        with stoppable() as self.interruption, self.interruption.answering("count", NOTICE):
            try:
                while not self.interruption.requests:
                    self._take_over()
                    self._fill()
                    if not self.running and not self.queue.has_more():
                        break
                    for running in list(self.running):
                        self._watch(running)
                    time.sleep(POLL)
            finally:
                self._end_all()
        if self.interruption.requests:
            raise Stopped(self.interruption.number)

    def _end_all(self) -> None:
        """End the running trials, gently until a second request to stop arrives, and queue them again."""
        for running in self.running:
            running.stopped = running.stopped or "interrupted"
            running.process.stop()
        left = list(self.running)
        while left:
            for running in left:
                if self.interruption.requests > 1:
                    running.process.kill()
            left = [running for running in left if running.process.poll() is None]
            time.sleep(0.1)
        for running in self.running:
            status = running.process.poll()
            assert status is not None
            self._settle(running, status)

    # Starting

    def _fill(self) -> None:
        """Start trials until every slot is busy or no trial is left."""
        while not self.interruption.requests and self.free:
            trial = self.queue.ask(self._new_folder)
            if trial is None:
                return
            folder = self.plan.sweep_dir / trial.user_attrs[TrialAttribute.RUN_DIR]
            if self._complete(trial, folder):  # its sweep ended before it could store the result
                continue
            if folder.exists() and not has_checkpoint(folder):
                trial.set_user_attr(TrialAttribute.RUN_DIR, self._new_folder(trial.number))
                folder = self.plan.sweep_dir / trial.user_attrs[TrialAttribute.RUN_DIR]
            folder.mkdir(parents=True, exist_ok=True)
            slot = self.free.pop(0)
            self.running.append(Running(trial, self._start(trial, folder, slot), folder, slot))
            log.info("trial %d started on %s: %s", trial.number, slot, " ".join(self.plan.varied(trial.params)))

    def _start(self, trial: Trial, folder: Path, slot: Slot) -> ProcessTree:
        count = len(slot.devices)
        # Before training all trials are equal, so there is nothing to evaluate. The user's overrides follow and win.
        common = {"evaluator.at_start": False, "wandb.group": self.plan.group}
        of_trial = {
            "trainer.devices": count,
            "run_dir": str(folder),
            "resume": "last" if has_checkpoint(folder) else None,
        }
        command = self.command(
            [*as_overrides(common), *self.plan.trial_overrides(trial.params), *as_overrides(of_trial)], count
        )
        return start(command, slot.variables, folder, str(folder.resolve()), **self._ending())

    def _ending(self) -> dict[str, Any]:
        """Return the arguments of `ProcessTree` that say how a trial is ended."""
        processes = self.plan.cfg.devices_per_trial
        return {"workers": processes if processes > 1 else 0, "grace": self.plan.cfg.grace}

    def _new_folder(self, number: int) -> str:
        """Name a folder below sweep_dir that does not exist yet, so that no figures of an older training are read."""
        name, attempt = f"trial_{number:04d}", 1
        while (self.plan.sweep_dir / name).exists():
            attempt += 1
            name = f"trial_{number:04d}-{attempt}"
        return name

    def _take_over(self) -> None:
        """Queue trials again whose sweep process is gone, after ending their remaining processes on this machine."""
        for trial in self.queue.abandoned():
            if TrialAttribute.RUN_DIR in trial.user_attrs:
                mark = str((self.plan.sweep_dir / trial.user_attrs[TrialAttribute.RUN_DIR]).resolve())
                if ProcessTree(mark, **self._ending()).end():
                    log.info("trial %d: ended its remaining processes", trial.number)
            if self.queue.requeue(trial.number):
                log.info("trial %d: its sweep is gone; the trial will continue from its last checkpoint", trial.number)

    # Watching

    def _watch(self, running: Running) -> None:
        """Read the new evaluations of a trial, and store its result or a heartbeat."""
        status = running.process.poll()
        self._read_evaluations(running)
        if status is not None:
            self.running.remove(running)
            self.free.append(running.slot)
            self._settle(running, status)
            self.settled()
        elif time.monotonic() - running.beat > self.plan.cfg.stale_after / 5:
            self._note(running, self.queue.beat, running.trial)
            running.beat = time.monotonic()

    def _read_evaluations(self, running: Running) -> None:
        """Report new evaluations to the study; stop a trial that the pruner rejects, unless it has no update left."""
        for step, evaluation in evaluations(running.folder, after=running.step):
            value = figure(evaluation, self.plan.metric)
            running.step = step
            if value is None:
                continue
            running.value = value
            self._note(running, running.trial.report, value, step)
            log.info("trial %d step %d: %s %.4f", running.trial.number, step, self.plan.metric, value)
            if running.stopped is None and not is_last(running.folder, step) and running.trial.should_prune():
                running.stopped = "pruned"
                running.process.stop()

    def _note(self, running: Running, write: Callable[..., None], *arguments: Any) -> None:
        """Write to the study. If another machine has taken the trial over as abandoned, end it here instead."""
        import optuna

        if running.stopped == "lost":
            return
        try:
            write(*arguments)
        except optuna.exceptions.UpdateFinishedTrialError:
            log.warning("trial %d: another machine has taken it over", running.trial.number)
            running.stopped = "lost"
            running.process.stop()

    # Ending

    def _settle(self, running: Running, status: int) -> None:
        """Store how a trial ended, and count failures in a row.

        Raises:
            TooManyFailuresError: `max_failed` trials in a row have failed.
        """
        number, seconds = running.trial.number, time.monotonic() - running.began
        self._note(running, running.trial.set_user_attr, TrialAttribute.STEP, max(running.step, 0))
        self._note(
            running,
            running.trial.set_user_attr,
            TrialAttribute.SECONDS,
            running.trial.user_attrs.get(TrialAttribute.SECONDS, 0.0) + seconds,
        )
        if running.stopped == "lost":
            return
        if running.stopped == "interrupted":
            self.queue.requeue(number)
            log.info("trial %d interrupted; the same command continues it", number)
        elif status == 0 and self._complete(running.trial, running.folder):
            self.failed_in_a_row = 0
        elif running.stopped == "pruned":
            self.queue.tell(number, state="PRUNED")
            self.failed_in_a_row = 0
            log.info("trial %d pruned at step %d: %s %.4f", number, running.step, self.plan.metric, running.value)
        else:
            self._fail(running, status)

    def _complete(self, trial: Trial, folder: Path) -> bool:
        """Store the final figures of a training; return False when it has none."""
        final = read_json(folder / METRICS_FILE)
        value = figure(final, self.plan.metric) if final is not None else None
        if final is None or value is None:
            return False
        trial.set_user_attr(TrialAttribute.STEP, final["step"])  # also if the sweep was killed before it read this
        trial.set_user_attr(TrialAttribute.FIGURES, table_figures(final))
        if self.queue.tell(trial.number, value=value):
            log.info("trial %d complete: %s %.4f", trial.number, self.plan.metric, value)
        return True

    def _fail(self, running: Running, status: int) -> None:
        """Store a failure with the end of the error output. Raises TooManyFailuresError."""
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        tail = stderr_tail(running.folder) if status else f"its last evaluation has no value of {self.plan.metric}"
        self._note(running, running.trial.set_user_attr, TrialAttribute.ERROR, f"{how}: {tail}")
        self.queue.tell(running.trial.number, state="FAIL")
        log.warning("trial %d failed, %s; %s ends with:\n%s", running.trial.number, how, running.folder, tail)
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= self.plan.cfg.max_failed:
            failed = f"max_failed={self.failed_in_a_row}: this many trials in a row have failed"
            raise TooManyFailuresError(f"{failed}, the last one with {how}:\n{tail}")


def training_command(overrides: Sequence[str], processes: int) -> list[str]:
    """Return the command `python -m geotune.train` with these overrides, under torchrun for several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *launcher, "-m", "geotune.train", *overrides]
