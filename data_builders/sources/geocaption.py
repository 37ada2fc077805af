"""Photos with coordinates -> geo-captions that an endpoint writes (GeoLocSFT, arXiv 2506.01277) -> training samples.

Expected layout: as for gps_csv. What was asked, answered and spent stands in `<out>/geocaption/`, also between builds.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image

from data_builders.sources.geocaption_form import (
    FORM_VERSION,
    QUESTION,
    SYSTEM,
    InvalidCaptionError,
    check_reply,
    instructions,
    json_schema,
    read_reply,
    write_caption,
)
from data_builders.sources.photos import Photo, PhotoTable, meta_of, place_of
from data_builders.writer import DatasetWriter
from geotune.clients.chat_api import Budget, ChatApi, Endpoint, Failure, Pace
from geotune.clients.journal import Journal
from geotune.errors import BadRecord, ConfigError
from geotune.sample import Sample, Turn
from geotune.system.images import load_image
from geotune.system.progress import progress_bar
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.geolocate import coordinates_json

JOURNAL = "geocaption"
EXPECTED_TOKENS_OUT = 1200
"""Length of a geo-caption before any has been seen."""
BYTES_PER_TOKEN = 4
"""Of English text, for what is expected; at worst every byte is a token."""
LONGEST_WAIT_S = 600.0
LONGEST_BACKOFF_S = 60.0
REFUSALS_IN_A_ROW = 5
"""So many requests turned down before any is accepted: then it is not the photos."""
JPEG_QUALITY = 90
_SET_BY_THE_BUILDER = frozenset(
    {"model", "messages", "response_format", "n", "stream", "max_tokens", "max_completion_tokens"}
)

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Geocaption(PhotoTable):
    """Builder that has geo-captions written by an endpoint and turns them into training samples.

    No photo with a valid answer is asked about again, by this build or a later one into the same folder.

    Raises:
        ConfigError: a mistake in the settings or the table, an endpoint that refuses, a budget that is used up.
    """

    version: ClassVar[int] = 1
    """Raise it when the same settings come to give other records."""

    budget_usd: float = field(compare=False)
    """What all builds into this folder may spend together; a call whose worst cost exceeds what is left is not made."""
    usd_per_million_in: float = field(compare=False)
    """Price of a million tokens that are sent, images included; 0 for an endpoint of your own."""
    usd_per_million_out: float = field(compare=False)
    """Price of a million tokens that are written."""
    api: str | None = field(default=None, compare=False)
    """Base address of an OpenAI-compatible endpoint; null: OPENAI_BASE_URL, else OpenAI. Its key: OPENAI_API_KEY."""
    model: str | None = None
    """Model to ask; null: OPENAI_MODEL."""
    ask: bool = field(default=True, compare=False)
    """false: make no call; show the estimate, and build from the answers that are there."""
    max_side: int = 1024
    """Photos are sent with at most so many pixels a side."""
    image_tokens: int | None = field(default=None, compare=False)
    """Tokens that the endpoint counts for a photo at most; null: estimated from its size."""
    max_output_tokens: int = field(default=4096, compare=False)
    """Longest answer."""
    token_limit: Literal["max_completion_tokens", "max_tokens"] = field(default="max_completion_tokens", compare=False)
    """Name by which the endpoint takes it; older ones know max_tokens only."""
    body: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request: body.temperature=0.7."""
    concurrency: int = field(default=8, compare=False)
    """Calls at the same time."""
    requests_per_minute: float = field(default=120.0, compare=False)
    """Calls that begin in a minute, at most."""
    tries: int = field(default=6, compare=False)
    """How often a call that brings no response is made again in one build, waiting longer each time."""
    retry_s: float = field(default=1.0, compare=False)
    """First of those waits, about; it doubles. An endpoint's Retry-After is honoured."""
    timeout_s: float = field(default=300.0, compare=False)
    """How long to wait for a response."""
    asks: int = 3
    """How many invalid answers a photo may have, over all builds, before it is rejected."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("budget_usd", "usd_per_million_in", "usd_per_million_out", "retry_s"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ConfigError(f"{key}={getattr(self, key)}: must not be negative, and finite")
        for key in ("max_side", "max_output_tokens", "concurrency", "tries", "asks"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: must be at least 1")
        if self.image_tokens is not None and self.image_tokens < 1:
            raise ConfigError(f"image_tokens={self.image_tokens}: must be at least 1, or null")
        for key in ("requests_per_minute", "timeout_s"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key}={getattr(self, key)}: must be more than 0")
        if taken := sorted(self.body.keys() & _SET_BY_THE_BUILDER):
            raise ConfigError(f"body.{taken[0]}: the builder sets this field itself; see its other keys")

    def build(self, writer: DatasetWriter) -> None:
        """Have every photo described that has no valid answer yet, then write the samples, in the table's order."""
        if writer.shard is not None:
            raise ConfigError(f"shard={writer.shard[0]}/{writer.shard[1]}: all calls share one budget; leave shard out")
        endpoint = Endpoint.from_environment(self.api, self.model)
        if self.ask:
            endpoint.check()
        questions = [CaptionRequest(photo, self.max_side) for photo in self.photos(writer)]
        with Journal(writer.out / JOURNAL) as journal:
            asking = _Asking(self, endpoint, journal, questions)
            log.info("%s", asking.estimate())
            if self.ask:
                asyncio.run(asking.run())
            written = Counter(self._write(question, asking, writer) for question in questions)
            writer.audit["geocaption"] = {"photos": len(questions), **written, **asking.summary()}

    def _write(self, question: CaptionRequest, asking: _Asking, writer: DatasetWriter) -> str:
        """Write a photo's sample, or note why it has none; what became of it, as a word to count by."""
        row, journal = question.photo.row, asking.journal
        if question.key not in journal:
            if journal.invalid[question.key] >= self.asks:
                writer.reject(row.id, "invalid_answer", journal.last_invalid[question.key])
                return "invalid"
            if self.ask:
                writer.reject(row.id, "no_answer", asking.failed.get(question.key, ""))
                return "failed"
            return "unasked"
        reply = read_reply(journal.body(question.key))
        try:
            text = write_caption(check_reply(reply, row.at), row.at)
        except InvalidCaptionError as error:
            writer.reject(row.id, "invalid_answer", str(error))
            return "invalid"
        writer.write(
            Sample(
                id=f"geocaption/{self.source}/{row.id}/geolocate",
                images=(str(question.photo.image.path),),
                turns=(Turn("user", QUESTION), Turn("assistant", text)),
                system=SYSTEM_PROMPT,
                task="geolocate",
                answer=coordinates_json(row.at),
                source=self.source,
                place=place_of(self.source, row),
                meta=json.dumps({**meta_of(row), "written_by": reply.model}, ensure_ascii=False),
            )
        )
        return "written"


