"""Files of the user's own in every group: builders, suites, backbones and recipes that lie outside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.config.composing import compose
from geotune.errors import ConfigError
from tests.geotune.commands import BODY, NO_SUITES


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_own_builder(targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.yaml", f"_target_: {targets}.City\nplaces: 3\n")
    monkeypatch.chdir(tmp_path)
    cfg = compose("build", ["builder=mine.yaml", "out=x", "name_of=Rome"])
    assert (cfg.name, cfg.builder) == ("mine", {"_target_": f"{targets}.City", "places": 3, "name_of": "Rome"})
    assert compose("build", [f"builder={tmp_path}/mine.yaml", "out=x"]).builder.places == 3


def test_own_files_at_keys_of_a_recipe(targets: str, tmp_path: Path) -> None:
    builder = write(tmp_path / "a" / "mine.yaml", f"_target_: {targets}.City\nplaces: 3\n")
    suite = write(tmp_path / "b" / "mine.yaml", f"_target_: {targets}.Suite\npath: x\n")
    second = write(tmp_path / "c" / "mine.yaml", f"_target_: {targets}.Suite\npath: y\n")
    stage = write(tmp_path / "mine.yaml", "_target_: geotune.stages.sft.SFT\nlr: 0.5\n")
    trainer = write(tmp_path / "t.yml", "accelerator: cpu\n")
    cfg = compose(
        "train",
        [
            "recipe=quickstart",
            f"builder@data.build={builder}",
            "~data.build.split",
            "~data.build.crops_per_view",
            "~data.build.decimals",
            f"suite@evaluator.suites.geolocate={suite}",
            "~evaluator.suites.geolocate.build",
            f"+suite@evaluator.suites.new={second}",
            f"stage={stage}",
            f"trainer={trainer}",
        ],
    )
    assert cfg.data.build == {"_target_": f"{targets}.City", "places": 400}, "the recipe sets its places"
    assert cfg.evaluator.suites.geolocate["_target_"] == f"{targets}.Suite"
    assert cfg.evaluator.suites.new == {"_target_": f"{targets}.Suite", "path": "y"}
    assert cfg.trainer.accelerator == "cpu"
    assert cfg.stage.lr == 2e-3, "the recipe's own value follows its stage's"


def test_an_own_backbone(tmp_path: Path) -> None:
    file = write(tmp_path / "b.yaml", "_target_: geotune.backbones.qwen_vl.QwenVL\npath: /models/x\nmax_pixels: 77\n")
    backbone = compose("train", [*NO_SUITES, f"backbone={file}"]).backbone
    assert (backbone.path, backbone.max_pixels) == ("/models/x", 77)


@pytest.mark.parametrize("name", ["base", "base.yaml"])
def test_a_recipe_with_files_beside_it(
    name: str, targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "p" / "base.yaml", f"defaults: [{{override /trainer: cpu}}]\n{BODY}seed: 4\n")
    write(tmp_path / "p" / "build" / "mine.yaml", f"_target_: {targets}.City\n")
    recipe = write(
        tmp_path / "p" / "mine.yaml",
        f"defaults: [{name}, /builder@data.build: build/mine.yaml, _self_]\ndata: {{batch_size: 9}}\n",
    )
    write(tmp_path / "base.yaml", "seed: 5\n")
    monkeypatch.chdir(tmp_path)
    cfg = compose("train", [f"recipe={recipe}"])
    assert (cfg.recipe, cfg.seed, cfg.data.batch_size, cfg.trainer.accelerator) == ("mine", 4, 9, "cpu")
    assert cfg.data.build == {"_target_": f"{targets}.City"}


def test_a_recipe_on_top_of_ours(tmp_path: Path) -> None:
    recipe = write(tmp_path / "mine.yaml", "defaults: [quickstart, _self_]\nseed: 6\n")
    cfg = compose("train", [f"recipe={recipe}"])
    assert (cfg.seed, cfg.stage.lr, cfg.evaluator.batch_size) == (6, 2e-3, 100)


def test_a_file_of_a_group_on_top_of_ours_and_of_one_beside(tmp_path: Path) -> None:
    write(tmp_path / "smaller.yaml", "defaults: [tiny, _self_]\nmax_pixels: 4096\n")
    own = write(tmp_path / "mine.yaml", "defaults: [smaller, _self_]\nattn: eager\n")
    backbone = compose("train", ["recipe=quickstart", f"backbone={own}"]).backbone
    assert (backbone.max_pixels, backbone.attn, backbone._target_) == (
        4096,
        "eager",
        "geotune.backbones.qwen_vl.QwenVL",
    )
    suite = write(tmp_path / "suite.yaml", "defaults: [distance, _self_]\nsamples_per_task: 3\npath: x\n")
    cfg = compose("train", ["recipe=quickstart", f"+suite@evaluator.suites.far={suite}"])
    assert cfg.evaluator.suites.far == {"_target_": "eval.suites.DistanceSuite", "samples_per_task": 3, "path": "x"}


def test_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "mine.yaml", f"{BODY}seed: 1\n")
    second = write(tmp_path / "b" / "mine.yaml", f"{BODY}seed: 2\n")
    assert [compose("train", [f"recipe={path}"]).seed for path in (first, second, first)] == [1, 2, 1]
    write(second, f"{BODY}seed: 3\n")
    assert compose("train", [f"recipe={second}"]).seed == 3


@pytest.mark.parametrize(
    ("group", "text", "told"),
    [
        ("builder", None, "can't be read as a builder"),
        ("builder", "- a\n", "holds a list"),
        ("builder", "places: 3\n", "names no builder"),
        ("builder", "defaults: [mine]\n", "among its own defaults"),
        ("builder", "_target_: nowhere.City\n", "there is no nowhere"),
    ],
)
def test_a_mistake_in_an_own_file(group: str, text: str | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        compose("build", [f"{group}={path}", "out=x"])


@pytest.mark.parametrize("name", ["a b (copy)", "a,b=c", "x[1]{2}", "q'u#o~", "ünï 写真", "$x"])
def test_an_own_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    recipe = write(tmp_path / f"{name}.yaml", f"{BODY}seed: 7\n")
    cfg = compose("train", [f"recipe={recipe}"])
    assert (cfg.recipe, cfg.seed) == (name, 7)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "mine.yaml", f"{BODY}seed: 8\n")
    assert compose("train", ["recipe=~/mine.yaml"]).seed == 8


@pytest.mark.parametrize(
    ("overrides", "text", "told"),
    [
        (["~recipe"], BODY, "choose a recipe"),
        ([], "defaults: quickstart\n", "mine"),
        ([], f"{BODY}wandb: {{name: 2024-02-30, group: 3}}\n", "wandb.group=3: expected text"),
        ([], f"{BODY}stage: {{_target_: [a, b]}}\n", r"stage._target_=[a,b]: expected the dotted name"),
        (["evaluator=in_loop", "evaluator.suites.x=null"], BODY, "evaluator.suites.x: this is no suite"),
    ],
)
def test_mistakes_that_are_no_crash(overrides: list[str], text: str, told: str, tmp_path: Path) -> None:
    recipe = write(tmp_path / "mine.yaml", text)
    with pytest.raises(ConfigError) as caught:
        compose("train", [f"recipe={recipe}", *overrides])
    assert told in str(caught.value)


def test_a_stage_without_a_target_is_the_usual_one(tmp_path: Path) -> None:
    stage = write(tmp_path / "stage.yaml", "lr: 0.5\n")
    for more in ([f"stage={stage}"], ["~stage"], ["~stage._target_"]):
        cfg = compose("train", ["recipe=quickstart", *more])
        assert cfg.stage._target_ == "geotune.stages.sft.SFT"
