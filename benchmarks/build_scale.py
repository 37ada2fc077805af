"""Speed and memory at GeoX-Bench's full size: building, opening and reading records, and making images.

    python -m benchmarks.build_scale

Each step runs in a process of its own. A dataset holds 39 questions per view, as `geox_index` writes them; 19,384 views
give the 755,976 questions of everything that is published. Its records name images that do not exist; making images is
measured separately.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from data_builders.builder import Builder
from data_builders.imagery.panorama import perspective_view
from data_builders.imagery.prepare import prepare_image
from data_builders.questions.sample import question_sample
from data_builders.writer import DatasetWriter
from geotune.imagery.crops import CROPS
from geotune.system.parallel import parallel_map
from geotune.system.strict_json import write_json
from geotune.tasks import CROSS_VIEW_TASKS, get_task

RESULTS = Path(__file__).resolve().parent / "results"
VIEWS = (256, 2048, 19_384)
"""Numbers of ground views, one dataset each."""
HEADINGS = ("N", "E", "S", "W")
READS = 5000
"""Number of records that are read at random."""
IMAGES = 96
"""Number of maps and of panoramas that are processed."""
PANORAMA_PX = (1024, 2048)


@dataclass
class Records(Builder):
    """Builds the questions about many views in the form of geox_index, with images that are named but do not exist."""

    views: int

    def build(self, writer: DatasetWriter) -> None:
        """Write the questions about every view."""
        maps = writer.images_dir / "crops"
        for number in range(self.views):
            place, heading = number // 4, HEADINGS[number % 4]
            writer.count_source(1)
            lat, lon = round(-60 + place * 0.0127 % 120, 6), round(-180 + place * 0.0371 % 360, 6)
            for task in CROSS_VIEW_TASKS:
                facts = get_task(task)
                count = facts.n_images - 1
                for crop in CROPS if facts.cropped else ("full",):
                    folders = [f"{place + step * 7:032x}" for step in range(count)]
                    answer = self._answer(task, number, heading, crop)
                    writer.write(
                        question_sample(
                            f"geox_index/CVGloable/{place}_{number}/{heading}/{task}/{crop}",
                            task,
                            answer,
                            [
                                f"/images/{place}{heading}.jpg",
                                *(str(maps / name / f"{crop}.png") for name in folders),
                            ],
                            source="CVGloable",
                            place=f"CVGloable/{lat:.6f},{lon:.6f}",
                            meta={
                                "index": "Orin4_SameLocation/CVGloable.json",
                                "image_id": f"{place}_{number}",
                                "lat": lat,
                                "lon": lon,
                                "heading_deg": 90.0 * (number % 4),
                                "fov_deg": 90,
                                "capture_time": "2022-12",
                                "crop": crop,
                                "maps": folders,
                                "map_scales": ["zoom18"] * count,
                            },
                        )
                    )

    @staticmethod
    def _answer(task: str, number: int, heading: str, crop: str) -> str:
        """A legal answer to a question of `task`."""
        if task.startswith("pose"):
            return heading
        if task.startswith("localization"):
            return ("true", "false")[number % 2]
        return crop if task == "intra_map" else str(number % 4)


def build(views: int, folder: Path) -> dict[str, float]:
    """Measure the time and memory of writing the records and the report."""
    started = time.perf_counter()
    report = Records(views).make(folder, "records")
    seconds = time.perf_counter() - started
    return {
        "records": report["written"],
        "seconds": seconds,
        "records_per_second": report["written"] / seconds,
        "peak_memory_gb": peak_gb(),
        "file_gb": (folder / "records.jsonl").stat().st_size / 2**30,
    }


def index(views: int, folder: Path) -> dict[str, float]:
    """Measure the time and memory of the strict pass over a file that has no index."""
    from geotune.data.cache import CACHE
    from geotune.data.sample_file import SampleFile

    shutil.rmtree(folder / CACHE)
    started = time.perf_counter()
    SampleFile(folder / "records.jsonl")
    return {"seconds": time.perf_counter() - started, "peak_memory_gb": peak_gb()}


def read(views: int, folder: Path) -> dict[str, float]:
    """Measure the time to open the file as it was built and to read records at random."""
    from geotune.data.sample_file import SampleFile

    started = time.perf_counter()
    file = SampleFile(folder / "records.jsonl")
    file[0]
    opened = time.perf_counter() - started
    times = []
    for number in np.random.default_rng(0).integers(len(file), size=READS).tolist():
        started = time.perf_counter()
        file[number]
        times.append(time.perf_counter() - started)
    return {
        "open_seconds": opened,
        "read_median_ms": 1000 * float(np.median(times)),
        "read_p99_ms": 1000 * float(np.quantile(times, 0.99)),
        "peak_memory_gb": peak_gb(),
    }


def plan(views: int, folder: Path) -> dict[str, float]:
    """Measure the time and memory of arranging an epoch in prefix trees."""
    from geotune.data.paths import Paths
    from geotune.data.tree_plan import TreePlan

    number = np.arange(views * 39)
    view, question = number // 39, number % 39
    root = np.zeros_like(number)
    paths = np.stack([root, 100 + view, 100 + views + view // 4 * 10 + question % 10, 1 + question], axis=1)
    sizes = np.random.default_rng(0).integers(10, 200, int(paths.max()) + 1)
    images = np.arange(len(sizes)) >= 100
    started = time.perf_counter()
    flat = Paths(4 * np.arange(len(number) + 1), paths.ravel().astype(np.int32))
    tree_plan = TreePlan(flat, sizes, images, np.ones(len(number), int), view // 4, 64, 2, 1, 0, 13)
    updates = tree_plan.updates_for(1)
    return {"seconds": time.perf_counter() - started, "updates": updates, "peak_memory_gb": peak_gb()}


def images(views: int, folder: Path) -> dict[str, float]:
    """Measure how many crops of maps and views of panoramas all cores together make per second."""
    folder = folder / "images"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    for number in range(IMAGES):
        rough.rotate(number).resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"map{number}.jpg", quality=90)
    rough.resize(PANORAMA_PX[::-1], Image.Resampling.BICUBIC).save(folder / "panorama.jpg", quality=90)
    rates = {}
    jobs: dict[str, tuple[Callable[[Any], Any], list[Any], int]] = {
        "crops": (_crop, [folder / f"map{number}.jpg" for number in range(IMAGES)], len(CROPS)),
        "views": (_views, [(folder / "panorama.jpg", number) for number in range(IMAGES)], 4),
    }
    for name, (job, items, made) in jobs.items():
        with parallel_map(None, len(items)) as run:
            list(run(job, items[:1]))  # start the processes before the clock
            started = time.perf_counter()
            done = sum(1 for _ in run(job, items))
            rates[f"{name}_per_second"] = made * done / (time.perf_counter() - started)
    return rates


def _crop(path: Path) -> None:
    """Cut a map into its nine crops."""
    prepare_image(path, crops_root=path.parent / "crops", max_pixels=10**8)


def _views(job: tuple[Path, int]) -> None:
    """Write the four views of a panorama, under the number of the job."""
    path, number = job
    with Image.open(path) as image:
        panorama = np.asarray(image.convert("RGB"))
    for heading in range(0, 360, 90):
        view = Image.fromarray(perspective_view(panorama, heading, (512, 512)))
        view.save(path.parent / f"view{number}_{heading}.jpg", quality=90)


def peak_gb() -> float:
    """Return the peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _send_figures(connection: Any, measure: Callable[[int, Path], dict[str, float]], views: int, folder: Path) -> None:
    """Measure in this process and send the figures through `connection`."""
    before = time.process_time()
    figures = measure(views, folder)
    # Other work on the machine lengthens the seconds of the clock, but not those of the CPU.
    connection.send({**figures, "own_cpu_seconds": time.process_time() - before})