@dataclass(frozen=True)
class CaptionRequest:
    """What is asked about one photo."""

    photo: Photo
    max_side: int

    @cached_property
    def key(self) -> str:
        """Of the photo's content, its place and the form: the same question is never asked twice."""
        row = self.photo.row
        image = blake2b(self.photo.image.path.read_bytes(), digest_size=16).hexdigest()
        asked = json.dumps([FORM_VERSION, image, row.at.lat, row.at.lon, dict(sorted(row.names.items()))])
        return blake2b(asked.encode(), digest_size=16).hexdigest()

    @property
    def text(self) -> str:
        return instructions(self.photo.row.at, self.photo.row.names)

    @property
    def image_tokens(self) -> int:
        """An estimate: the larger of two common ways to count, tiles of 512 px and patches of 28 px."""
        width, height = self.photo.image.width, self.photo.image.height
        scale = min(1.0, self.max_side / max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        patches = math.ceil(width / 28) * math.ceil(height / 28)
        shrunk = min(1.0, 768 / min(width, height))
        tiles = math.ceil(width * shrunk / 512) * math.ceil(height * shrunk / 512)
        return max(patches, 85 + 170 * tiles)

    def request(self) -> dict[str, Any]:
        """The request's fields that depend on the photo."""
        image = base64.b64encode(encode_image(self.photo.image.path, self.max_side)).decode()
        content = [
            {"type": "text", "text": self.text},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}},
        ]
        return {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]}


def encode_image(path: Path, max_side: int) -> bytes:
    """A photo as it is sent: upright, of at most `max_side` pixels a side, without what the file says beside it."""
    image = load_image(path)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


