"""Locating photos: several sampled answers per photo become one estimate of the position, with its uncertainty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotune.backbones.generation import sample
from geotune.errors import BadRecord, ConfigError, Problem
from geotune.gazetteer import nearest_entry
from geotune.geo import geodesic_km
from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import GEOLOCATE

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.encoding.segments import Encoded

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
"""Suffixes, in lower case, of the files in a folder that count as images."""
BATCHES_PER_CALL = 4
"""Number of batches of answers that the backbone gets at a time, so that photos of similar size share a batch."""


@dataclass(frozen=True)
class Estimate:
    """An estimated position, and how far the answers scatter around it."""

    at: Coordinates
    """The medoid of the answers: the one with the smallest sum of geodesic distances to the others."""
    radius_50_km: float
    """Radius around `at` that contains half of the answers, the medoid included."""
    radius_90_km: float
    """Radius around `at` that contains 90% of the answers."""


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


def estimate(answers: Sequence[Coordinates]) -> Estimate | None:
    """Return the medoid of `answers` (the first one of a tie) and the radii around it; None if there are no answers."""
    if not answers:
        return None
    lat, lon = np.array([[at.lat, at.lon] for at in answers]).T
    distances = geodesic_km(lat[:, None], lon[:, None], lat, lon)
    medoid = int(np.argmin(distances.sum(axis=1)))
    sorted_km = np.sort(distances[medoid])
    radius_50_km, radius_90_km = (float(sorted_km[math.ceil(share * len(answers)) - 1]) for share in (0.5, 0.9))
    return Estimate(answers[medoid], radius_50_km, radius_90_km)


def find_photos(image: str) -> list[Path]:
    """List the file `image`, or the images in the folder `image` at any depth, sorted, without hidden files.

    Raises:
        ConfigError: there is no such file or folder, or the folder holds no image.
    """
    named = Path(image)
    if named.is_file():
        return [named]
    if not named.is_dir():
        raise ConfigError(
            Problem("image", image, "there is no such file or folder", "name a photo or a folder of photos")
        )
    images = (path for path in named.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    photos = sorted(path for path in images if not any(part.startswith(".") for part in path.relative_to(named).parts))
    if not photos:
        raise ConfigError(
            Problem(
                "image", image, f"this folder holds no image ({', '.join(sorted(SUFFIXES))})", "name another folder"
            )
        )
    return photos


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
) -> Iterator[Located]:
    """Locate each photo in turn. The answers to a photo do not depend on the other photos.

    Args:
        samples: number of answers to draw for each photo.
        temperature: temperature of the sampling.
        top_p: share of the probability that holds the tokens to draw from.
        seed: seed of the sampling.
        explain: whether to ask for an explanation before the coordinates.
        batch_size: answers per forward pass.
        max_new_tokens: largest number of tokens in an answer.
    """
    from geotune.backbones.sampling import Sampling

    step = max(1, batch_size * BATCHES_PER_CALL // samples)
    for start in range(0, len(photos), step):
        chosen = photos[start : start + step]
        prompts: dict[Path, Encoded] = {}
        errors: dict[Path, str] = {}
        for photo in chosen:
            try:
                prompts[photo] = backbone.encode(question(photo, explain=explain), answer=False)
            except BadRecord as error:
                errors[photo] = error.reason
        completions = sample(
            backbone,
            list(prompts.values()),
            n=samples,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            sampling=Sampling([(seed,)] * len(prompts), temperature, top_p),
        )
        texts = {
            photo: [completion.text(backbone.encoder) for completion in of_photo]
            for photo, of_photo in zip(prompts, completions, strict=True)
        }
        for photo in chosen:
            yield Located(photo, error=errors[photo]) if photo in errors else read_answers(photo, texts[photo])


def read_answers(photo: Path, texts: Sequence[str]) -> Located:
    """Read the coordinates in the answers to one photo, and estimate its position."""
    parsed = [GEOLOCATE.parse(text) for text in texts]
    answers = tuple(GEOLOCATE.coordinates(each.answer) for each in parsed if each.answer is not None)
    unread = tuple(each.reason for each in parsed if each.reason is not None)
    return Located(photo, estimate=estimate(answers), answers=answers, unread=unread)


def as_json(located: Located) -> dict[str, Any]:
    """Return the result for one photo as JSON, in degrees (WGS84) and kilometers."""
    if located.error is not None:
        return {"image": str(located.image), "error": located.error}
    row: dict[str, Any] = {"image": str(located.image), "latitude": None, "longitude": None}
    if found := located.estimate:
        town, distance_km = nearest_entry(found.at.lat, found.at.lon)
        row |= {
            "latitude": found.at.lat,
            "longitude": found.at.lon,
            "radius_50_km": round(found.radius_50_km, 3),
            "radius_90_km": round(found.radius_90_km, 3),
            "nearest_place": {"name": town.name, "country": town.country, "distance_km": round(distance_km, 3)},
        }
    answers = [[at.lat, at.lon] for at in located.answers]
    return row | {"read_rate": located.read_rate, "answers": answers, "unread": dict(Counter(located.unread))}


def as_table(rows: Sequence[Located], width: int) -> str:
    """Write the results as a table of at most `width` columns for the terminal."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("photo", overflow="fold")
    for title in ("latitude, longitude", "50% within", "90% within", "answers read"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("nearest town")
    for located in rows:
        name, found, total = Text(str(located.image)), located.estimate, len(located.answers) + len(located.unread)
        if found is None:
            reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(located.unread).items())
            why = Text(located.error or f"no answer could be read: {reasons}", style="red")
            table.add_row(name, "", "", "", f"0/{total}" if total else "", why)
            continue
        town, distance_km = nearest_entry(found.at.lat, found.at.lon)
        table.add_row(
            name,
            f"{found.at.lat:.4f}, {found.at.lon:.4f}",
            format_km(found.radius_50_km),
            format_km(found.radius_90_km),
            f"{len(located.answers)}/{total}",
            Text(f"{format_km(distance_km)} from {town.name}, {town.country}"),
        )
    text = StringIO()
    Console(file=text, width=width).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def format_km(distance_km: float) -> str:
    """Write a distance with one decimal below 10 km and with none from there on: `0.4 km`, `12 km`, `1,234 km`."""
    return f"{distance_km:,.1f} km" if distance_km < 10 else f"{distance_km:,.0f} km"
