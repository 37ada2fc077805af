"""The recipes and groups of the repository: every one of them composes."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from geotune.cli.help import what_is
from geotune.config import recipe_files
from geotune.config.chain import compose_chain, composition_of
from geotune.config.composing import compose
from geotune.config.conversion import Problem, convert
from geotune.config.recipe_files import choices_of
from geotune.config.training import TrainConfig

NAMES = choices_of("recipe")
GROUPS = [(group, choice) for group in ("backbone", "stage", "data", "trainer") for choice in choices_of(group)]


@pytest.mark.parametrize("recipe", NAMES)
def test_every_recipe_composes(recipe: str) -> None:
    if composition_of("train", [f"recipe={recipe}"]) == "chain":
        legs = compose_chain([f"recipe={recipe}"]).chain
        assert {compose("train", list(leg.overrides)).recipe for leg in legs.values()} <= set(NAMES)
        return
    cfg = compose("train", [f"recipe={recipe}"])
    assert cfg.recipe == recipe
    again: list[Problem] = []
    convert(OmegaConf.to_container(cfg, resolve=True), TrainConfig, "", again)
    assert again == []


@pytest.mark.parametrize("recipe", NAMES)
def test_a_recipe_that_trains_places_with_a_spread_measures_the_coverage(recipe: str) -> None:
    """At the temperature of its rollouts."""
    is_chain = composition_of("train", [f"recipe={recipe}"]) == "chain"
    legs = [list(leg.overrides) for leg in compose_chain([f"recipe={recipe}"]).chain.values()] if is_chain else []
    for cfg in [compose("train", overrides) for overrides in legs or [[f"recipe={recipe}"]]]:
        if cfg.stage.get("spread", 0) > 0:
            suites = convert(OmegaConf.to_container(cfg, resolve=True), TrainConfig, "", []).evaluator.suites.values()
            drawn = [suite for suite in suites if suite.get("draws", 0) > 0]
            assert drawn
            assert {suite.get("draw_temperature", 1) for suite in drawn} == {cfg.stage.rollout.temperature}


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


@pytest.mark.parametrize("recipe", NAMES)
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


def test_the_published_values_of_gre() -> None:
    """Stage 1: updates of 128 at 1e-5 for one epoch. Stages 2 and 3: 8 x 2 x 8 ranks, G = 8, 2,048 tokens, beta .04."""
    first, second, third = (compose("train", [f"recipe=gre_stage{stage}", "evaluator=null"]) for stage in (1, 2, 3))
    assert first.data.batch_size * first.trainer.accumulate * 8 == 128
    assert (first.stage.lr, first.trainer.epochs, first.backbone.dtype) == (1e-5, 1, "bf16")
    for later in (second, third):
        assert (later.data.batch_size, later.trainer.accumulate) == (8, 2)
        assert (later.stage.rollout.group_size, later.stage.rollout.max_new_tokens) == (8, 2048)
        assert (later.stage.beta, later.stage.loss, later.stage.scale) == (0.04, "grpo", "group")
    assert second.stage.reward.terms.keys() == {"format", "judge"}
    geodesic = third.stage.reward.terms.geodesic
    assert (geodesic.kernel, geodesic.theta_km, geodesic.tighten) == ("sigmoid", 750, True)
