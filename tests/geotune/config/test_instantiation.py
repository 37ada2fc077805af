"""Objects from config nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from geotune.config.instantiation import instantiate_checked
from geotune.errors import ConfigError


def test_instantiate_checked_converts_and_passes(targets: str) -> None:
    node = {
        "_target_": f"{targets}.Suite",
        "path": "x",
        "tasks": ["a"],
        "inner": {"depth": 2},
        "build": {"_target_": f"{targets}.City"},
    }
    for given_node in (node, OmegaConf.create(node)):
        suite = instantiate_checked(given_node, "evaluator.suites.geox")
        assert suite.tasks == ("a",)
        assert suite.inner.depth == 2
        assert suite.build == {"_target_": f"{targets}.City"}
    backbone = object()
    stage = instantiate_checked({"_target_": f"{targets}.OwnStage", "size": 3, "lr": 1}, "stage", backbone=backbone)
    assert stage.backbone is backbone
    assert (stage.config.size, stage.config.lr, stage.config.schedule) == (3, 1.0, "cosine")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "T.Suite"}, r"here\.path=\?\?\?: is required; give here\.path=<value>"),
        ({"_target_": "T.Suite", "path": "x", "pth": 1}, r"here\.pth=1: no such key; did you mean here\.path\?"),
        ({"_target_": "T.Suite", "path": 3}, r"here\.path=3: expected text"),
        ({"_target_": "T.Suite", "path": "x", "samples_per_task": 0}, r"^here\.samples_per_task=0: must be at least 1"),
        ({"_target_": "T.Suite", "path": "x", "build": {"_target_": "T.City", "plces": 1}}, r"here\.build\.plces=1"),
        ({"_target_": "T.OwnStage", "backbone": "mine"}, r"here\.backbone=mine: no such key"),
        ({"_target_": "T.OwnStage", "size": 0, "lr": 0}, r"here\.lr=0\.0: .*\nhere\.size=0: must be at least 1"),
        ({"_target_": "T.Bare", "size": 1}, r"here\._target_=.*Bare: this class names no options"),
        ({"_target_": "T.CONSTANT"}, r"this is no class"),
        ({"path": "x"}, r"here: names no _target_"),
        ({"_target_": 3}, r"here\._target_=3"),
    ],
)
def test_instantiate_checked_names_the_mistake(node: dict[str, Any], message: str, targets: str) -> None:
    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(item) for name, item in value.items()}
        return value.replace("T.", f"{targets}.") if isinstance(value, str) else value

    with pytest.raises(ConfigError, match=message):
        instantiate_checked(placed(node), "here")


def test_a_broken_module_is_no_mistake_of_the_user(targets: str, tmp_path: Path) -> None:
    (tmp_path / f"{targets}_broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        instantiate_checked({"_target_": f"{targets}_broken.Thing"}, "builder")
