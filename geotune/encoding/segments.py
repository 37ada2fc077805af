"""A sample as a path of segments: the runs of tokens that samples share or that are supervised as a whole."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

Grid = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A run of tokens that is shared or supervised as a whole.

    `text` is what the model reads, `image` the placeholders of one image, `answer` what the assistant says, its
    end-of-turn token included. Two segments with the same `key` are interchangeable.
    """

    kind: Literal["text", "image", "answer"]
    ids: tuple[int, ...]
    image: str | None = None
    """Path of the image of an image segment."""
    grid: Grid = ()
    """Layout of the image's features, as its family states it."""

    @property
    def key(self) -> Hashable:
        """What makes two segments the same."""
        return (self.kind, self.image, self.grid) if self.kind == "image" else (self.kind, self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A sample as the path of segments that a model reads, from the system prompt on."""

    id: str
    segments: tuple[Segment, ...]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return sum(len(segment.ids) for segment in self.segments)

    @property
    def targets(self) -> int:
        """Supervised tokens."""
        return sum(len(segment.ids) for segment in self.segments if segment.kind == "answer")

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the images, in order."""
        return tuple(segment.image for segment in self.segments if segment.image is not None)
