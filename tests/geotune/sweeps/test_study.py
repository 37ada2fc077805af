"""The study of a sweep: who gets which trial, and trials whose process is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geotune.config.composing import compose
from geotune.errors import ConfigError
from geotune.sweeps import study
from geotune.sweeps.plan import SweepPlan, make_plan, split_arguments
from geotune.sweeps.study import Queue, TrialAttribute, latest_attempts, open_storage, open_study


@pytest.fixture
def queue(overrides: list[str], tmp_path: Path) -> Callable[..., Queue]:
    """`queue("trials=3")`: the queue of one more process on the same study."""

    def make(*more: str) -> Queue:
        own, training = split_arguments([*overrides, *more])
        plan: SweepPlan = make_plan(compose("sweep", own), training)
        return Queue(open_study(plan, open_storage(plan.cfg.storage, tmp_path)), plan)

    return make


def name(number: int) -> str:
    return f"trial_{number}"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_draws_depend_on_seed_and_number(queue: Callable[..., Queue], sampler: str) -> None:
    """A continued study, or a second machine, draws the values that one process would; another seed draws others."""

    def drawn(many: int, *more: str) -> list[Any]:
        overrides = (f"sampler={sampler}", *more)
        processes = [queue(*overrides) for _ in range(many)]
        found = []
        for at in range(4):
            trial = processes[at % many].ask(name)
            assert trial is not None
            processes[0].tell(trial.number, value=trial.params["stage.lr"])
            found.append(trial.params)
        return found

    one = drawn(1, "study=one")
    assert drawn(2, "study=two") == one
    assert len({params["stage.lr"] for params in one}) == 4
    assert drawn(1, "study=three", "seed=3")[0] != one[0]


def test_as_many_trials_as_asked_for(queue: Callable[..., Queue]) -> None:
    first, second = queue("trials=2"), queue("trials=2")
    assert first.ask(name)
    assert second.ask(name)
    assert first.ask(name) is None
    assert queue("trials=3").ask(name)


def test_the_later_of_two_that_asked_at_once_gives_way(queue: Callable[..., Queue]) -> None:
    first, second = queue("trials=1"), queue("trials=1")
    earlier, later = first.study.ask(), second.study.ask()
    assert not first._is_surplus(earlier)
    assert second._is_surplus(later)
    first.tell(earlier.number, value=1.0)
    assert second.ask(name) is None


def test_variants_once_each(queue: Callable[..., Queue], write: Callable[..., Path], overrides: list[str]) -> None:
    overrides[1] = f"sweep={write('named', {'variants': {'a': {}, 'b': {'seed': 1}}})}"
    first, second = queue(), queue()
    asked = [first.ask(name), second.ask(name)]
    assert [trial.params["variant"] for trial in asked if trial] == ["a", "b"]
    assert first.ask(name) is None
    for trial in asked:
        assert trial is not None
        first.tell(trial.number, state="FAIL")
    assert not first.has_more()
    again = queue().ask(name)  # the next time they are made up for
    assert again is not None
    assert again.params["variant"] == "a"


def test_trial_of_a_dead_process_is_queued_again_once(queue: Callable[..., Queue]) -> None:
    first, second = queue("trials=1"), queue("trials=1")
    trial = first.ask(name)
    assert trial is not None
    assert second.abandoned() == []  # this very process looks after it
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    trial.set_user_attr(TrialAttribute.OWNER, [first.me[0], gone.pid, first.me[2]])
    (left,) = second.abandoned()
    assert left.number == trial.number
    assert second.requeue(left.number)
    assert not first.requeue(left.number)
    again = first.ask(name)
    assert again is not None
    assert again.params == trial.params
    assert again.user_attrs[TrialAttribute.RUN_DIR] == trial.user_attrs[TrialAttribute.RUN_DIR]
    assert again.user_attrs[TrialAttribute.RETRY_OF] == trial.number
    assert [each.number for each in latest_attempts(first.trials())] == [again.number]
    assert not first.has_more()


def test_trial_of_a_machine_without_heartbeat_is_abandoned(
    queue: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, now = queue("stale_after=100"), [0.0]
    monkeypatch.setattr(study.time, "monotonic", lambda: now[0])
    trial = ours.ask(name)
    assert trial is not None
    trial.set_user_attr(TrialAttribute.OWNER, ["elsewhere", 1, 0.0])
    for at, found in ((0, 0), (90, 0), (101, 1)):
        now[0] = float(at)
        assert len(ours.abandoned()) == found
    ours.beat(trial)
    assert ours.abandoned() == []


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_storages(queue: Callable[..., Queue], tmp_path: Path, kind: str) -> None:
    where = f"sqlite:///{tmp_path}/a b.db" if kind == "sqlite" else f"{tmp_path}/new folder/a=b"
    trial = queue(f"storage={where}").ask(name)
    assert trial is not None
    assert [each.number for each in queue(f"storage={where}").trials()] == [trial.number]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/at/all/study.db", "storage=sqlite:////nowhere/at/all/study.db: can't be opened"),
        ("nosuch://me:secret@host/db", "storage=nosuch://me:***@host/db: can't be opened"),
        ("/dev/null/study", "storage=/dev/null/study"),
    ],
)
def test_storage_that_cannot_be_opened(queue: Callable[..., Queue], storage: str, message: str) -> None:
    with pytest.raises(ConfigError) as mistake:
        queue(f"storage={storage}")
    assert message in str(mistake.value)
    assert "secret" not in str(mistake.value)


def test_file_that_is_no_journal(queue: Callable[..., Queue], tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not a study\nat all\n")
    with pytest.raises(ConfigError, match=r"notes: can't be opened as a journal"):
        queue(f"storage={tmp_path / 'notes'}")


def test_study_of_other_trainings(queue: Callable[..., Queue]) -> None:
    assert queue("metric=geox/mean_acuracy").ask(name)
    queue("metric=geox/mean_accuracy")  # no figure has been stored under the wrong name
    with pytest.raises(ConfigError, match=r"stage.eps was 1e-08, now 1e-06.*study=<another name>"):
        queue("stage.eps=1e-6")
    with pytest.raises(ConfigError, match=r"space\.stage\.lr was {low: 0\.0001, high: 0\.1, log: true}, now "):
        queue("space.stage.lr.high=0.5")
    queue("wandb.mode=disabled", "trials=50", "data.num_workers=2", "data.path=/elsewhere/none.jsonl")
