"""From a sample to token ids: one renderer for training and evaluation, and the pixels that go with it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geotune.encoding.segments import Encoded, Grid, Segment
from geotune.errors import BadRecord, ConfigError
from geotune.sample import IMAGE_TAG
from geotune.system.cache import LruBytes
from geotune.system.digests import fingerprint_of
from geotune.system.images import load_image, resolve_image
from geotune.tasks import SYSTEM_PROMPT

if TYPE_CHECKING:
    from PIL import Image

    from geotune.sample import Sample


PIXEL_CACHE_BYTES = 512 * 2**20
"""Decoded and resized images kept per process (bytes, as uint8)."""
CACHES = ("tokens", "_prompt", "_image_ids", "image_path")
"""Attributes of an encoder that a copy in another process makes anew."""


def _located(folder: Path, name: str) -> str:
    """Where an image lies, as a string: resolving paths takes longer than all else that encoding does."""
    return str(resolve_image(folder, name))


def _nbytes(array: np.ndarray) -> int:
    return int(array.nbytes)


class Encoder(ABC):
    """Everything between a `Sample` and a model: template, tokens, supervision, pixels. Holds no weights.

    The chat template is rendered up to each assistant turn with the generation prompt, and the turn's own text is
    tokenised apart from it, so that training reads the very tokens that generation starts from.
    """

    image_newline: bool = False
    """Whether the family's template itself ends an image with a line break (then the record's own is dropped)."""

    def __init__(self, processor: Any, *, path: str, max_pixels: int, min_pixels: int | None) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.path = path
        self.max_pixels = max_pixels
        self.min_pixels = min_pixels
        self.template = processor.chat_template or self.tokenizer.chat_template
        if not isinstance(self.template, str):
            raise ConfigError(f"backbone.path={path}: its processor has no chat template; save one with it")
        self.image_token: str = processor.image_token
        self.image_token_id: int = self.tokenizer.convert_tokens_to_ids(self.image_token)
        control = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self._control = re.compile("|".join(re.escape(token) for token in sorted(control | {self.image_token})))
        self._table: torch.Tensor | None = None
        self._pixels: LruBytes[np.ndarray] = LruBytes(PIXEL_CACHE_BYTES, _nbytes)
        self._grids: dict[str, Grid] = {}
        self._build_caches()
        self.turn_end, self.stop_id = self._probe_turn_end()

    def _build_caches(self) -> None:
        self.tokens = lru_cache(maxsize=65536)(self._tokenize)
        self._prompt = lru_cache(maxsize=8192)(self._render)
        self._image_ids = lru_cache(maxsize=1024)(self._expand_image)
        self.image_path = lru_cache(maxsize=2**20)(_located)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in CACHES}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build_caches()

    # What a family says about its images

    @abstractmethod
    def grid_of(self, width: int, height: int) -> Grid:
        """Layout of the features of an image of this size. Raises BadRecord for a size that the family refuses."""

    @abstractmethod
    def image_text(self, grid: Grid) -> str:
        """The processor's own expansion of one image token."""

    @abstractmethod
    def resize(self, image: Image.Image) -> np.ndarray:
        """The image as the processor resizes and cuts it, uint8 (tiles, 3, H, W), before normalisation."""

    @abstractmethod
    def pixel_values(self, images: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the tower takes for these outputs of `resize`, exactly what the processor would give."""

    @abstractmethod
    def positions(self, segment: Segment) -> tuple[np.ndarray, int]:
        """Position ids of a segment counted from 0, int64 (axes, T), and by how much the path goes on after it."""

    axes: int = 1
    """How many position ids a token has."""

    # Images

    def forget_sizes(self) -> None:
        """Forget the sizes of all images: of those that are still to be seen they are read again."""
        self._grids.clear()

    def note_size(self, path: str, width: int, height: int) -> None:
        """Remember the upright size of the image at `path`, so that `grid` need not open it."""
        self._grids[path] = self.grid_of(width, height)

    def grid(self, path: str) -> Grid:
        """Layout of the features of the image at `path`. Raises BadRecord for one that can't be read or used."""
        if (grid := self._grids.get(path)) is None:
            image = load_image(Path(path))
            grid = self._grids[path] = self.grid_of(*image.size)
            self._pixels.put(path, self.resize(image))
        return grid

    def pixels(self, path: str) -> np.ndarray:
        """The image at `path` after `resize`; decoded once while it stays in the cache. Raises BadRecord."""
        if (array := self._pixels.get(path)) is None:
            image = load_image(Path(path))
            if self._grids.setdefault(path, self.grid_of(*image.size)) != self.grid_of(*image.size):
                raise BadRecord("", f"image {path} has another size than when the run began")
            array = self.resize(image)
            self._pixels.put(path, array)
        return array

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, H, W) through the processor's own rescaling and normalisation, float32.

        Both are functions of channel and value alone: a table of 3 x 256 is the processor's arithmetic, exactly.
        """
        if self._table is None:
            processor = self.processor.image_processor
            values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
            if processor.do_rescale:
                values = processor.rescale(values, processor.rescale_factor)
            if processor.do_normalize:
                values = processor.normalize(values, processor.image_mean, processor.image_std)
            self._table = torch.from_numpy(np.array(values, dtype=np.float32).reshape(-1))
        table = self._table = self._table.to(pixels.device)
        offset = torch.arange(0, 768, 256, dtype=torch.int32, device=pixels.device).view(3, 1, 1)
        return table[pixels.to(torch.int32) + offset]

    # Text

    def _tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expand_image(self, grid: Grid) -> tuple[int, ...]:
        return self._tokenize(self.image_text(grid))

    def _content(self, text: str) -> list[dict[str, str]]:
        """A user turn as the parts that chat templates read."""
        parts: list[dict[str, str]] = []
        for number, piece in enumerate(text.split(IMAGE_TAG)):
            if number:
                parts.append({"type": "image"})
                if self.image_newline:
                    piece = piece.removeprefix("\n")
            if piece:
                parts.append({"type": "text", "text": piece})
        return parts

    def _render(self, system: str, turns: tuple[tuple[str, str], ...]) -> str:
        """The conversation up to and including the words that open the assistant's next turn."""
        messages: list[dict[str, Any]] = []
        if system:
            messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
        for role, text in turns:
            content = self._content(text) if role == "user" else [{"type": "text", "text": text}]
            messages.append({"role": role, "content": content})
        rendered = self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
        )
        assert isinstance(rendered, str)
        return rendered

    def _probe_turn_end(self) -> tuple[str, int]:
        """What the template writes after an assistant's turn, and the token that ends it."""
        first = self._render("", (("user", "a"),))
        second = self._render("", (("user", "a"), ("assistant", "b"), ("user", "a")))
        # Whatever follows the answer up to the next user turn's opening, which the first rendering ends with.
        rest = second.removeprefix(first + "b")
        tokens = self.tokens(rest)
        if rest == second or not tokens or not self._control.match(rest):
            raise ConfigError(
                f"backbone.path={self.path}: its chat template does not end an assistant's turn with a control token"
            )
        return self.tokenizer.decode(tokens[:1]), tokens[0]

    def encode(self, sample: Sample, dataset_dir: Path, *, answer: bool = True) -> Encoded:
        """The segments of `sample`; without its last assistant turn when `answer` is false.

        Raises BadRecord for text that holds a control token, a wrong count of images, or nothing to supervise.
        """
        for text in (sample.system, *(turn.text for turn in sample.turns)):
            if found := self._control.search(text):
                raise BadRecord(sample.id, f"its text holds the control token {found.group()!r}")
        turns = sample.turns
        if turns and turns[-1].role == "assistant" and not answer:
            turns = turns[:-1]
        if not turns or (turns[-1].role == "assistant") != answer:
            wanted = "end with the assistant's turn" if answer else "end with a question"
            raise BadRecord(sample.id, f"its conversation does not {wanted}")

        images = iter(sample.images)
        segments: list[Segment] = []
        done = ""
        for number, turn in enumerate(turns):
            if turn.role == "assistant":
                before = tuple((earlier.role, earlier.text) for earlier in turns[:number])
                prompt = self._prompt(sample.system, before)
                self._read(prompt, done, images, dataset_dir, sample.id, segments)
                segments.append(Segment("answer", (*self._tokenize(turn.text), self.stop_id)))
                done = prompt + turn.text + self.turn_end
        if turns[-1].role == "user":
            prompt = self._prompt(sample.system, tuple((turn.role, turn.text) for turn in turns))
            self._read(prompt, done, images, dataset_dir, sample.id, segments)
        if next(images, None) is not None:
            raise BadRecord(sample.id, f"it has more images than {IMAGE_TAG} placeholders")
        return Encoded(sample.id, tuple(segments))

    def _read(
        self, prompt: str, done: str, images: Any, dataset_dir: Path, sample_id: str, segments: list[Segment]
    ) -> None:
        """Append the segments of what `prompt` adds to `done`."""
        if not prompt.startswith(done):
            raise ConfigError(
                f"backbone.path={self.path}: its chat template rewrites earlier turns; conversations of several turns "
                "can't be supervised with it"
            )
        for number, piece in enumerate(prompt[len(done) :].split(self.image_token)):
            if number:
                name = next(images, None)
                if name is None:
                    raise BadRecord(sample_id, f"it has fewer images than {IMAGE_TAG} placeholders")
                try:
                    path = self.image_path(dataset_dir, name)
                    grid = self.grid(path)
                except BadRecord as error:
                    raise error.at("", sample_id) from error
                segments.append(Segment("image", self._image_ids(grid), path, grid))
            if piece:
                segments.append(Segment("text", self.tokens(piece)))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, control tokens left out."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    @property
    def fingerprint(self) -> str:
        """Identifies all that decides a sample's tokens: the family, its template, tokenizer and image processor."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        tokens = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        parts = (type(self).__qualname__, self.template, tokens, self.processor.image_processor.to_json_string())
        limits = repr((self.max_pixels, self.min_pixels, version("transformers"), version("tokenizers")))
        return fingerprint_of("\0".join((*parts, limits)))

    @property
    def template_hash(self) -> str:
        """Identifies the chat template and what it makes of the system prompt."""
        rendered = self._render(SYSTEM_PROMPT, (("user", f"{IMAGE_TAG}\na"), ("assistant", "b"), ("user", "c")))
        return fingerprint_of(f"{self.template}\0{rendered}")
