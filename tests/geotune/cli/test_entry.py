from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

from geotune.cli.commands import COMMANDS
from geotune.cli.entry import run_command
from geotune.cli.help import what_is
from geotune.config import recipe_files
from geotune.config.composing import compose
from geotune.config.instantiation import instantiate_checked
from geotune.config.overrides import apply_value
from geotune.config.recipe_files import RECIPES, choices_of
from geotune.config.training import TrainConfig
from geotune.errors import ConfigError
from geotune.runs.directory import RUN_DIR_VARIABLE
from geotune.system.files import ASSETS

RECIPE = "recipe=geox_sft_qwen2_5_vl_7b"
NO_SUITES = [RECIPE, "evaluator=null"]

TARGETS = """
from __future__ import annotations
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from geotune.errors import ConfigError


@dataclass
class Inner:
    depth: int = 1


@dataclass
class Suite:
    path: str
    build: dict[str, Any] | None = None
    samples_per_task: int | None = None
    tasks: tuple[str, ...] | None = None
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.samples_per_task == 0:
            raise ConfigError("samples_per_task=0: must be at least 1")


@dataclass
class City:
    places: int = 10
    folder: Path = Path(".")
    name_of: str = ""
    \"\"\"What the city is called.\"\"\"


class Plain:
    def __init__(self, backbone, size: int, label: str = "x") -> None:
        self.backbone, self.size, self.label = backbone, size, label


CONSTANT = 3
"""


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with a suite, a builder and a plain class."""
    name = f"targets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, where `runs/` may appear, as a process of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", RUN_DIR_VARIABLE):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken away afterwards
        monkeypatch.delenv(name)
    return tmp_path


def recipe_file(folder: Path, text: str) -> str:
    """`recipe=<file>` for a recipe with this body and no suite."""
    path = folder / "mine.yaml"
    path.write_text(f"# @package _global_\n# A recipe.\n{text}")
    return f"recipe={path}"


def status_and_message(argv: list[str], capsys: pytest.CaptureFixture[str], command: str = "train") -> tuple[int, str]:
    def function(cfg: DictConfig) -> None:
        raise AssertionError("a mistake came through")

    status = run_command(command, function, argv)
    out, err = capsys.readouterr()
    assert out == ""
    return status, err


# --- mistakes ---


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stage.lrr=1", ["stage.lrr=1", "did you mean stage.lr?"]),
        ("stge.lr=1", ["stge.lr=1", "did you mean stage.lr?"]),
        ("max_stps=1", ["max_stps=1", "did you mean trainer.max_steps?"]),
        ("+stage.lrr=1", ["stage.lrr=1", "did you mean stage.lr?"]),
        ("++lr=1", ["lr=1", "did you mean stage.lr?"]),
        ("backbone.lora.rank=1", ["backbone.lora.rank=1", "r, alpha, dropout"]),
        ("backbone.lora.r.x=1", ["backbone.lora.r={'x': 1}", "whole number"]),
        ("hydra.run.dir=x", ["hydra.run.dir=x", "no such key"]),
        ("stage.lr=fast", ["stage.lr=fast", "a number"]),
        ("stage.lr=", ["stage.lr=:", "a number"]),
        ("stage.lr=nan", ["stage.lr=nan"]),
        ("stage.betas=[0.9]", ["stage.betas=[0.9]", "2 values"]),
        ("stage.betas=0.9", ["stage.betas=0.9", "a list"]),
        ("stage.betas=[0.9,x]", ["stage.betas[1]=x", "a number"]),
        ("data.batch_size=2.5", ["data.batch_size=2.5", "a whole number"]),
        ("data.batch_size=true", ["data.batch_size=true", "a whole number"]),
        ("data.batch_size=null", ["data.batch_size=null", "a whole number"]),
        ("data.batch_size=-1", ["data.batch_size=-1", "at least 1"]),
        ("data.tasks=pose_fixed", ["data.tasks=pose_fixed", "a list"]),
        ("dry_run=yes", ["dry_run=yes", "true or false"]),
        ("backbone.dtype=bf61", ["backbone.dtype=bf61", "bf16, float32", "did you mean bf16?"]),
        ("backbone.lora=8", ["backbone.lora=8"]),
        ("data.path=???", ["data.path=???", "give data.path=<value>"]),
        ("~data.path", ["data.path=???", "give data.path=<value>"]),
        ("backbone=qwen2_5_vl_8b", ["backbone=qwen2_5_vl_8b", "did you mean qwen2_5_vl_7b", "tiny_internvl"]),
        ("recipe=quikstart", ["recipe=quikstart", "did you mean quickstart", "tiny_pretrain"]),
        ("recipe=", ["recipe=:", "quickstart"]),
        ("recipe=/nowhere/mine.yaml", ["recipe=/nowhere/mine.yaml", "No such file"]),
        ("nosuchgroup@data=x", ["nosuchgroup", "backbone"]),
        ("builder@data.build=synthetic", ["builder@data.build", "+builder@data.build=synthetic"]),
        ("quickstart", ["quickstart", "recipe=quickstart"]),
        ("--stage.lr=1", ["--stage.lr=1", "stage.lr=1"]),
        ("--dry-run", ["--dry-run", "key=value"]),
        ("stage.lr", ["stage.lr", "key=value"]),
        ("=5", ["=5", "key=value"]),
        ("~stage.lr=5", ["~stage.lr=5", "key=value"]),
    ],
)
def test_a_mistake_on_the_command_line_is_told_with_key_value_and_remedy(
    override: str, told: list[str], capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    status, message = status_and_message([*NO_SUITES, override], capsys)
    assert status == 2
    assert message.startswith("error: ")
    assert "Traceback" not in message
    for words in told:
        assert words in message
    assert not list(in_tmp.iterdir()), "a mistake leaves nothing behind"


def test_all_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, message = status_and_message([*NO_SUITES, "stage.lrr=1", "data.batch_size=x", "sed=3"], capsys)
    assert all(word in message for word in ("stage.lr?", "data.batch_size=x", "did you mean seed?"))


@pytest.mark.parametrize("argv", [[], ["stage.lr=1"]])
def test_a_recipe_must_be_chosen(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, message = status_and_message(argv, capsys)
    assert status == 2
    assert "quickstart" in message
    assert "tiny_pretrain" in message


BODY = "data: {path: x, batch_size: 1}\ntrainer: {max_steps: 1}\n"


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


@pytest.fixture
def own_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recipes that a test may spoil."""
    copy = tmp_path / "recipes"
    shutil.copytree(RECIPES, copy)
    monkeypatch.setattr(recipe_files, "RECIPES", copy)
    return copy


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


