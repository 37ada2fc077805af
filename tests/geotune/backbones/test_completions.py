"""Completions as tokens: each prompt is read once, whatever the batches, and log-probabilities are the model's own."""

from __future__ import annotations

import itertools
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones.decoding import reading_order
from geotune.backbones.generation import Completion, generate, sample
from geotune.backbones.output_head import label_logprobs
from geotune.backbones.sampling import Sampling
from geotune.encoding.collate import collate, collate_tree
from geotune.encoding.prefix_tree import build_tree
from geotune.encoding.segments import Encoded
from geotune.sample import Sample

City = tuple[Path, list[Sample]]
LIMIT = 6


@pytest.fixture(scope="module")
def prompts(backbone: Any, city: City) -> list[Encoded]:
    """Prompts of several lengths, the first of which occurs again at the end."""
    folder, samples = city
    chosen = [samples[number].in_folder(folder) for number in (0, 1, 5, 8, 0)]
    return [backbone.encode(one, answer=False) for one in chosen]


@pytest.fixture(autouse=True)
def ends_often(backbone: Any, city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the vocabulary ends a completion, so that completions have different lengths."""
    vocabulary = len(backbone.tokenizer)
    monkeypatch.setattr(backbone, "stop_ids", (backbone.encoder.stop_id, *range(vocabulary - 60, vocabulary)))


def drawn(
    backbone: Any,
    prompts: list[Encoded],
    n: int,
    batch_size: int,
    tree: bool | None = None,
    bound: int | None = None,
    **settings: Any,
) -> list[list[Completion]]:
    sampling = Sampling([(7, number) for number in range(len(prompts))], **settings)
    limits = {"max_new_tokens": LIMIT, "batch_size": batch_size, "max_cached_tokens": bound}
    return sample(backbone, prompts, n=n, sampling=sampling, tree=tree, **limits)


def rounded(completions: list[list[Completion]]) -> list[list[tuple[tuple[int, ...], bool]]]:
    return [[(one.tokens, one.stopped) for one in of_prompt] for of_prompt in completions]


def test_completions_do_not_depend_on_the_batches(backbone: Any, prompts: list[Encoded]) -> None:
    n = 5
    whole = drawn(backbone, prompts, n, 64)
    assert [len(of_prompt) for of_prompt in whole] == [n] * len(prompts)
    assert len({len(one.tokens) for of_prompt in whole for one in of_prompt}) > 2
    assert len({one.stopped for of_prompt in whole for one in of_prompt}) == 2
    for batch_size in (1, 2, 5, 7, 10):
        found = drawn(backbone, prompts, n, batch_size)
        assert rounded(found) == rounded(whole), batch_size
        for one, other in zip(chain(*found), chain(*whole), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert whole[0] != whole[-1], "the same prompt under another seed"
    assert rounded(drawn(backbone, prompts, 2, 64)) == [of_prompt[:2] for of_prompt in rounded(whole)]
    alone = Sampling([(7, 2)], 1.0)
    [found_alone] = sample(backbone, prompts[2:3], n=n, max_new_tokens=LIMIT, batch_size=64, sampling=alone)
    assert rounded([found_alone]) == rounded(whole[2:3])


def test_the_parts_of_a_completion(backbone: Any, prompts: list[Encoded]) -> None:
    for completion in chain(*drawn(backbone, prompts, 8, 16)):
        assert len(completion.tokens) == len(completion.logprobs) <= LIMIT
        stops = [token in backbone.stop_ids for token in completion.tokens]
        assert stops[:-1] == [False] * (len(stops) - 1), "nothing follows a stop token"
        assert stops[-1] == completion.stopped
        assert completion.stopped or len(completion.tokens) == LIMIT
        said = completion.tokens[:-1] if completion.stopped else completion.tokens
        assert completion.text(backbone.encoder) == backbone.encoder.decode(said)


@torch.no_grad()
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.5)])
def test_logprobs_are_those_of_the_forward_pass(
    backbone: Any, prompts: list[Encoded], temperature: float, top_p: float
) -> None:
    """The slow twin: the finished completion as an answer, under the whole distribution at the temperature."""
    completions = drawn(backbone, prompts, 3, 4, temperature=temperature, top_p=top_p)
    answered = [
        prompt.with_answer(one.tokens) for prompt, group in zip(prompts, completions, strict=True) for one in group
    ]
    flat = list(chain(*completions))
    for join in (collate, collate_tree):
        batch = join(answered, backbone.encoder)
        logprobs = backbone.token_logprobs(batch, temperature, suppress=True)
        logits = backbone(batch)
        logits[:, backbone.never_drawn] = -torch.inf
        torch.testing.assert_close(logprobs, label_logprobs(logits, batch.labels, temperature), atol=1e-5, rtol=1e-5)
        for owner, one in enumerate(flat):
            assert batch.labels[batch.owner == owner].tolist() == list(one.tokens)
            assert logprobs[batch.owner == owner].tolist() == pytest.approx(one.logprobs, abs=1e-3)


def test_greedy_completions_are_the_generated_answers(backbone: Any, city: City, prompts: list[Encoded]) -> None:
    folder, samples = city
    asked = [samples[number].in_folder(folder) for number in (0, 1, 5, 8, 0)]
    texts = generate(backbone, asked, max_new_tokens=LIMIT, batch_size=2)
    for n, batch_size in ((1, 2), (3, 2), (3, 8)):
        completions = sample(backbone, prompts, n=n, max_new_tokens=LIMIT, batch_size=batch_size)
        assert [[one.text(backbone.encoder) for one in group] for group in completions] == [[t] * n for t in texts]
    assert all(max(one.logprobs) <= 0 for group in completions for one in group)
    assert sample(backbone, [], n=2, max_new_tokens=LIMIT, batch_size=2) == []


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize(("n", "batch_size", "calls"), [(1, 2, [2, 2, 1]), (4, 8, [2, 2, 1]), (5, 2, [1] * 5)])
def test_each_prompt_is_read_once(
    backbone: Any,
    prompts: list[Encoded],
    monkeypatch: pytest.MonkeyPatch,
    n: int,
    batch_size: int,
    calls: list[int],
    tree: bool,
) -> None:
    """Also when the completions of one prompt take several rounds. No forward pass has more rows than asked for.

    As a tree, what the prompts of a batch share is read once for all of them.
    """
    backbone.clear_feature_cache()
    read: list[tuple[int, int]] = []
    rows: list[int] = []
    shown: list[int] = []
    hidden_states, image_features = backbone.hidden_states, backbone.image_features

    def count_rows(embeds: torch.Tensor, *rest: Any) -> Any:
        if embeds.shape[1] > 1:
            read.append((embeds.shape[0], embeds.shape[1]))
        else:
            rows.append(len(embeds))
        return hidden_states(embeds, *rest)

    def count_images(pixels: dict[str, torch.Tensor]) -> Any:
        features = image_features(pixels)
        shown.append(len(features))
        return features

    monkeypatch.setattr(backbone, "hidden_states", count_rows)
    monkeypatch.setattr(backbone, "image_features", count_images)
    drawn(backbone, prompts, n, batch_size, tree)
    batches = iter(reading_order(prompts))
    expected = []
    for count in calls:
        batch = [prompts[index] for index in itertools.islice(batches, count)]
        expected.append((1, build_tree(batch).length) if tree else (count, max(prompt.length for prompt in batch)))
    assert read == expected
    assert max(rows) <= batch_size
    assert sum(shown) == len({path for prompt in prompts for path in prompt.images})
