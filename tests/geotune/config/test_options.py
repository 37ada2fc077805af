"""Options that check themselves."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from geotune.config.options import Options
from geotune.config.parts import BackboneConfig, DataConfig, EvaluatorConfig, LoraConfig, StageConfig
from geotune.config.rules import above_zero, at_least, is_share
from geotune.errors import ABSENT, BadRecord, ConfigError, Problem


@dataclass
class Own(Options):
    size: int
    folder: Path | None = None
    kind: Literal["a", "b"] = "a"
    number: Literal[4, 8] | None = 4
    words: str | Literal[1] = "any"
    names: list[str] = field(default_factory=list)

    def check(self) -> Iterator[Problem]:
        yield from at_least("size", self.size, 1)
        if "" in self.names:
            yield Problem("names", self.names, "a name is empty")


def test_legal_options_exist_and_texts_become_paths() -> None:
    assert Own(1, folder="x/y").folder == Path("x/y")  # type: ignore[arg-type]
    assert Own(1, number=None, words="other", kind="b").folder is None


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"size": 0}, ["size"]),
        ({"size": 0, "names": ["", "x"]}, ["size", "names"]),
        ({"size": 1, "kind": "c"}, ["kind"]),
        ({"size": 1, "kind": None}, ["kind"]),
        ({"size": 1, "number": 5}, ["number"]),
    ],
)
def test_all_mistakes_are_told(values: dict[str, Any], keys: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Own(**values)
    assert [problem.key for problem in caught.value.problems] == keys


@pytest.mark.parametrize(
    ("options", "values", "told"),
    [
        (LoraConfig, {"r": 0, "dropout": 1.0}, "r=0: must be at least 1\ndropout=1.0: must be at least 0 and below 1"),
        (LoraConfig, {"target": "all"}, "target=all: expected one of all-linear, attention, mlp"),
        (BackboneConfig, {"path": "x", "max_pixels": 1, "min_pixels": 2}, "min_pixels=2: must not exceed max_pixels=1"),
        (
            BackboneConfig,
            {"path": "x", "max_pixels": 1, "tower": "all"},
            "tower=all: expected one of frozen, lora, full",
        ),
        (StageConfig, {"warmup": 1.0}, "warmup=1.0: give a whole number of updates"),
        (StageConfig, {"lr": float("nan")}, "lr=nan: give a number above 0"),
        (DataConfig, {"path": "x", "batch_size": 0, "mix": {"y": 0.0}}, "batch_size=0: must be at least 1\nmix.y=0.0"),
        (DataConfig, {"path": "x", "batch_size": 1, "prefix_tree": False, "max_tokens": 9}, "max_tokens=9: limits"),
        (EvaluatorConfig, {"suites": {}}, "suites={}: there is nothing to evaluate"),
        (
            EvaluatorConfig,
            {"suites": {"a": {"path": "x"}}},
            "suites.a: this is no suite; choose one by suite@suites.a=",
        ),
    ],
)
def test_the_parts_check_themselves(options: Any, values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**values)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_rules_refuse_what_is_no_number(value: float) -> None:
    assert [*at_least("k", value, 0), *above_zero("k", value)] != []
    assert len([*at_least("k", value, 0), *above_zero("k", value), *is_share("k", value)]) == 3
    assert [*at_least("k", None, 0), *above_zero("k", None)] == []


def test_a_problem_reads_as_key_value_text_and_remedy() -> None:
    problem = Problem("lora.r", 0, "must be at least 1", "give {key}=8")
    assert str(problem.below("backbone")) == "backbone.lora.r=0: must be at least 1; give backbone.lora.r=8"
    assert str(Problem(None, ABSENT, "x.yaml: can't be read").below("a")) == "x.yaml: can't be read"
    assert str(Problem("a", ABSENT, "is missing")) == "a: is missing"
    assert str(Problem("a", None, "is missing")) == "a=null: is missing"
    assert len(str(Problem("a", "x" * 1000, ""))) < 400


def test_errors_survive_another_process() -> None:
    error = ConfigError(Problem("a", ABSENT, "wrong"), "and a text")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == (str(error), error.problems)
    assert again.problems[0].value is ABSENT
    bad = pickle.loads(pickle.dumps(BadRecord("a/1", "no image", "data.jsonl:3", "missing_image").at("here", "b")))
    assert (bad.code, bad.record_id, str(bad)) == ("missing_image", "b", "here: record 'b': no image")
