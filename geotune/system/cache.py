"""A cache that is bounded by bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class LruBytes(Generic[Value]):
    """A thread-safe cache that drops the least recently used values once they take more than `limit` bytes.

    size: function that returns the bytes of a value. A copy in another process starts empty.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit = limit
        self.size = size
        self.used = 0
        self.items: OrderedDict[Hashable, Value] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """Return the value of `key` and mark it as the most recently used; None if it is not in the cache."""
        with self.lock:
            value = self.items.get(key)
            if value is not None:
                self.items.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value) -> None:
        """Store `value`, unless the key is known or the value alone exceeds the limit."""
        with self.lock:
            if key in self.items or self.size(value) > self.limit:
                return
            self.items[key] = value
            self.used += self.size(value)
            while self.used > self.limit:
                self.used -= self.size(self.items.popitem(last=False)[1])

    def clear(self) -> None:
        """Drop all values."""
        with self.lock:
            self.items.clear()
            self.used = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings without the values and the lock."""
        return {"limit": self.limit, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
