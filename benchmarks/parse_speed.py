"""Time to read answers, of this checkout and of another one.

    python -m benchmarks.parse_speed                     this checkout
    python -m benchmarks.parse_speed ../other            another checkout and this one, in turn
    python -m benchmarks.parse_speed ../other --predictions runs/quickstart/<date-time>/predictions/*.jsonl

The answers are short ones, as a model gives them in the course of the quickstart recipe, and texts of 100 kB: prose,
JSON, and repetitions of a piece that could keep a reader busy. The short answers are made by this script unless the
predictions of a run are given. Each turn is a process of its own. Its figures are seconds of the CPU, the least of
several passes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACE_TASKS = ("geolocate", "address")
LONG_TASKS = (*PLACE_TASKS, "pose_fixed")
"""Tasks that read the long texts."""
COLOURS = ("white", "lime", "yellow", "purple", "red", "blue", "cyan", "black", "green", "orange", "pink", "brown")
SPOTS = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
WORDS = "road north of town has 12 houses, built in 1906; signs at 3.5 m, facing west."
"""Words of prose."""
PIECES = (
    *("(", "[", "{", "[1, ", '{"a": ', '"', "'", "\\", "<answer>", "<think>", "</think>", "<", "- ", "\n", ", "),
    *("9", "9.9.", "9, ", "9.5, 9.5 ", "9.5, 9.5, ", "9 N ", "N 9.5 ", "9°9'9\" N, ", "9:9:9 ", "lat ", "lat: 9.5, "),
    *(
        "lat: 9.5, lon: 9.5\n",
        '{"lat": 9.5, "lon": 9.5}, ',
        "| 9.5 ",
        "POINT(9.5 ",
        "± 9.5 ",
        "north ",
        "\\text{N} ",
        "&deg;",
    ),
)
"""Pieces whose repetitions are read."""


def short_answers(seed: int = 0, each: int = 150) -> Iterator[tuple[str, str]]:
    """Yield (task, text): answers of three stages of the quickstart recipe, from its first update to its last.

    At first a model writes a few words, then the form of an explanation with garbled numbers, and at last full answers.
    """
    rng = random.Random(seed)

    def colour() -> str:
        return rng.choice(COLOURS)

    def plazas() -> str:
        return f"Plazas: {', '.join(f'{colour()} {spot}' for spot in SPOTS)}. So {colour()} {rng.choice(SPOTS)}."

    def around() -> str:
        sides = (f"{colour()} {colour()} {side}" for side in ("north", "east", "south", "west"))
        return f"Around it: {', '.join(sides)}. So {colour()} {colour()} west."

    def maps(plazas_each: int) -> str:
        return " ".join(f"{colour()} {index}" for index in range(4) for _ in range(plazas_each)) + f". So {colour()} 2."

    def degrees(limit: int) -> float:
        return round(rng.uniform(-limit, limit), 4)

    for _ in range(each):
        heading, inside = {"direction": rng.choice("NESW")}, {"is_in_range": rng.random() < 0.5}
        index, spot = {"matched_aerial_index": rng.randrange(4)}, {"location": rng.choice(SPOTS).replace(" ", "_")}
        answers: dict[str, tuple[str, dict[str, Any]]] = {
            "pose_fixed": (around(), heading),
            "pose_random": (f"{plazas()} {around()}", heading),
            "localization_prior": (f"So {colour()} center. So {colour()} {colour()} different.", inside),
            "localization_no_prior": (plazas(), inside),
            "intra_map": (plazas(), spot),
            "cross_map": (f"Centers: {maps(1)}", index),
            "cross_map_random": (f"Plazas: {maps(9)}", index),
            "geolocate": ("So far north.", {"latitude": degrees(90), "longitude": degrees(180)}),
        }
        for task, (explanation, answer) in answers.items():
            view = f"View: {colour()} plaza, {colour()} left, {colour()} right."
            yield task, rng.choice((f"So {colour()} nowhere.", f"So {colour()} {rng.randrange(5)}."))
            yield task, f"{view} {explanation}\n{json.dumps(answer)}"
            yield task, json.dumps(answer)
        garbled = f"{rng.randrange(9)}.{rng.randrange(9)}.{rng.randrange(9999)}"
        key = rng.choice((": ", "+", " camera"))
        yield "geolocate", f'View: meadow ground, white trim.\n{{" re": {garbled}, "{key}": 411{rng.randrange(9999)}}}'


def long_texts(size: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (name, text): texts of `size` characters."""
    rng = random.Random(seed)
    yield "prose", " ".join(rng.choices(WORDS.split(), k=size))[:size]
    entry = '{"place": "Paris", "lat": 48.8584, "lon": 2.2945, "why": ["signs", "trees 3.5 m"], "confidence": 0.25}, '
    listed = '{"latitude": 48.8584, "longitude": 2.2945, "alternatives": [' + entry * (size // len(entry) + 1)
    yield "JSON", listed[:size]
    for piece in PIECES:
        yield f"repeated {piece!r}", (piece * (size // len(piece) + 1))[:size]


def material(predictions: Sequence[Path], size: int) -> dict[str, list[tuple[str, str]]]:
    """Return the answers as (task, text), in groups that are measured apart."""
    recorded = [json.loads(line) for path in predictions for line in path.read_text(encoding="utf-8").splitlines()]
    short = [(line["task"], line["raw"] or "") for line in recorded] or list(short_answers())
    groups = {
        "predictions": short,
        "predictions of places": [(task, text) for task, text in short if task in PLACE_TASKS],
    }
    for name, text in long_texts(size):
        groups |= {f"{name}, {task}": [(task, text)] for task in LONG_TASKS}
    return groups


def take_turn(file: Path, passes: int) -> dict[str, float]:
    """Read the answers in `file` with the checkout that Python imports; returns the CPU seconds of each group."""
    import geotune

    imported = Path(geotune.__file__).resolve().parents[1]
    if imported != Path.cwd():  # an installed geotune would be measured instead
        raise SystemExit(f"{Path.cwd()} holds no geotune; {imported} was imported")
    from geotune.tasks import get_task

    seconds = {}
    for name, answers in json.loads(file.read_text(encoding="utf-8")).items():
        parsers = [(get_task(task).parse, text) for task, text in answers]
        times = []
        for _ in range(passes):
            start = time.process_time()
            for parse, text in parsers:
                parse(text)
            times.append(time.process_time() - start)
        seconds[name] = min(times)
    return seconds


def turn_in(checkout: Path, file: Path, passes: int) -> dict[str, float]:
    """Take a turn in a process of its own that imports `checkout`. Raises RuntimeError if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--turn", str(file), "--passes", str(passes)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a turn in {checkout} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ratios_of(variants: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return for each group how many times as fast `new` is as `old`: the median over the pairs of turns."""
    if "old" not in variants:
        return {}
    pairs = list(zip(variants["new"]["turns"], variants["old"]["turns"], strict=True))
    return {name: round(statistics.median(old[name] / new[name] for new, old in pairs), 3) for name in pairs[0][0]}


def run(args: argparse.Namespace, given: Sequence[str]) -> dict[str, Any]:
    """Make the answers, take all turns, and return the content of the result file."""
    from benchmarks.machine import machine

    groups = material(args.predictions, args.size)
    checkouts = {"new": ROOT} if args.checkout is None else {"old": args.checkout.resolve(), "new": ROOT}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory(prefix="parse_speed_") as work:
        file = Path(work, "answers.json")
        file.write_text(json.dumps(groups), encoding="utf-8")
        for number in range(args.pairs):
            for name in list(checkouts) if number % 2 == 0 else reversed(checkouts):
                turns[name].append(turn_in(checkouts[name], file, args.passes))
                print(f"{name}  {sum(turns[name][-1].values()):8.2f} s", file=sys.stderr, flush=True)
    return {
        "bench": args.out.stem,
        "command": shlex.join(["python", "-m", "benchmarks.parse_speed", *given]),
        "machine": machine(),
        "versions": {"python": platform.python_version()},
        "settings": {"predictions": len(groups["predictions"]), "size": args.size, "passes": args.passes},
        "variants": {
            name: {
                "ms_per_prediction": 1000
                * statistics.median(turn["predictions"] for turn in own)
                / len(groups["predictions"]),
                "turns": [{group: round(seconds, 5) for group, seconds in turn.items()} for turn in own],
            }
            for name, own in turns.items()
        },
        "ratios": ratios_of({name: {"turns": own} for name, own in turns.items()}),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parse_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", nargs="?", type=Path, help="folder of another checkout to compare with")
    parser.add_argument("--predictions", type=Path, nargs="+", default=[], help="a run's files of predictions")
    parser.add_argument("--size", type=int, default=100_000, help="characters of a long text")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each checkout")
    parser.add_argument("--passes", type=int, default=3, help="passes over the answers in a turn; the fastest counts")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "parse_speed.json")
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    given = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(given)
    if args.turn is not None:
        print(json.dumps(take_turn(args.turn, args.passes)))
        return 0
    from geotune.system.strict_json import write_json

    try:
        result = run(args, given)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    for name, ratio in sorted(result["ratios"].items(), key=lambda item: item[1]):
        print(f"{ratio:8.2f} times as fast: {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