@pytest.mark.parametrize("place", ["a file/run", "a file"])
def test_a_run_dir_that_cannot_be_written(place: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "a file").write_text("in the way")
    status, message = status_and_message([*NO_SUITES, f"run_dir={place}"], capsys)
    assert status == 2
    assert f"run_dir={place}" in message


def test_status_of_every_way_to_end(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ends(error: BaseException | None) -> int:
        def function(cfg: DictConfig) -> None:
            if error is not None:
                raise error

        return run_command("train", function, NO_SUITES)

    assert ends(None) == 0
    assert ends(ConfigError("data.path=x: mend it")) == 2
    assert ends(KeyboardInterrupt()) == 1
    assert capsys.readouterr().err == "error: data.path=x: mend it\ninterrupted\n"
    with pytest.raises(ValueError, match="ours"):
        ends(ValueError("ours"))
    with pytest.raises(SystemExit):
        ends(SystemExit(1))


def test_a_shutdown_after_ctrl_c_counts_as_ctrl_c(in_tmp: Path) -> None:
    def function(cfg: DictConfig) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    assert run_command("train", function, NO_SUITES) == 1


def test_an_error_from_a_data_worker_is_told_without_its_traceback(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = (
        "Caught ConfigError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
    )

    def function(cfg: DictConfig) -> None:
        raise ConfigError(wrapped + "geotune.errors.ConfigError: images=a.png: broken\n")

    assert run_command("train", function, NO_SUITES) == 2
    assert capsys.readouterr().err == "error: images=a.png: broken\n"


# --- values ---

PATHS = [
    "/photos, (2024)/a=b",
    "a, b",
    "-leading",
    "(x)",
    "[x] y/z",
    "[x]",
    "{a: 1}",
    "$HOME/${nowhere}/\\${x}",
    "ünï 写真",
    "null and void",
    "true",
    "2024",
    "1e3",
    "007",
    "a'b",
    'say "x"',
    "back\\slash\\",
    "?x*",
    "a#b: c",
    " padded ",
    "",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_is_typed(path: str) -> None:
    cfg = compose("train", [*NO_SUITES, f"data.path={path}", f"run_dir={path}", f"wandb.name={path}"])
    assert (cfg.data.path, cfg.run_dir, cfg.wandb.name) == (path, path, path)
    assert OmegaConf.to_container(cfg, resolve=True)["data"]["path"] == path  # type: ignore[index, call-overload]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12))
@example("${")
@example("\\\\${a}")
@example("a\\")
@example("${a")
def test_any_text_survives(text: str) -> None:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    assume(not quoted and not text.startswith("~"))
    tree: dict[str, Any] = {}
    apply_value(tree, ["wandb", "project"], text, TrainConfig)
    cfg = OmegaConf.create(tree)
    if text != "???":
        assert cfg.wandb.project == text
    assert OmegaConf.to_container(cfg, resolve=True) == {"wandb": {"project": text}}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("data.path='null'", "data.path", "null"),
        ('data.path="a, b"', "data.path", "a, b"),
        ("data.path=~/x", "data.path", os.path.expanduser("~/x")),
        ("run_dir=null", "run_dir", None),
        ("run_dir='null'", "run_dir", "null"),
        ("run_dir=~", "run_dir", os.path.expanduser("~")),
        ("stage.lr=1e-5", "stage.lr", 1e-5),
        ("stage.lr=1", "stage.lr", 1.0),
        ("stage.warmup=100", "stage.warmup", 100),
        ("stage.warmup=0.1", "stage.warmup", 0.1),
        ("stage.betas=[0.8, .95]", "stage.betas", [0.8, 0.95]),
        ("stage.clip_norm=null", "stage.clip_norm", None),
        ("+stage.lr=2", "stage.lr", 2.0),
        ("++stage.lr=2", "stage.lr", 2.0),
        ("~stage.lr", "stage.lr", 1e-4),
        ("~trainer.epochs", "trainer.max_steps", 7),
        ("dry_run=True", "dry_run", True),
        ("trainer.devices=auto", "trainer.devices", "auto"),
        ("trainer.devices=2", "trainer.devices", 2),
        ("data.tasks=[pose_fixed,intra_map]", "data.tasks", ["pose_fixed", "intra_map"]),
        ("data.tasks=['a, b', \"c]\", d'e]", "data.tasks", ["a, b", "c]", "d'e"]),
        ("data.tasks=[1, true]", "data.tasks", ["1", "true"]),
        ("wandb.tags=[]", "wandb.tags", []),
        ("seed=0", "seed", 0),
        ("backbone=tiny", "backbone.dtype", "float32"),
        ("trainer=ddp", "trainer.strategy", "ddp"),
    ],
)
def test_values_are_read_as_the_key_asks(override: str, key: str, value: Any) -> None:
    cfg = compose("train", [*NO_SUITES, "trainer.max_steps=7", override])
    found = OmegaConf.select(cfg, key)
    assert found == value
    assert type(found) is type(value) or isinstance(value, list)


def test_the_last_of_several_wins() -> None:
    cfg = compose("train", [*NO_SUITES, "seed=1", "seed=2", "backbone=qwen2_5_vl_7b", "backbone=tiny"])
    assert cfg.seed == 2
    assert cfg.backbone.dtype == "float32"


def test_values_below_a_target_are_read_as_its_fields_ask(targets: str, tmp_path: Path) -> None:
    suite = f"{{_target_: {targets}.Suite, path: x, build: {{_target_: {targets}.City}}}}"
    recipe = recipe_file(tmp_path, f"{BODY}evaluator: {{suites: {{geox: {suite}}}}}\n")
    where = "evaluator.suites.geox"
    typed = ["path=2024", "tasks=[1,b]", "inner.depth=3", "build.folder=a, (b)", "build.name_of=1e3", "build.places=5"]
    cfg = compose("train", [recipe, *(f"{where}.{word}" for word in typed)])
    geox = cfg.evaluator.suites.geox
    assert (geox.path, list(geox.tasks), geox.inner.depth) == ("2024", ["1", "b"], 3)
    assert (geox.build.folder, geox.build.name_of, geox.build.places) == ("a, (b)", "1e3", 5)


# --- what the function receives ---


def test_the_config_is_complete_resolved_and_closed(tmp_path: Path) -> None:
    cfg = compose("train", [recipe_file(tmp_path, BODY + "wandb: {name: '${recipe}-${seed}'}\n"), "seed=4"])
    assert cfg.recipe == "mine"
    assert cfg.wandb.name == "mine-4"
    assert cfg.stage.eps == 1e-8
    assert cfg.backbone.path == str(ASSETS / "tiny")
    assert "${" not in OmegaConf.to_yaml(cfg)
    with pytest.raises(ConfigAttributeError):
        _ = cfg.stage.lrr


def test_run_dir_is_dated_made_and_told_to_children(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def function(cfg: DictConfig) -> None:
        assert Path(cfg.run_dir).is_dir()
        seen.append(cfg.run_dir)

    assert run_command("train", function, NO_SUITES) == 0
    assert run_command("train", function, NO_SUITES) == 0
    first, second = seen
    assert first != second, "a run of its own, even in the same second and with the first one's variable still set"
    assert Path(first).parent == Path("runs/geox_sft_qwen2_5_vl_7b")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_command("train", function, NO_SUITES) == 0
    assert seen[2] == second


def test_ranks_that_nobody_told_the_folder_ask_for_it(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    status, message = status_and_message(NO_SUITES, capsys)
    assert status == 2
    assert "give run_dir=<folder>" in message


def test_a_dry_run_makes_nothing(in_tmp: Path) -> None:
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(cfg.run_dir), [*NO_SUITES, "dry_run=true"]) == 0
    assert seen[0].startswith("runs/")
    assert not list(in_tmp.iterdir())


def test_a_mistake_found_late_takes_the_empty_folder_away(in_tmp: Path) -> None:
    def fails(cfg: DictConfig) -> None:
        raise ConfigError("data.path=x: not there")

    def fails_later(cfg: DictConfig) -> None:
        (Path(cfg.run_dir) / "config.yaml").write_text("")
        raise ConfigError("data.path=x: not there")

    assert run_command("train", fails, [*NO_SUITES, "run_dir=a"]) == 2
    assert run_command("train", fails_later, [*NO_SUITES, "run_dir=b"]) == 2
    assert [path.name for path in in_tmp.iterdir()] == ["b"]


def test_resume_last_goes_on_in_the_newest_run_with_a_checkpoint(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = in_tmp / "runs" / "geox_sft_qwen2_5_vl_7b"
    status, message = status_and_message([*NO_SUITES, "resume=last"], capsys)
    assert (status, "resume=last" in message) == (2, True)
    for age, name in ((100, "older"), (50, "newer")):
        (runs / name / "checkpoints" / "step_000010").mkdir(parents=True)
        (runs / name / "checkpoints" / "step_000010" / "state.json").write_text("{}")
        stamp = (runs / name).stat().st_mtime - age
        os.utime(runs / name / "checkpoints", (stamp, stamp))
    (runs / "unfinished" / "checkpoints" / "step_000010").mkdir(parents=True)
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(cfg.run_dir), [*NO_SUITES, "resume=last"]) == 0
    assert seen == ["runs/geox_sft_qwen2_5_vl_7b/newer"]


# --- instantiate_checked ---


def test_instantiate_checked_converts_and_passes(targets: str) -> None:
    node = {
        "_target_": f"{targets}.Suite",
        "path": "x",
        "tasks": ["a"],
        "inner": {"depth": 2},
        "build": {"_target_": f"{targets}.City"},
    }
    for given_node in (node, OmegaConf.create(node)):
        suite = instantiate_checked(given_node, "evaluator.suites.geox")
        assert suite.tasks == ("a",)
        assert suite.inner.depth == 2
        assert suite.build == {"_target_": f"{targets}.City"}
    backbone = object()
    plain = instantiate_checked({"_target_": f"{targets}.Plain", "size": 3}, "stage", backbone=backbone)
    assert plain.backbone is backbone


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "T.Suite"}, r"here\.path=\?\?\?: is required; give here\.path=<value>"),
        ({"_target_": "T.Suite", "path": "x", "pth": 1}, r"here\.pth=1: no such key; did you mean here\.path\?"),
        ({"_target_": "T.Suite", "path": 3}, r"here\.path=3: expected text"),
        ({"_target_": "T.Suite", "path": "x", "samples_per_task": 0}, r"^here\.samples_per_task=0: must be at least 1"),
        ({"_target_": "T.Suite", "path": "x", "build": {"_target_": "T.City", "plces": 1}}, r"here\.build\.plces=1"),
        ({"_target_": "T.Plain", "size": 1, "backbone": "mine"}, r"here\.backbone=mine: this is set by the program"),
        ({"_target_": "T.CONSTANT"}, r"that is no class"),
        ({"path": "x"}, r"here: names no _target_"),
        ({"_target_": 3}, r"here\._target_=3"),
    ],
)
def test_instantiate_checked_names_the_mistake(node: dict[str, Any], message: str, targets: str) -> None:
    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(item) for name, item in value.items()}
        return value.replace("T.", f"{targets}.") if isinstance(value, str) else value

    given_by_program = {"backbone": object()} if str(node.get("_target_")) == "T.Plain" else {}
    with pytest.raises(ConfigError, match=message):
        instantiate_checked(placed(node), "here", **given_by_program)


