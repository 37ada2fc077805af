"""A contender of a benchmark: a process of its own, so that its peak memory can be measured.

It builds everything, does its warm-up updates and takes its turns as `benchmarks.turns` describes. Whatever libraries
print goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module

from benchmarks.turns import Setup, Turns


def hide_broken_wandb() -> None:
    """Hide a wandb that can't be imported: TRL imports it if it is installed, although nothing is logged."""
    try:
        import wandb  # noqa: F401
    except Exception as error:  # whatever its own dependencies raise
        print(f"wandb can't be imported and is hidden: {error!r}", file=sys.stderr)
        sys.modules["wandb"] = None  # type: ignore[assignment]


def main() -> None:
    """Run the contender whose setup the command line holds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setup", type=json.loads)
    setup = Setup(**parser.parse_args().setup)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from geotune.system.libraries import silence_libraries

    silence_libraries()
    if setup.name == "trl":
        hide_broken_wandb()
        module = "trl_grpo_contender" if setup.new_tokens else "trl_contender"
    else:
        module = "grpo_contender" if setup.new_tokens else "sft_contender"
    import_module(f"benchmarks.{module}").train(setup, Turns(setup, channel))


if __name__ == "__main__":
    main()
