"""The claim of a folder: who keeps whom out, and when the claim of a process that is gone can be taken."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import geotune
from geotune.errors import ConfigError
from geotune.runs import claim
from geotune.runs.claim import CLAIM_FILE, FolderClaim, claimed, is_taken

CHILD = """
import sys, time
from pathlib import Path
from geotune.errors import ConfigError
from geotune.runs.claim import claimed
print("ready", flush=True)
sys.stdin.readline()
try:
    with claimed(Path(sys.argv[1])):
        print("owner", flush=True)
        sys.stdin.readline()
except ConfigError as error:
    print(error, flush=True)
"""


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process belongs to no job of a batch system, and the claims of others go stale soon."""
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "PBS_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(claim, "BEAT", 0.05)
    monkeypatch.setattr(claim, "STALE_AFTER", 1.0)
    monkeypatch.setattr(claim, "POLL", 0.02)


@pytest.fixture
def children(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Three processes that are ready to claim `tmp_path`, and do so once they read a line."""
    environment = {**os.environ, "PYTHONPATH": str(Path(geotune.__file__).parents[1])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(3)
    ]
    assert [line_of(child) for child in started] == ["ready"] * 3
    yield started
    for child in started:
        child.kill()
        child.communicate()


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def leave(folder: Path, seconds_ago: float = 0.0, **changes: object) -> FolderClaim:
    """Write the claim of a process elsewhere, which had its last heartbeat some time ago."""
    left = replace(FolderClaim.of_this_process(), host="far", process_space="elsewhere", **changes)  # type: ignore[arg-type]
    (folder / CLAIM_FILE).write_text(left.text())
    then = time.time() - seconds_ago
    os.utime(folder / CLAIM_FILE, (then, then))
    return left


def test_a_claim_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    with claimed(tmp_path):
        content = json.loads((tmp_path / CLAIM_FILE).read_text())
        assert content["pid"] == os.getpid()
        assert content.keys() == asdict(FolderClaim.of_this_process()).keys()
        assert not is_taken(tmp_path)
        before = (tmp_path / CLAIM_FILE).stat().st_mtime_ns
        time.sleep(0.3)
        assert (tmp_path / CLAIM_FILE).stat().st_mtime_ns > before, "a heartbeat"
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), claimed(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("earlier", [False, True])
def test_of_several_processes_exactly_one_gets_the_folder(
    earlier: bool, children: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    if earlier:
        leave(tmp_path, seconds_ago=1000)
    for child in children:
        tell(child)
    told = [line_of(child) for child in children]
    assert told.count("owner") == 1, told
    owner = children[told.index("owner")]
    for line in told:
        assert line == "owner" or line.startswith(f"run_dir={tmp_path}: process {owner.pid} on "), line
        assert line == "owner" or line.endswith("trains here; wait until it ends, or give another folder")


def test_of_several_threads_exactly_one_takes_the_place_of_a_dead_process(tmp_path: Path) -> None:
    barrier, done = threading.Barrier(8), threading.Event()

    def take(_: int) -> bool:
        barrier.wait()
        try:
            with claimed(tmp_path):
                done.wait()
                return True
        except ConfigError:
            return False

    for _ in range(5):
        leave(tmp_path, seconds_ago=100)
        done.clear()
        with ThreadPoolExecutor(8) as pool:
            results = [pool.submit(take, number) for number in range(8)]
            while sum(result.done() for result in results) < 7:
                time.sleep(0.01)
            done.set()
        assert sum(result.result() for result in results) == 1
        assert not (tmp_path / CLAIM_FILE).exists()


def test_a_killed_process_keeps_nobody_out(children: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    tell(children[0])
    assert line_of(children[0]) == "owner"
    with pytest.raises(ConfigError, match=f"process {children[0].pid} on "), claimed(tmp_path):
        pass
    os.kill(children[0].pid, signal.SIGKILL)
    # Nobody has asked for its status yet: it stays a zombie, whose claim counts for nothing.
    os.waitid(os.P_PID, children[0].pid, os.WEXITED | os.WNOWAIT)
    assert (tmp_path / CLAIM_FILE).exists()
    with claimed(tmp_path):
        assert json.loads((tmp_path / CLAIM_FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / CLAIM_FILE).exists()


def test_a_later_process_of_the_same_id_is_another_one(tmp_path: Path) -> None:
    earlier = replace(FolderClaim.of_this_process(), started="1")
    (tmp_path / CLAIM_FILE).write_text(earlier.text())
    with claimed(tmp_path):
        pass


def test_a_process_elsewhere_is_told_by_its_heartbeat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leave(tmp_path, seconds_ago=0.5, pid=7, job="PBS_JOBID=12")
    with claimed(tmp_path):
        assert "to see whether process 7 on far (PBS_JOBID=12) is alive" in caplog.text
    leave(tmp_path, pid=7, job="PBS_JOBID=12")
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            os.utime(tmp_path / CLAIM_FILE)

    other = threading.Thread(target=beat)
    other.start()
    try:
        with (
            pytest.raises(ConfigError, match=r"process 7 on far \(PBS_JOBID=12\) trains here"),
            claimed(tmp_path),
        ):
            pass
    finally:
        stop.set()
        other.join()
    caplog.clear()
    leave(tmp_path, seconds_ago=2)
    with claimed(tmp_path):
        assert not caplog.text, "it is stale, whatever the time of the clocks"


def test_a_job_that_was_started_again_takes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "STALE_AFTER", 1000.0)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    leave(tmp_path, job="SLURM_JOB_ID=12", restarts=0)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with claimed(tmp_path):
        assert json.loads((tmp_path / CLAIM_FILE).read_text())["restarts"] == 1


@pytest.mark.parametrize("text", ["", '{"pid": 1}'])
def test_a_claim_that_says_nothing_lasts_until_it_is_stale(text: str, tmp_path: Path) -> None:
    (tmp_path / CLAIM_FILE).write_text(text)
    began = time.monotonic()
    with claimed(tmp_path):
        assert time.monotonic() - began > 0.5


def test_a_claim_that_is_just_being_written_counts(tmp_path: Path) -> None:
    (tmp_path / CLAIM_FILE).touch()
    writer = threading.Timer(0.2, lambda: (tmp_path / CLAIM_FILE).write_text(FolderClaim.of_this_process().text()))
    writer.start()
    with pytest.raises(ConfigError, match=f"process {os.getpid()} on "), claimed(tmp_path):
        pass
    writer.join()


def test_a_claim_that_another_process_took_is_lost(tmp_path: Path) -> None:
    with claimed(tmp_path):
        other = leave(tmp_path, seconds_ago=5)
        time.sleep(0.2)
        assert is_taken(tmp_path)
        assert time.time() - (tmp_path / CLAIM_FILE).stat().st_mtime > 2, "no heartbeat for another process"
    assert (tmp_path / CLAIM_FILE).read_text() == other.text(), "and it stays"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / CLAIM_FILE).mkdir()
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / CLAIM_FILE} can't be written")), claimed(tmp_path):
        pass


def test_a_read_that_fails_for_a_moment_ends_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT", 0.01)
    own, failures = Path.read_text, iter([True, True])

    def fail_at_first(path: Path, *args: object, **options: object) -> str:
        is_heart = path.name == CLAIM_FILE and threading.current_thread() is not threading.main_thread()
        if is_heart and next(failures, False):
            raise OSError(5, "Input/output error")
        return own(path, *args, **options)  # type: ignore[arg-type]

    with claimed(tmp_path):
        monkeypatch.setattr(Path, "read_text", fail_at_first)
        os.utime(tmp_path / CLAIM_FILE, (0, 0))
        deadline = time.monotonic() + 60
        while (tmp_path / CLAIM_FILE).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / CLAIM_FILE).stat().st_mtime > 0
        assert next(failures, None) is None, "both reads failed before"
