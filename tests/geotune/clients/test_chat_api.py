from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from geotune.clients.chat_api import Pace, _retry_after_s


def test_a_pause_holds_for_all_calls() -> None:
    async def turns() -> list[float]:
        pace = Pace(per_minute=600)
        started = time.monotonic()
        await pace.turn()
        pace.pause(0.3)

        async def turn() -> float:
            await pace.turn()
            return time.monotonic() - started

        return sorted(await asyncio.gather(turn(), turn(), turn()))

    first, second, third = asyncio.run(turns())
    assert first >= 0.3
    assert second >= 0.4
    assert third >= 0.5


def test_retry_after_in_all_its_forms() -> None:
    assert _retry_after_s({"retry-after": "3"}) == 3
    assert _retry_after_s({"retry-after-ms": "250", "retry-after": "3"}) == 0.25
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 15 < (_retry_after_s({"retry-after": soon}) or 0) <= 20
    assert _retry_after_s({"retry-after": format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)}) == 0
    for nonsense in ({}, {"retry-after": "soon"}, {"retry-after": "-1"}, {"retry-after": "inf"}):
        assert _retry_after_s(nonsense) is None
