"""Speed and memory of a GRPO step: geotune, its plain twin and TRL's GRPOTrainer, side by side.

    python -m benchmarks.grpo_speed                             two CPU cores, a Qwen2.5-VL of 26 M parameters
    python -m benchmarks.grpo_speed --model 7b --device cuda    one GPU, a Qwen2.5-VL-7B in bf16

A step is a rollout and an update: a prompt with two images of 324 tokens, a group of eight completions of exactly the
same length each, a reward that is a hash of the text, and an update on all tokens of all completions. `ours` reads the
prompt once in the rollout and once in the update, `plain` has a copy of it for each completion, as TRL does. Stops are
suppressed, so that the work is the same for all. Each contender is a process of its own with the same randomly
initialized model, the same LoRA and the same prompts, a new one in each step; the contenders take turns. On a GPU,
which could not hold them all at once, one runs after the other.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Contender, add_arguments, measure, ratio_lines, run_bench
from benchmarks.material import build_model, build_questions
from benchmarks.turns import Setup
from geotune.errors import ConfigError

NAMES = ("ours", "plain", "trl")
VIEWS = 8
"""Smallest number of ground views in the data, of which each gives a prompt."""
TARGETS = {"ours/trl@128": 4.0, "ours/trl@512": 2.1}
"""Smallest values of these ratios that meet the target."""
LIMITS = {"ours/trl@128 memory": 0.5, "ours/trl@512 memory": 0.55}
"""Largest values of these ratios that meet the target."""
TOLERANCE = {"float32": 1e-4, "bf16": 2e-2}
"""Largest difference in nats between the contenders' losses per token before training, by type of the weights."""


def figures_of(contender: Contender) -> dict[str, Any]:
    """Return the figures of a contender's step: medians over its turns. Times are in seconds."""
    updates = contender.setup.updates
    turns = [
        {
            "step_seconds": turn["seconds"] / updates,
            "rollout_seconds": turn["rollout_seconds"] / updates,
            "update_seconds": (turn["seconds"] - turn["rollout_seconds"]) / updates,
            "cpu_seconds": turn["cpu_seconds"] / updates,
            "trained_tokens": turn["trained"] / updates,
            "peak_memory_gb": turn["peak_memory_gb"],
        }
        for turn in contender.turns
    ]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return {
        **medians,
        "peak_memory_gb": turns[-1]["peak_memory_gb"],
        "prompt_tokens": contender.facts["prompt_tokens"],
        "loss_before": contender.facts["loss"],
        "turns": turns,
    }


def check(contenders: Sequence[Contender]) -> None:
    """Raise RuntimeError unless all contenders compute the same: prompts, log-probabilities, and tokens trained on."""
    setup, first = contenders[0].setup, contenders[0].facts
    wanted = setup.group_size * setup.new_tokens * setup.batch_size * setup.accumulate * setup.updates
    for contender in contenders:
        name, facts = contender.setup.name, contender.facts
        if facts["prompt_tokens"] != first["prompt_tokens"]:
            raise RuntimeError(f"prompts of {first['prompt_tokens']} tokens, and of {facts['prompt_tokens']} in {name}")
        if abs(facts["loss"] - first["loss"]) > TOLERANCE[setup.dtype]:
            raise RuntimeError(f"losses before training differ: {first['loss']}, and {facts['loss']} in {name}")
        for turn in contender.turns:
            if turn["trained"] != wanted:
                raise RuntimeError(f"{name} trained on {turn['trained']} tokens instead of {wanted}")


def ratios_of(variants: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of speed and memory for each pair of variants with completions of the same length.

    The ratio of speeds is that of the times of a step, the median over the rounds.
    """
    ratios = {}
    for first, second in itertools.combinations(variants, 2):
        (name, length), (other, other_length) = first.split("@"), second.split("@")
        if length == other_length:
            rounds = zip(variants[first]["turns"], variants[second]["turns"], strict=True)
            pair = f"{name}/{other}@{length}"
            ratios[pair] = statistics.median(b["step_seconds"] / a["step_seconds"] for a, b in rounds)
            ratios[f"{pair} memory"] = variants[first]["peak_memory_gb"] / variants[second]["peak_memory_gb"]
    return ratios


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table, followed by the ratios."""
    lines = ["| | rollout | update | step | CPU time | peak memory |", "| --- |" + " ---: |" * 5]
    for name, figures in result["variants"].items():
        times = [f"{figures[f'{part}_seconds']:.2f} s" for part in ("rollout", "update", "step", "cpu")]
        lines.append(f"| {name} | " + " | ".join([*times, f"{figures['peak_memory_gb']:.2f} GB"]) + " |")
    lines.append("")
    lines += ratio_lines(result["ratios"], TARGETS, LIMITS)
    losses = ", ".join(f"{name} {figures['loss_before']:.6f}" for name, figures in result["variants"].items())
    lines.append(f"- loss per token of the same completions before training: {losses}")
    return "\n".join(lines) + "\n"


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Build the missing material and measure. Returns the data, variants and ratios of the result file.

    Raises RuntimeError if a contender fails or computes something else than the others, and ConfigError for impossible
    settings.
    """
    if args.group < 2 or min(args.tokens) < 1:
        raise ConfigError("--group takes at least 2 completions, and --tokens at least 1 token")
    rows = args.trl_rows or args.group
    if args.group % rows:
        raise ConfigError(f"--trl-rows={rows}: must divide the {args.group} completions of a group")
    on_gpu = args.device == "cuda"
    views = max(VIEWS, args.warmup + args.rounds * args.updates)
    questions = build_questions(args.work, views=views, side=args.side)
    model = build_model(args.work, args.model, questions)
    variants: dict[str, dict[str, Any]] = {}
    for tokens in args.tokens:
        setups = [
            Setup(
                name=name,
                model=str(model),
                questions=str(questions),
                max_pixels=args.side**2,
                batch_size=1,
                accumulate=1,
                warmup=args.warmup,
                updates=args.updates,
                turns=args.rounds,
                device=args.device,
                dtype="bf16" if on_gpu else "float32",
                checkpointing=args.checkpointing,
                group_size=args.group,
                new_tokens=tokens,
                trl_rows=rows,
            )
            for name in args.contenders
        ]
        contenders = measure(setups, args.trl, together=not on_gpu)
        check(contenders)
        variants |= {f"{contender.setup.name}@{tokens}": figures_of(contender) for contender in contenders}
    return {
        "data": {
            "group_size": args.group,
            "prompts_per_step": 1,
            "side_px": args.side,
            "checkpointing": args.checkpointing,
            "trl_rows": rows,
        },
        "variants": variants,
        "ratios": ratios_of(variants),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpo_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--tokens", nargs="+", type=int, default=[128, 512], help="lengths of completions to measure")
    parser.add_argument("--group", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--trl-rows", type=int, help="completions that TRL reads at a time in an update; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--updates", type=int, default=1, help="steps per turn")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the first turn")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    return run_bench("grpo_speed", parser.parse_args(argv), compare, markdown)


if __name__ == "__main__":
    raise SystemExit(main())
