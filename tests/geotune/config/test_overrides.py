"""Overrides: values are read as the type of their key asks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from geotune.config.composing import compose
from geotune.config.override_text import as_overrides
from geotune.config.overrides import apply_value
from geotune.config.training import TrainConfig
from tests.geotune.commands import BODY, NO_SUITES, recipe_file, status_and_message

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


@pytest.mark.parametrize(
    ("override", "mix"),
    [
        ("data.mix={/a/b c/d.jsonl: 2}", {"/a/b c/d.jsonl": 2}),
        ("data.mix={/a, b=c: 0.5, \"x: 1, z\": 1e-1,'q':3}", {"/a, b=c": 0.5, "x: 1, z": 0.1, "q": 3}),
        ("data.mix={C:/a, b: 2,d/e:1,}", {"C:/a, b": 2, "d/e": 1}),
        ("data.mix={[1]/{x}: 2, it's: 1}", {"[1]/{x}": 2, "it's": 1}),
        ("data.mix={${x}: 1, 7: .5}", {"${x}": 1, "7": 0.5}),
        ("data.mix={~/x: 1}", {os.path.expanduser("~/x"): 1}),
        ("data.mix={}", {}),
        ("data.mix./a.b/c d, e=f: g=2", {"/a.b/c d, e=f: g": 2}),
        ("+data.mix.'../x'=0.5", {"../x": 0.5}),
        ("data.mix.~/x=1", {os.path.expanduser("~/x"): 1}),
    ],
)
def test_datasets_are_mixed_by_any_path(override: str, mix: dict[str, float]) -> None:
    cfg = compose("train", [*NO_SUITES, override])
    assert OmegaConf.to_container(cfg.data.mix, resolve=True) == mix
    [again] = as_overrides({"data.mix": mix})
    assert compose("train", [*NO_SUITES, again]).data.mix == cfg.data.mix
    singly = as_overrides({f"data.mix.{path}": weight for path, weight in mix.items()})
    assert compose("train", [*NO_SUITES, *singly]).data.mix == cfg.data.mix


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.mix={a: -1}", "data.mix.a=-1.0: give a weight above 0"),
        ("data.mix={a: x}", "data.mix={a: x}: expected numbers by name, {<name>: <number>}"),
        ("data.mix=/a", "data.mix=/a: expected numbers by name"),
        ("data.mix./a=b", "data.mix./a=b: expected a number"),
    ],
)
def test_a_mix_that_cant_be_read(override: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, message = status_and_message([*NO_SUITES, override], capsys)
    assert status == 2
    assert said in message


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
