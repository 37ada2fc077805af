"""Digests are fixed for ever: ids, seeds and fingerprints on disk are made of them."""

from __future__ import annotations

import pytest

from geotune.system.digests import digest64, fingerprint_of


@pytest.mark.parametrize(
    ("text", "number", "digits"),
    [
        ("", 13020603013274838756, "e3b0c44298fc1c14"),
        ("geotune", 1745376336940870113, "e2d66eb7e33789e2"),
        ("geox_index/CVGloable/13824_0/N/pose_fixed/full", 16891787919662708965, "8d5df2b706dbe5d2"),
        ("北 é", 15064597278467519786, "07ac4baf25c566a8"),
    ],
)
def test_known_values(text: str, number: int, digits: str) -> None:
    assert digest64(text) == number
    assert fingerprint_of(text) == digits
