"""An encoded sample: a path of segments, each a run of tokens that samples can share or that is supervised."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

FeatureGrid = tuple[int, ...]
"""Layout of an image's features, in the form that its family defines (`Encoder.grid_of`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A run of tokens that is shared or supervised as a whole.

    Segments with the same `key` are interchangeable: they have the same tokens, features and supervision.
    """

    kind: Literal["text", "image", "answer"]
    """`text` is read by the model, `image` marks the place of one image, `answer` is supervised.

    An answer is one turn of the assistant, including its end-of-turn token.
    """
    ids: tuple[int, ...]
    """Token ids; those of an image are one image token per feature, and the family may add tokens around them."""
    image: str | None = None
    """Path of the image; None unless `kind` is `image`."""
    grid: FeatureGrid = ()
    """Layout of the image's features; empty unless `kind` is `image`."""

    @property
    def key(self) -> Hashable:
        """Identity of the segment: equal for two segments exactly if they are interchangeable."""
        return (self.kind, self.image, self.grid) if self.kind == "image" else (self.kind, self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A sample as the path of segments that a model reads, from the system prompt on.

    Concatenated, the token ids of the segments are the sequence of the sample.
    """

    id: str
    """Id of the sample."""
    segments: tuple[Segment, ...]
    """The segments in reading order."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        return sum(len(segment.ids) for segment in self.segments)

    @property
    def targets(self) -> int:
        """Number of supervised tokens."""
        return sum(len(segment.ids) for segment in self.segments if segment.kind == "answer")

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the images, in reading order."""
        return tuple(segment.image for segment in self.segments if segment.image is not None)

    def with_answer(self, tokens: Sequence[int]) -> Encoded:
        """Return the sample followed by an answer of exactly these tokens, at least one, all of them supervised."""
        assert tokens, "an answer has at least the token that ends it"
        return Encoded(self.id, (*self.segments, Segment("answer", tuple(tokens))))
