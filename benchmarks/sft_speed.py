"""Speed and memory of supervised fine-tuning: the prefix tree, its plain twin and TRL's SFTTrainer, side by side.

    python -m benchmarks.sft_speed                              two CPU cores, a Qwen2.5-VL of 26 M parameters
    python -m benchmarks.sft_speed --model 7b --device cuda     one GPU, a Qwen2.5-VL-7B in bf16, with MFU

All contenders train the same randomly initialized model with the same LoRA on the same questions, each in a process of
its own, and take turns of a few updates. On the CPU all of them are loaded before the first turn. A GPU could not hold
them at once: there one runs after the other, first without gradient checkpointing and then with it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.material import MODELS, QUESTIONS, build_model, build_questions
from benchmarks.turns import CHECKED, COUNTED, NAMES, TREES, Setup
from geotune.errors import ConfigError
from geotune.system.strict_json import write_json
from geotune.training.throughput import Weights, Workload, mfu

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "peft", "lightning", "accelerate")
TARGETS = {"tree/plain": 1.9, "tree/trl": 2.5, "share of the token ratio": 0.85}
"""Smallest values of these ratios that meet the target."""
AT_MOST_ONE = ("tree/plain memory", "tree/trl memory")
"""Ratios that meet the target if they are at most 1."""


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
        """Loss of the first samples before training, and numbers of parameters."""
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
        rate, memory = figures["samples"] / figures["seconds"], figures["peak_memory_gb"]
        print(f"{self.setup.name:>6}  {rate:8.2f} samples/s  {memory:6.2f} GB", file=sys.stderr, flush=True)

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


def figures_of(contender: Contender, gpu: str | None) -> dict[str, Any]:
    """Return the figures of a contender over all of its turns, with the MFU on a `gpu` whose peak is known."""
    turns = contender.turns
    total = {name: sum(turn[name] for turn in turns) for name in (*COUNTED, "seconds")}
    figures = {
        "samples_per_second": total["samples"] / total["seconds"],
        "tokens_per_second": total["tokens"] / total["seconds"],
        "peak_memory_gb": turns[-1]["peak_memory_gb"],
        "tokens_per_sample": total["tokens"] / total["samples"],
        "duplication_removed": total["alone"] / total["tokens"],
        "padding": 1 - total["tokens"] / total["padded"],
        "batch_size": contender.setup.batch_size,
        "accumulate": contender.setup.accumulate,
        "loss_before": contender.facts["loss"],
        "turns": turns,
    }
    if gpu is not None:
        text, tower = (Weights(frozen=contender.facts[part]) for part in ("text_parameters", "tower_parameters"))
        work = Workload(language=text, head=Weights(), tower=tower, projector=Weights())
        share = mfu(work.flops(total["tokens"], 0, total["patches"]), total["seconds"], [gpu])
        figures |= {} if share is None else {"mfu": share}
    return figures


def ratios_of(variants: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of speed and memory for each pair of variants.

    The ratio of speeds is the median over the rounds. It compares tokens per second, counted as in separate sequences,
    because the samples of the rounds differ in length.
    """
    ratios = {}
    for first, second in itertools.combinations(variants, 2):
        if ("checkpointed" in first) != ("checkpointed" in second):
            continue
        rounds = zip(variants[first]["turns"], variants[second]["turns"], strict=True)
        ratios[f"{first}/{second}"] = statistics.median(
            (a["alone"] / a["seconds"]) / (b["alone"] / b["seconds"]) for a, b in rounds
        )
        ratios[f"{first}/{second} memory"] = variants[first]["peak_memory_gb"] / variants[second]["peak_memory_gb"]
    if "tree/plain" in ratios:
        ratios["share of the token ratio"] = ratios["tree/plain"] / variants["tree"]["duplication_removed"]
    return ratios


