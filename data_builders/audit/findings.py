"""Evaluates a survey for the report: balance of answers, duplicates, token lengths and shortcut rules."""

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
from data_builders.audit.survey import AuditSample, Survey
from geotune.errors import BadRecord
from geotune.geo import haversine_km
from geotune.system.images import image_facts, resolve_image
from geotune.system.parallel import usable_cores
from geotune.system.progress import progress_bar

SAMPLES_WITH_IMAGES = 2000
PIXELS_PER_TOKEN = 28
"""Side of the patch that Qwen2.5-VL reads as one token."""
MEASURED = ("file_size", "brightness", "aspect_ratio")
"""Measures of an image that have a rule of their own."""
CONSTANT_KM = (25, 200, 750, 2500)
"""Distances for which the accuracy of a constant answer is found."""


@dataclass(frozen=True)
class ImageFacts:
    """Measures of an image that do not depend on what it shows."""

    file_size: float
    """Size of the file in bytes."""
    brightness: float
    """Mean brightness, 0 to 255."""
    aspect_ratio: float
    """Width divided by height."""
    tokens: int
    """Number of patches of PIXELS_PER_TOKEN a side."""


class Findings:
    """The findings of the audit: the page shows all of them, `report` gives those for build_report.json.

    `folder` is the folder of the dataset, to which images are relative. `with_images` is the number of samples whose
    images are opened, over all tasks and sources.
    """

    def __init__(self, survey: Survey, folder: Path, with_images: int = SAMPLES_WITH_IMAGES) -> None:
        self.survey = survey
        self.folder = folder
        per_group = max(20, with_images // max(1, len(survey.examined)))
        self.examined = {group: samples[:per_group] for group, samples in survey.examined.items()}
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
        """(rule, task, source, score) of every shortcut, in descending order of accuracy above chance."""
        found = [
            (rule, task, source, score)
            for rule, by_task in self.rules.items()
            for task, by_source in by_task.items()
            for source, score in by_source.items()
            if score.leaks
        ]
        return sorted(found, key=lambda entry: entry[3].chance - entry[3].accuracy)

    def _open_images(self) -> dict[str, ImageFacts | None]:
        """The facts of all images of the examined samples, by name."""
        names = {name for group in self.examined.values() for entry in group for name in entry.sample.images}
        found = {}
        with ThreadPoolExecutor(usable_cores()) as pool, progress_bar("auditing images", len(names)) as advance:
            for name, facts in zip(names, pool.map(self._facts, names), strict=True):
                found[name] = facts
                advance()
        return found

    def _facts(self, name: str) -> ImageFacts | None:
        """The facts of one image; None if it can't be opened, which the builder may have allowed."""
        try:
            path = resolve_image(self.folder, name)
            width, height, brightness = image_facts(path)
            size = path.stat().st_size
        except (BadRecord, OSError):
            return None
        tokens = max(1, round(width / PIXELS_PER_TOKEN)) * max(1, round(height / PIXELS_PER_TOKEN))
        return ImageFacts(size, brightness, width / height, tokens)

    def _token_lengths(self) -> dict[str, list[int]]:
        """Numbers of tokens of the examined samples: of the text alone, and of the text with the images."""
        from tokenizers import Tokenizer

        from geotune.system.files import ASSETS

        tokenizer = Tokenizer.from_file(str(ASSETS / "tiny" / "tokenizer.json"))
        lengths: dict[str, list[int]] = {"text": [], "with_pictures": []}
        for group in self.examined.values():
            texts = ["\n".join([entry.sample.system, *(turn.text for turn in entry.sample.turns)]) for entry in group]
            for entry, encoding in zip(group, tokenizer.encode_batch(texts), strict=True):
                lengths["text"].append(len(encoding.ids))
                facts = [self.images[name] for name in entry.sample.images]
                known = [fact.tokens for fact in facts if fact is not None]
                if len(known) == len(facts):
                    lengths["with_pictures"].append(len(encoding.ids) + sum(known))
        return lengths

    def _rules(self) -> dict[str, dict[str, dict[str, Score]]]:
        """The scores of all rules that apply, by rule, task and source."""
        found: dict[str, dict[str, dict[str, Score]]] = defaultdict(lambda: defaultdict(dict))
        tables = self.survey.scale_tables()
        surveyed = self.survey.examined
        for (task, source), group in self.examined.items():
            options = self.survey.options_of(task)
            if len(options) < 2:
                continue
            places = len({entry.sample.place for entry in surveyed[task, source]})
            answers = np.array([options.index(entry.sample.answer) for entry in group])
            folds = np.array([fold_of(entry.sample.place or entry.sample.id) for entry in group])
            if (task, source) in tables:
                # With one map: the majority answer of each scale, as the zoom leak of published data is stated.
                rule = majority_score if tables[task, source].maps == 1 else table_score
                found["zoom"][task][source] = rule(tables[task, source].counts, places)
            for name in MEASURED:
                if (score := self._measured(name, group, answers, folds, len(options), places)) is not None:
                    found[name][task][source] = score
            if all(len(entry.sample.images) == 2 for entry in group):
                maps = np.array([entry.sample.images[1] for entry in group])
                found["known_map"][task][source] = identity_score(maps, answers, folds, len(options), places)
            gold = [options.index(entry.sample.answer) for entry in surveyed[task, source]]
            found["answer_prior"][task][source] = prior_score(np.bincount(gold, minlength=len(options)), places)
            points = [entry.point or (np.nan, np.nan) for entry in group]
            if np.isfinite(points).any():
                column = _regions(np.array(points))
                found["place"][task][source] = value_score(column[None], answers, folds, len(options), places)
        return found

    def _measured(
        self,
        name: str,
        group: Sequence[AuditSample],
        answers: np.ndarray,
        folds: np.ndarray,
        options: int,
        places: int,
    ) -> Score | None:
        """Score of the rule that sees one measure of the images; None if one can't be opened or their number varies."""
        counts = {len(entry.sample.images) for entry in group}
        if len(counts) > 1 or counts == {0}:
            return None
        facts = [[self.images[image] for image in entry.sample.images] for entry in group]
        if any(fact is None for row in facts for fact in row):
            return None
        values = np.array([[getattr(fact, name) for fact in row] for row in facts])
        if values.shape[1] == options + 1 > 2:  # a photo and several maps, one of which is the answer
            return candidate_score(values[:, 1:], values[:, 0], answers, folds, places)
        return value_score(values.T, answers, folds, options, places)

    def _constant_place(self) -> dict[str, float]:
        """Accuracy of the best constant answer to the geolocation questions, for each distance of CONSTANT_KM."""
        groups = [group for (task, _), group in self.examined.items() if task == "geolocate"]
        located = [entry for group in groups for entry in group if entry.point]
        if len(located) < 2:
            return {}
        points = np.array([entry.point for entry in located])
        folds = np.array([fold_of(entry.sample.place or entry.sample.id) for entry in located])
        right = dict.fromkeys(CONSTANT_KM, 0)
        for fold in np.unique(folds):
            learned, asked = points[folds != fold], points[folds == fold]
            if not len(learned):
                continue
            apart = haversine_km(learned[:, None, 0], learned[:, None, 1], learned[None, :, 0], learned[None, :, 1])
            for km in CONSTANT_KM:
                lat, lon = learned[int((np.asarray(apart) <= km).sum(axis=1).argmax())]
                right[km] += int((np.asarray(haversine_km(lat, lon, asked[:, 0], asked[:, 1])) <= km).sum())
        return {f"acc@{km}km": round(count / len(located), 4) for km, count in right.items()}


def _regions(points: np.ndarray) -> np.ndarray:
    """The region of each point (questions, 2), as a number (questions,); NaN for an unknown point.

    The regions are 2 x 4 cells, cut at quantiles of the latitudes and longitudes.
    """
    regions = np.full(len(points), np.nan)
    known = np.isfinite(points).all(axis=1)
    lat, lon = points[known].T
    rows = np.searchsorted(np.quantile(lat, (0.5,)), lat, "right")
    columns = np.searchsorted(np.quantile(lon, (0.25, 0.5, 0.75)), lon, "right")
    regions[known] = rows * 4 + columns
    return regions
