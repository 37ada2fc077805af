"""How a command starts and ends: exit statuses, messages about mistakes, and the config that its function receives."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from geotune.cli.entry import run_command
from geotune.errors import ConfigError
from tests.geotune.commands import NO_SUITES, status_and_message


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stage.lrr=1", ["stage.lrr=1", "did you mean stage.lr?"]),
        ("stge.lr=1", ["stge.lr=1", "did you mean stage.lr?"]),
        ("max_stps=1", ["max_stps=1", "did you mean trainer.max_steps?"]),
        ("+stage.lrr=1", ["stage.lrr=1", "did you mean stage.lr?"]),
        ("++lr=1", ["lr=1", "did you mean stage.lr?"]),
        ("backbone.lora.rank=1", ["backbone.lora.rank=1", "r, alpha, dropout"]),
        ("backbone.lora.r.x=1", ["backbone.lora.r={'x': 1}", "whole number"]),
        ("hydra.run.dir=x", ["hydra.run.dir=x", "no such key"]),
        ("stage.lr=fast", ["stage.lr=fast", "a number"]),
        ("stage.lr=", ["stage.lr=:", "a number"]),
        ("stage.lr=nan", ["stage.lr=nan"]),
        ("stage.betas=[0.9]", ["stage.betas=[0.9]", "2 values"]),
        ("stage.betas=0.9", ["stage.betas=0.9", "a list"]),
        ("stage.betas=[0.9,x]", ["stage.betas[1]=x", "a number"]),
        ("data.batch_size=2.5", ["data.batch_size=2.5", "a whole number"]),
        ("data.batch_size=true", ["data.batch_size=true", "a whole number"]),
        ("data.batch_size=null", ["data.batch_size=null", "a whole number"]),
        ("data.batch_size=-1", ["data.batch_size=-1", "at least 1"]),
        ("data.tasks=pose_fixed", ["data.tasks=pose_fixed", "a list"]),
        ("dry_run=yes", ["dry_run=yes", "true or false"]),
        ("backbone.dtype=bf61", ["backbone.dtype=bf61", "bf16, float32", "did you mean bf16?"]),
        ("backbone.lora=8", ["backbone.lora=8"]),
        ("data.path=???", ["data.path=???", "give data.path=<value>"]),
        ("~data.path", ["data.path=???", "give data.path=<value>"]),
        ("backbone=qwen2_5_vl_8b", ["backbone=qwen2_5_vl_8b", "did you mean qwen2_5_vl_7b", "tiny_internvl"]),
        ("recipe=quikstart", ["recipe=quikstart", "did you mean quickstart", "tiny_pretrain"]),
        ("recipe=", ["recipe=:", "quickstart"]),
        ("recipe=/nowhere/mine.yaml", ["recipe=/nowhere/mine.yaml", "No such file"]),
        ("nosuchgroup@data=x", ["nosuchgroup", "backbone"]),
        ("builder@data.build=synthetic", ["builder@data.build", "+builder@data.build=synthetic"]),
        ("quickstart", ["quickstart", "recipe=quickstart"]),
        ("--stage.lr=1", ["--stage.lr=1", "stage.lr=1"]),
        ("--dry-run", ["--dry-run", "key=value"]),
        ("stage.lr", ["stage.lr", "key=value"]),
        ("=5", ["=5", "key=value"]),
        ("~stage.lr=5", ["~stage.lr=5", "key=value"]),
    ],
)
def test_a_mistake_on_the_command_line_is_told_with_key_value_and_remedy(
    override: str, told: list[str], capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    status, message = status_and_message([*NO_SUITES, override], capsys)
    assert status == 2
    assert message.startswith("error: ")
    assert "Traceback" not in message
    for words in told:
        assert words in message
    assert not list(in_tmp.iterdir()), "a mistake leaves nothing behind"


def test_all_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, message = status_and_message([*NO_SUITES, "stage.lrr=1", "data.batch_size=x", "sed=3"], capsys)
    assert all(word in message for word in ("stage.lr?", "data.batch_size=x", "did you mean seed?"))


@pytest.mark.parametrize("argv", [[], ["stage.lr=1"]])
def test_a_recipe_must_be_chosen(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, message = status_and_message(argv, capsys)
    assert status == 2
    assert "quickstart" in message
    assert "tiny_pretrain" in message


def test_status_of_every_way_to_end(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ends(error: BaseException | None) -> int:
        def function(cfg: DictConfig) -> None:
            if error is not None:
                raise error

        return run_command("train", function, NO_SUITES)

    assert ends(None) == 0
    assert ends(ConfigError("data.path=x: fix it")) == 2
    assert ends(KeyboardInterrupt()) == 130
    assert ends(OSError(errno.ENOSPC, "No space left on device", "x/y")) == 2
    assert capsys.readouterr().err == (
        "error: data.path=x: fix it\ninterrupted\n"
        "error: x/y: No space left on device; make room there and run the command again\n"
    )
    with pytest.raises(ValueError, match="ours"):
        ends(ValueError("ours"))
    with pytest.raises(SystemExit):
        ends(SystemExit(1))


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "interrupted by SIGTERM"),
        (signal.SIGHUP, 129, "interrupted by SIGHUP"),
    ],
)
@pytest.mark.parametrize("then", [None, SystemExit(1), BrokenPipeError("a worker is gone\nfar away")])
def test_a_request_to_stop_is_one_line_and_its_own_status(
    number: int, status: int, line: str, then: BaseException | None, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when what follows is another error: that of Lightning, or that of a process which the signal ended."""

    def function(cfg: DictConfig) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            if then is not None:
                raise then from None
            raise

    before = signal.getsignal(number)
    assert run_command("train", function, NO_SUITES) == status
    more = "; then BrokenPipeError: a worker is gone" if isinstance(then, OSError) else ""
    assert capsys.readouterr().err == f"{line}{more}\n"
    assert signal.getsignal(number) == before


def test_a_notebooks_backend_does_not_reach_matplotlib(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline = "module://matplotlib_inline.backend_inline"
    monkeypatch.setenv("MPLBACKEND", inline)
    seen: list[str] = []
    assert run_command("train", lambda cfg: seen.append(os.environ["MPLBACKEND"]), NO_SUITES) == 0
    assert (seen, os.environ["MPLBACKEND"]) == (["agg"], inline)


@pytest.mark.parametrize("command", [["geotune"], ["geotune.train", "--help", "recipe=quickstart"]])
def test_help_that_nobody_reads_ends_quietly(command: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", *command], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
