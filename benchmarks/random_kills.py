"""Kills every command at random moments, starts it again as a user would, and compares the results with a quiet life.

    python -m benchmarks.random_kills                  100 kills
    python -m benchmarks.random_kills --kills 10 --only train locate

A life is one command in an empty folder. It is killed `LIVES[...].kills` times (SIGINT, SIGTERM or SIGKILL, each at a
moment drawn evenly from the time that the command takes when nobody disturbs it), and each time it is started again:
training with `resume=last` once its folder holds a checkpoint, everything else by the same command. Then it is left
alone until it ends. What it has made must equal what the same command makes undisturbed, byte for byte but for times.

Of every process that was killed the exit status is checked (130 after SIGINT, 143 after SIGTERM, 0 if it was done
already), and that it wrote no traceback and, if it was stopped by SIGINT or SIGTERM, one message that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import platform
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
LONGEST = 600.0
"""Seconds after which a process counts as hanging."""
SLOWEST_STOP = 60.0
"""Seconds that a process may take to end after SIGINT or SIGTERM."""
TIMES = frozenset(
    (
        *("seconds", "asked_at", "samples_per_second", "written_at", "started_at", "ended_at", "time", "wandb_id"),
        *("rollout_seconds", "train/rollout_seconds"),
    )
)
"""Keys whose values differ between two runs that do the same."""
UPDATES = 9


@dataclass(frozen=True)
class Life:
    """A command whose life is disturbed."""

    command: Callable[[Path], list[str]]
    """Returns the arguments of Python for a folder of materials."""
    facts: Callable[[Path], dict[str, Any]]
    """Returns what a finished life has made in its working folder."""
    share: int
    """Kills of 100 that this command gets."""
    kills: int
    """Kills of one life."""
    again: Callable[[Path], list[str]] = lambda work: []
    """Returns the arguments that a start after a kill has besides."""
    is_done: Callable[[Path], bool] = lambda work: False
    """Returns whether a killed process had done everything, so that another start would be told so and refused."""


@dataclass
class Report:
    """What came of the kills of one command."""

    kills: int = 0
    by_signal: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    slowest_stop_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def train_command(materials: Path) -> list[str]:
    """Train on the small city, with an evaluation at update 0 and at every third one."""
    city = materials / "city" / "synthetic.jsonl"
    suite = "evaluator.suites.geox"
    return [
        *("-m", "geotune.train", "recipe=quickstart", "run_dir=run", "data.build=null", f"data.path={city}"),
        *(f"{suite}.build=null", f"{suite}.path={city}", f"{suite}.samples_per_task=2"),
        *("~evaluator.suites.geox_choice", "~evaluator.suites.geolocate"),
        *("evaluator.every=3", "evaluator.max_new_tokens=12", "data.batch_size=2", "trainer.accumulate=2"),
        *(f"trainer.max_steps={UPDATES}", "trainer.checkpoint_every=3", "trainer.log_every=1"),
    ]


def rl_command(materials: Path) -> list[str]:
    """Train on the photos of the small city by reinforcement; shorter answers are better, so that groups are live."""
    city = materials / "city" / "synthetic.jsonl"
    length = "stage.reward.terms.length"
    return [
        *("-m", "geotune.train", "recipe=quickstart_rl", "run_dir=run", "data.build=null", f"data.path={city}"),
        *("data.tasks=[geolocate]", "evaluator=null", "data.batch_size=2", "trainer.accumulate=2"),
        *(f"{length}._target_=geotune.rl.terms.Length", f"{length}.soft=10", f"{length}.hard=80"),
        *("stage.reward.gate=null", "stage.rollout.group_size=4", "stage.rollout.max_draws=2", "stage.beta=0.1"),
        *(f"trainer.max_steps={UPDATES}", "trainer.checkpoint_every=3", "trainer.log_every=1"),
    ]


def train_again(work: Path) -> list[str]:
    """Resume as soon as there is a checkpoint."""
    return ["resume=last"] if list((work / "run" / "checkpoints").glob("step_*/state.json")) else []


def train_is_done(work: Path) -> bool:
    """Return whether the final figures are written: the last thing that a run does."""
    return (work / "run" / "metrics.json").is_file()


def export_is_done(work: Path) -> bool:
    """Return whether the folder is there, which appears when it is complete."""
    return (work / "exported").is_dir()


def locate_is_done(work: Path) -> bool:
    """Return whether the results are written and the file of partial ones is gone."""
    return (work / "located.jsonl").is_file() and not list(work.glob("*partial*"))


def build_command(materials: Path) -> list[str]:
    """Build a small city."""
    return ["-m", "data_builders.build", "builder=synthetic", "out=city", "places=4"]


def export_command(materials: Path) -> list[str]:
    """Export the trained run."""
    return ["-m", "geotune.export", f"checkpoint={materials / 'run'}", "out=exported"]


def locate_command(materials: Path) -> list[str]:
    """Locate the photos of a folder with several samples each."""
    return [
        *("-m", "geotune.locate", f"checkpoint={materials / 'run'}", f"image={materials / 'photos'}"),
        *("samples=4", "max_new_tokens=40", "batch_size=4", "out=located.jsonl"),
    ]


def sweep_command(materials: Path) -> list[str]:
    """Run a sweep of two variants in two slots."""
    own = ("run_dir=", "trainer.max_steps=")
    training = [argument for argument in train_command(materials)[2:] if not argument.startswith(own)]
    return [
        *("-m", "geotune.sweep", f"sweep={materials / 'rates.yaml'}", "sweep_dir=sweep", "devices=[0,1]"),
        *(*training, "trainer.max_steps=3"),
    ]


def plain(value: Any) -> Any:
    """Return a JSON value without the keys of `TIMES`."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in TIMES and not key.startswith("perf/")}
    return [plain(each) for each in value] if isinstance(value, list) else value


