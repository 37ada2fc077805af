"""Calls to an OpenAI-compatible endpoint at a limited pace and within a budget; each one has a definite outcome."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    import aiohttp

OPENAI_URL = "https://api.openai.com/v1"
RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed later."""
NOT_CHARGED = frozenset({425, 429, 503})
"""Retried statuses by which an endpoint rejects a request before it works on it, so that nothing is charged."""
_WRONG_SETTINGS = {401: "the key", 403: "the key's rights", 404: "the address or the model", 405: "the address"}
"""Setting that the user should check, by the status that says that it is wrong."""


@dataclass(frozen=True)
class Endpoint:
    """Address of an endpoint, the model to ask there, and the API key."""

    url: str
    model: str
    key: str = ""

    @classmethod
    def from_environment(cls, api: str | None, model: str | None) -> Endpoint:
        """Make the endpoint from the config, or else from OPENAI_BASE_URL and OPENAI_MODEL.

        The key always comes from OPENAI_API_KEY. The OpenAI SDK reads address and key from the same variables.
        """
        url = (api or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
        model = model or os.environ.get("OPENAI_MODEL") or ""
        return cls(url, model, os.environ.get("OPENAI_API_KEY", "").strip())

    def check(self) -> None:
        """Raise ConfigError if there is no model, no http address, or no key for OpenAI's own endpoint."""
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise ConfigError(Problem("api", self.url, f"give the base address of the endpoint, such as {OPENAI_URL}"))
        if not self.model:
            raise ConfigError(Problem("model", None, "name the model to ask, or set OPENAI_MODEL"))
        if not self.key and self.url == OPENAI_URL:
            raise ConfigError(
                Problem("api", self.url, "set OPENAI_API_KEY to your key, or name another endpoint by api=")
            )


@dataclass(frozen=True)
class Response:
    """A complete response of status 200. Its body may still hold no valid answer."""

    body: str


@dataclass(frozen=True)
class Failure:
    """A call that brought no response of status 200."""

    reason: str
    may_be_charged: bool
    """Whether the endpoint may have worked on the request (timeouts, cut connections, server errors)."""
    retry: bool = True
    """Whether the same request may succeed later."""
    fatal: bool = False
    """Whether every other call would fail in the same way: a wrong key, address or model, or no credit left."""
    wait_s: float | None = None
    """Seconds that the endpoint asks to wait."""


class Budget:
    """Money in US dollars that concurrent calls share. Each call reserves its highest possible cost beforehand."""

    def __init__(self, limit_usd: float, spent_usd: float) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self._reserved: dict[int, float] = {}
        self._tickets = 0
        self._settled = asyncio.Condition()

    async def reserve(self, worst_usd: float) -> int | None:
        """Wait until `worst_usd` is free and return a ticket for one call, or None if it can't become free any more."""
        async with self._settled:
            while self.spent_usd + sum(self._reserved.values()) + worst_usd > self.limit_usd:
                if not self._reserved:
                    return None
                await self._settled.wait()
            self._tickets += 1
            self._reserved[self._tickets] = worst_usd
            return self._tickets

    async def settle(self, ticket: int, usd: float) -> None:
        """Replace the reservation of a call by its actual cost."""
        async with self._settled:
            del self._reserved[ticket]
            self.spent_usd += usd
            self._settled.notify_all()


class Pace:
    """Limits the rate at which calls start: at most `per_minute`, and none while the endpoint asks to wait."""

    def __init__(self, per_minute: float) -> None:
        self._gap_s = 60.0 / per_minute
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the next call may start."""
        while True:
            now = time.monotonic()
            if now >= self._next:
                self._next = now + self._gap_s
                return
            await asyncio.sleep(self._next - now)

    def pause(self, seconds: float) -> None:
        """Let no call start for `seconds`."""
        self._next = max(self._next, time.monotonic() + seconds)


class ChatApi:
    """Client of an endpoint's chat completions with one pool of connections. `connect` makes it."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        self._session = session
        self._endpoint = endpoint

    @staticmethod
    @asynccontextmanager
    async def connect(endpoint: Endpoint, timeout_s: float, connections: int) -> AsyncIterator[ChatApi]:
        """Open a client for the duration of a block.

        Args:
            timeout_s: seconds after which a call fails.
            connections: largest number of simultaneous calls.
        """
        import aiohttp

        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        async with aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            connector=aiohttp.TCPConnector(limit=connections),
            trust_env=True,
        ) as session:
            yield ChatApi(session, endpoint)

    async def complete(self, request: Mapping[str, Any]) -> Response | Failure:
        """Send one request, with the endpoint's model filled in, and return its outcome."""
        import aiohttp

        url = f"{self._endpoint.url}/chat/completions"
        request = {"model": self._endpoint.model, **request}
        try:
            # Following a redirect would send the request, and cause its cost, a second time.
            async with self._session.post(url, json=request, allow_redirects=False) as response:
                body = (await response.read()).decode("utf-8", errors="replace")
                return Response(body) if response.status == 200 else self._failure(response, body)
        except TimeoutError:
            return Failure("timeout", may_be_charged=True)
        except aiohttp.ClientConnectorError as error:
            return Failure(f"no_connection ({self._safe(str(error))})", may_be_charged=False)
        except aiohttp.ClientError as error:
            return Failure(f"connection_cut ({type(error).__name__})", may_be_charged=True)

    def _failure(self, response: aiohttp.ClientResponse, body: str) -> Failure:
        status, message = response.status, self._safe(_message(body))
        reason = f"status_{status} ({message})"
        if status in RETRIED or status >= 500:
            # OpenAI uses this code when no credit is left, so waiting does not help.
            fatal = status == 429 and "insufficient_quota" in body
            charged = status not in NOT_CHARGED
            return Failure(reason, charged, retry=not fatal, fatal=fatal, wait_s=_retry_after_s(response.headers))
        setting = _WRONG_SETTINGS.get(status, "the address" if status < 400 else "")
        if setting:
            return Failure(f"{reason}; check {setting}", may_be_charged=False, retry=False, fatal=True)
        return Failure(reason, may_be_charged=False, retry=False)

    def _safe(self, text: str) -> str:
        """Return `text` without the API key."""
        return text.replace(self._endpoint.key, "***") if self._endpoint.key else text


def _message(body: str) -> str:
    """Return the message in the body of an error response, in one line of at most 300 characters."""
    try:
        error = json.loads(body)["error"]
        body = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return " ".join(str(body).split())[:300]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the headers ask to wait; they state milliseconds, seconds, or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
