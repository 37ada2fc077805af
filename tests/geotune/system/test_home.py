"""A home folder and a user name for processes that have none."""

from __future__ import annotations

import getpass
import logging
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from geotune.errors import ConfigError
from geotune.system import home
from geotune.system.home import CACHE_VARIABLES, ensure_home


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user without an entry in the table of users, and without the variables that replace one."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "HF_HOME", *CACHE_VARIABLES):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken away afterwards
        monkeypatch.delenv(name)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def test_a_process_without_home_and_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError):
        Path.home()
    with caplog.at_level(logging.INFO, "geotune"):
        ensure_home()
        ensure_home()
    assert Path.home().parent == tmp_path / "tmp"
    assert Path.home().stat().st_mode & 0o777 == 0o700
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert [str(Path.home()) in record.getMessage() for record in caplog.records] == [True]  # said once
    first = os.environ.pop("HOME")
    ensure_home()
    assert os.environ["HOME"] == first


def test_a_folder_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "tmp" / f"geotune-{os.getuid()}").symlink_to(tmp_path)
    ensure_home()
    assert Path.home() != tmp_path
    assert not Path.home().is_symlink()


def test_a_home_that_can_t_be_written_keeps_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "home"
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    monkeypatch.setattr(home.os, "access", lambda path, mode: Path(path) != folder)
    ensure_home()
    assert Path.home() == folder
    assert os.environ["HF_HOME"] == str(folder / ".cache" / "huggingface")
    assert os.environ["MPLCONFIGDIR"] == "mine"
    assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(tmp_path / "tmp")


def test_a_good_home_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "me")
    before = dict(os.environ)
    ensure_home()
    assert dict(os.environ) == before


def test_no_temporary_folder_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: (_ for _ in ()).throw(FileNotFoundError("none")))
    with pytest.raises(ConfigError, match="set HOME"):
        ensure_home()
