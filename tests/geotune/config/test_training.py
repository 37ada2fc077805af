from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from geotune.cli.help import what_is
from geotune.config import recipe_files
from geotune.config.commands import BuildConfig
from geotune.config.composing import compose
from geotune.config.conversion import Problem, convert, read_arguments
from geotune.config.parameters import is_schema, parameters_of, walk
from geotune.config.recipe_files import choices_of
from geotune.config.targets import resolve_target
from geotune.config.training import LoraConfig, TrainConfig
from geotune.errors import ConfigError

RECIPES = choices_of("recipe")
GROUPS = [(group, choice) for group in ("backbone", "stage", "data", "trainer") for choice in choices_of(group)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes(recipe: str) -> None:
    cfg = compose("train", [f"recipe={recipe}"])
    assert cfg.recipe == recipe
    again: list[Problem] = []
    convert(OmegaConf.to_container(cfg, resolve=True), TrainConfig, "", again)
    assert again == []


@pytest.mark.parametrize(("group", "choice"), GROUPS)
def test_every_choice_of_a_group_composes(group: str, choice: str) -> None:
    sharded = ["evaluator=null"] if choice in ("deepspeed_zero3_offload", "fsdp2") else []
    cfg = compose("train", ["recipe=quickstart", f"{group}={choice}", "data.path=x", "data.batch_size=1", *sharded])
    assert cfg[group] is not None


@pytest.mark.parametrize("suite", choices_of("suite"))
def test_every_suite_composes(suite: str) -> None:
    where = "evaluator.suites.another"
    cfg = compose("train", ["recipe=quickstart", f"+suite@{where}={suite}", f"{where}.path=x, y"])
    assert cfg.evaluator.suites.another.path == "x, y"


@pytest.mark.parametrize("builder", choices_of("builder"))
def test_every_builder_composes(builder: str) -> None:
    fields = {
        "cross_view": ["source=vigor", "root=a, b"],
        "gre": ["root=a, b", "part=cot"],
        "gre_judge": ["predictions=a, b.jsonl", "data=(c)"],
        "geocaption": ["csv=a, b", "images=(c)", "budget_usd=1", "usd_per_million_in=0", "usd_per_million_out=0.5"],
        "geox_index": ["index_dir=a, b", "image_root=(c)"],
        "gps_csv": ["csv=a, b", "images=(c)"],
        "imageo": ["root=a, b"],
    }.get(builder, [])
    cfg = compose("build", [f"builder={builder}", "out=d", *fields])
    assert cfg.name == builder


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_says_how_to_launch_it_and_what_it_is(recipe: str) -> None:
    text = (recipe_files.RECIPES / "recipe" / f"{recipe}.yaml").read_text()
    assert text.startswith(f"# @package _global_\n# python -m geotune.train recipe={recipe}\n")
    assert what_is("recipe", recipe)
    assert "# Memory: " in text
    assert "# Reached: " in text


@pytest.mark.parametrize(
    ("recipe", "path"),
    [("geox_sft_qwen2_5_vl_7b", "Qwen/Qwen2.5-VL-7B-Instruct"), ("geox_sft_internvl3_8b", "OpenGVLab/InternVL3-8B-hf")],
)
def test_the_published_hyper_parameters(recipe: str, path: str) -> None:
    cfg = compose("train", [f"recipe={recipe}", "evaluator=null"])
    assert cfg.backbone.path == path
    assert (cfg.backbone.lora.r, cfg.backbone.lora.alpha, cfg.backbone.lora.target) == (8, 32, "all-linear")
    assert (cfg.backbone.tower, cfg.backbone.language_model, cfg.backbone.dtype) == ("frozen", "lora", "bf16")
    assert (cfg.stage.lr, cfg.stage.warmup, cfg.trainer.epochs, cfg.data.batch_size) == (1e-4, 0.05, 4, 2)


def test_what_belongs_to_a_backbone_goes_with_it() -> None:
    large = compose("train", ["recipe=geox_sft_qwen2_5_vl_7b", "evaluator=null"]).backbone
    tiny = compose("train", ["recipe=geox_sft_qwen2_5_vl_7b", "evaluator=null", "backbone=tiny"]).backbone
    for key in ("path", "max_pixels", "dtype", "gradient_checkpointing"):
        assert tiny[key] != large[key]
    assert tiny.lora == large.lora


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer.epochs=null"], "trainer.max_steps=null"),
        (["backbone.language_model=frozen"], "nothing would train"),
        (["backbone.min_pixels=300000"], "backbone.min_pixels=300000: must not exceed backbone.max_pixels=262144"),
        (["backbone.lora.r=0"], "backbone.lora.r=0"),
        (["backbone.lora.dropout=1"], "backbone.lora.dropout=1"),
        (["stage.warmup=1.5"], "stage.warmup=1.5"),
        (["stage.betas=[0.9,1]"], "stage.betas=1"),
        (["stage.min_lr_ratio=2"], "stage.min_lr_ratio=2"),
        (["stage.clip_norm=0"], "stage.clip_norm=0"),
        (["stage.max_skipped=0"], "stage.max_skipped=0"),
        (["stage.lr=inf"], "stage.lr=inf"),
        (["trainer.devices=0"], "trainer.devices=0"),
        (["trainer.epochs=-1"], "trainer.epochs=-1"),
        (["trainer.checkpoint_every=0"], "trainer.checkpoint_every=0"),
        (["data.tasks=[]"], "data.tasks=[]"),
        (["seed=-1"], "seed=-1"),
        (["data.build.places=3"], "builder@data.build=<name>"),
    ],
)
def test_checks_across_keys(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("train", ["recipe=geox_sft_qwen2_5_vl_7b", "evaluator=null", *overrides])
    assert told in str(caught.value)


@pytest.mark.parametrize("group", ["backbone", "stage", "data", "evaluator"])
def test_targets_take_the_keys_of_their_schema(group: str) -> None:
    """What the recipes may say and what the classes accept are one list, with the same types."""
    node = compose("train", ["recipe=quickstart"])[group]
    target = resolve_target(node._target_, group)
    given = {"backbone"} if group == "stage" else set()
    assert set(node) - {"_target_"} == set(parameters_of(target)) - given
    problems: list[Problem] = []
    read_arguments(OmegaConf.to_container(node), target, group, problems, given)
    assert problems == []


@pytest.mark.parametrize("config", [TrainConfig, BuildConfig])
def test_every_key_has_a_text(config: type) -> None:
    for key, parameter in walk(config):
        assert is_schema(parameter.hint) or parameter.doc, key


# --- the reader of trees ---


class Colour(Enum):
    RED = "red"


@dataclass
class Leaf:
    size: int
    names: list[str] = field(default_factory=list)


@dataclass
class Tree:
    leaf: Leaf
    other: Leaf | None = None
    leaves: dict[str, Leaf] = field(default_factory=dict)
    row: tuple[Leaf, ...] = ()
    anything: Any = None


def read(value: Any, hint: Any) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    return convert(value, hint, "k", problems), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("value", "hint", "result"),
    [
        (1, float, 1.0),
        ("x", Path, Path("x")),
        ("red", Colour, Colour.RED),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, "a"], tuple[int, str], (1, "a")),
        (None, int | None, None),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ({"a": [1, {"b": None}]}, Any, {"a": [1, {"b": None}]}),
        (True, Literal[True, "auto"], True),
        ({"leaf": {"size": 1}, "other": {"size": 2}}, Tree, Tree(Leaf(1), Leaf(2))),
        ({"leaf": {"size": 1}, "row": [{"size": 2}]}, Tree, Tree(Leaf(1), row=(Leaf(2),))),
    ],
)
def test_what_fits_is_converted(value: Any, hint: Any, result: Any) -> None:
    converted, problems = read(value, hint)
    assert problems == []
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("value", "hint", "told"),
    [
        ("1", int, "k=1: expected a whole number"),
        (True, int, "k=true: expected a whole number"),
        (True, float, "k=true: expected a number"),
        (1, bool, "k=1: expected true or false"),
        (1, Literal[True], "k=1: expected True"),
        (1.0, int, "k=1.0: expected a whole number"),
        (1, str, "k=1: expected text"),
        (None, str, "k=null: expected text"),
        ("blue", Colour, "k=blue: expected red"),
        ("a", list[int], "k=a: expected a list, [a, b]"),
        (["a"], list[int], "k[0]=a: expected a whole number"),
        ([1], tuple[int, int], "k=[1]: expected 2 values, [a, b, ...]"),
        (3, Leaf, "k=3: expected keys of its own, not a single value"),
        ({"leaf": {}}, Tree, "k.leaf.size=???: is required; give k.leaf.size=<value>"),
        ({}, Tree, "k.leaf.size=???: is required; give k.leaf.size=<value>"),
        ({"leaf": {"size": 1, "sze": 2}}, Tree, "k.leaf.sze=2: no such key; did you mean k.leaf.size?"),
        (
            {"leaf": {"size": 1}, "other": {"nmes": 3, "size": 2}},
            Tree,
            "k.other.nmes=3: no such key; did you mean k.other.names?",
        ),
        ({"leaf": {"size": 1}, "leaves": {"a": {"size": "x"}}}, Tree, "k.leaves.a.size=x: expected a whole number"),
        (
            {"leaf": {"size": 1}, "anything": {"b": "???"}},
            Tree,
            "k.anything.b=???: is required; give k.anything.b=<value>",
        ),
    ],
)
def test_what_does_not_fit_is_told(value: Any, hint: Any, told: str) -> None:
    assert read(value, hint)[1] == [told]


def test_the_schema_of_lora_serves_as_a_default() -> None:
    assert LoraConfig() == LoraConfig(r=8, alpha=32, dropout=0.0, use_dora=False, use_rslora=False, target="all-linear")