def json_lines(path: Path) -> list[Any]:
    """Return the lines of a JSON-lines file; an incomplete line raises."""
    return [plain(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file without its columns of times."""
    with path.open(encoding="utf-8", newline="") as file:
        return [plain(row) for row in csv.DictReader(file)]


def digests(folder: Path, skip: Sequence[str] = ()) -> dict[str, str]:
    """Return a digest of every file below a folder, hidden ones and those whose name is in `skip` left out."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(content(path), digest_size=8).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in skip
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def content(path: Path) -> bytes:
    """Return the bytes of a file; PEFT writes the names of modules in an order that differs from process to process."""
    if path.name != "adapter_config.json":
        return path.read_bytes()
    config = json.loads(path.read_text(encoding="utf-8"))
    unordered = {key: sorted(value, key=str) if isinstance(value, list) else value for key, value in config.items()}
    return json.dumps(unordered, sort_keys=True).encode()


def weights(checkpoint: Path) -> dict[str, str]:
    """Return digests of the weights, the optimizer's state aside, that a checkpoint holds."""
    return digests(checkpoint / "adapter", skip=("README.md",))


def train_facts(work: Path) -> dict[str, Any]:
    """Return the records, figures and weights of a run."""
    run = work / "run"
    facts: dict[str, Any] = {
        "updates": json_lines(run / "updates.jsonl"),
        "metrics.csv": table(run / "metrics.csv"),
        "metrics.json": plain(json.loads((run / "metrics.json").read_text(encoding="utf-8"))),
        "last": os.readlink(run / "checkpoints" / "last"),
        "weights": weights(run / "checkpoints" / "last"),
        "partial checkpoints": [path.name for path in (run / "checkpoints").glob(".*")],
    }
    for kind in ("outcomes", "predictions"):
        for path in sorted((run / kind).glob("*.jsonl")):
            facts[f"{kind}/{path.name}"] = json_lines(path)
    for path in sorted((run / "eval").glob("*.json")):
        facts[f"eval/{path.name}"] = plain(json.loads(path.read_text(encoding="utf-8")))
    facts["metrics.json"].pop("train", None)  # its rates are times; metrics.csv has the others
    return facts


def rl_facts(work: Path) -> dict[str, Any]:
    """Return the records, figures, completions and weights of a run by reinforcement."""
    return {**train_facts(work), "completions": json_lines(work / "run" / "completions.jsonl")}


def build_facts(work: Path) -> dict[str, Any]:
    """Return the files of a dataset; its report without times."""
    report = plain(json.loads((work / "city" / "build_report.json").read_text(encoding="utf-8")))
    for made in ("images", "images_reused"):  # by the last process, and by those before it
        report.pop(made, None)
    return {"report": report, **digests(work / "city", skip=("build_report.json", "build_report.html"))}


def export_facts(work: Path) -> dict[str, Any]:
    """Return the files of an export; model cards hold the date and the path."""
    report = plain(json.loads((work / "exported" / "export_report.json").read_text(encoding="utf-8")))
    return {"report": report, **digests(work / "exported", skip=("README.md", "export_report.json"))}


def locate_facts(work: Path) -> dict[str, Any]:
    """Return the lines of the results, and files that should be gone."""
    return {"located": json_lines(work / "located.jsonl"), "left": sorted(path.name for path in work.glob("*partial*"))}


def sweep_facts(work: Path) -> dict[str, Any]:
    """Return the trials of a sweep, and the records of each."""
    trials = table(work / "sweep" / "trials.csv")
    own = ("trial", "run_dir")  # a trial that was killed before its first update gets another number
    rows = [{key: value for key, value in row.items() if key not in own and "second" not in key} for row in trials]
    finished = sorted((row for row in rows if row.get("state", "").lower() == "complete"), key=str)
    updates = {path.parent.name: json_lines(path) for path in sorted((work / "sweep").rglob("updates.jsonl"))}
    return {"trials": finished, "updates": sorted(updates.values(), key=str)}


LIVES = {
    "build": Life(build_command, build_facts, share=14, kills=2),
    "train": Life(train_command, train_facts, share=28, kills=3, again=train_again, is_done=train_is_done),
    "rl": Life(rl_command, rl_facts, share=14, kills=3, again=train_again, is_done=train_is_done),
    "export": Life(export_command, export_facts, share=12, kills=2, is_done=export_is_done),
    "locate": Life(locate_command, locate_facts, share=18, kills=3, is_done=locate_is_done),
    "sweep": Life(sweep_command, sweep_facts, share=14, kills=2),
}


class Lives:
    """Lives of the commands in temporary folders, with the materials that they share."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.materials = folder / "materials"
        self.rng = rng
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "disabled",
            "PYTHONUNBUFFERED": "1",
        }

    def prepare(self) -> None:
        """Make the city, the trained run, the photos and the sweep that the commands need."""
        self.materials.mkdir(parents=True)
        self.undisturbed(build_command(self.materials), self.materials)
        self.undisturbed([*train_command(self.materials), "evaluator=null", "trainer.max_steps=3"], self.materials)
        photos = self.materials / "photos"
        photos.mkdir()
        for path in sorted((self.materials / "city" / "images").rglob("*.png"))[:12]:
            shutil.copy(path, photos / f"{path.parent.name}_{path.name}")
        variants = {"slow": {"stage.lr": 1e-4}, "fast": {"stage.lr": 1e-3}}
        text = f"# @package _global_\n{json.dumps({'variants': variants, 'pruner': 'none'})}\n"
        (self.materials / "rates.yaml").write_text(text, encoding="utf-8")

    def undisturbed(self, arguments: Sequence[str], work: Path) -> float:
        """Run a command to its end; returns its seconds. Raises RuntimeError if it fails."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=work,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{shlex.join(arguments)}\nended with status {done.returncode}:\n{done.stderr[-3000:]}")
        return time.monotonic() - began

    def reference(self, life: Life) -> tuple[float, dict[str, Any]]:
        """Return the seconds and the facts of an undisturbed life."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            seconds = self.undisturbed(life.command(self.materials), Path(name))
            return seconds, life.facts(Path(name))

    def live(self, name: str, life: Life, kills: int, seconds: float, expected: Mapping[str, Any], to: Report) -> None:
        """Live one life with so many kills, and note what was wrong with it."""
        work = Path(tempfile.mkdtemp(dir=self.folder, prefix=f"{name}_"))
        to.lives += 1
        story: list[str] = []
        begun = False
        for _ in range(kills):
            arguments = [*life.command(self.materials), *(life.again(work) if begun else [])]
            begun = True
            fault, done = self._kill(arguments, work, seconds, to, story)
            if fault:
                to.faults.append(f"{name} [{'; '.join(story)}]: {fault}")
            if done or life.is_done(work):
                break
        else:
            try:
                self.undisturbed([*life.command(self.materials), *life.again(work)], work)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                to.faults.append(f"{name} [{'; '.join(story)}]: does not go on: {error}")
                return
        try:
            facts = life.facts(work)
        except (OSError, ValueError, KeyError) as error:
            to.faults.append(f"{name} [{'; '.join(story)}]: lost: {error}")
            return
        wrong = [key for key in sorted({*expected, *facts}) if expected.get(key) != facts.get(key)]
        if wrong:
            parts = (f"{key}: {shown(facts.get(key))} instead of {shown(expected.get(key))}" for key in wrong[:3])
            to.faults.append(f"{name} [{'; '.join(story)}]: differs in {len(wrong)} facts: {' | '.join(parts)}")
        else:
            shutil.rmtree(work, ignore_errors=True)

    def _kill(
        self, arguments: Sequence[str], work: Path, seconds: float, to: Report, story: list[str]
    ) -> tuple[str | None, bool]:
        """Start a process and send it a signal; returns what was wrong, and whether it had finished its work."""
        number = self.rng.choice(SIGNALS)
        delay = self.rng.uniform(0, seconds)
        log = work / f"kill_{len(story)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=work, env=self.environment, stdout=file, stderr=file
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
            hit = process.poll() is None
            if hit:
                process.send_signal(number)
            sent = time.monotonic()
            try:
                status = process.wait(SLOWEST_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return f"{number.name} after {delay:.1f} s: still running {SLOWEST_STOP:.0f} s later", False
        story.append(f"{number.name} after {delay:.1f} s" if hit else f"done before {delay:.1f} s")
        if not hit:
            return (f"status {status}: {tail(log)}" if status else None), True
        took = time.monotonic() - sent
        to.kills += 1
        to.by_signal[number.name] += 1
        to.statuses[f"{number.name}: {status}"] += 1
        if number is not signal.SIGKILL:
            to.slowest_stop_seconds = max(to.slowest_stop_seconds, round(took, 1))
        text = log.read_text(encoding="utf-8", errors="replace")
        if status == 0:
            return None, True
        if status not in (STATUS[number], -number):
            return f"status {status}: {tail(log)}", False
        if "Traceback" in text:
            return f"a traceback: {tail(log)}", False
        if status == STATUS[number] and number is not signal.SIGKILL and "interrupted" not in text:
            return f"no message: {tail(log)}", False
        return None, False


def shown(value: Any) -> str:
    """Return the beginning of a value's text."""
    return str(value)[:300]


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-1500:]


