"""Everything that a GPU is needed for, in at most eight minutes: tests, micro-batches, speed, answers, GRPO.

    python -m benchmarks.gpu                              one GPU, a random Qwen2.5-VL-7B in bf16
    python -m benchmarks.gpu --only training speed
    python -m benchmarks.gpu --device cpu --model tiny    the same parts without a GPU, to see that they run

Each part is a process of its own with a time limit; one that fails or takes too long does not stop the others. The
results are written after every part, and printed as a table at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import grpo_speed, sft_speed
from benchmarks.contest import ROOT, versions
from benchmarks.machine import machine
from geotune.system.strict_json import write_json

SECONDS = 480
"""Largest number of seconds that all parts take together."""
LAST_LINES = 12
"""Number of lines of its log that a failed part shows."""

PYTEST = ("-m", "gpu", "-n", "8", "-q", "-rfE", "-p", "no:cacheprovider", "--color=no")

Reader = Callable[[str, Path], dict[str, Any]]
"""Reads the figures of a part from what it printed and from the file that it was told to write."""


class Part:
    """A part: its command, its time limit in seconds, and how its figures are read.

    fails: whether an exit status other than 0 is a failure, or else a figure.
    """

    def __init__(self, arguments: Sequence[str], limit: int, read: Reader, *, fails: bool = True) -> None:
        self.arguments = tuple(arguments)
        self.limit = limit
        self.read = read
        self.fails = fails

    def run(self, file: Path, environment: Mapping[str, str], log_file: Path) -> dict[str, Any]:
        """Run the part; returns its seconds with its figures, or with the reason why it has none.

        file: where the part writes its figures. log_file: where what it prints goes.
        """
        command = [sys.executable, "-m", *(str(file) if text == "FILE" else text for text in self.arguments)]
        began = time.perf_counter()
        with log_file.open("w+", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status: int | None = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _kill_session(process)
            log.seek(0)
            text = log.read()
        result: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 1)}
        if status is None:
            with suppress(ValueError, LookupError, OSError):
                result |= self.read(text, file)  # what it had measured until then
            return result | {"failed": f"took longer than {self.limit} s", "log": text.splitlines()[-LAST_LINES:]}
        try:
            if status and self.fails:
                raise ValueError(f"ended with status {status}")
            return result | self.read(text, file)
        except (ValueError, LookupError, OSError) as error:
            return result | {"failed": str(error), "log": text.splitlines()[-LAST_LINES:]}


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, if they still run."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_last_line(text: str, file: Path) -> dict[str, Any]:
    """Return the JSON object that a part printed last. Raises ValueError if there is none."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError("printed no figures")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def read_speed(text: str, file: Path) -> dict[str, Any]:
    """Return the result file of a benchmark that compares contenders."""
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {"variants": result["variants"], "ratios": result["ratios"]}


def read_tests(text: str, file: Path) -> dict[str, Any]:
    """Return how many tests passed, failed and were skipped. Raises ValueError if pytest did not come to its end."""
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", text)}
    if not counts:
        raise ValueError("pytest printed no summary")
    return {**counts, "not_passed": re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)}


def test_files() -> list[str]:
    """Return the files with tests that need a GPU, so that pytest does not import the others."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "pytest.mark.gpu" in file.read_text(encoding="utf-8")]


def parts_of(args: argparse.Namespace) -> dict[str, Part]:
    """Return all parts by name."""
    common = ["--model", args.model, "--device", args.device, "--work", str(args.work), "--side", str(args.side)]
    one = "benchmarks.microbatch"
    speed = ["benchmarks.sft_speed", *common, "--rounds", "1", "--updates", "3", "--checkpointing", "no"]
    speed += ["--contenders", *args.contenders]
    step = ["benchmarks.grpo_speed", *common, "--rounds", "2", "--tokens", str(args.tokens)]
    step += ["--contenders", *args.grpo_contenders]
    trl = ["--trl", str(args.trl)] if args.trl else []
    parts = {
        "tests": Part(["pytest", *test_files(), *PYTEST], 100, read_tests, fails=False),
        "training": Part([one, "training", *common], 55, read_last_line),
        "speed": Part([*speed, *trl, "--out", "FILE"], 125, read_speed),
        "a GRPO step": Part([*step, *trl, "--out", "FILE"], 75, read_speed),
        "training, checkpointed": Part([one, "training", *common, "--checkpointing"], 45, read_last_line),
        "training, kernels=off": Part([one, "training", *common, "--kernels", "off"], 35, read_last_line),
        "answers": Part([one, "answers", *common], 45, read_last_line),
    }
    assert sum(part.limit for part in parts.values()) <= SECONDS
    return parts


def table(result: Mapping[str, Any]) -> str:
    """Return the results as text, part by part."""
    lines = []
    for name, figures in result["parts"].items():
        lines.append(f"\n{name} ({figures['seconds']} s)")
        if "failed" in figures:
            lines += [f"  failed: {figures['failed']}", *(f"    {line}" for line in figures["log"])]
        if "variants" in figures:
            bench = sft_speed if name == "speed" else grpo_speed
            lines += [f"  {line}" for line in bench.markdown(dict(figures)).splitlines()]
        else:
            for key, value in figures.items():
                if key == "ten_most_expensive_ms":
                    lines += [f"  {milliseconds:9.2f} ms  {kernel}" for kernel, milliseconds in value.items()]
                elif key not in ("seconds", "failed", "log"):
                    lines.append(f"  {key}: {', '.join(value) if isinstance(value, list) else value}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status: 1 if a part failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("tiny", "25m", "7b"), default="7b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--side", type=int, default=512, help="side of a view or map in pixels")
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=["tree", "plain"],
        help="contenders of the part speed: %(default)s, trl, ...",
    )
    parser.add_argument("--grpo-contenders", nargs="+", default=["ours"], help="contenders of a GRPO step")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each completion of a GRPO step")
    parser.add_argument("--trl", type=Path, help="folder that TRL is installed in, unless the environment has it")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run; by default all")
    parser.add_argument("--work", type=Path, default=ROOT / "datasets" / "bench", help="folder for data and model")
    parser.add_argument("--logs", type=Path, help="folder that keeps what each part prints, in <number>.log")
    parser.add_argument("--out", type=Path, help="result file; by default benchmarks/results/gpu.json on a GPU")
    args = parser.parse_args(argv)
    parts = parts_of(args)
    if unknown := set(args.only or ()) - parts.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(parts)}")
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("PyTorch finds no CUDA device; see that all parts run with --device cpu --model tiny")
    out = args.out or (ROOT / "benchmarks" / "results" / "gpu.json" if args.device == "cuda" else None)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    result: dict[str, Any] = {
        "bench": "gpu",
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *(sys.argv[1:] if argv is None else argv)]),
        "machine": machine(args.device),
        "versions": versions(args.trl),
        "model": args.model,
        "parts": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        logs = args.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        for number, (name, part) in enumerate(parts.items()):
            if args.only and name not in args.only:
                continue
            print(f"{name}: at most {part.limit} s", file=sys.stderr, flush=True)
            result["parts"][name] = part.run(Path(scratch, f"{number}.json"), environment, logs / f"{number}.log")
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                write_json(out, result)
    print(table(result))
    return int(any("failed" in figures for figures in result["parts"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
