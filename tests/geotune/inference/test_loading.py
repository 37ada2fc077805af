"""A model of the hub by its id: from the local cache where the hub can't be reached, or a clear message."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from geotune.errors import ConfigError
from geotune.inference.loading import evaluation_of, find_source, open_backbone


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def put(cache: Path, name: str, folder: Path) -> Path:
    """Place a model in the cache as a download does."""
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    return Path(shutil.copytree(folder, repo / "snapshots" / ("0" * 40)))


def test_a_model_in_the_cache(cache: Path, qwen_path: Path) -> None:
    folder = put(cache, "someone/tiny-qwen", qwen_path)
    source = find_source("someone/tiny-qwen", hub=True)
    assert (source.kind, source.folder) == ("model", folder)
    assert open_backbone(source, max_pixels=9216).family == "qwen2_5_vl"


@pytest.mark.usefixtures("cache")
def test_a_model_that_is_nowhere() -> None:
    with pytest.raises(
        ConfigError, match="there is no such folder, and as a model of the hub it can't be loaded: the "
    ):
        find_source("someone/tiny-qwen", hub=True)
    for name in ("someone/tiny-qwen", "a/b/c", "./someone", "someone/.."):
        with pytest.raises(ConfigError, match=r"^checkpoint=.*: there is no such folder(, and no run .*)?; name a "):
            find_source(name, hub=name != "someone/tiny-qwen")


def test_an_evaluation_that_is_torn_is_not_needed(
    qwen_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen_path, folder)
    source = find_source(str(folder))
    assert evaluation_of(source) is None
    assert caplog.messages == []
    (folder / "evaluation.json").write_text('{"step": 3, "suites": {}}')
    assert evaluation_of(source) == {"step": 3, "suites": {}}
    for torn in ('{"step": 3, "sui', "[]", "\udcff"):
        caplog.clear()
        (folder / "evaluation.json").write_text(torn, errors="surrogateescape")
        assert evaluation_of(source) is None
        assert f"the evaluation of {folder} can't be read and is left out" in caplog.text
    step = tmp_path / "run" / "checkpoints" / "step_000002"
    step.mkdir(parents=True)
    checkpoint = replace(source, folder=step, kind="checkpoint")
    assert evaluation_of(checkpoint) is None
    assert "step_000002 can't be read" in caplog.text


def test_a_folder_comes_before_the_hub(cache: Path, qwen_path: Path) -> None:
    put(cache, "someone/tiny-qwen", qwen_path)
    shutil.copytree(qwen_path, "someone/tiny-qwen")
    assert find_source("someone/tiny-qwen", hub=True).folder == Path("someone/tiny-qwen")