def run(args: argparse.Namespace, given: Sequence[str]) -> dict[str, Any]:
    """Live all lives, and return the content of the result file."""
    from benchmarks.machine import machine

    rng = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="random_kills_", dir=args.work))
    lives = Lives(folder, rng)
    lives.prepare()
    reports: dict[str, Report] = {}
    shares = {name: LIVES[name].share for name in args.only}
    for name in args.only:
        life, report = LIVES[name], reports.setdefault(name, Report())
        wanted = round(args.kills * shares[name] / sum(shares.values()))
        seconds, expected = lives.reference(life)
        print(f"{name}: {seconds:.1f} s undisturbed, {wanted} kills", file=sys.stderr, flush=True)
        while report.kills < wanted and len(report.faults) < args.faults:
            before = len(report.faults)
            lives.live(name, life, min(life.kills, wanted - report.kills), seconds, expected, report)
            for fault in report.faults[before:]:
                print(f"FAULT {fault}", file=sys.stderr, flush=True)
            print(f"{name}: {report.kills} of {wanted} kills", file=sys.stderr, flush=True)
    if not any(report.faults for report in reports.values()):
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "bench": args.out.stem,
        "command": shlex.join(["python", "-m", "benchmarks.random_kills", *given]),
        "machine": machine(),
        "versions": {"python": platform.python_version()},
        "variants": {
            name: {
                "kills": report.kills,
                "lives": report.lives,
                "by_signal": dict(report.by_signal),
                "statuses": dict(sorted(report.statuses.items())),
                "slowest_stop_seconds": report.slowest_stop_seconds,
                "faults": report.faults,
            }
            for name, report in reports.items()
        },
        "ratios": {},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line. Returns the exit status: 1 if anything was lost, doubled or told wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.random_kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=100, help="number of kills in all")
    parser.add_argument("--only", nargs="+", choices=list(LIVES), default=list(LIVES), help="commands to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of signals and moments")
    parser.add_argument("--faults", type=int, default=5, help="faults of a command after which it is left")
    parser.add_argument("--work", type=Path, help="folder for the working folders, which are kept after a fault")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "random_kills.json")
    given = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(given)
    from geotune.system.strict_json import write_json

    result = run(args, given)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    for name, report in result["variants"].items():
        print(f"{name:8} {report['kills']:4} kills in {report['lives']} lives, {len(report['faults'])} faults")
    return int(any(report["faults"] for report in result["variants"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
