"""One request for a geo-caption: the settings of the calls, what is sent about a photo, and what a call costs."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from data_builders.sources.geocaption_form import FORM_VERSION, SYSTEM, instructions, json_schema
from data_builders.sources.photos import Photo
from geotune.config.options import Options
from geotune.config.rules import at_least
from geotune.errors import Problem
from geotune.system.images import load_image

BYTES_PER_TOKEN = 4
"""Bytes of English text per token, for the expected cost; the worst case counts every byte as a token."""
JPEG_QUALITY = 90
"""Quality at which photos are encoded before they are sent."""
_SET_BY_THE_BUILDER = frozenset(
    {"model", "messages", "response_format", "n", "stream", "max_tokens", "max_completion_tokens"}
)


@dataclass(kw_only=True)
class CallSettings(Options):
    """Settings of the calls to an endpoint: prices, limits and pace.

    Raises:
        ConfigError: A setting is out of range, or `body` has a field that the builder sets itself.
    """

    budget_usd: float = field(compare=False)
    """USD that all builds into this folder may spend together, checked against each call's worst-case cost."""
    usd_per_million_in: float = field(compare=False)
    """Price in USD of a million input tokens, images included; 0 for an endpoint of your own."""
    usd_per_million_out: float = field(compare=False)
    """Price in USD of a million output tokens."""
    api: str | None = field(default=None, compare=False)
    """Base address of an OpenAI-compatible endpoint; null: OPENAI_BASE_URL, else OpenAI. Its key: OPENAI_API_KEY."""
    model: str | None = None
    """Name of the model to ask; null: the value of OPENAI_MODEL."""
    ask: bool = field(default=True, compare=False)
    """false: make no call; show the estimated cost and build from the answers that are already stored."""
    max_side: int = 1024
    """Longest side in pixels of a photo that is sent; larger photos are scaled down."""
    picture_tokens: int | None = field(default=None, compare=False)
    """Largest number of tokens that the endpoint counts for a photo; null: estimated from the photo's size."""
    max_output_tokens: int = field(default=4096, compare=False)
    """Longest answer in tokens."""
    token_limit: Literal["max_completion_tokens", "max_tokens"] = field(default="max_completion_tokens", compare=False)
    """Name of the request's field that carries max_output_tokens; older endpoints know only max_tokens."""
    body: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request, for example body.temperature=0.7."""
    concurrency: int = field(default=8, compare=False)
    """Number of calls that run at the same time."""
    requests_per_minute: float = field(default=120.0, compare=False)
    """Largest number of calls that start within a minute."""
    tries: int = field(default=6, compare=False)
    """Number of calls without a response after which a photo is left to the next build."""
    retry_s: float = field(default=1.0, compare=False)
    """Approximate wait in seconds before the first retry; it doubles each time. Retry-After headers are honored."""
    timeout_s: float = field(default=300.0, compare=False)
    """Longest wait in seconds for a response."""
    asks: int = 3
    """Number of invalid answers to a photo, over all builds, after which the photo is rejected."""

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        for key in ("budget_usd", "usd_per_million_in", "usd_per_million_out", "retry_s"):
            if not 0 <= getattr(self, key) < math.inf:
                yield Problem(key, getattr(self, key), "must be finite and not negative")
        for key in ("max_side", "max_output_tokens", "concurrency", "tries", "asks", "picture_tokens"):
            yield from at_least(key, getattr(self, key), 1)
        for key in ("requests_per_minute", "timeout_s"):
            if not getattr(self, key) > 0:
                yield Problem(key, getattr(self, key), "must be more than 0")
        for name in sorted(self.body.keys() & _SET_BY_THE_BUILDER):
            yield Problem(f"body.{name}", self.body[name], "the builder sets this field itself", "use its other keys")


@dataclass(frozen=True)
class CaptionRequest:
    """A request for the geo-caption of one photo."""

    photo: Photo
    max_side: int
    """Longest side in pixels of the photo that is sent."""

    @cached_property
    def key(self) -> str:
        """Digest of the photo's content, its place and the form, by which the journal recognizes a request."""
        row = self.photo.row
        image = blake2b(self.photo.image.path.read_bytes(), digest_size=16).hexdigest()
        content = json.dumps([FORM_VERSION, image, row.at.lat, row.at.lon, dict(sorted(row.names.items()))])
        return blake2b(content.encode(), digest_size=16).hexdigest()

    @property
    def text(self) -> str:
        """The instructions that accompany the photo."""
        return instructions(self.photo.row.at, self.photo.row.names)

    @property
    def image_tokens(self) -> int:
        """Estimated tokens of the photo: the larger count of tiles of 512 px and of patches of 28 px."""
        width, height = self.photo.image.width, self.photo.image.height
        scale = min(1.0, self.max_side / max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        patches = math.ceil(width / 28) * math.ceil(height / 28)
        shrunk = min(1.0, 768 / min(width, height))
        tiles = math.ceil(width * shrunk / 512) * math.ceil(height * shrunk / 512)
        return max(patches, 85 + 170 * tiles)

    def photo_fields(self) -> dict[str, Any]:
        """The fields of the request that depend on the photo. Raises BadRecord if the photo can't be read."""
        image = base64.b64encode(encode_photo(self.photo.image.path, self.max_side)).decode()
        content = [
            {"type": "text", "text": self.text},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}},
        ]
        return {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]}


def encode_photo(path: Path, max_side: int) -> bytes:
    """A photo as JPEG: upright, in sRGB, at most `max_side` pixels a side, without the file's metadata."""
    image = load_image(path, srgb=True)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


class CallCosts:
    """Counts the tokens of requests and their cost in USD under the given settings."""

    def __init__(self, settings: CallSettings) -> None:
        self.settings = settings
        self.common_fields: dict[str, Any] = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "geo_caption", "strict": True, "schema": json_schema()},
            },
            settings.token_limit: settings.max_output_tokens,
            **settings.body,
        }
        """The fields that all requests share."""
        self._common_bytes = len(json.dumps(self.common_fields)) + len(SYSTEM)

    def usd(self, tokens_in: int, tokens_out: float) -> float:
        """Cost of a call with these numbers of tokens."""
        per_in, per_out = self.settings.usd_per_million_in, self.settings.usd_per_million_out
        return (tokens_in * per_in + tokens_out * per_out) / 1e6

    def expected_usd(self, request: CaptionRequest, tokens_out: float) -> float:
        """Estimated cost of a call whose answer has `tokens_out` tokens."""
        return self.usd(self.image_tokens(request) + self.expected_text_tokens(request), tokens_out)

    def worst_usd(self, request: CaptionRequest) -> float:
        """Upper bound of a call's cost: every byte of text is a token, and the answer is as long as allowed."""
        return self.usd(self.reserved_tokens(request), self.settings.max_output_tokens)

    def reserved_tokens(self, request: CaptionRequest) -> int:
        """Upper bound of the input tokens: every byte of text is a token."""
        return self.image_tokens(request) + self._text_bytes(request)

    def expected_text_tokens(self, request: CaptionRequest) -> int:
        """Estimated input tokens without the image."""
        return math.ceil(self._text_bytes(request) / BYTES_PER_TOKEN)

    def image_tokens(self, request: CaptionRequest) -> int:
        """Tokens of the image, as set or else as estimated."""
        return self.settings.picture_tokens or request.image_tokens

    def _text_bytes(self, request: CaptionRequest) -> int:
        return self._common_bytes + len(request.text.encode())
