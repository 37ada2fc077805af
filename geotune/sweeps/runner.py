"""Runs the trials of a sweep on the slots of this machine, watches their evaluations, and sees each to its end."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.runs.directory import evaluations, has_checkpoint, is_last, read_json
from geotune.runs.figures import figure, headline
from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.processes import ProcessTree, Slot, last_words, start
from geotune.sweeps.space import as_overrides
from geotune.sweeps.study import Queue, TrialAttribute

if TYPE_CHECKING:
    from optuna import Trial


POLL = 0.5
"""Seconds between looks at the running trials."""
log = logging.getLogger(__name__)


class TooManyFailuresError(Exception):
    """`max_failed` trials in a row; its message holds what the last one wrote."""


@dataclass
class Running:
    """A trial under way."""

    trial: Trial
    process: ProcessTree
    folder: Path
    slot: Slot
    began: float = field(default_factory=time.monotonic)
    beat: float = field(default_factory=time.monotonic)
    """Clock at the last sign of life."""
    step: int = -1
    """Of the newest evaluation."""
    value: float | None = None
    stopped: str | None = None
    """Why it was told to end: pruned, interrupted or lost."""


class Runner:
    """Keeps every slot busy until the study has its trials.

    command(overrides, processes): the command line of one training. settled(): called after each trial.
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
        self.stops = 0
        """Times that this process was asked to stop: at the first the trials end gently, at the second at once."""
        self.failed_in_a_row = 0

    def run(self) -> None:
        """Run until no trial is left to start and none is running.

        Leaves no process behind, whatever ends it; trials that did not come to their end are put back in the queue.
        Raises KeyboardInterrupt (Ctrl-C, SIGTERM), TooManyFailuresError, ConfigError.
        """
        with self._stoppable():
            try:
                while self.stops == 0:
                    self._take_over()
                    self._fill()
                    if not self.running and not self.queue.has_more():
                        break
                    for each in list(self.running):
                        self._watch(each)
                    time.sleep(POLL)
            finally:
                self._end_all()
        if self.stops:
            raise KeyboardInterrupt

    def _end_all(self) -> None:
        """End what is running, gently unless a second request comes, and put it back in the queue."""
        for each in self.running:
            each.stopped = each.stopped or "interrupted"
            each.process.stop()
        left = list(self.running)
        while left:
            for each in left:
                if self.stops > 1:
                    each.process.kill()
            left = [each for each in left if each.process.poll() is None]
            time.sleep(0.1)
        for each in self.running:
            status = each.process.poll()
            assert status is not None
            self._settle(each, status)

    # Starting

    def _fill(self) -> None:
        while self.stops == 0 and self.free:
            trial = self.queue.ask(self._new_folder)
            if trial is None:
                return
            folder = self.plan.sweep_dir / trial.user_attrs[TrialAttribute.RUN_DIR]
            if self._complete(trial, folder):  # its sweep was gone before it could note that
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
        # Untrained, they are all the same. What the user types comes later, and stands.
        common = {"evaluator.at_start": False, "wandb.group": self.plan.study}
        own = {"trainer.devices": count, "run_dir": str(folder), "resume": "last" if has_checkpoint(folder) else None}
        command = self.command(
            [*as_overrides(common), *self.plan.trial_overrides(trial.params), *as_overrides(own)], count
        )
        return start(command, slot.variables, folder, str(folder.resolve()), **self._ending())

    def _ending(self) -> dict[str, Any]:
        """How the process tree of a trial is ended."""
        several = self.plan.cfg.devices_per_trial
        return {"workers": several if several > 1 else 0, "grace": self.plan.cfg.grace}

    def _new_folder(self, number: int) -> str:
        """A folder below sweep_dir that does not exist: figures of an older training are not this one's."""
        name, again = f"trial_{number:04d}", 1
        while (self.plan.sweep_dir / name).exists():
            again += 1
            name = f"trial_{number:04d}-{again}"
        return name

    def _take_over(self) -> None:
        """Put back trials whose sweep is gone, ending what is left of them here."""
        for trial in self.queue.abandoned():
            if TrialAttribute.RUN_DIR in trial.user_attrs:
                mark = str((self.plan.sweep_dir / trial.user_attrs[TrialAttribute.RUN_DIR]).resolve())
                if ProcessTree(mark, **self._ending()).end():
                    log.info("trial %d: ended what was left of it", trial.number)
            if self.queue.requeue(trial.number):
                log.info("trial %d: its sweep is gone; it will go on from its last checkpoint", trial.number)

    # Watching

    def _watch(self, each: Running) -> None:
        status = each.process.poll()
        self._read_evaluations(each)
        if status is not None:
            self.running.remove(each)
            self.free.append(each.slot)
            self._settle(each, status)
            self.settled()
        elif time.monotonic() - each.beat > self.plan.cfg.stale_after / 5:
            self._note(each, self.queue.beat, each.trial)
            each.beat = time.monotonic()

    def _read_evaluations(self, each: Running) -> None:
        """Report the evaluations that are new; stop a trial that the pruner gives up, unless it has ended anyway."""
        for step, evaluation in evaluations(each.folder, after=each.step):
            value = figure(evaluation, self.plan.metric)
            each.step = step
            if value is None:
                continue
            each.value = value
            self._note(each, each.trial.report, value, step)
            log.info("trial %d step %d: %s %.4f", each.trial.number, step, self.plan.metric, value)
            if each.stopped is None and not is_last(each.folder, step) and each.trial.should_prune():
                each.stopped = "pruned"
                each.process.stop()

    def _note(self, each: Running, write: Callable[..., None], *arguments: Any) -> None:
        """Write to the study; a trial that another machine took for abandoned is its own no longer, and ends here."""
        import optuna

        if each.stopped == "lost":
            return
        try:
            write(*arguments)
        except optuna.exceptions.UpdateFinishedTrialError:
            log.warning("trial %d: another machine has taken it over", each.trial.number)
            each.stopped = "lost"
            each.process.stop()

    # Ending

    def _settle(self, each: Running, status: int) -> None:
        """Note how a trial ended, and count failures in a row. Raises TooManyFailuresError."""
        number, seconds = each.trial.number, time.monotonic() - each.began
        self._note(each, each.trial.set_user_attr, TrialAttribute.STEP, max(each.step, 0))
        self._note(
            each,
            each.trial.set_user_attr,
            TrialAttribute.SECONDS,
            each.trial.user_attrs.get(TrialAttribute.SECONDS, 0.0) + seconds,
        )
        if each.stopped == "lost":
            return
        if each.stopped == "interrupted":
            self.queue.requeue(number)
            log.info("trial %d interrupted; the same command goes on with it", number)
        elif status == 0 and self._complete(each.trial, each.folder):
            self.failed_in_a_row = 0
        elif each.stopped == "pruned":
            self.queue.tell(number, state="PRUNED")
            self.failed_in_a_row = 0
            log.info("trial %d pruned at step %d: %s %.4f", number, each.step, self.plan.metric, each.value)
        else:
            self._fail(each, status)

    def _complete(self, trial: Trial, folder: Path) -> bool:
        """Note the final figures of a training; False when it has none."""
        final = read_json(folder / "metrics.json")
        value = figure(final, self.plan.metric) if final is not None else None
        if final is None or value is None:
            return False
        trial.set_user_attr(TrialAttribute.FIGURES, headline(final))
        if self.queue.tell(trial.number, value=value):
            log.info("trial %d complete: %s %.4f", trial.number, self.plan.metric, value)
        return True

    def _fail(self, each: Running, status: int) -> None:
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        tail = last_words(each.folder) if status else f"its last evaluation has no value of {self.plan.metric}"
        self._note(each, each.trial.set_user_attr, TrialAttribute.ERROR, f"{how}: {tail}")
        self.queue.tell(each.trial.number, state="FAIL")
        log.warning("trial %d failed, %s; %s ends with:\n%s", each.trial.number, how, each.folder, tail)
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= self.plan.cfg.max_failed:
            failed = f"max_failed={self.failed_in_a_row}: as many trials in a row have failed"
            raise TooManyFailuresError(f"{failed}, the last with {how}:\n{tail}")

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal are counted instead of raising at any line."""

        def stop(number: int, frame: Any) -> None:
            self.stops += 1
            if self.stops == 1:
                log.warning("interrupted: waiting for the trials to write a checkpoint; again to end them at once")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def training_command(overrides: Sequence[str], processes: int) -> list[str]:
    """`python -m geotune.train` with these overrides, through torchrun when it has several devices."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *launcher, "-m", "geotune.train", *overrides]