class _Asking:
    """One build's calls: which photos are to be asked about, what it may cost, and the calls themselves."""

    def __init__(
        self, settings: Geocaption, endpoint: Endpoint, journal: Journal, questions: list[CaptionRequest]
    ) -> None:
        self.settings = settings
        self.endpoint = endpoint
        self.journal = journal
        self.failed: dict[str, str] = {}
        """Why a question has no answer after all tries."""
        open_questions = {question.key: question for question in questions if self._is_open(question)}
        self.todo = list(open_questions.values())
        self.answered_before = sum(question.key in journal for question in questions)
        self.outcomes: Counter[str] = Counter()
        self._form = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "geo_caption", "strict": True, "schema": json_schema()},
            },
            settings.token_limit: settings.max_output_tokens,
            **settings.body,
        }
        self._form_bytes = len(json.dumps(self._form)) + len(SYSTEM)
        self._stop: str = ""
        self._accepted = False
        self._failures_in_a_row = 0

    def _is_open(self, question: CaptionRequest) -> bool:
        return question.key not in self.journal and self.journal.invalid[question.key] < self.settings.asks

    # What it costs

    def _tokens_in(self, question: CaptionRequest, bytes_per_token: int) -> int:
        return self._image_tokens(question) + math.ceil(
            (self._form_bytes + len(question.text.encode())) / bytes_per_token
        )

    def _image_tokens(self, question: CaptionRequest) -> int:
        return self.settings.image_tokens or question.image_tokens

    def _usd(self, tokens_in: int, tokens_out: float) -> float:
        per_in, per_out = self.settings.usd_per_million_in, self.settings.usd_per_million_out
        return (tokens_in * per_in + tokens_out * per_out) / 1e6

    def worst_usd(self, question: CaptionRequest) -> float:
        """More than a call can cost: every byte of text a token, and an answer as long as allowed."""
        return self._usd(self._tokens_in(question, 1), self.settings.max_output_tokens)

    def estimate(self) -> str:
        """What the open questions will cost, in words."""
        count, total = self.journal.answer_tokens
        out = min(total / count if count else EXPECTED_TOKENS_OUT, self.settings.max_output_tokens)
        expected = sum(self._usd(self._tokens_in(question, BYTES_PER_TOKEN), out) for question in self.todo)
        worst = sum(map(self.worst_usd, self.todo)) * self.settings.asks
        return (
            f"geo-captions: {self.answered_before:,} photos answered, {len(self.todo):,} to ask of "
            f"{self.endpoint.model or 'a model'} at {self.endpoint.url}; about {expected:.2f} USD "
            f"({worst:.2f} if each took {self.settings.asks} answers of full length), of a budget of "
            f"{self.settings.budget_usd:.2f} USD of which {self.journal.spent_usd:.2f} are spent"
        )

    def summary(self) -> dict[str, Any]:
        """What was asked and spent, for the report."""
        return {
            "model": self.endpoint.model,
            "answered_before": self.answered_before,
            "calls": dict(sorted(self.outcomes.items())),
            "spent_usd": round(self.journal.spent_usd, 6),
            "budget_usd": self.settings.budget_usd,
        }

    # The calls

    async def run(self) -> None:
        """Ask all open questions. Raises ConfigError when that had to stop early; what was answered is kept."""
        if not self.todo:
            return
        self._budget = Budget(self.settings.budget_usd, self.journal.spent_usd)
        self._pace = Pace(self.settings.requests_per_minute)
        connect = ChatApi.connect(self.endpoint, self.settings.timeout_s, self.settings.concurrency)
        with progress_bar("geo-captions", len(self.todo)) as advance:
            async with connect as self._api:
                left = iter(self.todo)
                # The first alone: whether the settings are right, and tokens counted as estimated, costs one call.
                await self._ask(next(left))
                advance()

                async def work() -> None:
                    for question in left:
                        if self._stop:
                            return
                        await self._ask(question)
                        advance()

                async with asyncio.TaskGroup() as group:
                    for _ in range(self.settings.concurrency):
                        group.create_task(work())
        if self._stop:
            missing = sum(question.key not in self.journal for question in self.todo)
            raise ConfigError(
                f"{self._stop}. {missing:,} photos are without an answer; those that came are kept: "
                "run the same command again to go on, or with ask=false to build from them"
            )

    async def _ask(self, question: CaptionRequest) -> None:
        """Ask until a valid answer comes, or too many that are none."""
        try:
            request = {**await asyncio.to_thread(question.request), **self._form}
        except BadRecord as error:  # it was readable when the table was read
            self.failed[question.key] = str(error)
            return
        worst = self.worst_usd(question)
        tries = 0
        while not self._stop and self._is_open(question) and tries < self.settings.tries:
            ticket = await self._budget.reserve(worst)
            if ticket is None:
                self._halt(
                    f"budget_usd={self.settings.budget_usd:g}: {self.journal.spent_usd:.4f} USD are spent and the next "
                    f"call may cost {worst:.4f}; raise the budget to go on"
                )
                return
            await self._pace.turn()
            if self._stop:  # another call has stopped the build while this one waited
                await self._budget.settle(ticket, 0.0)  # type: ignore[unreachable]
                return
            call = self.journal.start(question.key, question.photo.row.id, worst)
            outcome = await self._api.complete(request)
            if isinstance(outcome, Failure):
                usd = worst if outcome.may_be_charged else 0.0
                self.journal.fail(call, outcome.reason, usd)
                await self._budget.settle(ticket, usd)
                self.failed[question.key] = outcome.reason
                tries += 1
                self._judge(outcome)
                if not outcome.retry:
                    return
                await self._wait(outcome, tries)
            else:
                usd = self._keep(call, question, outcome.body, worst)
                await self._budget.settle(ticket, usd)

    def _keep(self, call: int, question: CaptionRequest, body: str, worst: float) -> float:
        """File a response by whether it is valid; what it has cost."""
        photo = question.photo.row.id
        usd, tokens_out = worst, None
        try:
            reply = read_reply(body)
            tokens_out = reply.tokens_out
            if reply.tokens_in is not None and tokens_out is not None:
                usd = self._usd(reply.tokens_in, tokens_out)
                self._check_count(question, reply.tokens_in, tokens_out)
            check_reply(reply, question.photo.row.at)
        except InvalidCaptionError as error:
            self.journal.reject(call, question.key, photo, body, usd, error.reason, error.detail)
            self.outcomes[error.reason] += 1
        else:
            self.journal.answer(call, question.key, photo, body, usd, tokens_out)
            self.outcomes["valid"] += 1
        self._accepted = True
        self._failures_in_a_row = 0
        return usd

    def _check_count(self, question: CaptionRequest, tokens_in: int, tokens_out: int) -> None:
        """Stop when the endpoint counts more than was reserved: the next calls could exceed the budget."""
        reserved = self._tokens_in(question, 1)
        if tokens_in > reserved:
            in_text = self._tokens_in(question, BYTES_PER_TOKEN) - self._image_tokens(question)
            self._halt(
                f"image_tokens={self.settings.image_tokens}: the endpoint counted {tokens_in:,} tokens where "
                f"{reserved:,} were reserved; set image_tokens={math.ceil((tokens_in - in_text) * 1.1)}, "
                "or a smaller max_side"
            )
        if tokens_out > self.settings.max_output_tokens:
            other = "max_tokens" if self.settings.token_limit != "max_tokens" else "max_completion_tokens"
            self._halt(
                f"max_output_tokens={self.settings.max_output_tokens}: the endpoint wrote {tokens_out:,} tokens; "
                f"try token_limit={other}"
            )

    def _judge(self, failure: Failure) -> None:
        """Stop where going on would only repeat the failure."""
        self.outcomes[failure.reason.partition(" ")[0]] += 1
        self._failures_in_a_row += 1
        patience = max(20, 4 * self.settings.concurrency)
        if failure.fatal:
            self._halt(f"api={self.endpoint.url}: {failure.reason}")
        elif failure.wait_s is not None and failure.wait_s > LONGEST_WAIT_S:
            self._halt(f"api={self.endpoint.url}: {failure.reason}; it asks to wait {failure.wait_s:.0f} s")
        elif not failure.retry and not self._accepted and self._failures_in_a_row >= REFUSALS_IN_A_ROW:
            self._halt(f"api={self.endpoint.url}: it turns every request down: {failure.reason}")
        elif self._failures_in_a_row >= patience:
            self._halt(f"api={self.endpoint.url}: the last {patience} calls failed, this one with {failure.reason}")

    def _halt(self, why: str) -> None:
        """Let no further call begin; those that run are waited for, as they are paid for."""
        self._stop = self._stop or why

    async def _wait(self, failure: Failure, tries: int) -> None:
        if failure.wait_s is not None and not self._stop:
            # Whoever asks one to wait means all.
            self._pace.pause(failure.wait_s)
        if not self._stop and tries < self.settings.tries:
            longest = min(LONGEST_BACKOFF_S, self.settings.retry_s * 2 ** (tries - 1))
            await asyncio.sleep(random.uniform(longest / 2, longest) + (failure.wait_s or 0.0))
