"""The plan of a sweep, mistakes on its command line, and the same search for W&B's agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from geotune import sweep
from geotune.config.composing import compose
from geotune.errors import ConfigError
from geotune.records import write_samples
from geotune.sample import Sample, Turn
from geotune.sweeps.plan import make_plan, split_arguments
from geotune.sweeps.wandb_sweep import wandb_sweep


def dataset_of(folder: Path, tasks: Sequence[str]) -> Path:
    """Write a dataset with one sample of each task."""
    said = (Turn("user", "Which way?"), Turn("assistant", "N"))
    path = folder / "some.jsonl"
    write_samples(path, [Sample(id=task, images=(), turns=said, task=task, answer="N") for task in tasks])
    return path


@pytest.mark.parametrize(
    ("recipe", "name", "parts"),
    [
        (
            "quickstart",
            "lora",
            ["20 trials", "stage.lr: {low: 0.0001, high: 0.01, log: true}", "target: {choices: [all-linear,"],
        ),
        (
            "geox_sft_qwen2_5_vl_7b",
            "tasks",
            ["5 variants", "all: data.tasks=null", "cross_map: data.tasks=[cross_map]"],
        ),
        (
            "quickstart",
            "tower",
            ["3 variants", "frozen: backbone.tower=frozen backbone.projector=frozen", "full: backbone.tower=full"],
        ),
    ],
)
def test_dry_run_of_what_ships(
    recipe: str, name: str, parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    overrides = [f"recipe={recipe}", f"sweep={name}", "dry_run=true", f"sweep_dir={tmp_path / 'out'}"]
    if recipe != "quickstart":
        data = dataset_of(tmp_path, ["pose_fixed", "localization_prior", "intra_map", "cross_map"])
        overrides += [f"data.path={data}", f"evaluator.suites.geox.path={data}", "trainer.accelerator=cpu"]
        assert sweep.main([*overrides, "data.path=none.jsonl"]) == 2
        assert "data.path=none.jsonl: there is no dataset" in capsys.readouterr().err
        typo = "variants.typo.data.tasks=[pose_fixd]"
        assert sweep.main([*overrides, typo]) == 2
        assert "holds no sample of pose_fixd" in capsys.readouterr().err
    assert sweep.main(overrides) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert all(part in said for part in [*parts, "to maximize geox/mean_accuracy", f"recipe={recipe}"])
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".geotune"))


def test_overrides_are_split_by_their_keys() -> None:
    own, training = split_arguments(
        ["recipe=a", "sweep=b", "seed=1", "stage.lr=1", "space.stage.lr.low=2", "~trials", "-h"]
    )
    assert own == ["sweep=b", "seed=1", "space.stage.lr.low=2", "~trials", "-h"]
    assert training == ["recipe=a", "stage.lr=1"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["trails=3"], "trails=3: no such key; did you mean trials?"),
        (["trials=0"], "trials=0"),
        (
            ["stage.lr=1"],
            "stage.lr=1: the sweep searches this key; leave the override out, or give space.stage.lr=null as well",
        ),
        (["run_dir=x"], "run_dir=x: each trial has a folder of its own; give sweep_dir=<folder>"),
        (["resume=last"], "resume=last: a sweep continues by itself"),
        (["trainer.devices=2"], "give devices_per_trial=<number>"),
        (["space.seed.choices=[1,2]", "space.run_dir.choices=[a]"], "run_dir can't be varied"),
        (["space.stage.lr=null", "space.stage.schedule=null"], "nothing is left to vary"),
        (["space.stage.schedule.choices=[cosine,cosin]"], "stage.schedule=cosin"),
        (["space.stage.lr.low=-1.0", "space.stage.lr.log=false"], "stage.lr=-1.0"),
        (["space.stage.rl={}"], "space.stage.rl"),
        (["metric=accuracy"], "metric=accuracy: write <suite>/<figure>"),
        (["metric=geo/mean_accuracy"], "metric=geo/mean_accuracy: there is no suite geo; did you mean geox/mean_acc"),
        (
            ["evaluator.suites.geox._target_=eval.suites.base.DatasetSuite"],
            "metric=null: no suite of the",
        ),
        (["trainer.best=far/median_km"], "trainer.best=far/median_km: there is no suite far; the suites are geox"),
        (["evaluator=null"], "evaluator=null: trials are compared by their evaluations"),
        (["devices=[0,1,2]", "devices_per_trial=2"], "devices=[0,1,2]: name a multiple of devices_per_trial=2"),
        (["devices=[0,0]", "devices_per_trial=2"], "only once"),
        (["variants.a.stage.lr=1.0"], "has both"),
        (["grace=0"], "grace=0"),
    ],
)
def test_mistakes(overrides: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main([*overrides, *more, "dry_run=true"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")


def test_no_sweep_of_that_name(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for asked, message in {"sweep=lara": "did you mean lora?", "sweep=none.yaml": "can't be read as a sweep"}.items():
        assert sweep.main([overrides[0], asked]) == 2
        assert message in capsys.readouterr().err
    assert sweep.main([overrides[0]]) == 2
    assert "there are lora, tasks, tower" in capsys.readouterr().err


def test_a_chain_is_not_swept(overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text("chain: {a: {recipe: quickstart}}\n")
    own, training = split_arguments([*overrides, f"recipe={tmp_path / 'steps.yaml'}"])
    with pytest.raises(ConfigError, match="recipe: a sweep varies one training, not a chain"):
        make_plan(compose("sweep", own), training)


def test_direction_follows_the_metric(overrides: list[str]) -> None:
    def direction(*more: str) -> str:
        own, training = split_arguments([*overrides, *more])
        return make_plan(compose("sweep", own), training).direction

    assert direction() == "maximize"
    assert direction("metric=geox/geolocate/median_km") == "minimize"
    assert direction("metric=geox/geolocate/median_km", "direction=maximize") == "maximize"


@pytest.mark.parametrize("first", ["CrossViewSuite", "DistanceSuite"])
def test_the_metric_is_by_default_the_headline_of_the_first_suite(
    overrides: list[str], write: Callable[..., Path], first: str
) -> None:
    """W&B watches the name that runs log, also with several suites of one kind."""
    targets = {"a": first, "b": "CrossViewSuite", "c": "CrossViewSuite"}
    suites = {name: {"_target_": f"eval.suites.{target}", "path": "none.jsonl"} for name, target in targets.items()}
    recipe = {"data": {"path": "none.jsonl", "batch_size": 2}, "trainer": {"max_steps": 6, "accelerator": "cpu"}}
    overrides[0] = f"recipe={write('several', {**recipe, 'evaluator': {'suites': suites}})}"
    own, training = split_arguments(overrides)
    plan = make_plan(compose("sweep", own), training)
    headline = {"CrossViewSuite": "mean_accuracy", "DistanceSuite": "geoscore"}[first]
    assert plan.metric == f"a/{headline}"
    assert wandb_sweep(plan)["metric"] == {"name": f"eval/a/{headline}", "goal": "maximize"}
    own, training = split_arguments([*overrides, "metric=b/pose_fixed/accuracy"])
    assert wandb_sweep(make_plan(compose("sweep", own), training))["metric"]["name"] == "eval/b/pose_fixed/accuracy"


# --- for W&B's agents ---


def test_wandb_sweep_runs_the_same_trainings(overrides: list[str], tmp_path: Path, capsys: Any) -> None:
    """Checked without the service: the agent's own code makes the command line, and ours reads it."""
    file = tmp_path / "wandb.yaml"
    assert sweep.main([*overrides, f"wandb_yaml={file}", "data.batch_size=4", "trials=7"]) == 0
    assert f"wandb sweep {file}" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    config = load_sweep_config(str(file))
    assert config is not None
    assert (config["method"], config["run_cap"]) == ("bayes", 7)
    assert config["metric"] == {"name": "eval/geox/mean_accuracy", "goal": "maximize"}
    assert config["early_terminate"]["type"] == "hyperband"
    assert config["parameters"]["stage.lr"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}
    drawn = {"args": {"stage.lr": {"value": 0.003}, "stage.schedule": {"value": "linear"}}}
    command: list[str] = []
    for argument in config["command"]:
        macro = argument.removeprefix("${").removesuffix("}")
        arguments = create_sweep_command_args(drawn)
        command += arguments[macro] if macro in arguments else create_sweep_command([argument])
    assert command[1:4] == ["python", "-m", "geotune.train"]
    cfg = compose("train", command[4:])
    assert (cfg.stage.lr, cfg.stage.schedule, cfg.data.batch_size) == (0.003, "linear", 4)
    assert cfg.wandb.mode == "online"


