"""Shortcut rules: how often a question can be answered from a property that should not reveal the answer.

A rule that knows nothing scores exactly the chance, for three reasons. It is learned on four fifths of the places and
scored on the remaining fifth, so that questions about one place are never on both sides. Every answer has the same
weight, however frequent it is. Answers that the rule's counts do not distinguish share the credit equally. Without the
last two, holding questions out of a balanced set would make their answers look rare, and rules would score below
chance.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

FOLDS = 5
BINS = 8
"""Number of levels into which a measured value is divided."""
CERTAIN = 2.0
"""Number of standard errors by which an answer must be more frequent than another for a rule to prefer it."""
NOTABLE = 0.03
"""Smallest distance above chance at which a rule is called a shortcut; it must also exceed 2.5 standard errors."""


@dataclass(frozen=True)
class Score:
    """Accuracy of a rule, averaged over the answers, with the number of questions `n` and of places."""

    accuracy: float
    chance: float
    n: int
    places: int

    @property
    def leaks(self) -> bool:
        """Whether the accuracy is significantly above chance; the questions about a place count as one observation."""
        error = np.sqrt(self.chance * (1 - self.chance) / max(self.places, 1))
        return bool(self.accuracy > self.chance + max(NOTABLE, 2.5 * error))

    def as_json(self) -> dict[str, float | int | bool]:
        """The score as it stands in the report."""
        numbers = {"accuracy": round(self.accuracy, 4), "chance": round(self.chance, 4)}
        return {**numbers, "n": self.n, "places": self.places, "leaks": self.leaks}


def fold_of(place: str) -> int:
    """The fold of the questions about a place, in range(FOLDS)."""
    return zlib.crc32(place.encode()) % FOLDS


def table_score(table: np.ndarray, places: int) -> Score:
    """Score of the rule that sees one value, from counts of shape (fold, value, answer)."""
    return _score([table], places)


def majority_score(table: np.ndarray, places: int) -> Score:
    """Score of the rule that gives each value's most frequent answer, from counts of shape (fold, value, answer).

    Nothing is held out, so the value must have too few levels for the rule to memorize single questions.
    """
    counts = table.sum(axis=0)
    return Score(float(counts.max(axis=1).sum() / counts.sum()), 1 / counts.shape[1], int(counts.sum()), places)


def value_score(columns: np.ndarray, answers: np.ndarray, folds: np.ndarray, options: int, places: int) -> Score:
    """Score of the rule that sees the best of several measured values, which is chosen on the training folds.

    Args:
        columns: (values, questions), NaN for a value that was not measured.
        answers: (questions,) in range(options).
        folds: (questions,) in range(FOLDS).
        options: Number of answers to choose from.
        places: Number of different places.
    """
    tables = []
    for column in columns:
        levels = _levels(column)
        table = np.zeros((FOLDS, int(levels.max(initial=0)) + 1, options))
        np.add.at(table, (folds, levels, answers), 1)
        tables.append(table)
    return _score(tables, places)


def identity_score(names: np.ndarray, answers: np.ndarray, folds: np.ndarray, options: int, places: int) -> Score:
    """Score of the rule that recognizes an image from the questions of other places; `names` has shape (questions,)."""
    distinct, level = np.unique(names, return_inverse=True)
    table = np.zeros((FOLDS, len(distinct), options))
    np.add.at(table, (folds, level, answers), 1)
    return _score([table], places)


def candidate_score(
    values: np.ndarray, photo: np.ndarray, answers: np.ndarray, folds: np.ndarray, places: int
) -> Score:
    """Score of the rule that picks one of several maps by a measured value.

    It picks the map with the largest value, the smallest, the one farthest from the maps' median, or the one closest
    to the photo's, whichever is best on the training folds.

    Args:
        values: (questions, maps), the value of each map.
        photo: (questions,), the value of the photo.
        answers: (questions,) in range(maps).
        folds: (questions,) in range(FOLDS).
        places: Number of different places.
    """
    count = values.shape[1]
    median = np.median(values, axis=1, keepdims=True)
    criteria = (values, -values, np.abs(values - median), -np.abs(values - photo[:, None]))
    columns = []
    for criterion in criteria:
        best = criterion == criterion.max(axis=1, keepdims=True)
        columns.append(best[np.arange(len(answers)), answers] / best.sum(axis=1))
    credit = np.stack(columns)
    right = 0.0
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if not test.any():
            continue
        learned = credit[:, train].mean(axis=1) if train.any() else np.zeros(len(criteria))
        error = np.sqrt(1 / count * (1 - 1 / count) / max(int(train.sum()), 1))
        choice = int(learned.argmax())
        certain = learned[choice] > 1 / count + CERTAIN * error
        right += credit[choice, test].sum() if certain else test.sum() / count
    return Score(float(right / len(answers)), 1 / count, len(answers), places)


def prior_score(counts: np.ndarray, places: int) -> Score:
    """Score of always giving the most frequent answer, from the counts of the answers.

    It is a plain share of the questions, because the rule learns nothing.
    """
    return Score(float(counts.max() / counts.sum()), 1 / len(counts), int(counts.sum()), places)


def _score(tables: list[np.ndarray], places: int) -> Score:
    """Score of the rule that is best on the training folds, among rules given by their counts (fold, value, answer)."""
    options = tables[0].shape[2]
    right = np.zeros(options)
    for fold in range(FOLDS):
        learned = [table.sum(axis=0) - table[fold] for table in tables]
        shares = [_shares(counts) for counts in learned]
        gains = [(counts * share).sum() / max(counts.sum(), 1) for counts, share in zip(learned, shares, strict=True)]
        best = int(np.argmax(gains))
        right += (tables[best][fold] * shares[best]).sum(axis=0)
    asked = tables[0].sum(axis=(0, 1))
    recall = right[asked > 0] / asked[asked > 0]
    return Score(float(recall.mean()), 1 / options, int(asked.sum()), places)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Probability of each answer given the value, (value, answer), from counts of that shape.

    Answers that the counts do not distinguish have equal probabilities. Compared is how frequent a value is among the
    questions with each answer, so frequent answers have no advantage.
    """
    asked = counts.sum(axis=0, keepdims=True) + 1
    rate = (counts + 0.5) / asked
    error = np.sqrt(rate * (1 - rate).clip(min=0) / asked)
    best = rate.argmax(axis=1)
    rows = np.arange(len(rate))
    gap = rate[rows, best][:, None] - rate
    tied = gap <= CERTAIN * np.sqrt(error**2 + error[rows, best][:, None] ** 2)
    return np.asarray(tied / tied.sum(axis=1, keepdims=True))


def _levels(column: np.ndarray) -> np.ndarray:
    """Values (questions,) divided into a few levels by quantiles; level 0 is for values that were not measured."""
    known = np.isfinite(column)
    levels = np.zeros(len(column), np.int64)
    values = np.unique(column[known])
    if len(values) <= BINS:
        levels[known] = 1 + np.searchsorted(values, column[known])
    else:
        edges = np.quantile(column[known], np.arange(1, BINS) / BINS)
        levels[known] = 1 + np.searchsorted(edges, column[known], "right")
    return levels
