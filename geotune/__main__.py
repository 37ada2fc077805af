"""`geotune <command> [key=value ...]`: every command by its short name."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from geotune.cli.commands import COMMANDS
from geotune.system.streams import make_streams_tolerant


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: `sys.argv[1:]`) begins with on the rest of it; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    make_streams_tolerant()
    known = "\n".join(f"  {name:<8}{command.summary}" for name, command in COMMANDS.items())
    if not arguments or arguments[0] in ("--help", "-h"):
        print(f"usage: geotune <command> [key=value ...]\n   or: geotune <command> --help\n\ncommands:\n{known}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: geotune {name}: there is no such command; the commands are\n{known}", file=sys.stderr)
        return 2
    return COMMANDS[name].main(rest)


if __name__ == "__main__":
    raise SystemExit(main())
