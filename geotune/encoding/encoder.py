"""Encode samples as token ids and pixels, with one renderer for training, generation and evaluation."""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geotune.encoding.chat_template import ChatTemplate, chosen_template
from geotune.encoding.segments import Encoded, FeatureGrid, Segment
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.runs.identity import IMAGE_LIMITS
from geotune.sample import IMAGE_TAG
from geotune.system.cache import LruBytes
from geotune.system.digests import fingerprint_of
from geotune.system.images import load_image
from geotune.tasks import SYSTEM_PROMPT

if TYPE_CHECKING:
    from PIL import Image

    from geotune.sample import Sample, Turn


PIXEL_CACHE_BYTES = 512 * 2**20
"""Size limit of each process's cache of decoded and resized images."""
IMAGE_LIMIT_KEYS = {"size", "min_pixels", "max_pixels", "min_patches", "max_patches"}
"""Settings of an image processor that limit the size of images."""
CACHES = ("tokens", "_prompt", "_image_ids")
"""Attributes of an encoder that are not pickled; a copy in another process builds its own."""


def _absolute(path: str) -> str:
    """Join `path` to the working directory, as text, so that a segment names its file whatever the directory is."""
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _nbytes(array: np.ndarray) -> int:
    return int(array.nbytes)


class Encoder(ABC):
    """Turns samples into token ids, supervision and pixels. It holds no weights.

    The chat template is rendered up to each assistant turn with the generation prompt, and the text of the turn is
    tokenized separately. Training therefore reads exactly the tokens that generation starts from.

    `turn_end` is the text of the control token that ends an assistant's turn, `stop_id` its token id. `tokens(text)` is
    a cached function, the token ids of a text. Images are known by their absolute paths, as text: a file that is named
    in two ways is read twice.

    Raises:
        ConfigError: the processor has no chat template, or the template does not end turns with a control token.
    """

    image_newline: bool = False
    """Whether the family's chat template itself ends an image with a line break; see `ChatTemplate`."""
    axes: int = 1
    """Number of position ids of a token."""

    def __init__(self, processor: Any, *, path: str, max_pixels: int, min_pixels: int | None) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.path = path
        self.max_pixels = max_pixels
        self.min_pixels = min_pixels
        template = chosen_template(processor.chat_template or self.tokenizer.chat_template, path)
        self.chat_template = ChatTemplate(self.tokenizer, template, image_newline=self.image_newline)
        self.image_token: str = processor.image_token
        self.image_token_id: int = self.tokenizer.convert_tokens_to_ids(self.image_token)
        control = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self._control_tokens = re.compile("|".join(re.escape(token) for token in sorted(control | {self.image_token})))
        self._normalization_table: torch.Tensor | None = None
        self._pixels: LruBytes[np.ndarray] = LruBytes(PIXEL_CACHE_BYTES, _nbytes)
        self._grids: dict[str, FeatureGrid] = {}
        self._build_caches()
        self.turn_end, self.stop_id = self._find_turn_end()

    def _build_caches(self) -> None:
        self.tokens = lru_cache(maxsize=65536)(self._tokenize)
        self._prompt = lru_cache(maxsize=8192)(self.chat_template.render)
        self._image_ids = lru_cache(maxsize=1024)(self._expand_image)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in CACHES}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build_caches()

    @abstractmethod
    def grid_of(self, width: int, height: int) -> FeatureGrid:
        """Layout of the features of an image of this size. Raises BadRecord if the family can't use the size."""

    @abstractmethod
    def image_text(self, grid: FeatureGrid) -> str:
        """Text that replaces one image token of a rendered prompt, as the stock processor expands it."""

    @abstractmethod
    def resize(self, image: Image.Image) -> np.ndarray:
        """The image as the stock processor resizes and cuts it, before normalization: uint8 (tiles, 3, H, W)."""

    @abstractmethod
    def pixel_values(self, images: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Inputs of the tower for outputs of `resize`, exactly as the stock processor computes them."""

    @abstractmethod
    def positions(self, segment: Segment) -> tuple[np.ndarray, int]:
        """Position ids of a segment that starts at 0, int64 (axes, T), and its span.

        The span is the position id at which the next segment starts.
        """

    def forget_sizes(self) -> None:
        """Forget the sizes of all images, so that they are read again from the files."""
        self._grids.clear()

    def note_size(self, path: str, width: int, height: int) -> None:
        """Remember the size of the image at `path`, EXIF rotation applied, so that `grid` need not open the file.

        Raises BadRecord if the family can't use the size.
        """
        self._grids[_absolute(path)] = self.grid_of(width, height)

    def grid(self, path: str) -> FeatureGrid:
        """Layout of the features of the image at `path`. Raises BadRecord if the image is unreadable or unusable."""
        if (grid := self._grids.get(path)) is None:
            image = load_image(Path(path))
            grid = self._grids[path] = self.grid_of(*image.size)
            self._pixels.put(path, self.resize(image))
        return grid

    def pixels(self, path: str) -> np.ndarray:
        """The image at `path` after `resize`, uint8 (tiles, 3, H, W); cached.

        Raises BadRecord if the image is unreadable, or if its size has changed.
        """
        if (array := self._pixels.get(path)) is None:
            image = load_image(Path(path))
            if self._grids.setdefault(path, self.grid_of(*image.size)) != self.grid_of(*image.size):
                raise BadRecord("", f"image {path} has another size than when the run began")
            array = self.resize(image)
            self._pixels.put(path, array)
        return array

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rescale and normalize uint8 (N, 3, H, W) exactly as the stock processor does; the result is float32.

        Both steps depend on channel and value alone, so a table of the processor's results for 3 x 256 values suffices.
        """
        if self._normalization_table is None:
            processor = self.processor.image_processor
            values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
            if processor.do_rescale:
                values = processor.rescale(values, processor.rescale_factor)
            if processor.do_normalize:
                values = processor.normalize(values, processor.image_mean, processor.image_std)
            self._normalization_table = torch.from_numpy(np.array(values, dtype=np.float32).reshape(-1))
        table = self._normalization_table = self._normalization_table.to(pixels.device)
        offset = torch.arange(0, 768, 256, dtype=torch.int32, device=pixels.device).view(3, 1, 1)
        return table[pixels.to(torch.int32) + offset]

    def _tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expand_image(self, grid: FeatureGrid) -> tuple[int, ...]:
        return self._tokenize(self.image_text(grid))

    def _find_turn_end(self) -> tuple[str, int]:
        """Text and id of the control token that the template writes after an assistant's turn."""
        rest = self.chat_template.text_after_answer()
        tokens = self.tokens(rest) if rest is not None else ()
        if rest is None or not tokens or not self._control_tokens.match(rest):
            raise ConfigError(
                Problem(
                    "backbone.path",
                    self.path,
                    "its chat template does not end an assistant's turn with a control token",
                    "correct the template, or name another model",
                )
            )
        return self.tokenizer.decode(tokens[:1]), tokens[0]

    def encode(self, sample: Sample, *, answer: bool = True) -> Encoded:
        """Encode `sample` as segments, without its last assistant turn if `answer` is false.

        The names of its images are paths, absolute or relative to the working directory; see `Sample.in_folder`.
        Raises BadRecord if the text holds a control token, if the number of images does not match their placeholders,
        if an image is unreadable, or if the conversation does not end with the assistant's turn (with a question, if
        `answer` is false). Raises ConfigError if the template rewrites earlier turns of a conversation.
        """
        turns = self._checked_turns(sample, answer)
        conversation = tuple((turn.role, turn.text) for turn in turns)
        # A prompt ends before each turn of the assistant, and at the end of a conversation without an answer.
        ends = [number for number, turn in enumerate(turns) if turn.role == "assistant"]
        images = iter(sample.images)
        segments: list[Segment] = []
        done = ""
        for end in ends if answer else [*ends, len(turns)]:
            prompt = self._prompt(sample.system, conversation[:end])
            if not prompt.startswith(done):
                raise ConfigError(
                    Problem(
                        "backbone.path",
                        self.path,
                        "its chat template rewrites earlier turns, so that conversations of several turns can't be "
                        "supervised",
                        "use samples of one turn, or name another model",
                    )
                )
            segments += self._prompt_segments(prompt[len(done) :], images, sample.id)
            if end < len(turns):
                text = turns[end].text
                segments.append(Segment("answer", (*self._tokenize(text), self.stop_id)))
                done = prompt + text + self.turn_end
        if next(images, None) is not None:
            raise BadRecord(sample.id, f"it has more images than {IMAGE_TAG} placeholders")
        return Encoded(sample.id, tuple(segments))

    def _checked_turns(self, sample: Sample, answer: bool) -> tuple[Turn, ...]:
        """The turns of `sample` to encode. Raises BadRecord if they can't be encoded."""
        for text in (sample.system, *(turn.text for turn in sample.turns)):
            if found := self._control_tokens.search(text):
                raise BadRecord(sample.id, f"its text holds the control token {found.group()!r}")
        turns = sample.turns
        if turns and turns[-1].role == "assistant" and not answer:
            turns = turns[:-1]
        if not turns or (turns[-1].role == "assistant") != answer:
            wanted = "end with the assistant's turn" if answer else "end with a question"
            raise BadRecord(sample.id, f"its conversation does not {wanted}")
        return turns

    def _prompt_segments(self, text: str, images: Iterator[str], sample_id: str) -> Iterator[Segment]:
        """Text and image segments of a rendered prompt; its image tokens stand for the next names of `images`."""
        for number, piece in enumerate(text.split(self.image_token)):
            if number:
                name = next(images, None)
                if name is None:
                    raise BadRecord(sample_id, f"it has fewer images than {IMAGE_TAG} placeholders")
                path = _absolute(name)
                try:
                    grid = self.grid(path)
                except BadRecord as error:
                    raise error.at("", sample_id) from error
                yield Segment("image", self._image_ids(grid), path, grid)
            if piece:
                yield Segment("text", self.tokens(piece))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, without control tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    @property
    def fingerprint(self) -> str:
        """Digest of everything that a sample's tokens depend on.

        It covers the family, its chat template, tokenizer and image processor, the pixel limits and library versions.
        """
        versions = (version("transformers"), version("tokenizers"))
        limits = (self.max_pixels, self.min_pixels)
        return fingerprint_of(json.dumps([self.facts, self.chat_template.source, limits, versions]))

    @cached_property
    def facts(self) -> dict[str, str]:
        """What tells the processor from others, whatever the version of a library: family, tokens, images and sizes."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        tokens: str = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        # Truncation and padding, which come before the added tokens, are set anew by each call of the tokenizer.
        tokens = tokens[max(0, tokens.find('"added_tokens"')) :]
        images = json.loads(self.processor.image_processor.to_json_string())
        images.pop("image_processor_type", None)  # one of several classes that do the same
        limits = {key: images.pop(key) for key in sorted(IMAGE_LIMIT_KEYS & images.keys())}
        return {
            "family": type(self).__qualname__,
            "tokenizer": fingerprint_of(tokens),
            "image processor": fingerprint_of(json.dumps(images, sort_keys=True)),
            IMAGE_LIMITS: json.dumps(limits).replace('"', ""),
        }

    @property
    def template_hash(self) -> str:
        """Digest of the chat template and of a conversation that it renders with the system prompt."""
        rendered = self.chat_template.render(
            SYSTEM_PROMPT, (("user", f"{IMAGE_TAG}\na"), ("assistant", "b"), ("user", "c"))
        )
        return fingerprint_of(f"{self.chat_template.source}\0{rendered}")
