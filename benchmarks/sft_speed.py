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
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Contender, add_arguments, measure, ratio_lines, run_bench
from benchmarks.machine import machine
from benchmarks.material import QUESTIONS, build_model, build_questions
from benchmarks.turns import CHECKED, KERNELS, Setup
from geotune.training.throughput import Weights, Workload, mfu

NAMES = ("tree", *KERNELS, "plain", "trl")
COUNTED = ("samples", "tokens", "alone", "padded", "patches")
"""Counts of a turn: samples; their tokens as read, as separate sequences, and with padding; image patches."""
TARGETS = {"tree/plain": 1.9, "tree/trl": 2.5, "share of the token ratio": 0.85}
"""Smallest values of these ratios that meet the target."""
LIMITS = {"tree/plain memory": 1.0, "tree/trl memory": 1.0}
"""Largest values of these ratios that meet the target."""


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
    lines += ratio_lines(result["ratios"], TARGETS, LIMITS)
    losses = ", ".join(f"{name} {figures['loss_before']:.6f}" for name, figures in result["variants"].items())
    lines.append(f"- loss of the same {CHECKED} samples before training: {losses}")
    return "\n".join(lines) + "\n"


def split(text: str) -> tuple[int, int]:
    """Parse `13x3` as (samples per micro-batch, micro-batches per update)."""
    batch_size, accumulate = map(int, text.split("x"))
    return batch_size, accumulate


def setups_of(args: argparse.Namespace, model: Path, questions: Path, *, checkpointing: bool) -> list[Setup]:
    """Return one setup per contender."""
    setups = []
    for name in args.contenders:
        batch_size, accumulate = args.rows if name in ("plain", "trl") else args.tree
        setups.append(
            Setup(
                name=name,
                model=str(model),
                questions=str(questions),
                max_pixels=args.side**2,
                batch_size=batch_size,
                accumulate=accumulate,
                warmup=args.warmup,
                updates=args.updates,
                turns=args.rounds,
                device=args.device,
                dtype="bf16" if args.device == "cuda" else "float32",
                checkpointing=checkpointing,
            )
        )
    return setups


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Build the missing material and measure. Returns the data, variants and ratios of the result file."""
    questions = build_questions(args.work, views=args.views, side=args.side)
    model = build_model(args.work, args.model, questions)
    on_gpu = args.device == "cuda"
    gpu = machine(args.device).get("gpu")
    variants: dict[str, dict[str, Any]] = {}
    for checkpointing in {"no": (False,), "yes": (True,), "both": (False, True)}[args.checkpointing]:
        setups = setups_of(args, model, questions, checkpointing=checkpointing)
        for contender in measure(setups, args.trl, together=not on_gpu):
            name = contender.setup.name + "_checkpointed" * checkpointing
            variants[name] = figures_of(contender, gpu)
    return {
        "data": {"views": args.views, "questions": args.views * QUESTIONS, "side_px": args.side},
        "variants": variants,
        "ratios": ratios_of(variants),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sft_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--contenders", nargs="+", choices=NAMES, help="default: all; flex and sdpa only on a GPU")
    parser.add_argument(
        "--checkpointing",
        choices=("no", "yes", "both"),
        help="whether activations are recomputed in the backward pass; default: both on a GPU, no on a CPU",
    )
    parser.add_argument("--views", type=int, default=8, help="ground views with 39 questions each")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--updates", type=int, default=2, help="updates per turn")
    parser.add_argument("--warmup", type=int, default=1, help="updates before the first turn")
    parser.add_argument("--tree", type=split, default=(13, 3), help="samples x micro-batches of the tree: 13x3")
    parser.add_argument("--rows", type=split, default=(3, 13), help="the same for plain and trl: 3x13")
    args = parser.parse_args(argv)
    args.checkpointing = args.checkpointing or ("both" if args.device == "cuda" else "no")
    args.contenders = args.contenders or [name for name in NAMES if name not in KERNELS or args.device == "cuda"]
    return run_bench("sft_speed", args, compare, markdown)


if __name__ == "__main__":
    raise SystemExit(main())
