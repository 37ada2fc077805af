"""Nested mappings of keys, as recipes hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], is_leaf: Callable[[Any], Any], separator: str = ".") -> list[tuple[str, Any]]:
    """Return the leaves of a nested mapping with their joined keys, in order.

    is_leaf: whether a node counts as a leaf.
    """
    found: list[tuple[str, Any]] = []
    for name, node in tree.items():
        inner = [("", node)] if is_leaf(node) else flatten(node, is_leaf, separator)
        found += [(f"{name}{separator}{key}" if key else str(name), leaf) for key, leaf in inner]
    return found
