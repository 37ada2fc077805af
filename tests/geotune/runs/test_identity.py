"""What differs from the training is named and refused, unless it is allowed; what is unknown is said."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from geotune.errors import ConfigError
from geotune.runs.directory import STATE_FILE, State, read_state
from geotune.runs.identity import (
    IDENTITY_FILE,
    IDENTITY_PARTS,
    MODEL_PARTS,
    TEMPLATE,
    Dependence,
    fingerprint_of_facts,
    identity_of,
    saved_identity,
)
from geotune.system.strict_json import write_json

THEN = {
    "data": {"file of records": "6 records (a)", "images": "6 files of 10 bytes (b)"},
    "weights": {"values": "c"},
    "processor": {"tokenizer": "d", "image size": "e"},
    "prompt": {TEMPLATE: "f"},
}
STATE = State(2, 2, 0, 4, 4, 0, "d", "p", "adamw", "f", None, None, None, {})


def test_the_same_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    Dependence("resume", "run", THEN).check(THEN, IDENTITY_PARTS)
    Dependence("resume", "run", {**THEN, "weights": {}}).check({**THEN, "weights": {}}, IDENTITY_PARTS)
    assert not caplog.text


@pytest.mark.parametrize(
    ("allowed", "remedy"), [((), "data,weights"), (("data",), "data,weights"), (["prompt"], "data,weights,prompt")]
)
def test_what_differs_is_named(allowed: tuple[str, ...], remedy: str) -> None:
    now = {**THEN, "data": {"file of records": "6 records (x)", "weight": "2"}, "weights": {"values": "y"}}
    with pytest.raises(ConfigError) as error:
        Dependence("resume", "run", THEN, allowed).check(now, IDENTITY_PARTS)
    text = str(error.value)
    assert text.startswith("resume=run: the training data changed: file of records: 6 records (a) then, 6 records (x) ")
    assert "images: 6 files of 10 bytes (b) then, absent now; weight: absent then, 2 now" in text
    assert "the base weights changed: values: c then, y now" in text
    assert f"allow_changes=[{remedy}]" in text
    assert "processor" not in text


def test_what_is_allowed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    now = {**THEN, "weights": {"values": "y"}}
    dependence = Dependence("checkpoint", "run", THEN, ["weights"])
    dependence.check(now, MODEL_PARTS, quiet=True)
    assert not caplog.text, "another process says it"
    dependence.check(now, MODEL_PARTS)
    assert "checkpoint=run: the base weights changed: values: c then, y now; this is allowed" in caplog.text
    Dependence("start", "run", THEN).check({**THEN, "data": {}}, MODEL_PARTS)
    free = {**THEN, "processor": {"tokenizer": "d", "image size": "z"}}
    Dependence("start", "run", THEN, free=["image size"]).check(free, MODEL_PARTS)


def test_an_older_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    older = {name: value for name, value in asdict(STATE).items() if name not in ("identity", "best_evaluator")}
    write_json(tmp_path / STATE_FILE, older)
    state = read_state(tmp_path)
    assert saved_identity(tmp_path, "checkpoint") == {"prompt": {TEMPLATE: "f"}}
    Dependence("resume", "run", identity_of(state)).check(THEN, IDENTITY_PARTS)
    assert "run was written by an older version: whether it is used with the same training data and " in caplog.text
    with pytest.raises(ConfigError, match=r"the prompt changed: .*allow_changes=\[prompt\]"):
        Dependence("resume", "run", identity_of(state)).check({**THEN, "prompt": {TEMPLATE: "z"}}, IDENTITY_PARTS)
    assert identity_of(replace(state, identity=THEN)) == THEN


def test_the_identity_of_an_exported_adapter(tmp_path: Path) -> None:
    assert saved_identity(tmp_path, "adapter") == {}, "an export of an older version"
    write_json(tmp_path / IDENTITY_FILE, THEN)
    assert saved_identity(tmp_path, "adapter") == THEN
    for torn in ("", "[1]", '{"data": 3}', "\0"):
        (tmp_path / IDENTITY_FILE).write_text(torn)
        with pytest.raises(ConfigError, match=r"identity\.json: can't be read .*export the checkpoint again"):
            saved_identity(tmp_path, "adapter")


def test_a_fingerprint_depends_on_every_fact_and_on_no_order() -> None:
    facts = THEN["data"]
    assert fingerprint_of_facts(facts) == fingerprint_of_facts(dict(reversed(facts.items())))
    assert fingerprint_of_facts(facts) != fingerprint_of_facts({**facts, "images": "x"})
