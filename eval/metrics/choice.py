"""Figures of a multiple-choice task: accuracy, and how far the answers lean on some options whatever the image.

Everything follows from one table of counts, so counts may be added over processes before anything is divided.
Source of the bias figures: GeoX-Bench (arXiv 2511.13259).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def count_answers(gold: Sequence[str], answers: Sequence[str | None], options: Sequence[str]) -> npt.NDArray[np.int64]:
    """Counts (K, K + 1): rows are gold options, columns the answered ones, the last column what could not be parsed.

    Raises ValueError for a gold answer or an answer that is not an option.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    column: dict[str | None, int] = {option: i for i, option in enumerate(options)}
    rows = [_index(column, answer) for answer in gold]
    column[None] = len(options)
    columns = [_index(column, answer) for answer in answers]
    if len(rows) != len(columns):
        raise ValueError(f"{len(columns)} answers to {len(rows)} questions")
    counts = multiclass_confusion_matrix(
        torch.tensor(columns, dtype=torch.long), torch.tensor(rows, dtype=torch.long), num_classes=len(options) + 1
    )
    return counts.numpy()[: len(options)].astype(np.int64)


@dataclass(frozen=True)
class ChoiceMetrics:
    """Figures of one task; those of the answers' distribution are None when not one answer was parsed."""

    n: int
    accuracy: float
    """Share of right answers among all questions; an unparsed one is wrong."""
    parse_rate: float
    h_norm: float | None
    """Entropy of the parsed answers over log2 K: 1 is even use of the options, 0 always the same one."""
    d_kl: float | None
    """Kullback-Leibler divergence in bits of the parsed answers from even use: log2 K (1 - h_norm)."""
    p_mode: float | None
    """Share of the option answered most often."""
    a_mode: float
    """Accuracy of always answering the most frequent gold option."""


def choice_metrics(counts: npt.NDArray[np.int64]) -> ChoiceMetrics:
    """Figures from the counts (K, K + 1) of `count_answers`; at least one question."""
    n = int(counts.sum())
    if n == 0:
        raise ValueError("no questions")
    parsed = counts[:, :-1]
    chosen = parsed.sum(axis=0)
    answered = int(chosen.sum())
    shares = chosen / answered if answered else None
    return ChoiceMetrics(
        n=n,
        accuracy=float(np.trace(parsed) / n),
        parse_rate=answered / n,
        h_norm=None if shares is None else normalised_entropy(shares),
        d_kl=None if shares is None else divergence_from_uniform(shares),
        p_mode=None if shares is None else float(shares.max()),
        a_mode=float(counts.sum(axis=1).max() / n),
    )


def normalised_entropy(shares: npt.NDArray[np.float64]) -> float:
    """H_norm = -(1 / log2 K) sum p_i log2 p_i, in [0, 1], for K >= 2 shares that sum to 1."""
    used = shares[shares > 0]
    return float(np.clip(-(used * np.log2(used)).sum() / math.log2(shares.size), 0.0, 1.0))


def divergence_from_uniform(shares: npt.NDArray[np.float64]) -> float:
    """D_KL(p || uniform) = sum p_i log2(p_i K) in bits, in [0, log2 K]."""
    used = shares[shares > 0]
    return float(max((used * np.log2(used * shares.size)).sum(), 0.0))


def _index(column: dict[str | None, int], answer: str | None) -> int:
    if answer not in column:
        raise ValueError(f"{answer!r} is not one of {', '.join(str(option) for option in column if option)}")
    return column[answer]
