"""Where the time of one micro-batch goes, and how fast questions are answered, with a random Qwen2.5-VL.

    python -m benchmarks.microbatch training --model 7b --device cuda
    python -m benchmarks.microbatch answers --model 7b --device cuda

    python -m benchmarks.microbatch training --model deep --device cpu --dtype bf16 --kernels compile

Both print a line of JSON. `training` takes a prefix tree of 13 questions apart: image features, forward pass of the
language model, backward pass. It prints the times first, then a second line with what is launched and the ten most
expensive kernels (on a CPU: operators). On a CPU, a launch is an operator that computes or copies something, or a
compiled kernel; those of attention over the tree, which the CPU reads block by block, count apart. `answers` has 64
questions answered in the modes generate and choice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.material import MODELS, build_model, build_questions
from benchmarks.sft_contender import load_backbone
from benchmarks.turns import KERNELS, Setup
from geotune.records import read_samples
from geotune.sample import Sample

VIEWS = 8
TREE = 13
"""Questions of the micro-batch."""
ANSWERED = 64
NEW_TOKENS = 16
"""Tokens that each answer has; a random model hardly ever ends one itself."""
WARM_UP, REPEATS = 2, 5


def setup_of(args: argparse.Namespace) -> tuple[Setup, list[Sample]]:
    """Build the missing material; returns the settings of the backbone, and the questions with their images' paths."""
    file = build_questions(args.work, views=VIEWS, side=args.side)
    setup = Setup(
        name=args.attn,
        model=str(build_model(args.work, args.model, file)),
        questions=str(file),
        max_pixels=args.side**2,
        batch_size=TREE,
        accumulate=1,
        warmup=0,
        updates=0,
        turns=0,
        device=args.device,
        dtype=args.dtype or ("bf16" if args.device == "cuda" else "float32"),
        checkpointing=args.checkpointing,
        kernels=args.kernels,
    )
    return setup, [sample.in_folder(file.parent) for sample in read_samples(file)]


WITHOUT_LAUNCH = {
    *("view", "reshape", "_reshape_alias", "_unsafe_view", "view_as", "flatten", "unflatten", "as_strided", "alias"),
    *("t", "numpy_T", "transpose", "permute", "squeeze", "unsqueeze", "expand", "expand_as", "select", "slice", "to"),
    *("narrow", "split", "split_with_sizes", "chunk", "unbind", "detach", "detach_", "lift_fresh", "contiguous"),
    *("empty", "empty_like", "empty_strided", "new_empty", "resize_", "numel", "item", "_local_scalar_dense"),
    *("result_type", "resolve_conj", "resolve_neg", "is_nonzero"),
}
"""Operators of ATen that compute and copy nothing themselves."""
TREE_ATTENTION = ("_SharedAttention", "_SharedAttentionBackward")
"""Events in which the CPU computes attention over the tree."""


def launches_on_cpu(profiler: Any) -> dict[str, int]:
    """Return how many operators compute or copy something, within attention over the tree and elsewhere.

    Only innermost operators count; a compiled kernel is one.
    """
    counts = {"attention": 0, "elsewhere": 0}

    def count(event: Any, where: str) -> bool:
        """Count what the event launches; returns whether that is anything."""
        inner = "attention" if event.name in TREE_ATTENTION else where
        if sum(count(child, inner) for child in event.cpu_children):  # all of them, so that each is counted
            return True
        kind, _, name = event.name.rpartition("::")
        launched = (kind == "aten" and name not in WITHOUT_LAUNCH) or "cpp_fused" in event.name
        counts[inner] += launched
        return launched

    for event in profiler.events():
        if event.cpu_parent is None:
            count(event, "elsewhere")
    return counts