def test_a_broken_module_is_no_mistake_of_the_user(targets: str, tmp_path: Path) -> None:
    (tmp_path / f"{targets}_broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        instantiate_checked({"_target_": f"{targets}_broken.Thing"}, "builder")


# --- build ---


def test_build_takes_the_fields_of_its_builder(targets: str) -> None:
    city = f"builder._target_={targets}.City"
    cfg = compose(
        "build", ["builder=synthetic", "~builder.seed", city, "out=a, (b)", "places=7", "name_of=2024", "folder=x=y"]
    )
    assert (cfg.out, cfg.name) == ("a, (b)", "synthetic")
    assert dict(cfg.builder) == {"_target_": f"{targets}.City", "places": 7, "name_of": "2024", "folder": "x=y"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plces=7", "out=x"], ["builder.plces=7", "did you mean builder.places?"]),
        (["places=x", "out=x"], ["builder.places=x", "a whole number"]),
        (["ot=x"], ["builder.ot=x", "did you mean out?", "out=???"]),
        (["out=x", "paths=absolut"], ["paths=absolut", "did you mean absolute?"]),
        (["out=x", "max_reject_fraction=2"], ["max_reject_fraction=2", "between 0 and 1"]),
        (["out=x", "builder=geox_idx"], ["builder=geox_idx", "did you mean geox_index?"]),
    ],
)
def test_mistakes_in_a_build(
    words: list[str], told: list[str], targets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ["builder=synthetic", "~builder.seed", f"builder._target_={targets}.City"]
    status, message = status_and_message([*target, *words], capsys, command="build")
    assert status == 2
    for word in told:
        assert word in message


def test_build_needs_a_builder(capsys: pytest.CaptureFixture[str]) -> None:
    status, message = status_and_message(["out=x"], capsys, command="build")
    assert status == 2
    assert "cross_view, geocaption, geox_index" in message


# --- help, and the commands as processes ---


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["--help", "nonsense"]])
def test_help_lists_the_recipes_and_the_keys(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", lambda cfg: None, argv) == 0
    out = capsys.readouterr().out
    for name in choices_of("recipe"):
        assert f"  {name}" in out
        assert what_is("recipe", name) in out
    for words in (
        "backbone.lora.r ",
        "Rank of each update. [8]",
        "bf16 | float32",
        "resume",
        "internvl3_8b, qwen2_5_vl_7b",
    ):
        assert words in out


def test_help_on_one_recipe_shows_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", lambda cfg: None, ["--help", RECIPE]) == 0
    out = capsys.readouterr().out
    assert "arXiv 2511.13259" in out
    assert "Memory: " in out


def test_help_on_a_recipe_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", lambda cfg: None, ["recipe=quickstrat", "--help"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "recipe=quickstrat: there is no such recipe" in told.err
    assert "quickstart?" in told.err
    for file in ("nope.yaml", str(RECIPES / "recipe" / "quickstart.yml")):
        for words in ([f"recipe={file}", "--help"], [f"recipe={file}"]):
            assert run_command("train", lambda cfg: None, words) == 2
            assert f"recipe={file}: this file can't be read as a recipe" in capsys.readouterr().err


def test_help_on_a_builder_shows_its_fields(
    targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "builder").mkdir()
    (tmp_path / "builder" / "city.yaml").write_text(f"# A city.\n_target_: {targets}.City\nplaces: 77\nfolder: ???\n")
    monkeypatch.setattr(recipe_files, "RECIPES", tmp_path)
    assert run_command("build", lambda cfg: None, ["builder=city", "--help"]) == 0
    out = capsys.readouterr().out
    assert "What the city is called." in out
    assert "[77]" in out, "what the file sets, not the field's own default"
    assert "[required]" in out


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = str(RECIPES.parent)
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_the_console_script_hands_over_to_the_command(tmp_path: Path) -> None:
    done = run("-m", "geotune", "train", *NO_SUITES, "stage.lrr=1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: stage.lrr=1: no such key; did you mean stage.lr?\n"


def test_the_console_script_by_itself(tmp_path: Path) -> None:
    helped = run("-m", "geotune", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert all(name in helped.stdout for name in COMMANDS)
    wrong = run("-m", "geotune", "trian", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "geotune trian" in wrong.stderr
