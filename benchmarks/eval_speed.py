"""Speed of evaluation: prefix trees, rows, and stock transformers one question at a time.

    python -m benchmarks.eval_speed                  two CPU cores; random Qwen2.5-VLs of 26 M parameters and a tiny one
    python -m benchmarks.eval_speed --models 25m --rounds 1

The questions are the 39 about a view, a new view in each round. `choice` scores the legal answers, `generate` writes
tokens. In both, `tree` reads all questions of a view as one prefix tree, and `rows` pads a batch of them, as
evaluations did before. `stock` is transformers' own `generate`, one question after the other. Stops are suppressed, so
that all write the same number of tokens. Variants take turns; a ratio is the median of the rounds.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import RESULTS, ratio_lines, versions
from benchmarks.grpo_contender import suppress_stops
from benchmarks.machine import machine
from benchmarks.material import QUESTIONS, build_model, build_questions, random_model
from benchmarks.sft_contender import load_backbone
from benchmarks.turns import Setup
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.system.strict_json import write_json
from geotune.tasks import get_task

ROWS = 13
"""Questions that rows and stock are measured on, and rows of a batch: their speed does not depend on the number."""
SHORT, LONG = 12, 64
"""Numbers of tokens that are written."""
TOLERANCE = 1e-3
"""Largest difference between two log-probabilities of one text."""
TARGETS = {
    "25m: choice tree/rows": 2.5,
    "25m: generate tree/rows": 2.0,
    "25m: choice tree/stock@12": 1.5,
    "25m: choice tree/stock@64": 2.5,
    "tiny: choice tree/stock@64": 4.0,
}
"""Smallest values of these ratios that meet the target; choice and stock are two modes of answering."""
PAIRS = (
    ("choice tree", "choice rows", "choice tree/rows"),
    ("generate tree", "generate rows", "generate tree/rows"),
    ("choice tree", f"stock@{SHORT}", f"choice tree/stock@{SHORT}"),
    ("choice tree", f"stock@{LONG}", f"choice tree/stock@{LONG}"),
    ("generate tree", f"stock@{SHORT}", f"generate tree/stock@{SHORT}"),
)


class Variants:
    """The ways to answer the questions about a view, by name; each returns what it found for each question."""

    def __init__(self, setup: Setup) -> None:
        from transformers import AutoConfig

        self.backbone = load_backbone(setup)
        self.backbone.eval()
        suppress_stops(self.backbone)
        self.stock = random_model(AutoConfig.from_pretrained(setup.model), self.backbone.dtype).eval()
        self.by_name: dict[str, Callable[[list[Sample]], list[Any]]] = {
            "choice tree": lambda asked: self.choose(asked, tree=True),
            "choice rows": lambda asked: self.choose(asked[:ROWS], tree=False),
            "generate tree": lambda asked: self.write(asked, tree=True),
            "generate rows": lambda asked: self.write(asked[:ROWS], tree=False),
            f"stock@{SHORT}": lambda asked: self.write_by_stock(asked[:ROWS], SHORT),
            f"stock@{LONG}": lambda asked: self.write_by_stock(asked[:ROWS], LONG),
        }

    def choose(self, asked: list[Sample], *, tree: bool) -> list[list[float]]:
        """Return the log-probabilities of the legal answers."""
        from geotune.backbones.generation import score_options

        options = [
            [get_task(sample.task).target(option) for option in get_task(sample.task).options] for sample in asked
        ]
        return score_options(self.backbone, asked, options, batch_size=len(asked), tree=tree)

    def write(self, asked: list[Sample], *, tree: bool) -> list[list[int]]:
        """Return `SHORT` tokens for each question."""
        from geotune.backbones.generation import sample

        prompts = [self.backbone.encode(one, answer=False) for one in asked]
        made = sample(self.backbone, prompts, max_new_tokens=SHORT, batch_size=len(asked), tree=tree)
        return [list(completion.tokens) for (completion,) in made]

    def write_by_stock(self, asked: list[Sample], tokens: int) -> list[list[int]]:
        """Return tokens that transformers writes to one question after the other."""
        import torch

        from geotune.encoding.collate import collate

        encoder, never = self.backbone.encoder, self.backbone.never_drawn.tolist()
        written = []
        for one in asked:
            batch = collate([self.backbone.encode(one, answer=False)], encoder)
            made = self.stock.generate(
                input_ids=batch.input_ids,
                attention_mask=torch.ones_like(batch.input_ids),
                mm_token_type_ids=(batch.input_ids == encoder.image_token_id).int(),
                **encoder.pixel_values(batch.pixels),
                max_new_tokens=tokens,
                do_sample=False,
                suppress_tokens=never,
            )
            written.append(made[0, batch.input_ids.shape[1] :].tolist())
        return written


def check(found: dict[str, list[Any]]) -> None:
    """Raise RuntimeError unless all variants of a mode found the same for the questions that all were asked."""
    for one, other in zip(found["choice tree"], found["choice rows"], strict=False):
        if max(abs(a - b) for a, b in zip(one, other, strict=True)) > TOLERANCE:
            raise RuntimeError(f"the tree gives the log-probabilities {one}, and rows {other}")
    for name in ("generate rows", f"stock@{SHORT}", f"stock@{LONG}"):
        for one, other in zip(found["generate tree"], found[name], strict=False):
            if one != other[:SHORT]:
                raise RuntimeError(f"the tree writes the tokens {one}, and {name} {other}")


def measure(model: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the questions per second of each variant in each round."""
    import torch

    questions = build_questions(args.work, views=args.rounds + 1, side=args.side)
    setup = Setup(
        name="tree",
        model=str(build_model(args.work, model, questions)),
        questions=str(questions),
        max_pixels=args.side**2,
        batch_size=QUESTIONS,
        accumulate=1,
        warmup=0,
        updates=0,
        turns=0,
    )
    variants = Variants(setup)
    samples = [sample.in_folder(questions.parent) for sample in read_samples(questions)]
    speeds: dict[str, list[float]] = {name: [] for name in variants.by_name}
    with torch.no_grad():
        for number in range(args.rounds + 1):
            asked = samples[number * QUESTIONS : (number + 1) * QUESTIONS]
            found = {}
            for name, answer in variants.by_name.items():
                variants.backbone.clear_feature_cache()
                began = time.perf_counter()
                found[name] = answer(asked[:2] if number == 0 else asked)  # the first round is a warm-up
                if number:
                    speeds[name].append(len(found[name]) / (time.perf_counter() - began))
                    print(f"{model:>5} {name:>14} {speeds[name][-1]:8.2f} questions/s", flush=True)
            check(found)
    return speeds


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table, followed by the ratios."""
    lines = ["| | questions per second |", "| --- | ---: |"]
    lines += [f"| {name} | {figures['samples_per_second']:.2f} |" for name, figures in result["variants"].items()]
    return "\n".join([*lines, "", *ratio_lines(result["ratios"], TARGETS, {})]) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.eval_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=("tiny", "25m"), default=["25m", "tiny"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=512, help="side of a view or map in pixels")
    parser.add_argument("--work", type=Path, default=Path("datasets", "bench"), help="folder for data and model")
    parser.add_argument("--out", type=Path, default=RESULTS / "eval_speed.json", help="result file")
    args = parser.parse_args(argv)
    variants: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for model in args.models:
        speeds = measure(model, args)
        for name, found in speeds.items():
            variants[f"{model}: {name}"] = {"samples_per_second": statistics.median(found), "rounds": found}
        for fast, slow, name in PAIRS:
            pairs = zip(speeds[fast], speeds[slow], strict=True)
            ratios[f"{model}: {name}"] = statistics.median(one / other for one, other in pairs)
    result = {
        "bench": "eval_speed",
        "command": shlex.join(["python", "-m", "benchmarks.eval_speed", *(sys.argv[1:] if argv is None else argv)]),
        "machine": machine(),
        "versions": versions(None),
        "data": {"questions_of_a_view": QUESTIONS, "rows": ROWS, "side_px": args.side, "rounds": args.rounds},
        "variants": variants,
        "ratios": ratios,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    print(markdown(result))


if __name__ == "__main__":
    main()
