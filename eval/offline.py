"""An evaluation outside training: one model on one suite, in a folder of its own that it goes on in.

    <out>/<suite>/<answerer>-<identity>/
        protocol.json    what the figures depend on: the identity and the protocol card
        outcomes.jsonl   what came back, one line per question and draw, appended as it comes
        metrics.json     the figures, a function of the two files and the gold answers

The identity holds everything that decides the answers: weights, processor, prompt, questions, settings, image contents.
The same identity means the same folder, where only what is missing is asked. Another one means another folder, and the
log says what differs from the latest evaluation of this model on this suite.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eval.answerers.base import Answerer, Draws
from eval.evaluator import Evaluator
from geotune.errors import ConfigError, Problem
from geotune.runs.identity import NAMES, Identity
from geotune.runs.outcomes import Outcome, OutcomeWriter, read_outcomes, utc_now
from geotune.runs.reading import NOT_ASKED, draws_from, predictions_from
from geotune.sample import Sample
from geotune.system.digests import fingerprint_of
from geotune.system.progress import progress_bar
from geotune.system.strict_json import write_json

PROTOCOL, OUTCOMES, METRICS = "protocol.json", "outcomes.jsonl", "metrics.json"
Rerun = Literal["missing", "failed"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """How many answers an evaluation has, over questions and draws."""

    expected: int
    answered: int
    """Answers, refusals and answers that were cut off among them."""
    failed: int

    @property
    def missing(self) -> int:
        """Number of questions and draws that have not been asked."""
        return self.expected - self.answered - self.failed

    @property
    def lacking(self) -> str:
        """What is missing or failed, in words; empty if nothing is."""
        return ", ".join(f"{n:,} {what}" for n, what in ((self.failed, "failed"), (self.missing, "missing")) if n)


@dataclass
class Evaluation:
    """The evaluation of one model on the suite `suite` of an evaluator.

    out: folder of all evaluations. model: what the user calls the model. identity: facts by part, in the parts of a
    checkpoint's identity and `suite`. answerer: kind of answerer, which the folder's name begins with.
    """

    evaluator: Evaluator
    suite: str
    out: Path
    model: str
    identity: Identity
    answerer: str = "local"
    _outcomes: dict[tuple[str, int], Outcome] = field(default_factory=dict, init=False)
    """The outcome that counts, by sample and repeat: the last one."""

    @property
    def folder(self) -> Path:
        """The folder of the evaluation."""
        digest = fingerprint_of(json.dumps(self.identity, sort_keys=True))[:8]
        return self.out / self.suite / f"{self.answerer}-{digest}"

    @property
    def samples(self) -> list[Sample]:
        """The questions with their gold answers."""
        return self.evaluator.samples(self.suite)

    @property
    def draws(self) -> Draws | None:
        """How the questions are asked again."""
        return self.evaluator.draws_of(self.suite)

    def read(self) -> Counts:
        """Read the outcomes that there are. Raises ConfigError if a line is broken or belongs to another suite."""
        self._outcomes = {}
        path = self.folder / OUTCOMES
        known = {sample.id for sample in self.samples}
        for outcome in read_outcomes(path) if path.is_file() else ():
            if outcome.id not in known:
                raise ConfigError(f"{path}: an outcome of {outcome.id!r}, which is no question of suite {self.suite}")
            if not outcome.variant:  # other forms of the questions are not what the suite asks
                self._outcomes[outcome.id, outcome.repeat] = outcome
        return self.counts()

    def counts(self) -> Counts:
        """Count what has been read and asked so far."""
        per_sample = 1 + (self.draws.count if self.draws else 0)
        failed = sum(outcome.status == "failed" for outcome in self._outcomes.values())
        return Counts(len(self.samples) * per_sample, len(self._outcomes) - failed, failed)

    def left(self, rerun: Rerun, repeats: Collection[int]) -> list[Sample]:
        """Return the samples that lack an outcome of one of `repeats`, or, with rerun=failed, have a failed one."""

        def settled(sample: Sample) -> bool:
            found = [self._outcomes.get((sample.id, repeat)) for repeat in repeats]
            return all(one is not None and (rerun == "missing" or one.status != "failed") for one in found)

        return [sample for sample in self.samples if not settled(sample)]

    def ask(self, answerer: Answerer, rerun: Rerun = "missing") -> Counts:
        """Ask what is left, and keep each outcome at once; returns what there is then.

        Raises ConfigError if another process writes to the folder, or it can't be written.
        """
        path = self.folder / OUTCOMES
        write_json_once(self.folder / PROTOCOL, self.protocol())
        with _alone(path), OutcomeWriter(path) as writer:  # opening it cuts a torn line off
            self.read()  # another process may have written since
            for draws in (None, self.draws) if self.draws else (None,):
                repeats = [0] if draws is None else range(1, draws.count + 1)
                samples = self.left(rerun, repeats)
                if not samples:
                    continue
                title = f"{self.model}: {self.suite}" + ("" if draws is None else ", draws")
                with progress_bar(title, len(samples) * len(repeats)) as advance:
                    for outcome in self.evaluator.ask(self.suite, answerer, draws=draws, samples=samples):
                        writer.append([outcome])
                        self._outcomes[outcome.id, outcome.repeat] = outcome
                        advance()
        return self.counts()

    def measure(self) -> dict[str, Any]:
        """Compute the figures of what has been read and asked, write `metrics.json`, and return its content.

        Nothing is asked: a question without an answer counts as wrong.
        """
        outcomes, counts, draws = list(self._outcomes.values()), self.counts(), self.draws
        predictions = predictions_from(self.suite, self.samples, outcomes)
        drawn = draws_from(self.suite, self.samples, outcomes, draws.count) if draws else []
        seconds = sum(outcome.seconds for outcome in outcomes if outcome.repeat == 0)
        asked = sum(prediction.reason != NOT_ASKED for prediction in predictions)
        entry = {
            "answer_mode": self.evaluator.mode_of_suite(self.suite),
            "samples_per_second": asked / seconds if seconds else 0.0,
            **self.evaluator.measured(self.suite, predictions, drawn),
        }
        content = {
            "checkpoint": self.model,
            "expected": counts.expected,
            "failed": counts.failed,
            "missing": counts.missing,
            "suites": {self.suite: entry},
        }
        write_json(self.folder / METRICS, content)
        return content

    def protocol(self) -> dict[str, Any]:
        """Return the content of `protocol.json`."""
        config, suite = self.evaluator.config, self.evaluator.suites[self.suite]
        drawn = None if self.draws is None else {"count": self.draws.count, "temperature": self.draws.temperature}
        card = {
            "suite": type(suite).__qualname__,
            "questions": len(self.samples),
            "answer_mode": self.evaluator.mode_of_suite(self.suite),
            "decoding": "greedy",
            "draws": drawn,
            "max_new_tokens": config.max_new_tokens,
            "missing": "counts as wrong",
            "truth": fingerprint_of(json.dumps([(sample.id, sample.answer) for sample in self.samples])),
            "begun": utc_now(),
        }
        return {"checkpoint": self.model, "identity": self.identity, "card": card}

    def differences(self) -> list[str]:
        """Say in what the latest other evaluation of this model on this suite differs; empty if there is none.

        A part of the identity that is new or another one is told with its facts.
        """
        others = sorted(
            (path for path in self.folder.parent.glob(f"{self.answerer}-*/{PROTOCOL}") if path.parent != self.folder),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        for path in others:
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                if held["checkpoint"] != self.model:
                    continue
                return [f"{path.parent}: {told}" for told in _differences(held["identity"], self.identity)]
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                log.warning("%s can't be read and is left out", path)
        return []


def suite_facts(evaluator: Evaluator, suite: str, image_digest: str) -> dict[str, str]:
    """Return the part `suite` of an identity: questions, settings and the contents of images."""
    version = getattr(evaluator.suites[suite], "version", 1)
    return {"questions and settings": evaluator.told(suite), "images": image_digest, "version": str(version)}


def write_json_once(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file unless it is there."""
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content)
        except OSError as error:
            raise ConfigError(Problem("out", path, f"can't be written ({error.strerror})")) from error


def _differences(then: Identity, now: Identity) -> Iterator[str]:
    names = {**NAMES, "trained": "trained weights", "suite": "suite"}
    for part in dict.fromkeys((*then, *now)):
        before, after = then.get(part, {}), now.get(part, {})
        for fact in dict.fromkeys((*before, *after)):
            if before.get(fact) != after.get(fact):
                name = names.get(part, part)
                yield f"{name}, {fact}: {before.get(fact, 'absent')} there, {after.get(fact, 'absent')} here"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file of outcomes; a file system without locks is told once."""
    import fcntl

    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                Problem("out", path.parent, f"another process is writing {path}", "wait for it or stop it")
            ) from None
        except OSError:
            log.warning("%s can't be locked; start no other process that writes it", path)
        yield
