"""Chains of runs: each leg begins where the one before ended, and a chain that was stopped goes on as if it had not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import geotune
from geotune.config.composing import compose
from geotune.errors import ConfigError
from geotune.export import main as export
from geotune.inference.loading import find_source
from geotune.runs.chain import read_chain, run_in
from geotune.runs.directory import checkpoint_steps, find_step
from geotune.sample import Sample
from geotune.train import main, train

City = tuple[Path, list[Sample]]
STAGE = """
import os
import time
from geotune.stages.sft import SFT

class Stopping(SFT):
    \"\"\"SFT that sends a signal to its process or to the parent at its third update, as a file says, once.\"\"\"

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        run = self.progress.run_dir
        asked = run.parent / "stop_in" / run.name
        if self.progress.step == 2 and asked.is_file() and os.environ.get("RANK", "0") == "0":
            whom, number = asked.read_text().split()
            asked.unlink()
            parent = os.getppid()
            os.kill(os.getpid() if whom == "leg" else parent, int(number))
            while (whom, number) == ("driver", "9") and os.getppid() == parent:
                time.sleep(0.01)  # the kernel tells this process when its parent is gone, not when it is killed
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, qwen_path: Path, city: City) -> Path:
    """A working directory with a recipe of one short run, chains of it, and a stage that stops."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "stopping.py").write_text(STAGE)
    leg = {
        "backbone": {"path": str(qwen_path), "max_pixels": 96 * 96, "dtype": "float32"},
        "stage": {"_target_": "stopping.Stopping", "lr": 1e-2},
        "data": {"path": str(city[0] / "city.jsonl"), "batch_size": 2},
        "trainer": {"max_steps": 4, "accumulate": 2, "accelerator": "cpu", "devices": 1, "checkpoint_every": 2},
        "wandb": {"mode": "disabled"},
    }
    (folder / "leg.yaml").write_text(yaml.safe_dump(leg))
    legs = {
        "one": {"recipe": "leg.yaml", "trainer.max_steps": 2},
        "two": {"recipe": "leg.yaml", "stage.lr": 3e-2},
        "three": {"recipe": "leg.yaml"},
    }
    (folder / "steps.yaml").write_text(f"# Three legs.\n{yaml.safe_dump({'chain': legs}, sort_keys=False)}")
    return folder


def child_variables(project: Path) -> dict[str, str]:
    """Variables with which child processes find the modules of the project and compute as this process does."""
    return {"PYTHONPATH": f"{Path(geotune.__file__).parents[1]}{os.pathsep}{project}", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as working directory and among the folders of modules."""
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    for name in ("GEOTUNE_RUN_DIR", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in child_variables(project).items():
        monkeypatch.setenv(name, value)
    return project


def driver(here: Path, *overrides: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "geotune.train", "recipe=steps.yaml", *overrides]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=400)


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step_{step:06d}" / "adapter" / "adapter_model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(project: Path) -> Path:
    """Folder of a chain that nothing stopped."""
    environment = {**os.environ, **child_variables(project)}
    environment.pop("GEOTUNE_RUN_DIR", None)
    command = [sys.executable, "-m", "geotune.train", "recipe=steps.yaml", "run_dir=whole", "seed=1"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "leg 2 of 3, two: " in done.stderr
    return project / "whole"


def test_the_folder_of_a_chain(whole: Path) -> None:
    legs = read_chain(whole)
    assert [(leg.name, leg.folder, leg.state, leg.exit_status) for leg in legs] == [
        (name, f"{number}_{name}", "finished", 0) for number, name in enumerate(("one", "two", "three"), 1)
    ]
    assert [leg.start for leg in legs] == [
        None,
        str(whole / "1_one" / "checkpoints" / "last"),
        str(whole / "2_two" / "checkpoints" / "last"),
    ]
    assert all(leg.started_at and leg.ended_at and leg.started_at <= leg.ended_at for leg in legs)
    for leg, steps in zip(legs, ([2], [2, 4], [2, 4]), strict=True):
        assert checkpoint_steps(whole / leg.folder) == steps
        assert (whole / leg.folder / "metrics.json").is_file()
    configs = [yaml.safe_load((whole / leg.folder / "config.yaml").read_text()) for leg in legs]
    assert [config["start"] for config in configs] == [
        None,
        str(whole / "1_one" / "checkpoints" / "step_000002"),
        str(whole / "2_two" / "checkpoints" / "step_000004"),
    ]
    assert [config["seed"] for config in configs] == [1, 1, 1], "a plain key goes to every leg"
    assert [config["stage"]["lr"] for config in configs] == [0.01, 0.03, 0.01]


def test_a_leg_is_the_run_that_starts_from_the_leg_before(whole: Path, here: Path, tmp_path: Path) -> None:
    start = whole / "1_one" / "checkpoints" / "last"
    train(compose("train", ["recipe=leg.yaml", "stage.lr=3e-2", "seed=1", f"start={start}", f"run_dir={tmp_path}"]))
    own, leg = weights(tmp_path, 4), weights(whole / "2_two", 4)
    print(max((own[name] - leg[name]).abs().max() for name in leg))
    assert all(torch.allclose(own[name], leg[name], atol=1e-6) for name in leg)
    fresh = tmp_path / "fresh"
    train(compose("train", ["recipe=leg.yaml", "stage.lr=3e-2", "seed=1", f"run_dir={fresh}"]))
    other = weights(fresh, 4)
    assert not any(torch.allclose(other[name], leg[name], atol=1e-3) for name in leg)


def test_a_chain_means_its_last_finished_leg(whole: Path, here: Path, tmp_path: Path) -> None:
    last = whole / "3_three" / "checkpoints" / "step_000004"
    assert find_step(str(whole)) == find_source(str(whole)).folder == last
    assert export([f"checkpoint={whole}", f"out={tmp_path / 'out'}", "dtype=float32"]) == 0
    cfg = compose("train", ["recipe=leg.yaml", f"start={whole}", f"run_dir={tmp_path / 'on'}", "trainer.max_steps=1"])
    train(cfg)
    assert cfg.start == str(last)
    content = json.loads((whole / "chain.json").read_text())
    begun = tmp_path / "begun"
    shutil.copytree(whole, begun, symlinks=True)
    for unfinished, wanted in ((1, "2_two"), (2, "1_one"), (3, None)):
        content["legs"][3 - unfinished]["state"] = "failed"
        (begun / "chain.json").write_text(json.dumps(content))
        assert run_in(begun) == (None if wanted is None else begun / wanted)
    with pytest.raises(ConfigError, match="no leg of this chain is finished; name the folder of a leg"):
        find_source(str(begun))
    (begun / "chain.json").write_text("{}")
    with pytest.raises(ConfigError, match="this is not the state of a chain"):
        find_source(str(begun))


@pytest.mark.parametrize(
    ("recipe", "overrides", "told"),
    [
        ("steps", ["resume=last"], "every leg is finished, nothing is left to train; start a new chain"),
        ("steps", [], "this folder holds a chain already; give resume=last, or another folder"),
        ("steps", ["resume=last", "~chain.two"], "its legs were one, two, three, now they are one, three"),
        (
            "steps",
            ["resume=last", "chain.two.stage.lr=2e-2"],
            "leg two now has stage.lr=2e-2; give these legs as they were",
        ),
        ("leg", ["resume=last"], "this is the folder of a chain; choose the chain's recipe"),
        ("steps", ["chain.two.backbone.lora.r=2", "dry_run=true"], "it was trained with backbone.lora.r=8 (here 2)"),
    ],
)
def test_mistakes(
    recipe: str, overrides: list[str], told: str, whole: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "chain.json").read_text()
    assert main([f"recipe={recipe}.yaml", f"run_dir={whole}", *overrides]) == 2
    assert told in capsys.readouterr().err
    assert (whole / "chain.json").read_text() == before
    assert main(["recipe=steps.yaml", "run_dir=none", "resume=last"]) == 2
    assert "holds no chain.json; start without resume" in capsys.readouterr().err
    assert not Path("none").exists()


def begun(whole: Path, run: Path, finished: int) -> None:
    """Make the folder of a chain whose first legs are finished."""
    shutil.copytree(whole, run, symlinks=True)
    content = json.loads((run / "chain.json").read_text())
    for leg in content["legs"][finished:]:
        shutil.rmtree(run / leg["folder"])
        leg.update(state="waiting", exit_status=None, started_at=None, ended_at=None)
    (run / "chain.json").write_text(json.dumps(content))
    (run / "stop_in").mkdir()


@pytest.mark.parametrize(
    ("leg", "whom", "number", "status"),
    [
        ("two", "leg", signal.SIGKILL, 137),
        ("three", "driver", signal.SIGKILL, -signal.SIGKILL),
        ("three", "driver", signal.SIGINT, 130),
        ("three", "driver", signal.SIGTERM, 143),
    ],
)
def test_a_chain_that_was_stopped_ends_like_one_that_was_not(
    leg: str, whom: str, number: int, status: int, whole: Path, here: Path
) -> None:
    run, at = here / f"{whom}_{int(number)}", ["one", "two", "three"].index(leg)
    begun(whole, run, at)
    (run / "stop_in" / f"{at + 1}_{leg}").write_text(f"{whom} {int(number)}")
    stopped = driver(here, f"run_dir={run.name}", "seed=1", "resume=last")
    assert stopped.returncode == status, stopped.stderr
    state, how = {
        137: ("failed", "exit status 137"),
        130: ("waiting", "interrupted"),
        143: ("waiting", "interrupted"),
    }.get(status, ("running", None))
    assert [leg.state for leg in read_chain(run)] == [*["finished"] * at, state, *["waiting"] * (2 - at)]
    if how is not None:
        assert f"the chain stopped in leg {at + 1} of 3, {leg} ({how}); go on with resume=last run_dir={run}" in (
            stopped.stderr
        )
    if how == "interrupted":
        assert checkpoint_steps(run / "3_three") == [2, 3], "the leg finished its update"
        assert stopped.stderr.endswith("interrupted\n" if number == signal.SIGINT else "interrupted by SIGTERM\n")
    done = driver(here, f"run_dir={run.name}", "seed=1", "resume=last")
    assert done.returncode == 0, done.stderr
    assert f"leg {at} of 3" not in done.stderr
    assert "resumed from" in done.stderr
    for folder, step in (("1_one", 2), ("2_two", 4), ("3_three", 4)):
        assert equal(weights(run / folder, step), weights(whole / folder, step)), folder


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(here: Path) -> None:
    run = here / "requeued"
    (here / "stop_in").mkdir()
    (here / "stop_in" / run.name).write_text("leg 9")
    arguments = ["recipe=leg.yaml", f"run_dir={run}", "trainer.checkpoint_every=100"]
    command = [sys.executable, "-m", "geotune.train", *arguments]
    killed = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=400)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (run / ".claim").is_file()
    (run / "slurm-7.out").write_text("of the launcher")
    assert main(arguments) == 0
    first, again = (len((path / "updates.jsonl").read_text().splitlines()) for path in (run / "aside" / "1", run))
    assert (first, again) == (2, 4)
    assert checkpoint_steps(run) == [4]
    assert (run / "slurm-7.out").is_file()
    assert not (run / ".claim").exists()
    before = weights(run, 4)
    assert main(arguments) == 2
    assert equal(weights(run, 4), before)


