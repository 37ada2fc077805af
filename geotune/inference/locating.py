"""Where photos were taken and how sure the model is: from several drawn answers to a place with an uncertainty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotune.backbones.generation import generate
from geotune.errors import BadRecord, ConfigError
from geotune.gazetteer import nearest_entry
from geotune.geo import geodesic_km
from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.coordinates import Coordinates
from geotune.tasks.geolocate import GEOLOCATE

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
"""Of files that count as images in a folder, in lower case."""
BATCHES_PER_CALL = 4
"""A backbone that sees more answers than it writes at once keeps its batches full as answers end."""


@dataclass(frozen=True)
class Estimate:
    """A place and how far the answers scatter around it."""

    at: Coordinates
    """The answer whose summed geodesic distance to all others is smallest (their medoid)."""
    radius_50_km: float
    """Radius around it that holds half of the answers, itself included."""
    radius_90_km: float
    """Radius that holds nine tenths of them."""


@dataclass(frozen=True)
class Located:
    """What the model says of one photo: an estimate unless no answer could be read, or why the photo can't be."""

    image: Path
    error: str | None = None
    estimate: Estimate | None = None
    answers: tuple[Coordinates, ...] = ()
    """Every answer that could be read."""
    unread: tuple[str, ...] = ()
    """Why the others could not."""

    @property
    def read_rate(self) -> float:
        """Share of the answers that could be read."""
        return len(self.answers) / max(1, len(self.answers) + len(self.unread))


def estimate(answers: Sequence[Coordinates]) -> Estimate | None:
    """The medoid of `answers` (the first of equal ones) and the radii around it; None without any."""
    if not answers:
        return None
    lat, lon = np.array([[at.lat, at.lon] for at in answers]).T
    distances = geodesic_km(lat[:, None], lon[:, None], lat, lon)
    medoid = int(np.argmin(distances.sum(axis=1)))
    sorted_km = np.sort(distances[medoid])
    half, most = (float(sorted_km[math.ceil(share * len(answers)) - 1]) for share in (0.5, 0.9))
    return Estimate(answers[medoid], half, most)


def find_photos(image: str) -> list[Path]:
    """The file `image`, or every image in the folder `image`, at any depth, by name. Raises ConfigError."""
    named = Path(image)
    if named.is_file():
        return [named]
    if not named.is_dir():
        raise ConfigError(f"image={image}: there is no such file or folder; name a photo or a folder of photos")
    inside = (path for path in named.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    photos = sorted(path for path in inside if not any(part.startswith(".") for part in path.relative_to(named).parts))
    if not photos:
        raise ConfigError(f"image={image}: holds no image ({', '.join(sorted(SUFFIXES))}); name another folder")
    return photos


def question(photo: Path, *, explain: bool) -> Sample:
    """The question where `photo` was taken, in the words of training."""
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
    """Each photo in turn. Its answers depend on it and the settings alone, not on the other photos."""
    from geotune.backbones.sampling import Sampling

    step = max(1, batch_size * BATCHES_PER_CALL // samples)
    for start in range(0, len(photos), step):
        chosen = photos[start : start + step]
        asked = {photo: question(photo, explain=explain) for photo in chosen}
        errors = {photo: reason for photo in chosen if (reason := unusable(backbone, asked[photo])) is not None}
        good = [photo for photo in chosen if photo not in errors]
        texts = generate(
            backbone,
            [asked[photo] for photo in good for _ in range(samples)],
            Path(),
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            sampling=Sampling([(seed, number) for _ in good for number in range(samples)], temperature, top_p),
        )
        said = {photo: texts[at * samples : (at + 1) * samples] for at, photo in enumerate(good)}
        for photo in chosen:
            yield Located(photo, error=errors[photo]) if photo in errors else read(photo, said[photo])


def unusable(backbone: Backbone, sample: Sample) -> str | None:
    """Why the photo of `sample` can't be used, if it can't."""
    try:
        backbone.encode(sample, Path(), answer=False)
    except BadRecord as error:
        return error.reason
    return None


def read(photo: Path, texts: Sequence[str]) -> Located:
    """What the answers to one photo say."""
    parsed = [GEOLOCATE.parse(text) for text in texts]
    answers = tuple(GEOLOCATE.coordinates(one.answer) for one in parsed if one.answer is not None)
    unread = tuple(one.reason for one in parsed if one.reason is not None)
    return Located(photo, estimate=estimate(answers), answers=answers, unread=unread)


def as_json(located: Located) -> dict[str, Any]:
    """One photo as JSON holds it: degrees (WGS84) and kilometres."""
    if located.error is not None:
        return {"image": str(located.image), "error": located.error}
    row: dict[str, Any] = {"image": str(located.image), "latitude": None, "longitude": None}
    if found := located.estimate:
        place, distance_km = nearest_entry(found.at.lat, found.at.lon)
        row |= {
            "latitude": found.at.lat,
            "longitude": found.at.lon,
            "radius_50_km": round(found.radius_50_km, 3),
            "radius_90_km": round(found.radius_90_km, 3),
            "nearest_place": {"name": place.name, "country": place.country, "distance_km": round(distance_km, 3)},
        }
    answers = [[at.lat, at.lon] for at in located.answers]
    return row | {"read_rate": located.read_rate, "answers": answers, "unread": dict(Counter(located.unread))}


def as_table(rows: Sequence[Located], width: int) -> str:
    """All photos as a table for people."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("photo", overflow="fold")
    for title in ("latitude, longitude", "50% within", "90% within", "read"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("nearest place")
    for located in rows:
        name, found, total = Text(str(located.image)), located.estimate, len(located.answers) + len(located.unread)
        if found is None:
            reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(located.unread).items())
            why = Text(located.error or f"no answer could be read: {reasons}", style="red")
            table.add_row(name, "", "", "", f"0/{total}" if total else "", why)
            continue
        place, distance_km = nearest_entry(found.at.lat, found.at.lon)
        table.add_row(
            name,
            f"{found.at.lat:.4f}, {found.at.lon:.4f}",
            kilometres(found.radius_50_km),
            kilometres(found.radius_90_km),
            f"{len(located.answers)}/{total}",
            Text(f"{kilometres(distance_km)} from {place.name}, {place.country}"),
        )
    text = StringIO()
    Console(file=text, width=width).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def kilometres(distance_km: float) -> str:
    """A distance at the precision that it deserves: `0.4 km`, `12 km`, `1,234 km`."""
    return f"{distance_km:,.1f} km" if distance_km < 10 else f"{distance_km:,.0f} km"
