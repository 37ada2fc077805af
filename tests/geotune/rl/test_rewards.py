"""The reward: its mean, its gate, the samples that it refuses, and the failures that end a run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.config.composing import compose
from geotune.config.instantiation import instantiate_checked
from geotune.config.recipe_files import choices_of
from geotune.errors import BadRecord, ConfigError
from geotune.geo import haversine_km
from geotune.rl import terms
from geotune.rl.rewards import Reward, RewardError
from geotune.rl.terms import Term, TermValue
from geotune.sample import Sample
from tests.geotune.rl.questions import PARIS, TOKYO, address, photo, reward_of, says
from tests.geotune.samples import a_sample

unhurried = settings(deadline=None)  # machines share their cores
HERE = __name__


@dataclass
class Own(Term):
    """A term of a user's own, which gives what it is told."""

    gives: Any = 0.5

    def __call__(self, text: str, sample: Sample) -> TermValue:
        if isinstance(self.gives, str):
            raise ZeroDivisionError(self.gives)
        return TermValue(self.gives)


@dataclass
class Bare(Term):
    """A term that forgets what a term returns."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        return None  # type: ignore[return-value]


@dataclass
class NoTerm:
    """A class that is no term."""

    weight: float = 1.0


def own(gives: Any = 0.5, weight: float = 1.0) -> dict[str, Any]:
    """The node of a term that gives this, or fails with this text."""
    return {"_target_": f"{HERE}.Own", "gives": gives, "weight": weight}


WEIGHED = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=5)


@unhurried
@given(WEIGHED.filter(lambda pairs: sum(weight for weight, _ in pairs) > 1e-3))
def test_the_value_is_the_weighted_mean(pairs: list[tuple[float, float]]) -> None:
    reward = reward_of(**{f"t{number}": own(value, weight) for number, (weight, value) in enumerate(pairs)})
    scored = reward("text", photo())
    weights, values = zip(*pairs, strict=True)
    assert scored.value == pytest.approx(np.average(values, weights=weights))
    assert 0 <= scored.value <= 1
    assert not scored.gated
    assert [said.value for said in scored.terms.values()] == list(values)


def test_the_gate_takes_everything_and_leaves_the_terms_to_be_seen() -> None:
    reward = reward_of(gate="format", geodesic="Geodesic", format={"_target_": "Format", "weight": 0}, length="Length")
    right, loose = reward(says(*PARIS), photo()), reward("48.8566, 2.3522", photo())
    assert (right.value, right.gated) == (1.0, False)
    assert (loose.value, loose.gated) == (0.0, True)
    assert loose.terms["geodesic"].value == 1
    assert list(loose.terms) == ["geodesic", "format", "length"]
    assert (
        reward_of(geodesic="Geodesic", format={"_target_": "Format", "weight": 0})("48.8566, 2.3522", photo()).value
        == 1
    )


def test_an_unreadable_answer_earns_nothing_of_its_place_with_its_reason() -> None:
    scored = reward_of(geodesic="Geodesic")(says(0, 0), photo())
    assert (scored.value, scored.terms["geodesic"].reason) == (0.0, "null_island")


def test_distances_are_those_of_the_geodesic_term() -> None:
    reward = reward_of(format="Format", near="Geodesic")
    assert reward.geodesic is not None
    assert reward.geodesic[0] == "near"
    assert reward.distance_km(reward(says(*TOKYO), photo()), photo()) == pytest.approx(haversine_km(*PARIS, *TOKYO))
    assert reward.distance_km(reward("?", photo()), photo()) is None
    other = reward_of(accuracy="Accuracy")
    assert other.geodesic is None
    assert other.distance_km(other(says(*PARIS), photo()), photo()) is None


def test_only_a_scale_that_tightens_is_told_of_updates() -> None:
    assert reward_of(geodesic="Geodesic").tightening is None
    assert reward_of(accuracy="Accuracy").tightening is None
    node = {"_target_": "Geodesic", "kernel": "sigmoid", "tighten": True, "theta_km": 750}
    reward = reward_of(geodesic=node)
    assert reward.tightening is not None
    for _ in range(40):
        reward.tightening.note(0.3)
    resumed = reward_of(geodesic=node)
    assert resumed.tightening is not None
    resumed.tightening.load_state(json.loads(json.dumps(reward.tightening.state())))
    text = says(*TOKYO)
    assert resumed(text, photo()).value == reward(text, photo()).value < reward_of(geodesic=node)(text, photo()).value


# Failures end the run


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (math.nan, "gave nan"),
        (None, "gave TermValue(value=None"),
        (1.7, "gave 1.7"),
        (-1e-9, "gave -1e-09"),
        (math.inf, "gave inf"),
        (True, "gave TermValue(value=True"),
        ([1.0], "gave TermValue(value=[1.0]"),
        ("the judge is down", "failed"),
    ],
)
def test_e_a_failure_ends_the_run_and_never_counts_as_0(gives: Any, told: str) -> None:
    """Failure (e) of released code: a bare except that turns a broken judge or geocoder into reward 0."""
    reward = reward_of(good=own(), judge=own(gives))
    with pytest.raises(RewardError) as error:
        reward("a text\x1b[31m\n" + "b" * 5000, photo(name="set/7"))
    message = str(error.value)
    assert told in message
    assert all(part in message for part in ("term judge", "sample set/7", "a text\\x1b[31m\\n"))
    assert message.isprintable()
    assert len(message) < 800
    if isinstance(gives, str):
        assert gives in message
        assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_e_a_broken_gazetteer_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise FileNotFoundError("gazetteer.csv")

    monkeypatch.setattr(terms, "finest_level", broken)
    with pytest.raises(RewardError, match=r"term place .* failed .*gazetteer\.csv"):
        reward_of(place="PlaceLevel")(says(*PARIS), photo())


def test_what_is_no_value_at_all_ends_the_run() -> None:
    with pytest.raises(RewardError, match="gave None"):
        reward_of(bare=f"{HERE}.Bare")("text", photo())


def test_a_number_of_numpy_is_a_number() -> None:
    value = reward_of(own=own(np.float32(0.25)))("text", photo()).terms["own"].value
    assert (type(value), value) == (float, 0.25)


def test_an_interruption_is_no_failure_of_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Own, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        reward_of(own=own())("text", photo())


# Samples that can't be judged


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (photo(answer=""), "no gold answer"),
        (photo(answer="  "), "no gold answer"),
        (photo(answer="somewhere"), "gold answer can't be read"),
        (photo(answer='{"latitude": 0.0, "longitude": 0.0}'), "gold answer can't be read"),
        (photo(answer='{"latitude": 95.0, "longitude": 0.0}'), "gold answer can't be read"),
        (a_sample("heading", task="pose_fixed", answer="NNW"), "gold answer can't be read"),
        (a_sample("verdict", task="judge", answer="perhaps"), "gold answer can't be read"),
        (photo(task=""), "no `task`"),
        (photo(task="geolocation"), "there is no such task"),
        (photo(task="no.such.TASK"), "there is no"),
    ],
)
def test_a_sample_without_a_truth_is_refused(sample: Sample, told: str) -> None:
    with pytest.raises(BadRecord, match=told) as error:
        reward_of(accuracy="Accuracy").check(sample)
    assert error.value.record_id == sample.id


def test_a_task_that_does_not_suit_a_term_is_a_mistake_of_the_config() -> None:
    heading = a_sample("heading/1", task="pose_fixed", answer="N")
    for term in ("Geodesic", "PlaceLevel", "Judge"):
        with pytest.raises(ConfigError, match=r"reward\.terms\.mine: .*heading/1.*pose_fixed") as error:
            reward_of(mine=term).check(heading)
        assert not isinstance(error.value, BadRecord)


@pytest.mark.parametrize("sample", [photo(), address(), a_sample(task="judge", answer="true")])
def test_good_samples_pass(sample: Sample) -> None:
    reward_of(format="Format", accuracy="Accuracy", length="Length", repetition="Repetition").check(sample)


# Configs


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({}, "there is nothing to reward"),
        ({"a": 3}, r"reward\.terms\.a=3: is no term"),
        ({"a": {"weight": 1}}, r"reward\.terms\.a: is no term"),
        ({"a": {"_target_": "geotune.rl.terms.Fluency"}}, "there is no geotune.rl.terms.Fluency"),
        ({"a": {"_target_": f"{HERE}.NoTerm"}}, "this class is no term"),
        ({"a": {"_target_": "geotune.rl.terms.Format", "weight": -1}}, r"reward\.terms\.a\.weight=-1"),
        ({"a": {"_target_": "geotune.rl.terms.Format", "weight": 0}}, "a weight above 0"),
        ({"a": {"_target_": "geotune.rl.terms.Format", "wieght": 1}}, "did you mean|no such key"),
        ({"a": {"_target_": "geotune.rl.terms.Geodesic"}, "b": {"_target_": "geotune.rl.terms.Geodesic"}}, "geodesic"),
        ({"a": {"_target_": "geotune.rl.terms.Geodesic", "kernel": "cubic"}}, "one of multiscale"),
    ],
)
def test_mistakes_in_a_config_are_told(node: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        instantiate_checked({"_target_": "geotune.rl.rewards.Reward", "terms": node}, "reward")


def test_a_gate_that_is_no_term_is_told() -> None:
    with pytest.raises(ConfigError, match=r"reward\.gate=form: there is no such term; the terms are format"):
        reward_of(gate="form", format="Format")


def test_a_term_of_a_users_own_is_named_by_its_class() -> None:
    scored = reward_of(own=own(0.25, weight=3.0), format="Format")(says(*PARIS), photo())
    assert scored.value == pytest.approx((3 * 0.25 + 1) / 4)


@pytest.mark.parametrize("name", choices_of("reward"))
def test_every_recipe_makes_a_reward(name: str) -> None:
    cfg = compose("reward", [f"reward={name}", "file=lines.jsonl"])
    assert cfg.name == name
    reward = instantiate_checked(cfg.reward, "reward")
    assert isinstance(reward, Reward)
    sample, text = (a_sample(task="judge", answer="true"), '{"is_correct": true}')
    if name != "gre_judge":
        sample, text = photo(), says(*PARIS)
    if name.startswith("gre_"):
        text = f"<think>I see.</think><answer>{text}</answer>"
    reward.check(sample)
    assert reward(text, sample).value == 1
    assert reward("Hm.", sample).value == 0