def test_wandb_has_a_form_for_every_dimension(overrides: list[str], write: Callable[..., Path]) -> None:
    space = {
        "stage.warmup": {"low": 1, "high": 9, "step": 4},
        "backbone.lora.r": {"low": 2, "high": 64, "log": True},
        "backbone.lora.alpha": {"low": 8, "high": 64},
        "backbone.lora.dropout": {"low": 0.0, "high": 0.2, "step": 0.05},
        "stage.weight_decay": {"low": 0.0, "high": 0.1},
        "data.tasks": {"choices": [["pose_fixed"], ["pose_fixed", "intra_map"], None]},
    }
    overrides[1] = f"sweep={write('wide', {'space': space, 'sampler': 'random', 'pruner': 'none'})}"
    own, training = split_arguments(overrides)
    config = yaml.safe_load(yaml.safe_dump(wandb_sweep(make_plan(compose("sweep", own), training))))
    assert config["method"] == "random"
    assert "early_terminate" not in config
    parameters = config["parameters"]
    assert parameters["stage.warmup"] == {"values": [1, 5, 9]}
    assert parameters["backbone.lora.r"]["values"][:3] == [2, 3, 4]
    assert parameters["backbone.lora.r"]["values"][-1] == 64
    assert parameters["backbone.lora.alpha"] == {"distribution": "int_uniform", "min": 8, "max": 64}
    assert parameters["backbone.lora.dropout"] == {"values": [0.0, 0.05, 0.1, 0.15, 0.2]}
    assert parameters["stage.weight_decay"] == {"distribution": "uniform", "min": 0.0, "max": 0.1}
    assert parameters["data.tasks"] == {"values": ["[pose_fixed]", "[pose_fixed,intra_map]", "null"]}