def versions(trl: Path | None) -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    for distribution in distributions(path=[*([str(trl)] if trl else []), *sys.path]):
        if distribution.name == "trl":
            found.setdefault("trl", distribution.version)
    return found


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table, followed by the ratios."""
    columns = ["samples/s", "tokens/s", "tokens a sample", "padding", "peak memory"]
    with_mfu = any("mfu" in figures for figures in result["variants"].values())
    columns += ["MFU"] * with_mfu
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, figures in result["variants"].items():
        cells = [
            f"{figures['samples_per_second']:.2f}",
            f"{figures['tokens_per_second']:,.0f}",
            f"{figures['tokens_per_sample']:.0f}",
            f"{figures['padding']:.1%}",
            f"{figures['peak_memory_gb']:.2f} GB",
        ]
        if with_mfu:
            cells.append(f"{figures['mfu']:.1%}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- {name}: {value:.2f}{verdict(name, value)}" for name, value in result["ratios"].items()]
    losses = ", ".join(f"{name} {figures['loss_before']:.6f}" for name, figures in result["variants"].items())
    lines.append(f"- loss of the same {CHECKED} samples before training: {losses}")
    return "\n".join(lines) + "\n"


def verdict(name: str, value: float) -> str:
    """Say whether a ratio meets its target; empty if it has none."""
    if name in TARGETS:
        return f" (target {TARGETS[name]}: {'met' if value >= TARGETS[name] else 'missed'})"
    if name in AT_MOST_ONE:
        return f" (target 1 at most: {'met' if value <= 1 else 'missed'})"
    return ""


def split(text: str) -> tuple[int, int]:
    """Parse `13x3` as (samples per micro-batch, micro-batches per update)."""
    batch_size, accumulate = map(int, text.split("x"))
    return batch_size, accumulate


def setups_of(args: argparse.Namespace, model: Path, questions: Path, *, checkpointing: bool) -> list[Setup]:
    """Return one setup per contender."""
    return [
        Setup(
            name=name,
            model=str(model),
            questions=str(questions),
            max_pixels=args.side**2,
            batch_size=(args.tree if name in TREES else args.rows)[0],
            accumulate=(args.tree if name in TREES else args.rows)[1],
            warmup=args.warmup,
            updates=args.updates,
            turns=args.rounds,
            device=args.device,
            dtype="bf16" if args.device == "cuda" else "float32",
            checkpointing=checkpointing,
        )
        for name in args.contenders
    ]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Build the missing material, measure, and return the content of the result file.

    Raises:
        ConfigError: TRL takes part but is not installed.
    """
    packages = versions(args.trl)
    if "trl" in args.contenders and "trl" not in packages:
        raise ConfigError(
            f"--trl={args.trl}: TRL is not installed there; run `make bench` or leave it out by --contenders"
        )
    questions = build_questions(args.work, views=args.views, side=args.side)
    model = build_model(args.work, args.model, questions)
    on_gpu = args.device == "cuda"
    computer = machine(args.device)
    variants: dict[str, dict[str, Any]] = {}
    for checkpointing in (False, True) if on_gpu else (False,):
        setups = setups_of(args, model, questions, checkpointing=checkpointing)
        for contender in measure(setups, args.trl, together=not on_gpu):
            name = contender.setup.name + "_checkpointed" * checkpointing
            variants[name] = figures_of(contender, computer.get("gpu"))
    return {
        "bench": args.out.stem,
        "command": shlex.join(["python", "-m", "benchmarks.sft_speed", *sys.argv[1:]]),
        "machine": computer,
        "versions": packages,
        "model": {"size": args.model, "dtype": "bf16" if on_gpu else "float32", "lora": {"r": 8, "alpha": 32}},
        "data": {"views": args.views, "questions": args.views * QUESTIONS, "side_px": args.side},
        "variants": variants,
        "ratios": ratios_of(variants),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sft_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="25m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--contenders", nargs="+", choices=NAMES, help="default: all; varlen and sdpa only on a GPU")
    parser.add_argument("--views", type=int, default=8, help="ground views with 39 questions each")
    parser.add_argument("--side", type=int, default=512, help="side of a view or map in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--updates", type=int, default=2, help="updates per turn")
    parser.add_argument("--warmup", type=int, default=1, help="updates before the first turn")
    parser.add_argument("--tree", type=split, default=(13, 3), help="samples x micro-batches of the tree: 13x3")
    parser.add_argument("--rows", type=split, default=(3, 13), help="the same for plain and trl: 3x13")
    parser.add_argument("--work", type=Path, default=ROOT / "datasets" / "bench", help="folder for data and model")
    parser.add_argument("--trl", type=Path, help="folder that TRL is installed in, unless the environment has it")
    parser.add_argument("--out", type=Path, help="result file; benchmarks/results/sft_speed.json by default")
    parser.add_argument("--markdown", type=Path, help="file to write the printed table to")
    args = parser.parse_args(argv)
    args.contenders = args.contenders or [
        name for name in NAMES if name not in ("varlen", "sdpa") or args.device == "cuda"
    ]
    args.out = args.out or RESULTS / ("sft_speed.json" if args.device == "cpu" else f"sft_speed_{args.model}.json")
    try:
        result = run(args)
    except (ConfigError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    table = markdown(result)
    if args.markdown is not None:
        args.markdown.write_text(table, encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
