"""Whatever happens to a file of the cache, a dataset opens with the same samples and measures."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geotune.config.parts import DataConfig
from geotune.data import cache
from geotune.data.dataset import SampleDataset, load_dataset
from geotune.errors import ConfigError
from geotune.records import write_samples
from geotune.sample import Sample

City = tuple[Path, list[Sample]]
SUFFIXES = (".jsonl", ".json")
HARMS = ("deleted", "empty", "truncated", "zeros at the end", "one bit", "another file", "an empty object", "a list")
HARMS += ("a folder",)


@pytest.fixture(scope="module")
def encoder(load_tiny: Callable[..., Any]) -> Any:
    return load_tiny("qwen").encoder


def load(file: Path, encoder: Any) -> SampleDataset:
    return load_dataset(file, encoder, DataConfig(path="", batch_size=1), seed=0)


def content(dataset: SampleDataset) -> Any:
    """Everything that a training reads of a dataset."""
    arrays = (dataset.lengths, dataset.targets, dataset.sizes, dataset.is_image, dataset.keys, dataset.places)
    paths = [tuple(int(number) for number in path) for path in dataset.paths]
    return list(dataset.samples), [array.tolist() for array in arrays], paths, dataset.task_counts, dataset.facts


def spoil(file: Path, harm: str, other: bytes) -> None:
    """Do harm to a file, one of `HARMS`. other: content of another file of the same kind."""
    whole = file.read_bytes()
    middle = len(whole) // 2
    if harm in ("deleted", "a folder"):
        file.unlink()
    if harm == "a folder":
        file.mkdir()
        (file / "x").touch()
    contents = {
        "empty": b"",
        "truncated": whole[:middle],
        "zeros at the end": whole[:middle] + bytes(len(whole) - middle),
        "one bit": bytes(byte ^ (number == middle) for number, byte in enumerate(whole)),
        "another file": other,
        "an empty object": b"{}",
        "a list": b"[1]",
    }
    if harm in contents:
        file.write_bytes(contents[harm])


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_file_may_be_spoilt(
    suffix: str, encoder: Any, city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geotune")
    folder = tmp_path / "city"
    shutil.copytree(city[0], folder, ignore=shutil.ignore_patterns(cache.CACHE))
    path = folder / f"train{suffix}"
    write_samples(path, city[1][:6])
    expected = content(load(path, encoder))
    caplog.clear()
    assert content(load(path, encoder)) == expected
    assert not caplog.text, "nothing is said of a cache that is whole"
    whole = folder / cache.CACHE
    kept = tmp_path / "kept"
    shutil.copytree(whole, kept)
    files = sorted(file.relative_to(kept) for file in kept.rglob("*") if file.is_file())
    assert len(files) > 20
    for number, name in enumerate(files):
        if suffix == ".json" and name.name not in ("records.jsonl", cache.CONTENTS):
            continue
        alike = [file for file in files if file.suffix == name.suffix and file != name]
        other = (kept / alike[number % len(alike)]).read_bytes() if alike else b"x"
        before = (kept / name).read_bytes()
        # Each file gets some of the harms, a different choice for the next file; the two that are parsed get all.
        for harm in (
            HARMS if "json" in name.suffix and name.stem in ("contents", "image_sizes") else HARMS[number % 3 :: 3]
        ):
            remove(whole)
            shutil.copytree(kept, whole)
            spoil(whole / name, harm, other)
            is_same = (whole / name).is_file() and (whole / name).read_bytes() == before
            caplog.clear()
            assert content(load(path, encoder)) == expected, (name, harm)
            is_said = is_same or name.suffix == ".lock" or harm == "deleted" or str(whole) in caplog.text
            assert is_said, (name, harm)
            assert not list(whole.rglob(".*")), "nothing is left over"


def test_folders_may_be_spoilt(encoder: Any, city: City, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "city"
    shutil.copytree(city[0], folder, ignore=shutil.ignore_patterns(cache.CACHE))
    path = folder / "city.jsonl"
    expected = content(load(path, encoder))
    own = folder / cache.CACHE / path.name
    entries = sorted(entry for entry in own.iterdir() if entry.is_dir())
    assert [entry.name.split("-")[0] for entry in entries] == ["index", "measure"]
    for spoilt in (*entries, own):
        for make in (lambda p: None, lambda p: p.write_text("in the way"), lambda p: p.mkdir(parents=True)):
            remove(spoilt)
            make(spoilt)
            assert content(load(path, encoder)) == expected, spoilt
    shutil.rmtree(entries[1])
    shutil.copytree(entries[0], entries[1])
    caplog.clear()
    assert content(load(path, encoder)) == expected
    assert f"it is a copy of {entries[0].name}" in caplog.text
    (own / ".index-killed").mkdir()
    shutil.rmtree(entries[0])
    load(path, encoder)
    assert not list(own.glob(".index-*")), "what a killed process left is removed"


def test_an_older_version_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geotune")
    cache.make_once(tmp_path, "index", 1, "a", lambda folder: (folder / "x").touch())
    (tmp_path / "measure-0123").mkdir()  # as older versions named and stored it
    assert not caplog.text
    for prefix in ("index", "measure"):
        made = cache.make_once(tmp_path, prefix, 2, "a", lambda folder: (folder / "y").touch())
        assert (made / "y").is_file()
        assert f"the {prefix} there is of another version; it is made again" in caplog.text


def test_what_was_opened_last_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [cache.make_once(tmp_path, "measure", 1, str(number), lambda folder: None) for number in range(4)]
    for age, entry in enumerate(entries):
        os.utime(entry, (1000 - age, 1000 - age))
    cache.make_once(tmp_path, "measure", 1, "3", lambda folder: None)
    cache.keep_newest(tmp_path, "measure", 2)
    assert sorted(tmp_path.glob("measure-*")) == [entries[0], entries[3]]
    cache.keep_newest(tmp_path, "measure", 0)
    assert list(tmp_path.glob("measure-*")) == [entries[3]], "its process may be about to read it"


def test_a_lock_that_cant_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(ConfigError, match=r"index\.lock: can't be locked \(.*Permission denied\); delete "):
        cache.make_once(tmp_path, "index", 1, "a", lambda folder: None)


def test_the_cache_in_the_user_s_folder_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geotune")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / cache.CACHE).symlink_to(tmp_path / "unmounted")
    folder = cache.cache_folder(tmp_path / "data" / "a.jsonl")
    assert folder.parent == tmp_path / "home" / "geotune"
    assert f"is kept in {folder}" in caplog.text
    assert np.array_equal(sorted(path.name for path in tmp_path.iterdir()), ["data", "home"])
