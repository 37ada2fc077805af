"""Figures of a multiple-choice task: accuracy, and the bias of answers towards some options whatever the image.

All figures follow from one table of counts, so counts can be added over processes before any division. Source of the
bias figures: GeoX-Bench (arXiv 2511.13259).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def count_answers(gold: Sequence[str], answers: Sequence[str | None], options: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count answers (K, K + 1): rows are gold options, columns answered options, the last column unparsed answers.

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
    """Figures of one task; those of the distribution of answers are None if no answer is parsed."""

    n: int
    """Number of questions."""
    accuracy: float
    """Share of right answers among all questions; an unparsed answer is wrong."""
    parse_rate: float
    """Share of questions whose answer is parsed."""
    h_norm: float | None
    """Entropy of the parsed answers divided by log2 K: 1 if options are used evenly, 0 if one is always used."""
    d_kl: float | None
    """Kullback-Leibler divergence in bits of the parsed answers from the uniform distribution: log2 K (1 - h_norm)."""
    p_mode: float | None
    """Share of the most frequent answer among the parsed answers."""
    a_mode: float
    """Accuracy of always giving the most frequent gold answer."""


def choice_metrics(counts: npt.NDArray[np.int64]) -> ChoiceMetrics:
    """Compute figures from the counts (K, K + 1) of `count_answers`; raises ValueError without any question."""
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
        h_norm=None if shares is None else normalized_entropy(shares),
        d_kl=None if shares is None else divergence_from_uniform(shares),
        p_mode=None if shares is None else float(shares.max()),
        a_mode=float(counts.sum(axis=1).max() / n),
    )


def normalized_entropy(shares: npt.NDArray[np.float64]) -> float:
    """Return H_norm = -(1 / log2 K) sum p_i log2 p_i, in [0, 1], for K >= 2 shares that sum to 1."""
    used = shares[shares > 0]
    return float(np.clip(-(used * np.log2(used)).sum() / math.log2(shares.size), 0.0, 1.0))


def divergence_from_uniform(shares: npt.NDArray[np.float64]) -> float:
    """Return D_KL(p || uniform) = sum p_i log2(p_i K) in bits, in [0, log2 K], for K shares that sum to 1."""
    used = shares[shares > 0]
    return float(max((used * np.log2(used * shares.size)).sum(), 0.0))


def _index(column: dict[str | None, int], answer: str | None) -> int:
    if answer not in column:
        raise ValueError(f"{answer!r} is not one of {', '.join(str(option) for option in column if option)}")
    return column[answer]
