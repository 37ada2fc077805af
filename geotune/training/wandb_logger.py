"""The W&B run of a training: checked before anything is built, and offline if its server can't be reached."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from geotune.errors import ABSENT, ConfigError, Problem, first_line
from geotune.system.launchers import is_first_process

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger
    from wandb import Run

INIT_SECONDS = 20
"""Seconds after which a server that does not answer counts as unreachable, unless WANDB_INIT_TIMEOUT is set."""
UPLOAD_SECONDS = 600
"""Seconds that the upload may take at the end of a run, unless WANDB_FINISH_TIMEOUT is set."""
KEY_REMEDY = "run `wandb login`, set WANDB_API_KEY, or set wandb.mode=offline and upload later with `wandb sync`"
log = logging.getLogger(__name__)


def check_wandb(cfg: DictConfig) -> None:
    """Check what W&B needs for the mode of the recipe, within a second and without the network.

    Raises ConfigError if wandb is not installed, if it refuses a variable or a settings file, or if the mode is online
    and there is no key.
    """
    mode = _mode(cfg)
    if mode == "disabled":
        return
    try:
        from wandb.sdk.wandb_setup import singleton

        settings = singleton().settings
    except ModuleNotFoundError as error:
        raise ConfigError(
            Problem("wandb.mode", cfg.wandb.mode, str(error), "install wandb, or set wandb.mode=disabled")
        ) from error
    except Exception as error:  # pydantic's and W&B's own errors, and those of reading the settings file
        raise _refused(error) from error
    if mode == "online" and is_first_process():  # which alone logs
        _check_key(settings)


def _mode(cfg: DictConfig) -> str:
    return str(cfg.wandb.mode or "offline")


def _refused(error: Exception) -> ConfigError:
    """Return the error for settings that W&B does not accept."""
    from pydantic import ValidationError

    told = [first_line(error)]
    if isinstance(error, ValidationError):
        told = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    remedy = "correct the variable WANDB_... or the settings file that holds it, or set wandb.mode=disabled"
    return ConfigError(Problem("wandb", ABSENT, f"W&B refuses its settings ({'; '.join(told)})", remedy))


def _check_key(settings: Any) -> None:
    """Raise ConfigError if there is no key for the server, or one that can't be right, where W&B looks for keys."""
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib.wbauth import AuthApiKey, read_netrc_auth

    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return
    server = str(settings.base_url)
    wrong = f"there is no API key for {server}"
    try:
        key = os.environ.get("WANDB_API_KEY") or read_netrc_auth(host=server) or settings.api_key
        if key:
            AuthApiKey(host=server, api_key=key)
            return
    except AuthenticationError as error:
        wrong = f"the API key for {server} can't be right ({first_line(error)})"
    raise ConfigError(Problem("wandb.mode", "online", wrong, KEY_REMEDY))


@contextmanager
def wandb_run(cfg: DictConfig, run_dir: Path, run_id: str | None) -> Iterator[list[WandbLogger]]:
    """Start the W&B run, yield its logger, or no logger if W&B is disabled, and finish the run, also after an error.

    At the end all data of the run is on disk. An online run becomes an offline one, with a warning, if its server can't
    be reached or refuses it. `run_id` is the id of the W&B run to continue; None starts a new one. Raises ConfigError
    if W&B refuses the settings of the run.
    """
    mode = _mode(cfg)
    if mode == "disabled":
        yield []
        return
    import wandb

    try:
        try:
            logger = _started(cfg, run_dir, run_id, mode)
        except (wandb.errors.CommError, TimeoutError) as error:
            if mode == "offline":
                raise
            later = run_dir / "wandb" / "offline-run-*"
            reason = first_line(error)
            log.warning("W&B can't log online (%s); the run goes on offline: upload it by wandb sync %s", reason, later)
            wandb.teardown()  # else the service would go on trying
            logger = _started(cfg, run_dir, run_id, "offline")
        yield [logger]
    finally:
        # `finish` returns before W&B's service has written the last records; the end of the service makes sure.
        for end in (wandb.finish, wandb.teardown):
            try:
                end()
            except (Exception, SystemExit) as error:  # SystemExit if the service has failed
                log.warning("W&B could not finish its run (%r); %s holds what it logged", error, run_dir / "wandb")


def _started(cfg: DictConfig, run_dir: Path, run_id: str | None, mode: str) -> WandbLogger:
    """Return the logger of a W&B run that has begun."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    limits: dict[str, Any] = {"init_timeout": INIT_SECONDS, "finish_timeout": UPLOAD_SECONDS}
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    logger = WandbLogger(
        project=cfg.wandb.project,
        entity=cfg.wandb.entity,
        group=cfg.wandb.group,
        name=cfg.wandb.name or run_dir.name,
        tags=list(cfg.wandb.tags),
        save_dir=str(run_dir),
        id=run_id,
        # WandbLogger's own argument `offline` would overwrite the variable WANDB_MODE.
        mode=mode,
        config=config,
        settings=wandb.Settings(**{k: v for k, v in limits.items() if f"WANDB_{k.upper()}" not in os.environ}),
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning passes None, and W&B warns of any value
    _ = logger.experiment  # starts the run, on the first process only
    return logger


@contextmanager
def files_beside(run: Run) -> Iterator[None]:
    """Store a table's images beside the run's own files until their upload, unless the user set WANDB_DATA_DIR.

    W&B's default is the home folder, where the images are left behind when an offline run is moved.
    """
    is_set = "WANDB_DATA_DIR" in os.environ
    if not is_set:
        os.environ["WANDB_DATA_DIR"] = str(Path(run.dir).parent.parent)
    try:
        yield
    finally:
        if not is_set:
            del os.environ["WANDB_DATA_DIR"]
