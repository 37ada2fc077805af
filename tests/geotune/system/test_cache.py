"""The bounded cache."""

from __future__ import annotations

from geotune.system.cache import LruBytes


def test_lru_forgets_the_oldest() -> None:
    cache: LruBytes[bytes] = LruBytes(10, len)
    for name in "abc":
        cache.put(name, b"1234")
    assert cache.get("a") is None
    assert cache.get("b") == b"1234"
    cache.put("d", b"1234")
    assert cache.get("c") is None
    assert cache.get("b") is not None
    cache.put("huge", b"12345678901")
    assert cache.get("huge") is None
    assert cache.used == 8
