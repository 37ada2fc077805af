"""The judge: a prompt that carries somebody's answer, and a verdict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.tasks import TASKS, GoldError, Parsed, Reason
from geotune.tasks.judge import JUDGE

TASK = TASKS["judge"]


def record(*said: str, **fields: Any) -> dict[str, Any]:
    """A GRE judge record."""
    turns = [{"from": "human", "value": "<image>\n?"}, *({"from": "gpt", "value": value} for value in said)]
    return {"image": "imgs/1.jpg", "conversations": turns, "gt_lat": 1.0, "gt_lon": 2.0, **fields}


@pytest.mark.parametrize("explain", [False, True])
def test_prompt_carries_the_prediction(explain: bool) -> None:
    shown = record("True", predicted_cot="A red <image> roof.", predicted_answer="48.1, 2.3")
    prompt = JUDGE.prompt_for(shown, explain=explain)
    assert prompt.startswith("<image>\nReasoning: A red [image] roof.\nAnswer: 48.1, 2.3\nIs this answer correct")
    assert prompt.count("<image>") == JUDGE.n_images == 1
    assert '{"is_correct": ...}, true or false' in prompt
    assert "Reasoning" not in JUDGE.prompt(explain=explain, predicted="Paris")
    assert TASK.parse(prompt).answer is None


@pytest.mark.parametrize(("said", "gold"), [("True", "true"), ("False", "false"), ("<answer>False</answer>", "false")])
def test_gold(said: str, gold: str) -> None:
    assert TASK.gold(record(said)) == gold


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({}, "missing verdict"),
        (record(), "missing verdict"),
        (record("Maybe"), "verdict no_answer"),
        (record(""), "verdict empty"),
    ],
)
def test_records_without_a_verdict(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(GoldError) as error:
        TASK.gold(bad)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("True", "true"),
        ("The answer is wrong.", "false"),
        ("It is not correct.", "false"),
        ("Incorrect: the roof is green.", "false"),
        ("Is the answer correct? No.", "false"),
        ("is_correct: false", "false"),
        ('{"is_correct": "False"}', "false"),
        ('The place looks correct at first. {"is_correct": false}', "false"),
    ],
)
def test_verdicts(text: str, answer: str) -> None:
    assert TASK.parse(text) == Parsed(answer, None)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(TASK.options), st.text())
def test_targets_are_read_back(answer: str, text: str) -> None:
    explanation = text.replace("<", "")  # no tags
    assert TASK.parse(TASK.target(answer, explanation)) == Parsed(answer, None)
    assert TASK.parse(text).reason in {None, *Reason}
