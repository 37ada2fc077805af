"""Samples and rewards that the tests of reinforcement learning share."""

from __future__ import annotations

import json
from typing import Any

from geotune.config.instantiation import instantiate_checked
from geotune.rl.rewards import Reward
from geotune.sample import Sample
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import coordinates_json
from tests.geotune.samples import a_sample

PARIS, TOKYO = (48.8566, 2.3522), (35.6895, 139.6917)


def photo(lat: float = PARIS[0], lon: float = PARIS[1], **fields: Any) -> Sample:
    """A photo of a place, to be located."""
    answer = coordinates_json(Coordinates(lat, lon))
    return a_sample(**{"name": "photo", "task": "geolocate", "answer": answer, **fields})


def address(**parts: Any) -> Sample:
    """A photo of a place in Paris whose address is asked for, with some parts of the gold answer replaced."""
    gold = {"street": None, "city": "Paris", "state": "Île-de-France", "country": "France"}
    gold |= {"latitude": PARIS[0], "longitude": PARIS[1], "confidence": None, **parts}
    return a_sample("address", task="address", answer=json.dumps(gold, ensure_ascii=False))


def reward_of(gate: str | None = None, **terms: str | dict[str, Any]) -> Reward:
    """A reward of terms by name: each names a class of `geotune.rl.terms`, or is a node with such a `_target_`."""
    nodes: dict[str, Any] = {}
    for name, term in terms.items():
        node = {"_target_": term} if isinstance(term, str) else term
        target = node["_target_"]
        nodes[name] = {**node, "_target_": target if "." in target else f"geotune.rl.terms.{target}"}
    made = instantiate_checked({"_target_": "geotune.rl.rewards.Reward", "terms": nodes, "gate": gate}, "reward")
    assert isinstance(made, Reward)
    return made


def says(lat: float | str, lon: float | str, before: str = "A street.\n") -> str:
    """A completion in the form that the prompt asks for."""
    return f'{before}{{"latitude": {lat}, "longitude": {lon}}}'