class Timer:
    """Times work on a device in milliseconds, which it waits for."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, work: Callable[[], Any]) -> float:
        self._wait()
        began = time.perf_counter()
        work()
        self._wait()
        return (time.perf_counter() - began) * 1e3

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Take the micro-batch apart; returns times in ms, counts and the most expensive kernels."""
    from geotune.encoding.collate import collate_tree
    from geotune.stages.sft import nll_sum

    if args.device == "cpu":
        from torch._inductor import config

        config.cpp.enable_kernel_profile = True  # compiled kernels are events of the profile
    setup, samples = setup_of(args)
    backbone = load_backbone(setup)
    backbone.disable_feature_cache()
    backbone.train()
    batch = collate_tree([backbone.encode(sample) for sample in samples[:TREE]], backbone.encoder).to(args.device)
    timer = Timer(args.device)
    loss: list[torch.Tensor] = []

    def tower() -> None:
        with torch.no_grad(), backbone._autocast():
            backbone._distinct_image_features(batch)

    def forward() -> None:
        loss[:] = [nll_sum(backbone(batch), batch.labels)]

    def backward() -> None:
        loss.pop().backward()  # type: ignore[no-untyped-call]
        backbone.zero_grad()

    for _ in range(WARM_UP):
        tower(), forward(), backward()
    times = [[timer(part) for part in (tower, forward, backward)] for _ in range(REPEATS)]
    of_tower, of_forward, of_backward = (statistics.median(column) for column in zip(*times, strict=True))
    on_gpu = args.device == "cuda"
    together = of_forward + of_backward
    figures = {
        "samples": TREE,
        "images": len(batch.images),
        "tokens": batch.tokens,
        "tower_ms": round(of_tower, 1),
        "forward_ms": round(of_forward, 1),
        "backward_ms": round(of_backward, 1),
        "tokens_per_second": round(batch.tokens / together * 1e3),
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
    }
    print(json.dumps(figures), flush=True)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        forward(), backward()
        timer._wait()
    events = profiler.key_averages()
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA] if on_gpu else events
    cost = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    expensive = sorted(kernels, key=lambda event: -getattr(event, cost))[:10]
    launched: Any = sum(event.count for event in events if event.key.startswith(("cudaLaunch", "cuLaunch")))
    return figures | {
        "launches": launched if on_gpu else launches_on_cpu(profiler),
        "ten_most_expensive_ms": {event.key[:90]: round(getattr(event, cost) / 1e3, 2) for event in expensive},
    }


def answers(args: argparse.Namespace) -> dict[str, Any]:
    """Have questions answered in two modes; returns questions per second, after one batch to warm up."""
    from eval.answerers.local import LocalAnswerer
    from eval.evaluator import as_question
    from geotune.tasks import get_task

    setup, samples = setup_of(args)
    backbone = load_backbone(setup)
    backbone.eval()
    answerer, timer = LocalAnswerer(backbone, batch_size=16), Timer(args.device)

    def ask(chosen: Sequence[Sample], mode: Any) -> None:
        questions = [as_question(sample, get_task(sample.task), mode) for sample in chosen]
        tasks = [get_task(sample.task) for sample in chosen]
        options = [{option: task.target(option) for option in task.options} for task in tasks]
        asked = (
            answerer.generate(questions, NEW_TOKENS)
            if mode == "generate"
            else answerer.score_options(questions, options, None)
        )
        assert len(list(asked)) == len(questions)

    figures = {}
    with torch.no_grad():
        for mode in ("generate", "choice"):
            ask(samples[ANSWERED : ANSWERED + 16], mode)
            backbone.clear_feature_cache()
            milliseconds = timer(lambda mode=mode: ask(samples[:ANSWERED], mode))  # type: ignore[misc]
            figures[f"{mode}_questions_per_second"] = round(ANSWERED / milliseconds * 1e3, 2)
    return {"questions": ANSWERED, "new_tokens": NEW_TOKENS, **figures}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.microbatch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=("training", "answers"))
    parser.add_argument("--model", choices=MODELS, default="7b", help="size of the model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument(
        "--attn", choices=("tree", *KERNELS), default="tree", help="attention over the tree; tree: the default"
    )
    parser.add_argument("--dtype", choices=("bf16", "float32"), help="precision; by default bf16 on a GPU")
    parser.add_argument("--kernels", choices=("auto", "compile", "off"), default="auto", help="see backbone.kernels")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--side", type=int, default=512, help="side of a view or map in pixels")
    parser.add_argument("--work", type=Path, default=Path("datasets", "bench"), help="folder for data and model")
    args = parser.parse_args(argv)
    print(json.dumps({"training": training, "answers": answers}[args.part](args)))


if __name__ == "__main__":
    main()
