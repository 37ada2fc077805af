"""Short digests for ids, seeds and fingerprints. They are the same on every machine and must never change."""

from __future__ import annotations

import hashlib


def digest64(text: str) -> int:
    """Return the 64-bit BLAKE2b digest of `text` as a number, read as little-endian bytes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def fingerprint_of(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
