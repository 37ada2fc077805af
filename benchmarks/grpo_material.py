"""What all contenders of `benchmarks.grpo_speed` have in common: prompts, tokens that can be drawn, and the reward."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.turns import Setup
from geotune.config.parts import DataConfig
from geotune.data.dataset import SampleDataset, load_dataset
from geotune.data.row_plan import RowPlan
from geotune.rl.terms import Term, TermValue
from geotune.sample import Sample

TASK = "localization_prior"
"""Task of the prompts: a view and a map of the same size; one prompt per view, all equally long."""


def planned_prompts(setup: Setup, encoder: Any) -> tuple[SampleDataset, RowPlan]:
    """Return the dataset of the prompts, and the plan that says which of them an update uses.

    All contenders have the same prompts in the same order, and none twice.
    """
    config = DataConfig(setup.questions, setup.batch_size, tasks=[TASK], prefix_tree=setup.reads_trees)
    dataset = load_dataset(Path(setup.questions), encoder, config, seed=0)
    plan = RowPlan(dataset.lengths, dataset.targets, setup.batch_size, setup.accumulate, ranks=1, seed=0)
    assert len(dataset) >= setup.total * plan.update_size, "no prompt comes twice"
    return dataset, plan


def suppressed_tokens(tokenizer: Any, vocabulary: int) -> list[int]:
    """Return the tokens that no contender draws: all control tokens, stops among them, and ids without a token.

    vocabulary: number of rows of the embedding matrix.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(special | set(range(len(tokenizer), vocabulary)))


def made_up_completions(suppressed: Sequence[int], vocabulary: int, setup: Setup) -> list[list[int]]:
    """Return completions that are the same for all contenders, to compare their log-probabilities."""
    drawn = sorted(set(range(vocabulary)) - set(suppressed))
    return [random.Random(number).choices(drawn, k=setup.new_tokens) for number in range(setup.group_size)]


def text_hash(text: str) -> float:
    """Return a number in [0, 1) that different texts do not share: a reward by which hardly any group is dead."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


@dataclass
class TextHash(Term):
    """A reward that is the hash of the text."""

    def __call__(self, text: str, sample: Sample) -> TermValue:
        return TermValue(text_hash(text))
