"""Files that appear complete or not at all, links that are replaced in one step, and folders that a user names."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from geotune.errors import ConfigError
from geotune.system.files import DiskFullError, make_folder, open_atomically, replace_symlink


def test_a_file_takes_its_name_once_it_is_complete(tmp_path: Path) -> None:
    with open_atomically(tmp_path / "note.txt") as file:
        file.write("two\nlines\n")
        assert not (tmp_path / "note.txt").exists()
    assert (tmp_path / "note.txt").read_bytes() == b"two\nlines\n"


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("old")

    def interrupted() -> None:
        with open_atomically(tmp_path / "note.txt") as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "note.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_missing_folders_are_made_and_a_file_in_their_place_is_told(tmp_path: Path) -> None:
    with open_atomically(tmp_path / "a" / "b" / "note.txt") as file:
        file.write("x")
    for path in (tmp_path / "a" / "b" / "note.txt" / "below.txt", tmp_path / "a"):
        with pytest.raises(ConfigError, match="can't be written"), open_atomically(path):
            pass


def test_a_link_is_replaced(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        replace_symlink(tmp_path / "last", name)
        assert os.readlink(tmp_path / "last") == name
    assert sorted(os.listdir(tmp_path)) == ["last", "one", "two"]


def test_a_file_and_a_folder_go_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "note.txt").symlink_to(tmp_path / "disk" / "there.txt")
    for text in ("one", "two"):
        with open_atomically(tmp_path / "note.txt") as file:
            file.write(text)
        assert (tmp_path / "disk" / "there.txt").read_text() == text
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    make_folder(tmp_path / "run" / "a", "run_dir")
    assert sorted(os.listdir(tmp_path / "disk")) == ["run", "there.txt"]
    (tmp_path / "gone").symlink_to(tmp_path / "unmounted" / "run")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("gone", "gone/a", "circle"):
        with pytest.raises(ConfigError, match=r"^run_dir=.*: this folder can't be written \("):
            make_folder(tmp_path / name, "run_dir")
    with pytest.raises(ConfigError, match="can't be written"), open_atomically(tmp_path / "circle"):
        pass
    assert all((tmp_path / name).is_symlink() for name in ("note.txt", "run", "gone", "circle"))
    assert not (tmp_path / "unmounted").exists()


def test_a_folder_is_made_or_its_key_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", "out")
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^out=.*file: .*; give another out$"):
        make_folder(tmp_path / "file", "out")


def test_a_full_disk_names_the_file_and_keeps_the_earlier_one(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "figures.json"
    path.write_text("earlier")

    def write() -> None:
        with open_atomically(path) as file:
            file.write("x" * 100)

    with (
        full_disk(50),
        pytest.raises(DiskFullError, match=r"figures.json: can't be written .*; make room there") as full,
    ):
        write()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["earlier"]
    again = pickle.loads(pickle.dumps(full.value))  # a worker process of a builder raises it
    assert (str(again), again.path) == (str(full.value), path)
