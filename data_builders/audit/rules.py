"""Shortcut rules: how far one gets on a question from something that does not show the answer.

A rule that knows nothing scores exactly the chance: it is learned on four fifths of the places and scored on the fifth
(by place, so that questions about one place never stand on both sides), every answer counts the same however frequent
it is, and between answers that its counts do not tell apart it has an equal share in each. Without the last two,
leaving questions out of a balanced set would make the answers left out look rare, and rules would score below chance.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

FOLDS = 5
BINS = 8
"""Levels that a measured value is cut into."""
CERTAIN = 2.0
"""Standard errors by which an answer must be more frequent than another for a rule to prefer it."""
NOTABLE = 0.03
"""How far above chance a rule must be to be called a shortcut, beside 2.5 standard errors."""


@dataclass(frozen=True)
class Score:
    """How often a rule is right, averaged over the answers."""

    accuracy: float
    chance: float
    n: int
    places: int

    @property
    def leaks(self) -> bool:
        """Whether it is above chance by more than luck; as luck goes, the questions of a place are one."""
        error = np.sqrt(self.chance * (1 - self.chance) / max(self.places, 1))
        return bool(self.accuracy > self.chance + max(NOTABLE, 2.5 * error))

    def as_json(self) -> dict[str, float | int | bool]:
        numbers = {"accuracy": round(self.accuracy, 4), "chance": round(self.chance, 4)}
        return {**numbers, "n": self.n, "places": self.places, "leaks": self.leaks}


def fold_of(place: str) -> int:
    """The fold that a place's questions belong to."""
    return zlib.crc32(place.encode()) % FOLDS


def table_score(table: np.ndarray, places: int) -> Score:
    """Score of the rule that sees one value, from counts (fold, value, answer)."""
    return _score([table], places)


def majority_score(table: np.ndarray, places: int) -> Score:
    """Score of the rule that gives each value's most frequent answer, from counts (fold, value, answer).

    Nothing is held out: for a value that takes so few levels that they can't be learned by heart.
    """
    counts = table.sum(axis=0)
    return Score(float(counts.max(axis=1).sum() / counts.sum()), 1 / counts.shape[1], int(counts.sum()), places)


def value_score(columns: np.ndarray, answers: np.ndarray, folds: np.ndarray, options: int, places: int) -> Score:
    """Score of the rule that sees the best of several measured values, chosen where it is learned.

    columns: (values, questions); NaN where nothing was measured. answers: (questions,) in range(options).
    """
    tables = []
    for column in columns:
        levels = _levels(column)
        table = np.zeros((FOLDS, int(levels.max(initial=0)) + 1, options))
        np.add.at(table, (folds, levels, answers), 1)
        tables.append(table)
    return _score(tables, places)


def identity_score(names: np.ndarray, answers: np.ndarray, folds: np.ndarray, options: int, places: int) -> Score:
    """Score of the rule that knows an image again from the questions of other places, names (questions,)."""
    kinds, level = np.unique(names, return_inverse=True)
    table = np.zeros((FOLDS, len(kinds), options))
    np.add.at(table, (folds, level, answers), 1)
    return _score([table], places)


def candidate_score(
    values: np.ndarray, photo: np.ndarray, answers: np.ndarray, folds: np.ndarray, places: int
) -> Score:
    """Score of the rule that picks one of several maps by a measured value: the largest, the smallest, the one that is
    least like the others or most like the photo, whichever is best where it is learned.

    values: (questions, maps). photo: (questions,).
    """
    count = values.shape[1]
    centre = np.median(values, axis=1, keepdims=True)
    ways = (values, -values, np.abs(values - centre), -np.abs(values - photo[:, None]))
    picked = []
    for way in ways:
        best = way == way.max(axis=1, keepdims=True)
        picked.append(best[np.arange(len(answers)), answers] / best.sum(axis=1))
    credit = np.stack(picked)
    right = 0.0
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if not test.any():
            continue
        learned = credit[:, train].mean(axis=1) if train.any() else np.zeros(len(ways))
        error = np.sqrt(1 / count * (1 - 1 / count) / max(int(train.sum()), 1))
        way = int(learned.argmax())
        right += credit[way, test].sum() if learned[way] > 1 / count + CERTAIN * error else test.sum() / count
    return Score(float(right / len(answers)), 1 / count, len(answers), places)


def prior_score(counts: np.ndarray, places: int) -> Score:
    """Score of always giving the most frequent answer: a share of the questions, as there is nothing to learn."""
    return Score(float(counts.max() / counts.sum()), 1 / len(counts), int(counts.sum()), places)


def _score(tables: list[np.ndarray], places: int) -> Score:
    """Of several rules, each given by its counts, the best where it is learned."""
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
    """What part of a question it answers with each answer, (value, answer): equal among those it can't tell apart.

    It compares how frequent a value is among the questions of each answer, so frequent answers have no advantage.
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
    """Values as a few levels; a level of its own for what was not measured."""
    known = np.isfinite(column)
    levels = np.zeros(len(column), np.int64)
    values = np.unique(column[known])
    if len(values) <= BINS:
        levels[known] = 1 + np.searchsorted(values, column[known])
    else:
        edges = np.quantile(column[known], np.arange(1, BINS) / BINS)
        levels[known] = 1 + np.searchsorted(edges, column[known], "right")
    return levels
