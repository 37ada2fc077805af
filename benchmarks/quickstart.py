"""The quickstart in empty folders, as a newcomer runs it: time, memory and figures of several seeds.

    python -m benchmarks.quickstart                     three seeds, the cold recipe, and locating photos: half an hour
    python -m benchmarks.quickstart --seeds 0 --only train
    python -m benchmarks.quickstart --only cold locate

Nothing else may run meanwhile. `train` runs recipe=quickstart and measures all processes together. `cold` trains
recipe=quickstart_cold, and counts how many samples at temperature 1 of its last checkpoint the reader can read.
`locate` exports the first run of `train` (a new one if there is none) and locates held-out photos of the city with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine
from geotune.records import read_samples
from geotune.runs.logs import seconds_of_updates
from geotune.system.strict_json import write_json
from geotune.tasks.coordinates import Coordinates, parse_coordinates

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "quickstart.json"
PARTS = ("train", "cold", "locate")
TEST_PHOTOS = "quickstart_photos_test"
"""Dataset of held-out photos, which recipe=quickstart_cold builds."""
TARGETS = {
    "minutes": "at most 6 for each seed, installed and alone on two cores",
    "memory_gb": "at most 4",
    "mean_accuracy": "at least 0.88 on average over the seeds, 0.85 for each",
    "least_above_chance": "at least 0.25: every task",
    "geolocate": "coverage at least 0.98, median at most 2,500 km, acc@2500km at least 0.5",
    "readable": "at least 0.95 of the samples at temperature 1 of the cold recipe",
    "right_cell": "above 0.5: the place that locate reports lies in the right cell of 20 x 45 degrees",
}


def measured(arguments: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a module of this checkout in `folder`; returns its minutes and the largest memory of all its processes."""
    began, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", *arguments]
    log_file = folder / "log.txt"
    with log_file.open("a") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment())
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, memory(parent))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{log_file.read_text(encoding='utf-8')[-2000:]}\n{' '.join(command)} failed")
    return {"minutes": round((time.perf_counter() - began) / 60, 2), "memory_gb": round(peak / 1e9, 2)}


