"""`geotune <command> [key=value ...]`: the commands by their short names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from geotune.cli.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to the command's own module; its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = "\n".join(f"  {name:<8}{command.summary}" for name, command in COMMANDS.items())
    if not arguments or arguments[0] in ("--help", "-h"):
        print(f"usage: geotune <command> [key=value ...]; geotune <command> --help says more\n\n{known}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: geotune {name}: there is no such command; there are\n{known}", file=sys.stderr)
        return 2
    return COMMANDS[name].main(rest)


if __name__ == "__main__":
    raise SystemExit(main())
