"""From a survey to what the report says: balance, duplicates, token lengths and shortcut rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.audit.rules import (
    Score,
    candidate_score,
    fold_of,
    identity_score,
    majority_score,
    prior_score,
    table_score,
    value_score,
)
from data_builders.audit.survey import Looked, Survey
from geotune.errors import BadRecord
from geotune.geo import haversine_km
from geotune.system.images import image_facts, resolve_image
from geotune.system.parallel import usable_cores

QUESTIONS_WITH_IMAGES = 2000
"""Of all tasks and sources together, questions whose images are opened."""
PIXELS_PER_TOKEN = 28
"""Side of the patch that Qwen2.5-VL reads as one token."""
MEASURED = ("file_size", "brightness", "aspect_ratio")
CONSTANT_KM = (25, 200, 750, 2500)


@dataclass(frozen=True)
class Facts:
    """What an image gives away without being looked at."""

    file_size: float
    brightness: float
    aspect_ratio: float
    tokens: int


class Findings:
    """Everything that the page shows; `report` is what goes into build_report.json."""

    def __init__(self, survey: Survey, folder: Path) -> None:
        self.survey = survey
        self.folder = folder
        per_group = max(20, QUESTIONS_WITH_IMAGES // max(1, len(survey.looked)))
        self.looked = {group: chosen[:per_group] for group, chosen in survey.looked.items()}
        self.images = self._open_images()
        self.tokens = self._token_lengths()
        self.rules = self._rules()
        self.constant = self._constant_place()

    def report(self) -> dict[str, Any]:
        """The findings as JSON."""
        survey = self.survey
        return {
            "answers": {
                task: dict(sorted(counts.items())) for task, counts in survey.answers.items() if survey.options_of(task)
            },
            "places": survey.n_places,
            "duplicates": survey.duplicates(),
            "tokens": {
                name: {"median": int(np.median(values)), "longest": int(np.max(values)), "of": len(values)}
                for name, values in self.tokens.items()
                if len(values)
            },
            "map_months_after_view": {str(gap): count for gap, count in sorted(survey.gaps.items())},
            "rules": {
                rule: {
                    task: {source: score.as_json() for source, score in by_source.items()}
                    for task, by_source in by_task.items()
                }
                for rule, by_task in self.rules.items()
            },
            **({"constant_place": self.constant} if self.constant else {}),
        }

    def leaks(self) -> list[tuple[str, str, str, Score]]:
        """(rule, task, source, score) of every shortcut, the worst first."""
        found = [
            (rule, task, source, score)
            for rule, by_task in self.rules.items()
            for task, by_source in by_task.items()
            for source, score in by_source.items()
            if score.leaks
        ]
        return sorted(found, key=lambda entry: entry[3].chance - entry[3].accuracy)

    def _open_images(self) -> dict[str, Facts | None]:
        names = {name for chosen in self.looked.values() for looked in chosen for name in looked.sample.images}
        with ThreadPoolExecutor(usable_cores()) as pool:
            return dict(zip(names, pool.map(self._facts, names), strict=True))

    def _facts(self, name: str) -> Facts | None:
        """None for an image that can't be opened: whether that is a mistake is the builder's to say."""
        try:
            path = resolve_image(self.folder, name)
            width, height, brightness = image_facts(path)
            size = path.stat().st_size
        except (BadRecord, OSError):
            return None
        tokens = max(1, round(width / PIXELS_PER_TOKEN)) * max(1, round(height / PIXELS_PER_TOKEN))
        return Facts(size, brightness, width / height, tokens)

    def _token_lengths(self) -> dict[str, list[int]]:
        """Tokens of the looked-at questions: their words, and their words with the images."""
        from tokenizers import Tokenizer

        from geotune.system.files import ASSETS

        tokenizer = Tokenizer.from_file(str(ASSETS / "tiny" / "tokenizer.json"))
        lengths: dict[str, list[int]] = {"text": [], "with_pictures": []}
        for chosen in self.looked.values():
            texts = ["\n".join([one.sample.system, *(turn.text for turn in one.sample.turns)]) for one in chosen]
            for looked, encoding in zip(chosen, tokenizer.encode_batch(texts), strict=True):
                lengths["text"].append(len(encoding.ids))
                facts = [self.images[name] for name in looked.sample.images]
                known = [fact.tokens for fact in facts if fact is not None]
                if len(known) == len(facts):
                    lengths["with_pictures"].append(len(encoding.ids) + sum(known))
        return lengths

    def _rules(self) -> dict[str, dict[str, dict[str, Score]]]:
        found: dict[str, dict[str, dict[str, Score]]] = defaultdict(lambda: defaultdict(dict))
        tables = self.survey.scale_tables()
        for (task, source), chosen in self.looked.items():
            options = self.survey.options_of(task)
            if len(options) < 2:
                continue
            places = len({one.sample.place for one in self.survey.looked[task, source]})
            answers = np.array([options.index(one.sample.answer) for one in chosen])
            folds = np.array([fold_of(one.sample.place or one.sample.id) for one in chosen])
            if (task, source) in tables:
                # Of one map, as the zoom leak of published data is stated: each scale's majority answer.
                rule = majority_score if tables[task, source].maps == 1 else table_score
                found["zoom"][task][source] = rule(tables[task, source].counts, places)
            for name in MEASURED:
                if (score := self._measured(name, chosen, answers, folds, len(options), places)) is not None:
                    found[name][task][source] = score
            if all(len(one.sample.images) == 2 for one in chosen):
                maps = np.array([one.sample.images[1] for one in chosen])
                found["known_map"][task][source] = identity_score(maps, answers, folds, len(options), places)
            said = [options.index(one.sample.answer) for one in self.survey.looked[task, source]]
            found["answer_prior"][task][source] = prior_score(np.bincount(said, minlength=len(options)), places)
            points = [one.point or (np.nan, np.nan) for one in chosen]
            if np.isfinite(points).any():
                column = _cells(np.array(points))
                found["place"][task][source] = value_score(column[None], answers, folds, len(options), places)
        return found

    def _measured(
        self,
        name: str,
        chosen: Sequence[Looked],
        answers: np.ndarray,
        folds: np.ndarray,
        options: int,
        places: int,
    ) -> Score | None:
        """Score of a rule that sees one measure of the images; None where they can't be opened or vary in number."""
        counts = {len(one.sample.images) for one in chosen}
        if len(counts) > 1 or counts == {0}:
            return None
        facts = [[self.images[image] for image in one.sample.images] for one in chosen]
        if any(fact is None for row in facts for fact in row):
            return None
        values = np.array([[getattr(fact, name) for fact in row] for row in facts])
        if values.shape[1] == options + 1 > 2:  # one of several maps
            return candidate_score(values[:, 1:], values[:, 0], answers, folds, places)
        return value_score(values.T, answers, folds, options, places)

    def _constant_place(self) -> dict[str, float]:
        """How often one and the same answer is near enough, for questions about coordinates: by distance in km."""
        chosen = [one for (task, _), some in self.looked.items() if task == "geolocate" for one in some if one.point]
        if len(chosen) < 2:
            return {}
        points = np.array([one.point for one in chosen])
        folds = np.array([fold_of(one.sample.place or one.sample.id) for one in chosen])
        right = dict.fromkeys(CONSTANT_KM, 0)
        for fold in np.unique(folds):
            learned, asked = points[folds != fold], points[folds == fold]
            if not len(learned):
                continue
            apart = haversine_km(learned[:, None, 0], learned[:, None, 1], learned[None, :, 0], learned[None, :, 1])
            for km in CONSTANT_KM:
                lat, lon = learned[int((np.asarray(apart) <= km).sum(axis=1).argmax())]
                right[km] += int((np.asarray(haversine_km(lat, lon, asked[:, 0], asked[:, 1])) <= km).sum())
        return {f"acc@{km}km": round(count / len(chosen), 4) for km, count in right.items()}


def _cells(points: np.ndarray) -> np.ndarray:
    """A number per place for the part of the sources' ground that it lies in, (questions,)."""
    cells = np.full(len(points), np.nan)
    known = np.isfinite(points).all(axis=1)
    lat, lon = points[known].T
    rows = np.searchsorted(np.quantile(lat, (0.5,)), lat, "right")
    columns = np.searchsorted(np.quantile(lon, (0.25, 0.5, 0.75)), lon, "right")
    cells[known] = rows * 4 + columns
    return cells
