"""The folders in which Python looks for modules: a user's own classes lie in the working directory."""

from __future__ import annotations

import os
import sys


def see_working_directory() -> None:
    """Let Python find the modules of the working directory, after all others if `python -m` has not put it first.

    Last, so that a folder `eval` or `datasets` of the user's own hides nothing that this program imports.
    """
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.append(here)


def safe_path_variables() -> dict[str, str]:
    """Return environment variables with which a child process `python -m` looks for modules in the order of this one.

    Without them the child would put the working directory first, even if this process has it last.
    """
    return {} if sys.path[0] in ("", os.getcwd()) else {"PYTHONSAFEPATH": "1"}
