"""Composing: the config is complete and closed, and mistakes in recipe files are named with their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from geotune.cli.entry import run_command
from geotune.config.composing import compose
from geotune.config.instantiation import instantiate_checked
from geotune.config.recipe_files import RECIPES
from geotune.errors import ConfigError
from geotune.system.files import ASSETS
from tests.geotune.commands import BODY, recipe_file, status_and_message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (BODY + "sed: 3\n", ["sed=3", "did you mean seed?"]),
        (BODY + "stage: {lrr: 1}\n", ["stage.lrr=1", "did you mean stage.lr?"]),
        (BODY + "backbone: {lora: {rr: 1}}\n", ["backbone.lora.rr=1", "did you mean backbone.lora.r?"]),
        (BODY + "stage: {lr: fast}\n", ["stage.lr=fast", "a number"]),
        (BODY + "stage: {lr: '1'}\n", ["stage.lr=1", "a number"]),
        (BODY + "stage:\n  lr: ${nowhere}\n", ["nowhere"]),
        (BODY + "stage:\n  lr: ${nowhere\n", ["mine"]),
        (BODY + "seed: [\n", ["mine.yaml"]),
        ("trainer: {max_steps: 1}\ndata: {batch_size: 1}\n", ["data.path=???"]),
        ("data: {path: x, batch_size: 1}\n", ["trainer.max_steps", "trainer.epochs"]),
        ("defaults: [{override /backbone: nope}]\n" + BODY, ["backbone/nope"]),
        (BODY + "evaluator: {suites: {}}\n", ["evaluator.suites", "add a suite"]),
        (BODY + "evaluator: {suites: {geox: {path: x}}}\n", ["evaluator.suites.geox", "suite@"]),
        (BODY + "data.path: x\n", ["data.path"]),
    ],
)
def test_a_mistake_inside_a_recipe_file_is_told(
    body: str, told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, message = status_and_message([recipe_file(tmp_path, body)], capsys)
    assert status == 2
    for words in told:
        assert words in message


def test_the_message_names_the_file_of_a_mistake(own_recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_recipes / "recipe" / "typo.yaml").write_text(f"# @package _global_\n{BODY}stage:\n  warmpu: 1\n")
    status, message = status_and_message(["recipe=typo"], capsys)
    assert status == 2
    assert "stage.warmpu=1: no such key; did you mean stage.warmup? (in recipes/recipe/typo.yaml)" in message


def test_a_recipe_file_without_its_first_line(own_recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_recipes / "recipe" / "mine.yaml").write_text(BODY)
    status, message = status_and_message(["recipe=mine"], capsys)
    assert status == 2
    assert "recipe=mine: this file must begin with the line '# @package _global_'" in message


@pytest.mark.parametrize(("content", "words"), [("- a\n- b\n", "holds a list"), (None, "one of ")])
def test_a_recipe_file_that_is_none(
    content: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    assert run_command("train", lambda cfg: None, [f"recipe={file}"]) == 2
    assert words in capsys.readouterr().err


def test_a_recipe_file_that_is_no_text(own_recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (own_recipes / "recipe" / "mine.yaml", own_recipes / "elsewhere.yaml"):
        path.write_bytes(b"\xff\xfe\x00\x01")
    assert status_and_message(["recipe=mine"], capsys)[0] == 2
    assert status_and_message([f"recipe={own_recipes / 'elsewhere.yaml'}"], capsys)[0] == 2


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "samples_per_tsk=3",
            ["suites.geox.samples_per_tsk=3", "did you mean evaluator.suites.geox.samples_per_task?"],
        ),
        ("samples_per_task=x", ["suites.geox.samples_per_task=x", "a whole number or null"]),
        ("mode=fst", ["suites.geox.mode=fst", "did you mean fast?"]),
        ("inner.dpth=2", ["suites.geox.inner.dpth=2", "did you mean evaluator.suites.geox.inner.depth?"]),
        ("build.plces=2", ["suites.geox.build.plces=2", "did you mean evaluator.suites.geox.build.places?"]),
        ("build.places=many", ["suites.geox.build.places=many", "a whole number"]),
        ("_target_=nowhere.Suite", ["suites.geox._target_=nowhere.Suite", "there is no nowhere"]),
        ("_target_=pathlib.Pth", ["suites.geox._target_=pathlib.Pth", "did you mean Path?"]),
        ("_target_=Suite", ["suites.geox._target_=Suite", "package.module.Class"]),
    ],
)
def test_a_mistake_below_a_target_is_told_before_anything_runs(
    setting: str, told: list[str], targets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = f"{{_target_: {targets}.Suite, path: x, build: {{_target_: {targets}.City}}}}"
    recipe = recipe_file(tmp_path, f"{BODY}evaluator: {{suites: {{geox: {suite}}}}}\n")
    status, message = status_and_message([recipe, f"evaluator.suites.geox.{setting}"], capsys)
    assert status == 2
    for words in told:
        assert words in message


def test_the_config_is_complete_resolved_and_closed(tmp_path: Path) -> None:
    cfg = compose("train", [recipe_file(tmp_path, BODY + "wandb: {name: '${recipe}-${seed}'}\n"), "seed=4"])
    assert cfg.recipe == "mine"
    assert cfg.wandb.name == "mine-4"
    assert cfg.stage.eps == 1e-8
    assert cfg.backbone.path == str(ASSETS / "tiny")
    assert "${" not in OmegaConf.to_yaml(cfg)
    with pytest.raises(ConfigAttributeError):
        _ = cfg.stage.lrr


IN_LOOP = OmegaConf.load(RECIPES / "evaluator" / "in_loop.yaml")._target_
SUITE = "evaluator: {suites: {geox: {_target_: eval.suites.CrossViewSuite, path: x}}}\n"


def test_an_evaluator_without_a_target_is_the_in_loop_one(tmp_path: Path) -> None:
    evaluator = compose("train", [recipe_file(tmp_path, BODY + SUITE)]).evaluator
    assert evaluator._target_ == IN_LOOP
    assert list(evaluator.suites) == ["geox"]


@pytest.mark.parametrize("off", ["evaluator=null", "~evaluator"])
def test_the_evaluator_can_be_switched_off(off: str, tmp_path: Path) -> None:
    assert compose("train", [recipe_file(tmp_path, BODY + SUITE), off]).evaluator is None
    assert compose("train", ["recipe=quickstart", off]).evaluator is None


def test_the_in_loop_evaluator_can_be_chosen(tmp_path: Path) -> None:
    suite = "+suite@evaluator.suites.geox=cross_view"
    recipe = recipe_file(tmp_path, BODY)
    assert compose("train", [recipe]).evaluator is None
    chosen = compose("train", [recipe, "evaluator=in_loop", suite, "evaluator.suites.geox.path=x"]).evaluator
    assert chosen._target_ == IN_LOOP
    assert chosen.at_start
    assert compose("train", ["recipe=quickstart", "evaluator=in_loop"]) == compose("train", ["recipe=quickstart"])


def test_a_stage_of_ones_own_brings_its_own_keys(targets: str, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, BODY + f"stage: {{_target_: {targets}.OwnStage, size: 2}}\n")
    cfg = compose("train", [recipe, "stage.size=3", "stage.lr=1e-3"])
    assert (cfg.stage.size, cfg.stage.lr, cfg.stage._target_) == (3, 1e-3, f"{targets}.OwnStage")
    with pytest.raises(ConfigError, match=r"stage\.size=0: must be at least 1"):
        compose("train", [recipe, "stage.size=0"])
    with pytest.raises(ConfigError, match=r"stage\.sise=1: no such key; did you mean stage\.size\?"):
        compose("train", [recipe, "stage.sise=1"])
    foreign = recipe_file(tmp_path, BODY + f"stage: {{_target_: {targets}.Suite, path: x}}\n")
    with pytest.raises(ConfigError, match=r"stage\._target_=.*Suite: the options of this class are no StageConfig"):
        compose("train", [foreign])


def test_all_mistakes_of_all_parts_are_told_at_once() -> None:
    overrides = ["backbone.lora.r=0", "data.batch_size=x", "data.build.places=0", "trainer.log_every=0", "seed=-1"]
    suites = ["evaluator.suites.geox.samples_per_task=0", "evaluator.suites.geolocate.build.seed=-1"]
    with pytest.raises(ConfigError) as caught:
        compose("train", ["recipe=quickstart", *overrides, *suites])
    told = {problem.key for problem in caught.value.problems}
    assert told == {override.partition("=")[0] for override in [*overrides, *suites]} - {"seed"}
    with pytest.raises(ConfigError, match=r"seed=-1: must be at least 0\n"):  # what spans parts needs whole parts
        compose("train", ["recipe=quickstart", "seed=-1", "backbone.language_model=frozen"])


def test_options_of_every_type_survive_a_saved_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rich_options.py").write_text(
        "from dataclasses import dataclass, field\nfrom enum import Enum\nfrom pathlib import Path\n"
        "from geotune.config.parts import StageConfig\n\n\nclass Mode(Enum):\n    A = 'a'\n    B = 'b'\n\n\n"
        "@dataclass\nclass RichConfig(StageConfig):\n    table: Path | None = None\n    mode: Mode = Mode.A\n"
        "    names: set[str] = field(default_factory=set)\n    derived: int = field(init=False, default=3)\n\n\n"
        "class Rich:\n    Config = RichConfig\n\n    def __init__(self, config):\n        self.config = config\n"
    )
    recipe = recipe_file(tmp_path, BODY + "stage: {_target_: rich_options.Rich, names: [x, y]}\n")
    cfg = compose("train", [recipe, "stage.table=a/b.csv", "stage.mode=b"])
    saved = yaml.safe_load(OmegaConf.to_yaml(cfg, resolve=True))
    assert saved["stage"]["table"] == "a/b.csv"
    for node in (cfg.stage, saved["stage"]):
        options = instantiate_checked(node, "stage").config
        assert (options.table, options.mode.value, options.names) == (Path("a/b.csv"), "b", {"x", "y"})
        assert options.derived == 3
