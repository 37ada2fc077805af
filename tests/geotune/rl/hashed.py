"""A term without meaning, by which random policies earn different rewards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from geotune.rl.terms import Term, TermValue
from geotune.sample import Sample


@dataclass
class Hashed(Term):
    """A digest of the text."""

    levels: int = 256
    """Number of values; with few of them, groups are sometimes dead."""
    by_sample: bool = False
    """Whether it is a digest of the sample's id instead, so that all groups are dead."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        digest = hashlib.sha256((sample.id if self.by_sample else text).encode()).digest()[0]
        return TermValue(digest * self.levels // 256 / max(1, self.levels - 1), None, text)


@dataclass
class Fading(Hashed):
    """A digest of the text for the first completions; all later ones are worth the same."""

    first: int = 0
    """Number of completions of this process that are worth a digest."""
    judged: int = field(default=0, init=False)

    def __call__(self, text: str, sample: Sample) -> TermValue:
        self.judged += 1
        return super().__call__(text, sample) if self.judged <= self.first else TermValue(0.5)


@dataclass
class Rare(Hashed):
    """A digest of the text, with a reason that few texts have."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        said = super().__call__(text, sample)
        return replace(said, reason="rare" if said.value > 0.97 else None)


@dataclass
class Broken(Term):
    """A term that fails."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        raise OSError("the judge does not answer")
