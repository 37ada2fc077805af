"""The W&B run of a training: mistakes told before anything is built, servers that do not answer, and its end."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import wandb
from omegaconf import OmegaConf

from geotune.config.training import WandbConfig
from geotune.errors import ConfigError
from geotune.training.wandb_logger import check_wandb, wandb_run
from tests.wandb_offline import wandb_records

KEY = "k" * 40


@pytest.fixture(autouse=True)
def fresh_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B as in a new process of a user without a key."""
    wandb.teardown()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "MODE", "CONFIG_DIR", "INIT_TIMEOUT"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    for name in ("SILENT", "DISABLE_GIT"):
        monkeypatch.setenv(f"WANDB_{name}", "true")
    (tmp_path / "home").mkdir()
    yield
    wandb.teardown()


def config(**settings: Any) -> Any:
    return OmegaConf.create({"wandb": asdict(WandbConfig(**settings))})


def test_online_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in (None, "offline", "disabled"):
        check_wandb(config(mode=mode))
    with pytest.raises(ConfigError, match=r"wandb.mode=online: there is no API key for https://.*; run `wandb"):
        check_wandb(config(mode="online"))
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ConfigError, match=r"can't be right .*40"):
        check_wandb(config(mode="online"))
    for key in (KEY, f"local-{KEY}", "head.payload.signature"):
        monkeypatch.setenv("WANDB_API_KEY", key)
        check_wandb(config(mode="online"))
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "home" / ".netrc").write_text(f"machine elsewhere login user password {KEY}\n")
    with pytest.raises(ConfigError, match="no API key"):
        check_wandb(config(mode="online"))
    (tmp_path / "home" / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    check_wandb(config(mode="online"))


@pytest.mark.parametrize(("variable", "value"), [("BASE_URL", "nowhere"), ("INIT_TIMEOUT", "soon")])
def test_a_variable_that_wandb_refuses(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"WANDB_{variable}", value)
    with pytest.raises(ConfigError, match=rf"^wandb: W&B refuses its settings \({variable.lower()}: .*correct"):
        check_wandb(config())


@contextmanager
def refusing() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Refusal(BaseHTTPRequestHandler):
    """A W&B server that knows no key."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def forbidding() -> Iterator[int]:
    """A server that refuses every request."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("server", [refusing, silent, forbidding])
def test_a_server_that_does_not_help_leaves_an_offline_run(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    with server() as port:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        check_wandb(config(mode="online"))
        with wandb_run(config(mode="online", name="kept"), tmp_path, "id7") as [logger]:
            logger.log_metrics({"loss": 3.0}, step=1)
    assert "the run goes on offline" in caplog.text
    records = wandb_records(tmp_path)
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.run_id, run.display_name) == ("id7", "kept")
    logged = {"/".join(item.nested_key) or item.key: item.value_json for r in records for item in r.history.item}
    assert logged["loss"] == "3"


def test_the_last_figures_are_on_disk_when_the_run_ends(tmp_path: Path) -> None:
    for name in ("first", "second"):  # a run that begins in a process that has finished another one
        with wandb_run(config(), tmp_path / name, None) as [logger]:
            for step in range(200):
                logger.log_metrics({"train/loss": step}, step=step)
        rows = [record for record in wandb_records(tmp_path / name) if record.HasField("history")]
        assert len(rows) == 200


DEATH = """
from pathlib import Path
import psutil
from omegaconf import OmegaConf
from geotune.training.wandb_logger import wandb_run
names = dict.fromkeys(["entity", "group", "name", "mode"])
with wandb_run(OmegaConf.create({"wandb": {"project": "p", "tags": [], **names}}), Path("run"), None) as [logger]:
    logger.log_metrics({"train/loss": 1.0}, step=1)
    for process in psutil.Process().children(recursive=True):
        if process.name() == "wandb-core":
            process.kill()
            process.wait()
print("what the run has still to do is done")
"""


def test_the_death_of_wandb_s_service_does_not_end_the_training(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DEATH], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "is done" in done.stdout
    assert "could not finish" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_fails_keeps_its_figures(tmp_path: Path) -> None:
    def fail() -> None:
        with wandb_run(config(), tmp_path, None) as [logger]:
            logger.log_metrics({"train/loss": 1.0}, step=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert any(record.HasField("history") for record in wandb_records(tmp_path))
