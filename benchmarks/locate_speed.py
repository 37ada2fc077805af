"""Speed and memory of locating photos with several samples each, of this checkout and of another one.

    python -m benchmarks.locate_speed                    this checkout
    python -m benchmarks.locate_speed ../other           another checkout and this one, in turn
    python -m benchmarks.locate_speed ../other --model 25m    a random Qwen2.5-VL of 26 M parameters

Each turn is a process of its own, which loads the model, locates one photo to warm up, and then all of them. The photos
are made by this script. A random model never ends an answer, so all of its answers have the largest length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((512, 384), (384, 512), (448, 448))
"""Widths and heights of the photos, in turn."""


def memory_gb(name: str) -> float:
    """Return `VmHWM` (the largest so far) or `VmRSS` (now), the resident memory of this process, in 1e9 bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024 / 1e9


def take_turn(settings: dict[str, Any]) -> dict[str, Any]:
    """Locate the photos with the checkout that Python imports, and return figures and answers."""
    import torch

    import geotune.config.composing  # knows where the embedded backbone lies
    from geotune.inference.loading import find_source, open_backbone
    from geotune.inference.locating import locate_photos

    imported = Path(geotune.__file__).resolve().parents[1]
    if imported != Path.cwd():  # an installed geotune would be measured instead
        raise SystemExit(f"{Path.cwd()} holds no geotune; {imported} was imported")
    torch.set_num_threads(settings["threads"])
    changes = {"dtype": settings["dtype"], "max_pixels": settings["max_pixels"]}
    backbone = open_backbone(find_source(settings["model"]), **changes)
    photos = sorted(Path(settings["photos"]).iterdir())
    sampling: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "explain": False}
    limits = {"batch_size": settings["batch_size"], "max_new_tokens": settings["max_new_tokens"]}
    list(locate_photos(backbone, photos[:1], samples=1, **sampling, **limits))
    backbone.clear_feature_cache()
    loaded, start = memory_gb("VmRSS"), time.perf_counter()
    located = list(locate_photos(backbone, photos, samples=settings["samples"], **sampling, **limits))
    seconds = time.perf_counter() - start
    located.sort(key=lambda photo: photo.image)
    return {
        "seconds": seconds,
        "loaded_memory_gb": loaded,
        "peak_memory_gb": memory_gb("VmHWM"),
        "answers": [[[at.lat, at.lon] for at in photo.answers] for photo in located],
        "unread": [list(photo.unread) for photo in located],
    }


def turn_in(checkout: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Take a turn in a process of its own that imports `checkout`. Raises RuntimeError if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["OMP_NUM_THREADS"] = str(settings["threads"])
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--turn", json.dumps(settings)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a turn in {checkout} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def make_photos(folder: Path, count: int) -> None:
    """Write `count` photos of random blocks to `folder`; those that exist stay."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        path = folder / f"{number:03}.png"
        if not path.exists():
            blocks = np.random.default_rng(number).integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(path)


def make_model(work: Path, size: str) -> Path:
    """Return the folder of a Qwen2.5-VL of the size `size` with random weights, written to `work` if it is missing."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from benchmarks.material import build_model, build_questions

    folder = build_model(work, size, build_questions(work, views=2, side=112))
    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def ratios_of(variants: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the medians over the pairs of turns: speed of `new` over `old`, and memory of `new` over `old`."""
    if "old" not in variants:
        return {}
    pairs = list(zip(variants["new"]["turns"], variants["old"]["turns"], strict=True))
    return {
        "new/old": statistics.median(old["seconds"] / new["seconds"] for new, old in pairs),
        "new/old memory": statistics.median(new["peak_memory_gb"] / old["peak_memory_gb"] for new, old in pairs),
    }


def run(args: argparse.Namespace, given: Sequence[str]) -> dict[str, Any]:
    """Make the material, take all turns, and return the content of the result file."""
    from benchmarks.machine import machine

    photos = args.work / f"photos_{args.photos}"
    make_photos(photos, args.photos)
    embedded = args.model == "embedded"
    settings = {
        "model": None if embedded else str(make_model(args.work, args.model).resolve()),
        "photos": str(photos.resolve()),
        "max_pixels": None if embedded else 512 * 512,
        **{name: getattr(args, name) for name in ("samples", "batch_size", "max_new_tokens", "dtype", "threads")},
    }
    checkouts = {"new": ROOT} if args.checkout is None else {"old": args.checkout.resolve(), "new": ROOT}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for number in range(args.pairs):
        for name in list(checkouts) if number % 2 == 0 else reversed(checkouts):
            figures = turn_in(checkouts[name], settings)
            turns[name].append(figures)
            seconds, memory = figures["seconds"], figures["peak_memory_gb"]
            print(f"{name}  {seconds:8.2f} s  {memory:6.3f} GB", file=sys.stderr, flush=True)
    said = [[figures.pop(key) for key in ("answers", "unread")] for own in turns.values() for figures in own]
    variants = {
        name: {
            "seconds_per_photo": statistics.median(turn["seconds"] for turn in own) / args.photos,
            "peak_memory_gb": max(turn["peak_memory_gb"] for turn in own),
            "turns": own,
        }
        for name, own in turns.items()
    }
    return {
        "bench": args.out.stem,
        "command": shlex.join(["python", "-m", "benchmarks.locate_speed", *given]),
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "transformers")} | {"python": platform.python_version()},
        "settings": {"model": args.model, "count": args.photos, **{k: settings[k] for k in list(settings)[3:]}},
        "same_answers": all(each == said[0] for each in said),
        "variants": variants,
        "ratios": ratios_of(variants),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.locate_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", nargs="?", type=Path, help="folder of another checkout to compare with")
    parser.add_argument("--model", choices=("embedded", "tiny", "25m"), default="embedded")
    parser.add_argument("--photos", type=int, default=8, help="number of photos")
    parser.add_argument("--samples", type=int, default=16, help="answers per photo")
    parser.add_argument("--batch-size", type=int, default=32, help="answers per forward pass")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="largest length of an answer")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pairs", type=int, default=3, help="turns of each checkout")
    parser.add_argument("--work", type=Path, default=ROOT / "datasets" / "bench", help="folder for photos and model")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "locate_speed.json")
    parser.add_argument("--turn", type=json.loads, help=argparse.SUPPRESS)
    given = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(given)
    if args.turn is not None:
        print(json.dumps(take_turn(args.turn)))
        return 0
    from geotune.system.strict_json import write_json

    try:
        result = run(args, given)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    print(json.dumps(result["ratios"] | {"same_answers": result["same_answers"]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
