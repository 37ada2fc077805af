"""What a training needs to find before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.config.composing import compose
from geotune.errors import ConfigError
from geotune.training.inputs import built_paths, check_data


def test_what_another_node_of_the_same_training_builds_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose("train", ["recipe=quickstart", "evaluator.suites.geolocate.build=null"])
    assert built_paths(cfg) == {"datasets/quickstart_train", "datasets/quickstart_test"}
    check_data(cfg)
    cfg = compose("train", ["recipe=quickstart", "data.build=null"])
    with pytest.raises(ConfigError, match=r"data\.path=datasets/quickstart_train: there is no dataset"):
        check_data(cfg)