def measured_alone(measure: Callable[[int, Path], dict[str, float]], views: int, folder: Path) -> dict[str, float]:
    """Run a measurement in a process of its own, so that its peak memory is its own. Returns its figures."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_figures, args=(sender, measure, views, folder))
    process.start()
    sender.close()
    try:
        figures: dict[str, float] = receiver.recv()
    finally:
        process.join()
    return {name: round(value, 4) for name, value in figures.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.build_scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--views",
        type=int,
        nargs="+",
        default=VIEWS,
        help="ground views of each dataset; 39 questions per view",
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for temporary datasets; default: the system's",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "build_scale.json", help="result file")
    given = sys.argv[1:] if argv is None else list(argv)
    options = parser.parse_args(given)
    variants: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work, prefix="build_scale_") as work:
        for views in options.views:
            folder = Path(work, str(views))
            steps = {step.__name__: measured_alone(step, views, folder) for step in (build, read, index, plan)}
            variants[f"{39 * views} records"] = steps
            print(f"{39 * views:,} records: {json.dumps(steps)}")
        variants["pictures"] = measured_alone(images, 0, Path(work))
        print(f"images: {json.dumps(variants['pictures'])}")
    sizes = [f"{39 * views} records" for views in options.views]
    per_record = [variants[size]["build"]["seconds"] / variants[size]["build"]["records"] for size in sizes]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out,
        {
            "bench": "build_scale",
            "command": shlex.join(["python", "-m", "benchmarks.build_scale", *given]),
            "machine": machine(),
            "versions": {name: version(name) for name in ("numpy", "pillow")} | {"python": platform.python_version()},
            "variants": variants,
            "ratios": {"seconds per record, largest/smallest": round(per_record[-1] / per_record[0], 3)},
        },
    )
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
