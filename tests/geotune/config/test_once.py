"""Each option of a part is defined once: in its dataclass, which its class takes as it is."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from geotune.config.options import Options
from geotune.config.parameters import nested_schema, parameters_of, walk
from geotune.config.recipe_files import targets_of
from geotune.config.targets import options_of, resolve_target, slot_options
from geotune.config.training import TrainConfig

SLOTS = {
    name: nested_schema(parameters_of(TrainConfig)[name].hint) for name in ("backbone", "stage", "data", "evaluator")
}
PARTS = [(group, target) for group in (*SLOTS, "suite", "builder") for target in sorted(targets_of(group))]


@pytest.mark.parametrize(("group", "target"), PARTS)
def test_a_class_names_its_options_and_repeats_none(group: str, target: str) -> None:
    found: Any = resolve_target(target, group)
    options = options_of(target, group)
    assert issubclass(options, Options)
    slot = SLOTS.get(group)
    known = found if slot is None else slot_options(slot, target, group)
    assert options is known, "what composing checks without importing the class is what it takes"
    if options is not found:
        taken = set(inspect.signature(found).parameters)
        assert "config" in taken
        assert not taken & set(parameters_of(options)), "an option stands in the constructor as well"


def test_no_two_schemas_of_training_define_one_key_twice() -> None:
    keys = [key for key, _ in walk(TrainConfig)]
    assert len(keys) == len(set(keys))
    for schema in (TrainConfig, *SLOTS.values()):
        bases = [cls for cls in inspect.getmro(schema) if dataclasses.is_dataclass(cls)]
        own = [name for cls in bases for name in vars(cls).get("__annotations__", {})]
        assert len(own) == len(set(own)), f"{schema.__name__} repeats a field of its base"
