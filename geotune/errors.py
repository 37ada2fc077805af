"""The one error that is a user's, not ours."""

from __future__ import annotations


class ConfigError(Exception):
    """A mistake in what the user asked for: its message names the key, the value and the remedy. Exit status 2."""
