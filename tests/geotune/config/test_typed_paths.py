"""A typed path of a dataset must exist, unless its builder is typed as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.config.composing import compose
from geotune.config.typed_paths import check_typed_paths
from geotune.errors import ConfigError
from tests.geotune.commands import recipe_file

QUICKSTART = "recipe=quickstart"
SUITE = "evaluator.suites.geox"


@pytest.mark.parametrize("key", ["data", SUITE])
def test_a_typing_error_is_not_built(tmp_path: Path, key: str) -> None:
    typed = [QUICKSTART, f"{key}.path={tmp_path / 'typo'}"]
    said = rf"^{key}.path=.*typo: there is no dataset; .* a key of {key}.build as well"
    with pytest.raises(ConfigError, match=said):
        check_typed_paths(typed, compose("train", typed))
    (tmp_path / "typo").mkdir()
    (tmp_path / "typo/photo.jpg").touch()
    with pytest.raises(ConfigError, match="there is no dataset"):
        check_typed_paths(typed, compose("train", typed))
    for more in ([f"{key}.build.places=3"], [f"builder@{key}.build=synthetic"], [f"{key}.build=null"]):
        check_typed_paths([*typed, *more], compose("train", [*typed, *more]))
    with pytest.raises(ConfigError, match="there is no dataset"):
        check_typed_paths([*typed, f"~{key}.build.seed"], compose("train", typed))
    (tmp_path / "typo/any.jsonl").touch()
    cfg = compose("train", typed)
    check_typed_paths(typed, cfg)
    builds = {"data": cfg.data.build, SUITE: cfg.evaluator.suites.geox.build}
    assert [name for name, build in builds.items() if build.get("overwrite") is False] == [
        key
    ]  # by no newer version either


def test_a_recipe_may_build_at_its_own_path(tmp_path: Path) -> None:
    check_typed_paths([QUICKSTART], compose("train", [QUICKSTART]))
    own = recipe_file(tmp_path, "defaults: [quickstart, _self_]\ndata: {path: elsewhere}\n")
    cfg = compose("train", [own])
    check_typed_paths([own], cfg)
    assert (cfg.data.path, cfg.data.build.get("overwrite")) == ("elsewhere", None)
