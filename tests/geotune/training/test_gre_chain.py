"""The three stages of GRE Suite on a few photos: built, trained, killed in the second stage, resumed and exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import geotune
from data_builders.sources.gre import Gre
from geotune.export import main as export
from geotune.runs.chain import read_chain
from geotune.runs.directory import checkpoint_steps, read_state

ROOT = Path(geotune.__file__).parents[1]
TERM = "stage.reward.terms.hashed._target_=tests.geotune.rl.hashed.Hashed"
"""An untrained model earns nothing by GRE's rewards; with this term all groups are live."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the three parts of GRE30K, built from records as they are published."""
    folder = tmp_path_factory.mktemp("gre")
    noise = np.random.default_rng(0)
    records: dict[str, list[dict[str, object]]] = {"cot": [], "judge": [], "seed": []}
    for number in range(12):
        lat, lon = round(-60 + 10.5 * number, 4), round(-170 + 29.25 * number, 4)
        place = {"image": f"images/{number}.png", "gt_lat": lat, "gt_lon": lon}
        said = f"<think>Photo {number}.</think><answer>Latitude: {lat}, Longitude: {lon}</answer>"
        human = {"from": "human", "value": "<image>\nWhere is this?"}
        verdict = {"from": "gpt", "value": str(number % 2 == 0)}
        records["cot"].append({**place, "conversations": [human, {"from": "gpt", "value": said}]})
        records["judge"].append(
            {
                **place,
                "conversations": [human, verdict],
                "predicted_cot": "A road.",
                "predicted_answer": f"{lat + 20 * (number % 2)}, {lon}",
            }
        )
        records["seed"].append({**place, "instructions": "Where was this photo taken?"})
    for part, listed in records.items():
        for number in range(12):
            image = folder / "GRE30K" / f"gre_{part}" / "imgs" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(image)
        file = folder / "GRE30K" / f"gre_{part}" / f"gre_{part}.json{'l' * (part == 'seed')}"
        lines = "\n".join(json.dumps(record) for record in listed)
        file.write_text(lines if part == "seed" else json.dumps(listed))
        Gre(root=folder / "GRE30K", part=part, workers=1).make(folder / "datasets" / f"gre_{part}", f"gre_{part}")  # type: ignore[arg-type]
    return folder


def start(project: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """Start the chain in the project, on the embedded backbone."""
    given = [
        "recipe=gre",
        "backbone=tiny",
        "backbone.dtype=float32",
        "trainer=cpu",
        "trainer.accumulate=1",
        "trainer.checkpoint_every=1",
        "data.num_workers=0",
        "data.batch_size=3",
        "wandb.mode=disabled",
        "chain.coordinates.evaluator=null",
    ]
    for leg in ("judge", "coordinates"):
        changes = ("stage.rollout.max_new_tokens=40", "stage.lr=1e-3", "stage.rollout.group_size=4", TERM)
        given += [f"chain.{leg}.{change}" for change in changes]
    return subprocess.Popen(
        [sys.executable, "-m", "geotune.train", *given, *overrides],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()


def test_the_three_stages_survive_a_kill_and_export(project: Path, tmp_path: Path) -> None:
    finish(start(project, "run_dir=whole"))
    killed = start(project, "run_dir=killed")
    checkpoints = project / "killed" / "2_judge" / "checkpoints"
    deadline = time.monotonic() + 240
    while not (checkpoints / "step_000002" / "state.json").is_file():
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert read_state(checkpoints / f"step_{checkpoint_steps(project / 'killed' / '2_judge')[-1]:06d}").step < 4
    finish(start(project, "run_dir=killed", "resume=last"))
    for name in ("whole", "killed"):
        legs = [(leg.name, leg.state) for leg in read_chain(project / name)]
        assert legs == [("cold", "finished"), ("judge", "finished"), ("coordinates", "finished")]
    for leg in ("2_judge", "3_coordinates"):
        one, two = (
            [json.loads(line) for line in (project / name / leg / "updates.jsonl").read_text().splitlines()]
            for name in ("whole", "killed")
        )
        assert [line["reward"] for line in one] == [line["reward"] for line in two]
        assert [line["step"] for line in two] == [1, 2, 3, 4]
        assert not any(line["empty_updates"] for line in two)
        assert two[-1]["kl"] > 0
    last = "3_coordinates/checkpoints/last/adapter/adapter_model.safetensors"
    whole, resumed = (load_file(project / name / last) for name in ("whole", "killed"))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    first = load_file(project / "whole" / "1_cold" / last.partition("/")[2])
    assert any(not torch.equal(first[name], value) for name, value in whole.items())
    assert export([f"checkpoint={project / 'killed'}", f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "adapter" / "adapter_config.json").is_file()
