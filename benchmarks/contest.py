"""Contenders side by side: processes that take turns, and what the benchmarks that compare them have in common."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.material import MODELS
from benchmarks.turns import Setup
from geotune.errors import ConfigError
from geotune.system.strict_json import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "peft", "lightning", "accelerate")


class Contender:
    """A running process of `benchmarks.contender`."""

    def __init__(self, setup: Setup, trl: Path | None) -> None:
        self.setup = setup
        path = [str(ROOT), *([str(trl)] if setup.name == "trl" and trl else [])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contender", json.dumps(asdict(setup))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.facts: dict[str, Any] = self.read()
        """What the contender says of itself before it trains, such as its loss."""
        self.read()  # says that the warm-up is over
        self.turns: list[dict[str, Any]] = []
        """Figures of each turn."""

    def read(self) -> dict[str, Any]:
        """Return the next line of the process. Raises RuntimeError if the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the contender {self.setup.name} ended early, with status {self.process.wait()}")
        figures: dict[str, Any] = json.loads(line)
        return figures

    def take_turn(self) -> None:
        """Let the process do the updates of its next turn, and keep the figures."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.turns.append(self.read())
        figures = self.turns[-1]
        seconds, memory = figures["seconds"] / self.setup.updates, figures["peak_memory_gb"]
        print(f"{self.setup.name:>6}  {seconds:8.2f} s an update  {memory:6.2f} GB", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Wait for the end of the process; kill it first if it has turns left."""
        if len(self.turns) < self.setup.turns:
            self.process.kill()
        self.process.communicate()


@contextmanager
def running(setup: Setup, trl: Path | None) -> Iterator[Contender]:
    """Start a contender, wait until it is ready for its first turn, and end it with the `with` block."""
    contender = Contender(setup, trl)
    try:
        yield contender
    finally:
        contender.close()


def measure(setups: Sequence[Setup], trl: Path | None, *, together: bool) -> list[Contender]:
    """Run all turns of all contenders: in rounds if `together`, otherwise one contender after the other."""
    with ExitStack() as stack:
        if not together:
            contenders = []
            for setup in setups:
                with running(setup, trl) as contender:
                    contenders.append(contender)
                    for _ in range(setup.turns):
                        contender.take_turn()
            return contenders
        contenders = [stack.enter_context(running(setup, trl)) for setup in setups]
        for _ in range(setups[0].turns):
            for contender in contenders:
                contender.take_turn()
        return contenders


def versions(trl: Path | None) -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    for distribution in distributions(path=[*([str(trl)] if trl else []), *sys.path]):
        if distribution.name == "trl":
            found.setdefault("trl", distribution.version)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all of these benchmarks have."""
    parser.add_argument("--model", choices=MODELS, default="25m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--side", type=int, default=512, help="side of a view or map in pixels")
    parser.add_argument("--work", type=Path, default=ROOT / "datasets" / "bench", help="folder for data and model")
    parser.add_argument("--trl", type=Path, help="folder that TRL is installed in, unless the environment has it")
    parser.add_argument("--out", type=Path, help="result file; by default one in benchmarks/results")
    parser.add_argument("--markdown", type=Path, help="file to write the printed table to")


def run_bench(
    bench: str,
    args: argparse.Namespace,
    compare: Callable[[argparse.Namespace], dict[str, Any]],
    markdown: Callable[[dict[str, Any]], str],
) -> int:
    """Write the result file of a benchmark and print its table. Returns the exit status.

    `compare` measures and returns what is the benchmark's own in the result. It may raise ConfigError for a mistake of
    the user, and RuntimeError for contenders that fail or differ in what they compute.
    """
    out = args.out or RESULTS / (f"{bench}.json" if args.device == "cpu" else f"{bench}_{args.model}.json")
    try:
        packages = versions(args.trl)
        if "trl" in args.contenders and "trl" not in packages:
            raise ConfigError(
                f"--trl={args.trl}: TRL is not installed there; run `make bench` or leave it out by --contenders"
            )
        result = {
            "bench": out.stem,
            "command": shlex.join(["python", "-m", f"benchmarks.{bench}", *sys.argv[1:]]),
            "machine": machine(args.device),
            "versions": packages,
            "model": {
                "size": args.model,
                "dtype": "bf16" if args.device == "cuda" else "float32",
                "lora": {"r": 8, "alpha": 32},
            },
            **compare(args),
        }
    except (ConfigError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    table = markdown(result)
    if args.markdown is not None:
        args.markdown.write_text(table, encoding="utf-8")
    print(table)
    return 0


def verdict(value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Say whether a ratio meets its target: a smallest or a largest value; empty if it has none."""
    if least is not None:
        return f" (target {least}: {'met' if value >= least else 'missed'})"
    if most is not None:
        return f" (target {most:g} at most: {'met' if value <= most else 'missed'})"
    return ""


def ratio_lines(ratios: Mapping[str, float], least: Mapping[str, float], most: Mapping[str, float]) -> list[str]:
    """Return a line per ratio, with whether it meets its target. least, most: the targets by ratio."""
    return [
        f"- {name}: {value:.2f}{verdict(value, least=least.get(name), most=most.get(name))}"
        for name, value in ratios.items()
    ]