def test_a_leg_that_fails_stops_the_chain(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["recipe=steps.yaml", "run_dir=failing", "chain.one.data.path=/nowhere/at/all"])
    assert stop.value.code == 2
    told = capfd.readouterr().err
    assert "error: data.path=/nowhere/at/all" in told
    assert [leg.state for leg in read_chain(Path("failing"))] == ["failed", "waiting", "waiting"]
    assert not Path("failing", "2_two").exists()


def test_a_dry_run_shows_every_leg(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe=steps.yaml", "chain.three=null", "run_dir=dry", "dry_run=true"]) == 0
    shown = capfd.readouterr().out
    assert "# Leg 1 of 2: one\n" in shown
    assert "# Leg 2 of 2: two, which starts from the last checkpoint of leg 1\n" in shown
    assert shown.count("# What trains") == 2
    assert shown.index("max_steps: 2") < shown.index("# Leg 2") < shown.index("lr: 0.03")
    assert not Path("dry").exists()


def test_two_processes_train_a_chain(here: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    both = ["trainer.strategy=ddp", "trainer.devices=2", "data.batch_size=1", "seed=1"]
    done = driver(here, "run_dir=both", "~chain.three", *both, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert [leg.state for leg in read_chain(here / "both")] == ["finished", "finished"]
    for folder, steps in (("1_one", 2), ("2_two", 4)):
        assert checkpoint_steps(here / "both" / folder)[-1] == steps
        assert sorted(path.name for path in (here / "both" / folder / "checkpoints" / "last").glob("rng_*")) == [
            "rng_0.pt",
            "rng_1.pt",
        ]
    assert done.stderr.count("leg 2 of 2, two: ") == 1


def test_lightning_starts_the_processes_of_a_leg(here: Path) -> None:
    both = ["trainer.strategy=ddp", "trainer.devices=2", "data.batch_size=1"]
    done = driver(here, "run_dir=launched", "~chain.three", "chain.two.trainer.max_steps=1", *both)
    assert done.returncode == 0, done.stderr
    assert [leg.state for leg in read_chain(here / "launched")] == ["finished", "finished"]