def environment() -> dict[str, str]:
    """Return the variables under which the modules of this checkout are imported."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def memory(parent: psutil.Process) -> int:
    """Return the memory of a process and all below it in bytes; shared pages count in equal parts."""
    total = 0
    for process in [parent, *parent.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has ended
            continue
    return total


def train(folder: Path, seed: int) -> dict[str, Any]:
    """Run the quickstart with `seed` in an empty folder, and return its figures."""
    folder.mkdir(parents=True)
    figures: dict[str, Any] = {"seed": seed}
    figures |= measured(["geotune.train", "recipe=quickstart", f"seed={seed}", "run_dir=run"], folder)
    evaluations = {path.stem: read(path) for path in sorted((folder / "run" / "eval").glob("step_*.json"))}
    first, *_, last = evaluations.values()
    suites, tasks = last["suites"], last["suites"]["geox"]["tasks"]
    seconds = [entry["seconds"] for entry in evaluations.values()]
    update_size = read(folder / "run" / "checkpoints" / "last" / "state.json")["update_size"]
    return figures | {
        "evaluation_minutes": [round(each / 60, 2) for each in seconds],
        "training_minutes": round(seconds_of_updates(folder / "run" / "metrics.csv", update_size) / 60, 2),
        "mean_accuracy": round(suites["geox"]["mean_accuracy"], 4),
        "tasks": {name: round(of_task["accuracy"], 4) for name, of_task in tasks.items()},
        "least_above_chance": round(min(of_task["accuracy"] - of_task["chance"] for of_task in tasks.values()), 4),
        "geox_choice": [round(entry["suites"]["geox_choice"]["mean_accuracy"], 4) for entry in (first, last)],
        "before": round(first["suites"]["geox"]["mean_accuracy"], 4),
        "geolocate": {
            name: round(suites["geolocate"][name], 4) for name in ("coverage", "median_km", "acc@750km", "acc@2500km")
        },
    }


def cold(folder: Path) -> dict[str, Any]:
    """Run recipe=quickstart_cold, and return the share of readable samples of its last checkpoint."""
    folder.mkdir(parents=True)
    figures = measured(["geotune.train", "recipe=quickstart_cold", "run_dir=run"], folder)
    geolocate = read(folder / "run" / "metrics.json")["suites"]["geolocate"]
    photos = held_out(folder)
    answers = located(folder, "run/checkpoints/last", photos, samples=1)
    readable = [photo for photo in answers.values() if photo.get("latitude") is not None]
    return figures | {
        "greedy": {name: round(geolocate[name], 4) for name in ("coverage", "median_km", "acc@2500km")},
        "photos": len(answers),
        "readable": round(len(readable) / len(photos), 4),
        "in_the_right_cell": round(right_cells(photos, answers), 4),
    }


def locate(folder: Path, run: Path) -> dict[str, Any]:
    """Export a run of the quickstart, locate the held-out photos, and return how well that went."""
    figures = measured(["geotune.export", f"checkpoint={run}", f"out={folder}/exported"], folder)
    photos = held_out(folder)
    answers = located(folder, "exported", photos, samples=16)
    radii = [photo["radius_90_km"] for photo in answers.values() if photo.get("radius_90_km") is not None]
    return {
        "export_minutes": figures["minutes"],
        "photos": len(answers),
        "right_cell": round(right_cells(photos, answers), 4),
        "with_radii": round(len(radii) / len(photos), 4),
        "median_radius_90_km": round(statistics.median(radii)),
    }


def held_out(folder: Path) -> dict[str, Coordinates]:
    """Return the coordinates of each photo of `TEST_PHOTOS`, by its path."""
    dataset = folder / "datasets" / TEST_PHOTOS
    if not dataset.is_dir():
        settings = ["builder=synthetic", "places=100", "split=test", "tasks=[geolocate]", f"name={TEST_PHOTOS}"]
        measured(["data_builders.build", *settings, f"out={dataset}"], folder)
    found = {}
    for sample in read_samples(dataset / f"{TEST_PHOTOS}.jsonl"):
        at = parse_coordinates(sample.answer)
        assert isinstance(at, Coordinates)
        found[str((dataset / sample.images[0]).resolve())] = at
    return found


def located(folder: Path, checkpoint: str, photos: dict[str, Coordinates], samples: int) -> dict[str, dict[str, Any]]:
    """Locate photos by the command, as a user does; returns the row of each photo, by its path."""
    out = folder / f"places_{Path(checkpoint).name}.jsonl"
    images = Path(next(iter(photos))).parents[1]
    settings = [f"checkpoint={checkpoint}", f"image={images}", f"out={out}", f"samples={samples}", "temperature=1"]
    measured(["geotune.locate", *settings], folder)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    found = {str((folder / row["image"]).resolve()): row for row in rows}
    assert found.keys() == photos.keys(), "every photo has a row"
    return found


def right_cells(photos: dict[str, Coordinates], answers: dict[str, dict[str, Any]]) -> float:
    """Return the share of the photos whose answer lies in the cell of the truth, among all photos."""
    right = 0
    for path, at in photos.items():
        row = answers[path]
        if row.get("latitude") is not None:
            right += cell(row["latitude"], row["longitude"]) == cell(at.lat, at.lon)
    return right / len(photos)


def cell(lat: float, lon: float) -> tuple[int, int]:
    """Return the cell of a place: the ground tells its band of 20 degrees of latitude, the trim 45 of longitude."""
    return int((lat + 60) // 20), int((lon + 180) // 45)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="new folder to work in and to keep, instead of a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the figures (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).absolute()
        figures: dict[str, Any] = read(args.out) if args.out.is_file() else {}
        figures |= {"machine": machine(), "targets": TARGETS}
        for part in [part for part in PARTS if part in args.only]:
            if part == "train":
                runs = [train(folder / f"seed{seed}", seed) for seed in args.seeds]
                mean = statistics.mean(run["mean_accuracy"] for run in runs)
                figures["train"] = {"mean_accuracy": round(mean, 4), "runs": runs}
            elif part == "cold":
                figures["cold"] = cold(folder / "cold")
            else:
                first = folder / f"seed{args.seeds[0]}"
                if not (first / "run").is_dir():
                    train(first, args.seeds[0])
                figures["locate"] = locate(first, first / "run")
            print(json.dumps({part: figures[part]}, indent=2), flush=True)
            write_json(args.out, figures)


if __name__ == "__main__":
    main()
