"""Variables of the environment set keys of a training: above recipe files, below the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.config.chain import compose_chain
from geotune.config.composing import compose
from geotune.config.variables import WANDB_VARIABLES
from tests.geotune.commands import BODY, recipe_file, status_and_message

OWN = BODY + "wandb: {project: mine, entity: me, group: all, name: first, mode: disabled, tags: [a]}\n"
SET = {
    "WANDB_PROJECT": "2024",
    "WANDB_ENTITY": "team",
    "WANDB_RUN_GROUP": "${group}",
    "WANDB_NAME": "null",
    "WANDB_MODE": "dryrun",
    "WANDB_TAGS": "b, c d,,",
}


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in WANDB_VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_variables_win_over_a_recipe_and_lose_to_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_file(tmp_path, OWN)
    for variable in SET:
        monkeypatch.setenv(variable, " ")  # as good as not set
    assert dict(compose("train", [recipe]).wandb) == {
        "project": "mine", "entity": "me", "group": "all", "name": "first", "mode": "disabled", "tags": ["a"]
    }  # fmt: skip
    for variable, value in SET.items():
        monkeypatch.setenv(variable, value)
    from_variables = {
        "project": "2024",
        "entity": "team",
        "group": "${group}",
        "name": "null",
        "mode": "offline",
        "tags": ["b", "c d"],
    }
    assert dict(compose("train", [recipe]).wandb) == from_variables
    assert dict(compose("train", [recipe_file(tmp_path, BODY, "bare.yaml")]).wandb) == from_variables
    typed = compose("train", [recipe, "wandb.project=typed", "wandb.tags=[t]", "wandb.group=null", "wandb.mode=online"])
    expected = {**from_variables, "project": "typed", "tags": ["t"], "group": None, "mode": "online"}
    assert dict(typed.wandb) == expected


def test_variables_win_over_a_chain_s_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leg = recipe_file(tmp_path, OWN, "leg.yaml").partition("=")[2]
    chain = recipe_file(
        tmp_path, f"chain:\n  one: {{recipe: {leg}, wandb: {{project: legs, name: n}}}}\n", "chain.yaml"
    )
    monkeypatch.setenv("WANDB_PROJECT", "variable")
    overrides = compose_chain([chain]).chain.one.overrides
    composed = compose("train", overrides).wandb
    assert (composed.project, composed.name) == ("variable", "n")
    typed = compose("train", compose_chain([chain, "chain.one.wandb.project=typed"]).chain.one.overrides)
    assert typed.wandb.project == "typed"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WANDB_PROJECT", "team/geo", ["wandb.project=team/geo", "wandb.entity=team", "wandb.project=geo"]),
        ("WANDB_PROJECT", "a#b%c", ["wandb.project=a#b%c", "# %"]),
        ("WANDB_PROJECT", "x" * 129, ["wandb.project", "128"]),
        ("WANDB_ENTITY", "team/geo", ["wandb.entity=team/geo", "user or team"]),
        ("WANDB_TAGS", f"ok,{'x' * 65}", ["wandb.tags=xxx", "64", "65"]),
        ("WANDB_MODE", "on", ["wandb.mode=on", "offline, online, disabled"]),
    ],
)
def test_what_wandb_refuses_is_told_with_its_origin(
    variable: str, value: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    status, message = status_and_message([recipe_file(tmp_path, BODY)], capsys)
    assert status == 2
    for words in [*told, f"(in the variable {variable})"]:
        assert words in message
    monkeypatch.delenv(variable)
    key = next(key for key, name in WANDB_VARIABLES.items() if name == variable)
    typed = f"[{value}]" if variable == "WANDB_TAGS" else value
    status, message = status_and_message([recipe_file(tmp_path, BODY), f"{key}={typed}"], capsys)
    assert status == 2
    assert key in message
    assert "variable" not in message


@pytest.mark.parametrize("override", ["wandb.tags=['']", "wandb.project=", "wandb.entity="])
def test_empty_names(override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_and_message([recipe_file(tmp_path, BODY), override], capsys)[0] == 2
