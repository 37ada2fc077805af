"""Makes one build's calls for geo-captions: which photos to ask about, within the budget, until an answer is valid."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from typing import Any

from data_builders.sources.geocaption_form import InvalidCaptionError, check_reply, read_reply
from data_builders.sources.geocaption_request import CallCosts, CallSettings, CaptionRequest
from geotune.clients.chat_api import Budget, ChatApi, Endpoint, Failure, Pace
from geotune.clients.journal import Journal
from geotune.errors import BadRecord, ConfigError
from geotune.system.progress import progress_bar

EXPECTED_TOKENS_OUT = 1200
"""Assumed length of an answer in tokens, as long as no answer has been counted."""
LONGEST_WAIT_S = 600.0
"""The build stops if the endpoint asks to wait longer than this."""
LONGEST_BACKOFF_S = 60.0
"""Longest wait before a retry, apart from what the endpoint asks for."""
REFUSALS_IN_A_ROW = 5
"""The build stops after this many refused requests if none was accepted before: the photos are not the cause."""


class CaptionCalls:
    """The calls of one build; `run` makes them and keeps every response in the journal."""

    def __init__(
        self, settings: CallSettings, endpoint: Endpoint, journal: Journal, requests: list[CaptionRequest]
    ) -> None:
        self.settings = settings
        self.endpoint = endpoint
        self.journal = journal
        self.costs = CallCosts(settings)
        self.failed: dict[str, str] = {}
        """By key of the request, why its last call failed."""
        self.todo = list({request.key: request for request in requests if self._is_open(request)}.values())
        """The requests without a valid answer, each once."""
        self.answered_before = sum(request.key in journal for request in requests)
        self.outcomes: Counter[str] = Counter()
        """Number of calls by what they brought: `valid`, a reason of an invalid answer, or a failure."""
        self._stop: str = ""
        """Why no further call may begin; empty while calls go on."""
        self._accepted = False
        self._failures_in_a_row = 0

    def _is_open(self, request: CaptionRequest) -> bool:
        return request.key not in self.journal and self.journal.invalid[request.key] < self.settings.asks

    def estimate(self) -> str:
        """The number of open requests and their estimated cost, as a line for the log."""
        count, total = self.journal.answer_tokens
        tokens_out = min(total / count if count else EXPECTED_TOKENS_OUT, self.settings.max_output_tokens)
        expected = sum(self.costs.expected_usd(request, tokens_out) for request in self.todo)
        worst = sum(map(self.costs.worst_usd, self.todo)) * self.settings.asks
        return (
            f"geo-captions: {self.answered_before:,} photos have an answer, {len(self.todo):,} are to be described by "
            f"{self.endpoint.model or 'a model'} at {self.endpoint.url}; estimated cost {expected:.2f} USD "
            f"({worst:.2f} USD if each took {self.settings.asks} answers of full length); budget "
            f"{self.settings.budget_usd:.2f} USD, of which {self.journal.spent_usd:.2f} USD is spent"
        )

    def summary(self) -> dict[str, Any]:
        """The calls of this build and the money that all builds have spent, for the report."""
        return {
            "model": self.endpoint.model,
            "answered_before": self.answered_before,
            "calls": dict(sorted(self.outcomes.items())),
            "spent_usd": round(self.journal.spent_usd, 6),
            "budget_usd": self.settings.budget_usd,
        }

    async def run(self) -> None:
        """Make the calls for all open requests.

        Raises:
            ConfigError: The calls had to stop early; the answers received by then are kept.
        """
        if not self.todo:
            return
        self._budget = Budget(self.settings.budget_usd, self.journal.spent_usd)
        self._pace = Pace(self.settings.requests_per_minute)
        connect = ChatApi.connect(self.endpoint, self.settings.timeout_s, self.settings.concurrency)
        with progress_bar("geo-captions", len(self.todo)) as advance:
            async with connect as self._api:
                left = iter(self.todo)
                # The first call runs alone: a wrong setting or a wrong estimate of tokens then costs one call only.
                await self._ask(next(left))
                advance()

                async def work() -> None:
                    for request in left:
                        if self._stop:
                            return
                        await self._ask(request)
                        advance()

                async with asyncio.TaskGroup() as group:
                    for _ in range(self.settings.concurrency):
                        group.create_task(work())
        if self._stop:
            missing = sum(request.key not in self.journal for request in self.todo)
            raise ConfigError(
                f"{self._stop}. {missing:,} photos have no answer yet; the answers received so far are kept: "
                "run the same command again to continue, or with ask=false to build from them"
            )

    async def _ask(self, request: CaptionRequest) -> None:
        """Make calls until the answer is valid, or until no further call is allowed for this photo."""
        try:
            body = {**await asyncio.to_thread(request.photo_fields), **self.costs.common_fields}
        except BadRecord as error:  # the photo has changed since the table was read
            self.failed[request.key] = str(error)
            return
        worst = self.costs.worst_usd(request)
        failures = 0
        while not self._stop and self._is_open(request) and failures < self.settings.tries:
            ticket = await self._budget.reserve(worst)
            if ticket is None:
                self._halt(
                    f"budget_usd={self.settings.budget_usd:g}: {self.journal.spent_usd:.4f} USD is spent and the next "
                    f"call may cost {worst:.4f} USD; raise the budget to continue"
                )
                return
            await self._pace.turn()
            if self._stop:  # another call has stopped the build while this one waited
                await self._budget.settle(ticket, 0.0)  # type: ignore[unreachable]
                return
            call = self.journal.start(request.key, request.photo.row.id, worst)
            outcome = await self._api.complete(body)
            if isinstance(outcome, Failure):
                usd = worst if outcome.may_be_charged else 0.0
                self.journal.fail(call, outcome.reason, usd)
                await self._budget.settle(ticket, usd)
                self.failed[request.key] = outcome.reason
                failures += 1
                self._stop_if_hopeless(outcome)
                if not outcome.retry:
                    return
                await self._wait(outcome, failures)
            else:
                usd = self._keep(call, request, outcome.body, worst)
                await self._budget.settle(ticket, usd)

    def _keep(self, call: int, request: CaptionRequest, body: str, worst: float) -> float:
        """Write a response to the journal as a valid or an invalid answer. Returns its cost in USD."""
        photo = request.photo.row.id
        usd, tokens_out = worst, None
        try:
            reply = read_reply(body)
            tokens_out = reply.tokens_out
            if reply.tokens_in is not None and tokens_out is not None:
                usd = self.costs.usd(reply.tokens_in, tokens_out)
                self._check_count(request, reply.tokens_in, tokens_out)
            check_reply(reply, request.photo.row.at)
        except InvalidCaptionError as error:
            self.journal.reject(call, request.key, photo, body, usd, error.reason, error.detail)
            self.outcomes[error.reason] += 1
        else:
            self.journal.answer(call, request.key, photo, body, usd, tokens_out)
            self.outcomes["valid"] += 1
        self._accepted = True
        self._failures_in_a_row = 0
        return usd

    def _check_count(self, request: CaptionRequest, tokens_in: int, tokens_out: int) -> None:
        """Stop if the endpoint counts more tokens than were reserved: further calls could exceed the budget."""
        reserved = self.costs.reserved_tokens(request)
        if tokens_in > reserved:
            image_tokens = math.ceil((tokens_in - self.costs.expected_text_tokens(request)) * 1.1)
            self._halt(
                f"picture_tokens={self.settings.picture_tokens}: the endpoint counted {tokens_in:,} tokens where "
                f"{reserved:,} were reserved; set picture_tokens={image_tokens}, or a smaller max_side"
            )
        if tokens_out > self.settings.max_output_tokens:
            other = "max_tokens" if self.settings.token_limit != "max_tokens" else "max_completion_tokens"
            self._halt(
                f"max_output_tokens={self.settings.max_output_tokens}: the endpoint wrote {tokens_out:,} tokens; "
                f"try token_limit={other}"
            )

    def _stop_if_hopeless(self, failure: Failure) -> None:
        """Count a failure, and stop if further calls would only repeat it."""
        self.outcomes[failure.reason.partition(" ")[0]] += 1
        self._failures_in_a_row += 1
        patience = max(20, 4 * self.settings.concurrency)
        where = f"api={self.endpoint.url}"
        if failure.fatal:
            self._halt(f"{where}: {failure.reason}")
        elif failure.wait_s is not None and failure.wait_s > LONGEST_WAIT_S:
            self._halt(f"{where}: {failure.reason}; the endpoint asks to wait {failure.wait_s:.0f} s")
        elif not failure.retry and not self._accepted and self._failures_in_a_row >= REFUSALS_IN_A_ROW:
            self._halt(f"{where}: the endpoint refuses every request: {failure.reason}")
        elif self._failures_in_a_row >= patience:
            self._halt(f"{where}: the last {patience} calls failed, the latest with {failure.reason}")

    def _halt(self, why: str) -> None:
        """Let no further call begin; calls that are under way are waited for, because they are paid for."""
        self._stop = self._stop or why

    async def _wait(self, failure: Failure, failures: int) -> None:
        """Wait before the next call of a request that has failed `failures` times."""
        if failure.wait_s is not None and not self._stop:
            # An endpoint that asks one call to wait means all of them.
            self._pace.pause(failure.wait_s)
        if not self._stop and failures < self.settings.tries:
            longest = min(LONGEST_BACKOFF_S, self.settings.retry_s * 2 ** (failures - 1))
            await asyncio.sleep(random.uniform(longest / 2, longest) + (failure.wait_s or 0.0))
