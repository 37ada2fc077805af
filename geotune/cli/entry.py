"""The one way in for every command: composes a recipe, validates it, words errors, sets the exit status.

For an entry point (all that a command's module needs):

    def train(cfg: DictConfig) -> dict[str, float]: ...

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command("train", train, argv)

    if __name__ == "__main__":
        raise SystemExit(main())

The module imports nothing heavy at its top (torch, lightning, transformers: inside the function), so that `--help`
answers at once. A new command is one entry of `geotune.cli.commands.COMMANDS` and of
`geotune.config.compositions.COMPOSITIONS`, and a file in `recipes/`.

The function receives an OmegaConf `DictConfig` that is complete (every key of the schema in `geotune.config` is
there, defaults included), validated (types, enumerations, cross-field checks), fully resolved (no interpolation left)
and in struct mode (reading a key that does not exist raises). What lies below `_target_` of a builder or a suite has
been checked against that target's own fields. For `train`: `cfg.run_dir` is fixed, exists and is writable (unless
`cfg.dry_run`), and is the same in the children of DDP. What the function returns is not used here.

Raise `ConfigError` for a mistake of the user: status 2 and its message on stderr, without a traceback. Ctrl-C: 1.
Anything else propagates: a traceback and status 1.

What a user may type; it takes precedence over what the recipe says:

    recipe=quickstart backbone=tiny      a file of recipes/<group>/, or recipe=<any file.yaml>
    builder@data.build=synthetic         a group's file placed at a key; `+` in front where the recipe has none there
    stage.lr=1e-4  data.tasks=[a,b]      the key's type decides how a value is read
    data.path=/photos (2024), a=b/{x}    a key that holds text takes all that stands behind the first `=`
    evaluator=null  ~data.limit          nothing; back to the default
    places=200                           `build` only: a field of the builder, short for builder.places=200

Quotes around a whole value are taken off, a leading `~/` is the home folder, `+key=` and `++key=` mean `key=`.
Interpolation (`${...}`) works in recipe files; on the command line it is text like any other.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig

from geotune.cli.commands import PACKAGES
from geotune.cli.help import help_text
from geotune.cli.run_folder import claimed_run_dir
from geotune.config.composing import compose
from geotune.errors import ConfigError


def run_command(command: str, function: Callable[[DictConfig], Any], argv: Sequence[str] | None = None) -> int:
    """Run `function` on the config that the command line `argv` (default: `sys.argv[1:]`) asks for; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if {"--help", "-h"} & set(arguments):
            show(help_text(command, [word for word in arguments if word not in ("--help", "-h")]))
            return 0
        _show_own_messages()
        cfg = compose(command, arguments)
        with claimed_run_dir(cfg):
            function(cfg)
    except ConfigError as error:
        print(f"error: {_own_words(error)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning shuts down on Ctrl-C and then leaves with SystemExit(1).
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)
        return 1
    return 0


def show(text: str) -> None:
    """Print `text`, of which a reader such as `head` may want only the beginning."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes standard output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _own_words(error: ConfigError) -> str:
    """The message alone: one that was raised in a data worker arrives wrapped in that process's traceback."""
    text = str(error)
    return text.rpartition("ConfigError: ")[2].strip() if "Traceback (most recent call last)" in text else text


def _show_own_messages() -> None:
    """Our loggers speak from INFO on, libraries from WARNING on."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
