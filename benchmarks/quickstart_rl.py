"""Reinforcement learning on the city, with and without a spread: time, distances, and how often radii hold the truth.

    python -m benchmarks.quickstart_rl                     three seeds, about two hours
    python -m benchmarks.quickstart_rl --seeds 0           one seed

Nothing else may run meanwhile. Each seed trains recipe=quickstart_cold once. From its last checkpoint
recipe=quickstart_rl goes on twice: `plain`, as quickstart_grpo does, and `honest`, with stage.spread=1, as
quickstart_honest does. All of them are measured on one view each of 400 places that training has not seen. The figures
are written when a leg ends; a seed whose figures are there is not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.quickstart import ROOT, measured, read
from geotune.runs.logs import figures_at
from geotune.system.strict_json import write_json

RESULTS = ROOT / "benchmarks" / "results" / "quickstart_rl.json"
FLOOR_KM = 1205.0
"""Median error of a perfect reader of the city, who answers with the middle of the right cell."""
TRUE_DRAWS = {"radius_coverage_50": 0.41, "radius_coverage_90": 0.86, "radius_90_km": 2104}
"""What 16 draws of the true posterior reach."""
LEGS = {"plain": [], "honest": ["stage.spread=1"]}
"""Overrides of each leg."""
TARGETS = {
    "training_minutes": "at most 15 for each leg, alone on two cores, without evaluations",
    "plain": "the greedy median closes at least 60% of the gap to 1,205 km or is at most 1,350 km; read rate at least "
    "0.99; the commonest greedy guess at most 0.10 of the photos",
    "honest": "coverage of the radii within 0.08 of 0.41 and 0.86; 90% radius at most 3,200 km; medoid error at most "
    "15% above that of the plain leg",
}
OF_DISTANCE = (
    "coverage",
    "median_km",
    "acc@750km",
    "acc@2500km",
    "draws_read",
    "medoid_median_km",
    "radius_coverage_50",
    "radius_coverage_90",
    "radius_50_km",
    "radius_90_km",
)


def cold(folder: Path, seed: int) -> dict[str, float]:
    """Train the leg that all others of a seed begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    return measured(
        ["geotune.train", "recipe=quickstart_cold", f"seed={seed}", "run_dir=cold", "evaluator=null"], folder
    )


def leg(folder: Path, seed: int, name: str) -> dict[str, Any]:
    """Train one leg, and return its figures before and after."""
    overrides = [f"seed={seed}", "start=cold", f"run_dir={name}", *LEGS[name]]
    figures: dict[str, Any] = {"leg": name, "seed": seed}
    figures |= measured(["geotune.train", "recipe=quickstart_rl", *overrides], folder)
    run = folder / name
    evaluations = [read(path) for path in sorted((run / "eval").glob("step_*.json"))]
    seconds = sum(entry["seconds"] for entry in evaluations)
    last = figures_at(run / "metrics.csv", evaluations[-1]["step"])
    return figures | {
        "training_minutes": round(figures["minutes"] - seconds / 60, 2),
        "updates": evaluations[-1]["step"],
        "before": of_photos(run, evaluations[0]),
        "after": of_photos(run, evaluations[-1]),
        "train": {
            name.removeprefix("train/"): round(value, 4) for name, value in last.items() if name.startswith("train/")
        },
    }


def of_photos(run: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of an evaluation, with the share of the commonest greedy guess."""
    photos = evaluation["suites"]["geolocate"]
    file = run / "predictions" / f"step_{evaluation['step']:06}.jsonl"
    guesses: dict[str, int] = {}
    count = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        prediction = json.loads(line)
        if prediction.get("repeat", 0) == 0:
            count += 1
            if prediction["answer"] is not None:
                guesses[prediction["answer"]] = guesses.get(prediction["answer"], 0) + 1
    commonest = max(guesses.values(), default=0) / count
    return {name: round(photos[name], 4) for name in OF_DISTANCE} | {"commonest_guess": round(commonest, 4)}


def gap_closed(figures: dict[str, Any]) -> float:
    """Return the share of the gap between a leg's first greedy median and the floor that the leg has closed."""
    before, after = (figures[when]["median_km"] for when in ("before", "after"))
    return float((before - after) / (before - FLOOR_KM))


def verdicts(plain: dict[str, Any], honest: dict[str, Any]) -> dict[str, bool]:
    """Return which targets the two legs of a seed meet."""
    after, doubt = plain["after"], honest["after"]
    off = {name: abs(doubt[name] - TRUE_DRAWS[name]) for name in ("radius_coverage_50", "radius_coverage_90")}
    return {
        "plain: distance": gap_closed(plain) >= 0.6 or after["median_km"] <= 1350,
        "plain: read": after["coverage"] >= 0.99,
        "plain: commonest guess": after["commonest_guess"] <= 0.10,
        "honest: coverage of the 50% radius": off["radius_coverage_50"] <= 0.08,
        "honest: coverage of the 90% radius": off["radius_coverage_90"] <= 0.08,
        "honest: size of the 90% radius": doubt["radius_90_km"] <= 3200,
        "honest: medoid": doubt["medoid_median_km"] <= 1.15 * after["medoid_median_km"],
        "time": max(plain["training_minutes"], honest["training_minutes"]) <= 15,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="folder to work in and to keep, instead of a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the figures (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).absolute()
        figures: dict[str, Any] = read(args.out) if args.out.is_file() else {"runs": {}}
        figures |= {"machine": machine(), "targets": TARGETS, "true_draws": TRUE_DRAWS}
        for seed in args.seeds:
            runs = figures["runs"].setdefault(str(seed), {})
            if LEGS.keys() <= runs.keys():
                continue
            runs["cold"] = cold(folder / f"seed{seed}", seed)
            for name in LEGS:
                runs[name] = leg(folder / f"seed{seed}", seed, name)
                print(json.dumps(runs[name], indent=2), flush=True)
                write_json(args.out, figures)
            runs["met"] = verdicts(runs["plain"], runs["honest"])
            print(json.dumps(runs["met"], indent=2), flush=True)
            write_json(args.out, figures)


if __name__ == "__main__":
    main()
