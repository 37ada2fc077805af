"""A home folder and a user name for processes that have none, such as those of `docker run --user 12345`."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import tempfile
from pathlib import Path

from geotune.errors import ConfigError

CACHE_VARIABLES = {
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
}
"""Variables that say where libraries write below the home folder, with folders that take its place."""
log = logging.getLogger(__name__)


def ensure_home() -> None:
    """Let libraries write their caches into a temporary folder if the home folder is missing or can't be written.

    What a home folder that can be read holds (keys, models of the hub) is still found. The function sets variables of
    this process, which its child processes inherit; a variable that the user has set stays as it is. Raises ConfigError
    if there is no temporary folder either.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the exception depends on the version of Python
        os.environ["USER"] = f"uid{os.getuid()}"
    home: Path | None = None
    with contextlib.suppress(RuntimeError):
        home = Path.home()
    if home is not None and home.is_dir() and os.access(home, os.W_OK | os.X_OK):
        return
    if home is not None and home.is_dir() and all(variable in os.environ for variable in CACHE_VARIABLES):
        return
    folder = _temporary_folder()
    if home is None or not home.is_dir():
        os.environ["HOME"] = str(folder)
        log.info("there is no home folder; libraries write their caches to %s", folder)
        return
    models = Path(os.environ.get("XDG_CACHE_HOME", home / ".cache"), "huggingface")
    if "HF_HOME" not in os.environ and models.is_dir():
        os.environ["HF_HOME"] = str(models)
    for variable, name in CACHE_VARIABLES.items():
        os.environ.setdefault(variable, str(folder / name))
    log.info("the home folder %s can't be written; libraries write their caches to %s", home, folder)


def _temporary_folder() -> Path:
    """Return a folder of this user's own, the same one at every start unless somebody else has taken its name."""
    try:
        folder = Path(tempfile.gettempdir(), f"geotune-{os.getuid()}")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            return Path(tempfile.mkdtemp(prefix="geotune-"))
        is_own = folder.stat().st_uid == os.getuid() and not folder.is_symlink()
        return folder if is_own else Path(tempfile.mkdtemp(prefix="geotune-"))
    except OSError as error:
        raise ConfigError(
            f"there is no home folder and no temporary one ({error}); set HOME to a folder that can be written"
        ) from error
