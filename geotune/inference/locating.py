"""Locating photos: several sampled answers per photo become one estimate of the position, with its uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.errors import BadRecord
from geotune.gazetteer import nearest_entry
from geotune.inference.photos import text_of
from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.estimates import Estimate, estimate
from geotune.tasks.geolocate import GEOLOCATE

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.encoding.segments import Encoded

BATCHES_PER_GROUP = 4
"""Number of batches of answers whose photos are read together, so that photos of similar size share a batch."""


@dataclass(frozen=True)
class Located:
    """The result for one photo: an error if the photo can't be used, else the answers and their estimate, if any."""

    image: Path
    error: str | None = None
    """Why the photo can't be used."""
    estimate: Estimate | None = None
    """None if no answer could be read."""
    answers: tuple[Coordinates, ...] = ()
    """The answers that could be read."""
    unread: tuple[str, ...] = ()
    """The reason of each answer that could not be read."""

    @property
    def read_rate(self) -> float:
        """Share of the answers that could be read."""
        return len(self.answers) / max(1, len(self.answers) + len(self.unread))


def question(photo: Path, *, explain: bool) -> Sample:
    """Make the sample that asks where `photo` was taken, with the prompt used in training."""
    prompt = GEOLOCATE.prompt(explain=explain)
    return Sample(
        id="", images=(str(photo.absolute()),), turns=(Turn("user", prompt),), system=SYSTEM_PROMPT, task=GEOLOCATE.name
    )


def locate_photos(
    backbone: Backbone,
    photos: Sequence[Path],
    *,
    samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    explain: bool,
    batch_size: int,
    max_new_tokens: int,
    done: Collection[Path] = (),
) -> Iterator[Located]:
    """Locate the photos batch by batch, those of one group not in their order.

    The answers to a photo do not depend on the other photos, but their rounding may depend on those of its batch. So a
    batch always holds the same photos, also if some of them are `done`.

    Args:
        samples: number of answers to draw for each photo.
        temperature: temperature of the sampling.
        top_p: share of the probability that holds the tokens to draw from.
        seed: seed of the sampling.
        explain: whether to ask for an explanation before the coordinates.
        batch_size: answers per forward pass.
        max_new_tokens: largest number of tokens in an answer.
        done: photos that were located before, for which nothing is yielded.
    """
    from geotune.backbones.generation import prompt_batches, sample  # estimates alone need no model and no torch
    from geotune.backbones.sampling import Sampling

    step = max(1, batch_size * BATCHES_PER_GROUP // samples)
    for start in range(0, len(photos), step):
        group = photos[start : start + step]
        if all(photo in done for photo in group):
            continue
        readable: list[Path] = []
        prompts: list[Encoded] = []
        for photo in group:
            try:
                prompts.append(backbone.encode(question(photo, explain=explain), answer=False))
                readable.append(photo)
            except BadRecord as error:
                yield Located(photo, error=error.reason)
        with backbone.evaluation_mode():  # entered once for all batches, since it may merge the adapters
            for batch in prompt_batches(prompts, max(1, batch_size // samples)):
                if all(readable[index] in done for index in batch):
                    continue
                completions = sample(
                    backbone,
                    [prompts[index] for index in batch],
                    n=samples,
                    max_new_tokens=max_new_tokens,
                    batch_size=batch_size,
                    sampling=Sampling([(seed,)] * len(batch), temperature, top_p),
                )
                for index, of_photo in zip(batch, completions, strict=True):
                    if readable[index] not in done:
                        texts = [completion.text(backbone.encoder) for completion in of_photo]
                        yield read_answers(readable[index], texts)


def read_answers(photo: Path, texts: Sequence[str]) -> Located:
    """Read the coordinates in the answers to one photo, and estimate its position."""
    parsed = [GEOLOCATE.parse(text) for text in texts]
    answers = tuple(GEOLOCATE.coordinates(each.answer) for each in parsed if each.answer is not None)
    unread = tuple(each.reason for each in parsed if each.reason is not None)
    return Located(photo, estimate=estimate(answers), answers=answers, unread=unread)


def as_json(located: Located) -> dict[str, Any]:
    """Return the result for one photo as JSON, in degrees (WGS84) to a tenth of a meter and kilometers to a meter."""
    image = text_of(located.image)
    if located.error is not None:
        return {"image": image, "error": text_of(located.error)}
    found = located.estimate
    place = None
    if found is not None:
        town, distance_km = nearest_entry(found.at.lat, found.at.lon)
        place = {"name": town.name, "country": town.country, "distance_km": round(distance_km, 3)}
    latitude, longitude = (None, None) if found is None else _rounded(found.at)
    return {
        "image": image,
        "latitude": latitude,
        "longitude": longitude,
        "radius_50_km": None if found is None or found.radius_50_km is None else round(found.radius_50_km, 3),
        "radius_90_km": None if found is None or found.radius_90_km is None else round(found.radius_90_km, 3),
        "nearest_place": place,
        "read_rate": located.read_rate,
        "answers": [_rounded(at) for at in located.answers],
        "unread": dict(sorted(Counter(located.unread).items())),
    }


def _rounded(at: Coordinates) -> list[float]:
    """Return latitude and longitude to six decimals, without a negative zero."""
    return [round(at.lat, 6) + 0.0, round(at.lon, 6) + 0.0]
