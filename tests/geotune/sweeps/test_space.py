"""What a sweep varies, and its values as overrides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geotune.config.override_text import text
from geotune.config.overrides import apply_value, escape_interpolation
from geotune.errors import ConfigError
from geotune.sweeps.space import Dimension, read_space, read_variants


def test_keys_are_dotted_or_nested_and_later_ones_win() -> None:
    tree = {
        "stage.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "backbone": {"lora.r": {"choices": [4, 8]}, "lora": {"dropout": {"low": 0.0, "high": 0.1}}},
        "stage": {"lr": {"high": 1e-3}, "schedule": {"choices": ["cosine"]}},
    }
    space = read_space(tree)
    assert space["stage.lr"] == Dimension(low=1e-4, high=1e-3, log=True)
    assert list(space) == ["stage.lr", "backbone.lora.r", "backbone.lora.dropout", "stage.schedule"]
    assert read_space({**tree, "stage": {"lr": {"choices": [1e-3]}}})["stage.lr"] == Dimension(choices=[1e-3])
    assert "stage.lr" not in read_space({**tree, "stage": {"lr": None}})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"low": 1.0}, "give {low, high}"),
        ({"low": 2, "high": 1}, "low at most high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low must be above 0"),
        ({"low": 0.0, "high": 1.0, "step": 0}, "step must be above 0"),
        ({"choices": []}, "at least one choice"),
        ({"choices": [1, 1]}, "each once"),
        ({"choices": [1], "log": True}, "log and step belong"),
        ({"choices": [1], "low": 1, "high": 2}, "one of the two"),
        ({"low": "x", "high": 1.0}, "low=x"),
        ({"low": 1.0, "high": 2.0, "setp": 1}, "step"),
        (3, "give {low, high} or {choices}"),
    ],
)
def test_mistakes_name_the_key(node: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=r"space\.stage\.lr") as mistake:
        read_space({"stage.lr": node})
    assert message in str(mistake.value)


def test_variants() -> None:
    tree = {"all": {}, "one": {"data.tasks": ["a"], "stage": {"lr": 1.0}}, "gone": None}
    assert read_variants(tree) == {"all": {}, "one": {"data.tasks": ["a"], "stage.lr": 1.0}}
    with pytest.raises(ConfigError, match=r"variants\.one=3"):
        read_variants({"one": 3})


@pytest.mark.parametrize(
    ("dimension", "drawn"),
    [
        (Dimension(low=1, high=9, step=4), {1, 5, 9}),
        (Dimension(low=2, high=3), {2, 3}),
        (Dimension(low=0.0, high=0.5, step=0.25), {0.0, 0.25, 0.5}),
        (Dimension(choices=[["a", "b"], None, 3]), {"[a,b]", None, 3}),
    ],
)
def test_what_optuna_draws_comes_back_as_the_value(dimension: Dimension, drawn: set[Any]) -> None:
    import optuna

    study, seen = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), set()
    for _ in range(40):
        trial = study.ask()
        dimension.suggest(trial, "key")
        seen.add(trial.params["key"])
        if dimension.choices is not None:
            assert dimension.value(trial.params["key"]) in dimension.choices
    assert seen == drawn


plain = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False)
strings = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


names = st.lists(st.sampled_from(["a", "b c", "d,e", "1"]), max_size=3)


@given(st.one_of(plain, strings, st.lists(plain, max_size=3), names))
def test_a_value_as_an_override_is_read_back_as_itself(value: Any) -> None:
    tree: dict[str, Any] = {}
    apply_value(tree, ["key"], text(value), Any)
    if isinstance(value, str):
        apply_value(tree, ["key"], text(value), str)
    assert tree["key"] == (escape_interpolation(value))
