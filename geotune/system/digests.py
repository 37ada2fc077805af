"""Short digests that tell things apart: they hold no secret, and they are the same on every machine."""

from __future__ import annotations

import hashlib


def digest64(text: str) -> int:
    """A number below 2^64 for `text`: BLAKE2b's first eight bytes, the lowest first."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def fingerprint_of(text: str) -> str:
    """Sixteen hexadecimal digits for `text`: the beginning of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
