"""The one way in for every command: it composes the config, words the errors and sets the exit status.

An entry point needs a function of the config and a `main`:

    def train(cfg: DictConfig) -> dict[str, float]: ...

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command("train", train, argv)

    if __name__ == "__main__":
        raise SystemExit(main())

Such a module imports heavy libraries (torch, lightning, transformers) inside its functions, so that `--help` answers at
once. A new command needs an entry in `geotune.cli.commands.COMMANDS`, an entry in
`geotune.config.compositions.COMPOSITIONS`, and a file in `recipes/`.

The function receives a complete config: every key of the schema in `geotune.config` is set, values are validated and
interpolations are resolved, and reading an unknown key raises. Arguments below the `_target_` of a builder or a suite
are checked against that target. For `train`, `cfg.run_dir` is set and the folder exists and is claimed for this job,
unless `cfg.dry_run` is set; it is the same folder in the child processes of DDP. A recipe with `chain` gives the config
of `geotune.config.chain` instead. The function's return value is ignored.

A ConfigError is a mistake of the user: its message goes to stderr without a traceback, and the exit status is 2. So is
a full disk. A signal that asks the process to stop raises `Stopped`, a KeyboardInterrupt, in the function: the exit
status is 130 after Ctrl-C, 143 after SIGTERM and 129 after the terminal was closed, with one line and no traceback. Any
other exception propagates and gives a traceback and the exit status 1. Output that nobody reads, or that the terminal
can't show, is no error (`geotune.system.streams`).

Overrides, which take precedence over the recipe:

    recipe=quickstart backbone=tiny      choose a file of recipes/<group>/, or any YAML file: builder=mine.yaml
    builder@data.build=synthetic         place a file of a group at a key; write `+builder@...` for a new key
    stage.lr=1e-4  data.tasks=[a,b]      set a value, which is read as the type of the key requires
    data.mix={/photos (2024): 2, b: 0.5} set numbers by name; the name is any text, in quotes or not
    data.path=/photos (2024), a=b/{x}    set a text, which is everything after the first `=`
    evaluator=null  ~data.limit          set a key to null, and reset a key to its default
    places=200                           set a field of the builder, short for builder.places=200 (`build` only)
    chain.words.stage.lr=1e-4            set a key of the leg `words` of a chain; a key without that goes to every leg

Quotes around a whole value are removed, a leading `~/` is the home folder, and `+key=` and `++key=` mean `key=`.
Interpolation (`${...}`) works in recipe files; on the command line it is plain text.

A config may name classes and tasks of the user's own, package.module.Class. They are looked for where Python looks for
modules, and last in the working directory; `python -m` puts that first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig

from geotune.cli.commands import PACKAGES
from geotune.cli.help import help_text
from geotune.cli.run_folder import claimed_run_dir
from geotune.config.chain import compose_chain, composition_of
from geotune.config.composing import compose
from geotune.config.typed_paths import check_typed_paths
from geotune.errors import ConfigError, first_line
from geotune.system.files import DISK_FULL
from geotune.system.home import ensure_home
from geotune.system.interruption import signal_behind, stoppable
from geotune.system.python_path import see_working_directory
from geotune.system.screen import wrapped
from geotune.system.streams import OutputLostError, check_output, make_streams_tolerant


def run_command(command: str, function: Callable[[DictConfig], Any], argv: Sequence[str] | None = None) -> int:
    """Run `function` on the config of the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    make_streams_tolerant()
    with stoppable() as interruption, _no_screen():
        try:
            _run(command, function, list(sys.argv[1:] if argv is None else argv))
        except ConfigError as error:
            print(wrapped(f"error: {error}", sys.stderr), file=sys.stderr)
            return 2
        except BaseException as error:
            if number := signal_behind(error, interruption):
                print(_interrupted(number, error), file=sys.stderr)
                return 128 + number
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                where = f"{error.filename}: " if error.filename else ""
                print(f"error: {where}{error.strerror}; make room there and run the command again", file=sys.stderr)
                return 2
            raise
    return 0


def _run(command: str, function: Callable[[DictConfig], Any], arguments: Sequence[str]) -> None:
    see_working_directory()
    if {"--help", "-h"} & set(arguments):
        show(help_text(command, [argument for argument in arguments if argument not in ("--help", "-h")]))
        return
    _configure_logging()
    ensure_home()
    is_chain = composition_of(command, arguments) == "chain"
    cfg = compose_chain(arguments) if is_chain else compose(command, arguments)
    if command == "train" and not is_chain:
        check_typed_paths(arguments, cfg)
    with claimed_run_dir(cfg):
        function(cfg)


def show(text: str) -> None:
    """Print the result of a command. Raises ConfigError if it could not be written and somebody may miss it."""
    print(text)
    try:
        check_output()
    except OutputLostError as error:
        raise ConfigError(
            f"standard output can't be written ({error}); make room there, or send it elsewhere"
        ) from None


def _interrupted(number: int, error: BaseException) -> str:
    """Return the line that says that a signal has stopped the command, and which error came of it, if any."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return f"interrupted{by}"
    return f"interrupted{by}; then {type(error).__name__}: {first_line(error)}"


@contextmanager
def _no_screen() -> Iterator[None]:
    """Have matplotlib draw to files alone: a notebook's MPLBACKEND names a module that exists in its process only."""
    before = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before


def _configure_logging() -> None:
    """Show log messages of our packages from level INFO on, and those of libraries from WARNING on."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
