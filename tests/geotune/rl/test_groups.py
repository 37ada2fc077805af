"""Rewards of a group: each completion by itself, or with a spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geotune.backbones.generation import Completion
from geotune.config.reward import RewardConfig
from geotune.encoding.segments import Encoded, Segment
from geotune.geo import haversine_km
from geotune.rl.groups import CompletionGroup, make_group
from geotune.rl.kernels import multiscale
from geotune.rl.rewards import Reward
from geotune.sample import Sample, Turn
from geotune.tasks.geolocate import GEOLOCATE

PROMPT = GEOLOCATE.prompt(explain=False)
TURNS = (Turn("user", PROMPT), Turn("assistant", '{"latitude": 10.0, "longitude": 20.0}'))
SAMPLE = Sample(id="a", images=("x.png",), turns=TURNS, task="geolocate", answer=TURNS[1].text)
AT = [(10.0, 20.0), (10.0, 20.0), (12.0, 25.0), (-40.0, 100.0)]
TEXTS = [*(f'{{"latitude": {lat}, "longitude": {lon}}}' for lat, lon in AT), "nowhere", "cut"]


def reward(**terms: Any) -> Reward:
    kinds = {"km": "Geodesic", "format": "Format", "length": "Length"}
    nodes = {name: {"_target_": f"geotune.rl.terms.{kinds[name]}", **options} for name, options in terms.items()}
    return Reward(RewardConfig(nodes, gate="format" if "format" in nodes else None))


def group(texts: list[str], of: Reward, spread: float, stopped: list[bool] | None = None) -> CompletionGroup:
    ended = stopped or [True] * len(texts)
    completions = [Completion((1, 2), (0.0, 0.0), each) for each in ended]
    prompt = Encoded("a", (Segment("text", (5,)),))
    return make_group(3, 0, SAMPLE, prompt, completions, texts, of, spread=spread, scale="none")


def test_without_a_spread_each_completion_has_its_own_reward() -> None:
    of = reward(km={})
    found = group(TEXTS, of, 0.0)
    assert found.rewards == tuple(of(text, SAMPLE).value for text in TEXTS)
    assert sum(found.advantages) == pytest.approx(0)


def test_a_spread_is_what_the_paper_formula_says() -> None:
    found = group(TEXTS, reward(km={}), 1.0)
    weight = 5 / 4
    lat, lon = np.array(AT).T
    between = multiscale(haversine_km(lat[:, None], lon[:, None], lat, lon))
    truth = multiscale(haversine_km(lat, lon, 10.0, 20.0))
    for i in range(4):
        crowd = np.mean([between[i, j] for j in range(4) if j != i])
        assert found.rewards[i] == pytest.approx((truth[i] - weight * crowd + weight) / (1 + weight))
    assert found.rewards[4:] == (0, 0), "the floor"


def test_unfinished_and_gated_completions_get_the_floor_and_do_not_crowd() -> None:
    loose = "The place is latitude 10.0, longitude 20.0"
    texts = [TEXTS[0], loose, *TEXTS[2:4]]
    found = group(texts, reward(km={}, format={"weight": 0}), 1.0)
    assert found.scored[1].gated
    assert found.rewards[1] == 0
    alone = group([TEXTS[0], "nowhere", *TEXTS[2:4]], reward(km={}, format={"weight": 0}), 1.0)
    assert found.rewards[0] == alone.rewards[0]
    cut = group(TEXTS[:4], reward(km={}), 1.0, [True, False, True, True])
    assert cut.rewards[1] == 0
    assert cut.rewards[0] == alone.rewards[0]
    assert 1 not in cut.live


def test_other_terms_keep_their_weight_beside_a_spread() -> None:
    one, both = (group(TEXTS[:4], reward(km={}, **more), 1.0) for more in ({}, {"length": {"weight": 3}}))
    for alone, mixed in zip(one.rewards, both.rewards, strict=True):
        assert mixed == pytest.approx((alone + 3) / 4)


def test_a_group_all_unread_is_dead() -> None:
    for spread in (0.0, 1.0):
        found = group(["nowhere"] * 4, reward(km={}), spread)
        assert found.is_dead
        assert found.live == []
        assert found.advantages == (0, 0, 0, 0)
