"""The folder of a run: dated, made, claimed, and removed again after a mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import DictConfig

from geotune.cli.entry import run_command
from geotune.errors import ConfigError
from tests.geotune.commands import NO_SUITES, status_and_message


@pytest.mark.parametrize("place", ["a file/run", "a file"])
def test_a_run_dir_that_cannot_be_written(place: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "a file").write_text("in the way")
    status, message = status_and_message([*NO_SUITES, f"run_dir={place}"], capsys)
    assert status == 2
    assert f"run_dir={place}" in message


def test_run_dir_is_dated_made_and_told_to_children(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def function(cfg: DictConfig) -> None:
        assert Path(cfg.run_dir).is_dir()
        seen.append(cfg.run_dir)

    assert run_command("train", function, NO_SUITES) == 0
    assert run_command("train", function, NO_SUITES) == 0
    first, second = seen
    assert first != second, "a run of its own, even in the same second and with the first one's variable still set"
    assert Path(first).parent == Path("runs/geox_sft_qwen2_5_vl_7b")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_command("train", function, NO_SUITES) == 0
    assert seen[2] == second


def test_ranks_that_nobody_told_the_folder_ask_for_it(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    status, message = status_and_message(NO_SUITES, capsys)
    assert status == 2
    assert "give run_dir=<folder>" in message


def test_a_dry_run_makes_nothing(in_tmp: Path) -> None:
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(cfg.run_dir), [*NO_SUITES, "dry_run=true"]) == 0
    assert seen[0].startswith("runs/")
    assert not list(in_tmp.iterdir())


def test_a_mistake_found_late_takes_the_empty_folder_away(in_tmp: Path) -> None:
    def fails(cfg: DictConfig) -> None:
        raise ConfigError("data.path=x: not there")

    def fails_later(cfg: DictConfig) -> None:
        (Path(cfg.run_dir) / "config.yaml").write_text("")
        raise ConfigError("data.path=x: not there")

    assert run_command("train", fails, [*NO_SUITES, "run_dir=a"]) == 2
    assert run_command("train", fails_later, [*NO_SUITES, "run_dir=b"]) == 2
    assert [path.name for path in in_tmp.iterdir()] == ["b"]


def test_resume_last_goes_on_in_the_newest_run_with_a_checkpoint(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = in_tmp / "runs" / "geox_sft_qwen2_5_vl_7b"
    status, message = status_and_message([*NO_SUITES, "resume=last"], capsys)
    assert (status, "resume=last" in message) == (2, True)
    for age, name in ((100, "older"), (50, "newer")):
        step = runs / name / "checkpoints" / "step_000010"
        step.mkdir(parents=True)
        (step / "state.json").write_text("{}")
        stamp = step.stat().st_mtime - age
        os.utime(step, (stamp, stamp))
    (runs / "unfinished" / "checkpoints" / "step_000010").mkdir(parents=True)
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(cfg.run_dir), [*NO_SUITES, "resume=last"]) == 0
    assert seen == ["runs/geox_sft_qwen2_5_vl_7b/newer"]


def a_checkpoint(run: Path, step: int = 2) -> Path:
    folder = run / "checkpoints" / f"step_{step:06d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    return folder


def nothing(cfg: DictConfig) -> None:
    """Stands for a training whose folder alone matters."""


def test_the_folder_is_claimed_while_the_command_runs(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def again(cfg: DictConfig) -> None:
        for more in ([], ["resume=last"]):
            assert run_command("train", nothing, [*NO_SUITES, "run_dir=run", *more]) == 2
            assert f"run_dir=run: process {os.getpid()} on " in capsys.readouterr().err
        assert run_command("train", nothing, [*NO_SUITES, "run_dir=run", "dry_run=true"]) == 0
        assert (in_tmp / "run" / ".claim").is_file()

    a_checkpoint(in_tmp / "run")
    assert run_command("train", again, [*NO_SUITES, "run_dir=run", "resume=last"]) == 0
    assert not (in_tmp / "run" / ".claim").exists()


def test_a_folder_with_a_complete_checkpoint_is_only_for_the_run_that_goes_on(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step, other = a_checkpoint(in_tmp / "run"), a_checkpoint(in_tmp / "other")
    (in_tmp / "run" / "checkpoints" / "last").symlink_to(step.name)
    (in_tmp / "run" / "config.yaml").write_text("")
    for more in ([], [f"resume={other}"]):
        status, message = status_and_message([*NO_SUITES, "run_dir=run", *more], capsys)
        assert status == 2
        assert "run_dir=run: this folder holds a run with a complete checkpoint already; give resume=last" in message
    for resume in ("last", "run/checkpoints/last", str(step)):
        assert run_command("train", nothing, [*NO_SUITES, "run_dir=run", f"resume={resume}"]) == 0
    assert sorted(path.name for path in (in_tmp / "run").iterdir()) == ["checkpoints", "config.yaml"]


@pytest.mark.parametrize("resume", [None, "other"])
def test_a_folder_without_a_complete_checkpoint_is_free(
    resume: str | None, in_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = in_tmp / "run"
    (run / "checkpoints" / ".step_000002.partial").mkdir(parents=True)
    for name in ("updates.jsonl", "stdout.txt"):
        (run / name).write_text("{}")
    more = [f"resume={a_checkpoint(in_tmp / 'other')}"] * bool(resume)
    seen: list[list[str]] = []
    see = lambda cfg: seen.append(sorted(path.name for path in run.iterdir()))  # noqa: E731
    assert run_command("train", see, [*NO_SUITES, "run_dir=run", *more]) == 0
    assert seen == [[".claim", "aside", "checkpoints", "stdout.txt"]]
    assert (run / "aside" / "1" / "updates.jsonl").is_file()
    assert "is now in run/aside/1" in caplog.text


def test_only_the_first_process_of_a_job_claims(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_tmp / "run").mkdir()
    (in_tmp / "run" / "updates.jsonl").write_text("{}")

    def other_rank(cfg: DictConfig) -> None:
        with monkeypatch.context() as within:
            within.setenv("RANK", "1")
            assert run_command("train", nothing, [*NO_SUITES, "run_dir=run"]) == 0
        assert sorted(path.name for path in (in_tmp / "run").iterdir()) == [".claim", "aside"]

    monkeypatch.setenv("RANK", "0")
    assert run_command("train", other_rank, [*NO_SUITES, "run_dir=run"]) == 0
    a_checkpoint(in_tmp / "run")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run_command("train", nothing, [*NO_SUITES, "run_dir=run"]) == 2


@pytest.mark.parametrize("resume", ["last", "nowhere"])
def test_a_checkpoint_that_is_not_there_makes_no_folder(
    resume: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["run_dir=run"]):
        status, message = status_and_message([*NO_SUITES, f"resume={resume}", *more], capsys)
        assert (status, f"resume={resume}" in message) == (2, True)
    assert not [path for path in in_tmp.rglob("*") if path.name != "runs" and path.parent.name != "runs"]
