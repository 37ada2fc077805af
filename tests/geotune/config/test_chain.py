"""Chains: which overrides each leg gets, and that every leg's mistakes are told before the first one starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from geotune.cli.help import help_text
from geotune.config.chain import compose_chain, composition_of
from geotune.config.composing import compose
from geotune.errors import ConfigError
from tests.geotune.commands import BODY, status_and_message

CHAIN = """
# A chain of two.
chain:
  a: {recipe: leg.yaml, trainer.max_steps: 4, stage: {lr: 0.5}, data.tasks: [x, y]}
  b:
    recipe: leg.yaml
    trainer: cpu
    +builder@data.build: synthetic
    start: null
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "leg.yaml").write_text(BODY)
    (tmp_path / "steps.yaml").write_text(CHAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chain(*overrides: str) -> Any:
    return OmegaConf.to_container(compose_chain(["recipe=steps.yaml", *overrides]))


A = ["recipe=leg.yaml", "trainer.max_steps=4", "stage.lr=0.5", "data.tasks=[x,y]"]
B = ["recipe=leg.yaml", "trainer=cpu", "+builder@data.build=synthetic", "start=null"]


def test_the_legs_of_a_recipe(here: Path) -> None:
    assert composition_of("train", ["recipe=steps.yaml"]) == "chain"
    assert composition_of("train", ["recipe=leg.yaml"]) == composition_of("train", ["recipe=quickstart"]) == "train"
    assert chain() == {
        "recipe": "steps",
        "chain": {"a": {"own": A, "overrides": A}, "b": {"own": B, "overrides": B}},
        **{"start": None, "run_dir": None, "resume": None, "dry_run": False},
    }


def test_overrides_of_one_leg_of_all_legs_and_of_the_chain(here: Path) -> None:
    typed = ["chain.a.stage.lr=1.10", "stage.lr=2", "seed=3", "+suite@evaluator.suites.x=distance", "start=some/run"]
    typed += ["+chain.b.builder@data.build=geox_index", "evaluator=in_loop", "evaluator.suites.x.path=p"]
    typed += [f"chain.b.data.build.{key}=x" for key in ("index_dir", "image_root")]
    cfg = chain(*typed, "run_dir=2024", "resume=last", "dry_run=true")
    shared = ["seed=3", "+suite@evaluator.suites.x=distance", "evaluator=in_loop", "evaluator.suites.x.path=p"]
    of_b = ["+builder@data.build=geox_index", "data.build.index_dir=x", "data.build.image_root=x"]
    assert cfg["chain"]["a"] == {"own": [*A, "stage.lr=1.10"], "overrides": [*A, "stage.lr=1.10", *shared]}
    assert cfg["chain"]["b"] == {"own": [*B, *of_b], "overrides": [*B, *of_b, "stage.lr=2", *shared]}
    assert (cfg["start"], cfg["run_dir"], cfg["resume"], cfg["dry_run"]) == ("some/run", "2024", "last", True)


@pytest.mark.parametrize("without", ["chain.a=null", "~chain.a"])
def test_a_leg_that_is_left_out(here: Path, without: str) -> None:
    assert list(chain(without)["chain"]) == ["b"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["chain.a.stage.lrr=1", "chain.b.trainer.max_steps=0"], "chain.a.stage.lrr=1: no such key; did you mean"),
        (["chain.a.stage.lrr=1", "chain.b.data.limit=x"], "\nchain.b.data.limit=x: expected a whole number"),
        (["stage.lrr=1"], "\nchain.b.stage.lrr=1: no such key"),
        (["chain.a.recipe=nope"], "chain.a.recipe=nope: there is no such recipe"),
        (["chain.a.recipe=steps.yaml"], "chain.a.recipe: a leg can't be a chain; name the recipe of one run"),
        (["chain.a.run_dir=x"], "chain.a.run_dir: no leg can have this key; each leg has a folder"),
        (["chain.a.trainer.max_steps=null"], "chain.a"),
        (["chain.c.stage.lr=1"], "chain.c: there is no such leg; the legs are a, b"),
        (["chain.c=null"], "chain.c: there is no such leg"),
        (["chain.a=null", "chain.b=null"], "chain: every leg is left out"),
        (["chain=3"], "chain=3: write chain.<leg>.<key>=<value>"),
        (["chain.a=3"], "chain.a=3: write chain.<leg>.<key>=<value>"),
        (["resume=some/step_000002"], "resume=some/step_000002: a chain goes on with its first unfinished leg"),
        (["start="], "start=: the name is empty"),
    ],
)
def test_mistakes_are_told_with_the_leg(
    here: Path, overrides: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, message = status_and_message(["recipe=steps.yaml", *overrides], capsys)
    assert status == 2
    assert told in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("chain: {}\n", "there is nothing to train"),
        ("chain: {a: 3}\n", "chain.a=3: this is no leg; give"),
        ("chain: {a.b: {recipe: leg.yaml}}\n", "chain.a.b: use letters"),
        ("chain: {a: {stage.lr: 1}}\n", "chain.a.recipe: is required; give chain.a.recipe=<name>"),
        ("chain: {a: {recipe: leg.yaml}}\nstage: {lr: 1}\n", "stage.lr=1: no such key"),
        ("chain: [a]\n", "chain="),
    ],
)
def test_mistakes_in_the_file(here: Path, text: str, told: str) -> None:
    (here / "steps.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        compose_chain(["recipe=steps.yaml"])
    assert told in str(error.value)


def test_help_on_a_chain_shows_its_keys(here: Path) -> None:
    text = help_text("train", ["recipe=steps.yaml"])
    assert "  chain  " in text
    assert "chain.<leg>.<key>=<value>" in text
    assert "stage.lr" not in text.partition("keys, with")[2].partition("{recipe")[0]
    assert "  start  " in help_text("train", [])


def test_a_chain_is_no_single_training(here: Path) -> None:
    with pytest.raises(ConfigError, match="chain"):
        compose("train", ["recipe=steps.yaml"])


def test_a_recipe_on_top_of_a_chain_is_a_chain(here: Path) -> None:
    (here / "more.yaml").write_text("defaults: [steps, _self_]\nchain: {c: {recipe: leg.yaml, seed: 3}}\n")
    (here / "round.yaml").write_text("defaults: [more.yaml, _self_]\n")
    for name, legs in (("steps", "ab"), ("more", "abc"), ("round", "abc")):
        assert composition_of("train", [f"recipe={name}.yaml"]) == "chain"
        assert list(compose_chain([f"recipe={name}.yaml"]).chain) == list(legs)
    (here / "loop.yaml").write_text("defaults: [loop.yaml, _self_]\n")
    assert composition_of("train", ["recipe=loop.yaml"]) == "train"
