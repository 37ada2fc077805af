"""Completions as tokens: each prompt is read once, whatever the batches, and log-probabilities are the model's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones.decoding import CopiedPrompts, TreePrompts, reading_order
from geotune.backbones.generation import Completion, _batches, generate, sample
from geotune.backbones.output_head import label_logprobs
from geotune.backbones.sampling import Sampling
from geotune.encoding.collate import collate, collate_tree
from geotune.encoding.prefix_tree import build_tree
from geotune.encoding.segments import Encoded
from geotune.sample import Sample, Turn
from tests.geotune.backbones.test_fused_lora import randomize_adapters

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


def name_of(backbone: Any) -> str:
    return "qwen" if backbone.family == "qwen2_5_vl" else "internvl"


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


@pytest.fixture(scope="module")
def mixed(backbone: Any, city: City) -> list[Encoded]:
    """Prompts of one, two and five images, some of which share images, one without any, and the start of another."""
    folder, samples = city
    views, maps = [f"view{number}.png" for number in range(6)], [f"map{number}.png" for number in range(3)]
    images = (
        views[:1],
        [views[0], maps[0]],
        [views[0], *maps, views[1]],
        [views[2]],
        [views[3], maps[1]],
        [],
        views[:1],
    )
    made = []
    for number, names in enumerate(images):
        asked = "<image>\n" * len(names) + ("Which way?", "Which way does the camera look?")[number % 2]
        turns = [Turn("user", asked)]
        if number == 6:
            turns = [Turn("user", "<image>\nWhich way?"), Turn("assistant", "N"), Turn("user", "Answer in JSON.")]
        made.append(Sample(str(number), tuple(names), tuple(turns), system=samples[0].system).in_folder(folder))
    return [backbone.encode(one, answer=False) for one in made]


def bounds(prompts: list[Encoded], n: int) -> list[int | None]:
    """From a single row at a time to all of them."""
    tree = build_tree(prompts).length
    return [None, 1, tree, tree + 2 * LIMIT, tree + len(prompts) * n * LIMIT, 10**9]


def test_greedy_tokens_are_the_librarys_whatever_the_bound(
    backbone: Any, mixed: list[Encoded], stock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone.base.generation_config, "eos_token_id", list(backbone.stop_ids))
    wanted = [stock.tokens(backbone, prompt, LIMIT) for prompt in mixed]
    n, plain = 3, {"n": 3, "max_new_tokens": LIMIT, "batch_size": 7, "tree": False}
    twin = rounded(sample(backbone, mixed, **plain))
    assert len({len(tokens) for group in twin for tokens, _ in group}) > 1
    for bound in bounds(mixed, n):
        for batch_size in (2, 64):
            limits = {"max_new_tokens": LIMIT, "batch_size": batch_size, "max_cached_tokens": bound}
            found = sample(backbone, mixed, n=n, **limits)
            assert rounded(found) == twin, (bound, batch_size)
            assert [[list(one.tokens) for one in group] for group in found] == [[tokens] * n for tokens in wanted]


def test_drawn_tokens_do_not_depend_on_the_bound_or_on_sharing(backbone: Any, mixed: list[Encoded]) -> None:
    whole = drawn(backbone, mixed, 4, 64)
    assert rounded(drawn(backbone, mixed, 4, 64, tree=False)) == rounded(whole)
    for bound in bounds(mixed, 4):
        found = drawn(backbone, mixed, 4, 64, bound=bound)
        assert rounded(found) == rounded(whole), bound
        for one, other in zip(chain(*found), chain(*whole), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("tree", [True, False])
def test_cached_tokens_stay_within_the_bound(
    backbone: Any, mixed: list[Encoded], tree: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least one row runs, and more than one as soon as they fit."""
    seen: list[tuple[int, int]] = []
    most: list[int] = []
    kind = TreePrompts if tree else CopiedPrompts
    made, grow = kind.__init__, kind.rows
    read: list[list[Encoded]] = []

    def note(self: Any, backbone: Any, prompts: list[Encoded]) -> None:
        read.append(prompts)
        made(self, backbone, prompts)

    def count(self: Any, of_row: list[int], limit: int, *, keep: bool) -> Any:
        tokens = build_tree(read[-1]).length if tree else len(of_row) * max(prompt.length for prompt in read[-1])
        seen.append((len(of_row), tokens + len(of_row) * limit))
        return grow(self, of_row, limit, keep=keep)

    monkeypatch.setattr(kind, "__init__", note)
    monkeypatch.setattr(kind, "rows", count)
    for bound in (1, 200, 400, 800, 10**9):
        seen.clear()
        drawn(backbone, mixed, 3, 12, tree, bound)
        assert all(rows == 1 or tokens <= bound for rows, tokens in seen)
        assert sum(rows for rows, _ in seen) == 3 * len(mixed)
        most.append(max(rows for rows, _ in seen))
    assert most[0] == 1
    assert most == sorted(most)
    assert most[-1] == 12


def test_a_lone_prompt_runs_as_many_rows_as_fit(backbone: Any, mixed: list[Encoded]) -> None:
    prompt, rows = mixed[2], []
    for more in (0, 1, 4, 7):
        for [_], count in _batches([prompt], 6, LIMIT, 64, prompt.length + more * LIMIT, TreePrompts):
            rows.append(count)
    assert rows == [1, 1, 4, 6]


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "bf16"},
        {"dtype": "bf16", "language_model": "full"},
        {"attn": "eager"},
        {"quantization": "nf4", "dtype": "bf16"},
    ],
)
def test_other_precisions_and_attention(
    backbone: Any, settings: dict[str, Any], load_tiny: Callable[..., Any], city: City
) -> None:
    """Log-probabilities of what was drawn are those of a forward pass, up to the rounding of bf16."""
    if "quantization" in settings:
        pytest.importorskip("bitsandbytes")
    folder, samples = city
    own = load_tiny(name_of(backbone), **settings)
    prompts = [own.encode(samples[number].in_folder(folder), answer=False) for number in (0, 1, 5, 0)]
    found = drawn(own, prompts, 4, 8)
    for prompt, group in zip(prompts, found, strict=True):
        for one in group:
            batch = collate([prompt.with_answer(one.tokens)], own.encoder)
            with own.evaluation_mode():
                wanted = own.token_logprobs(batch, suppress=True).tolist()
            assert one.logprobs == pytest.approx(wanted, abs=1e-4 if "dtype" not in settings else 0.3)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_rollouts_leave_frozen_weights_alone(
    backbone: Any, dtype: str, load_tiny: Callable[..., Any], city: City
) -> None:
    """Bit for bit, also where adapters are merged into them meanwhile; the adapters as well."""
    own = load_tiny(name_of(backbone), dtype=dtype)
    randomize_adapters(own)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    prompts = [own.encode(city[1][0].in_folder(city[0]), answer=False)]
    kinds = set()
    for turn in range(50):
        sampling = Sampling([(turn,)])
        kinds |= {one.tokens for one in sample(own, prompts, n=2, max_new_tokens=2, batch_size=2, sampling=sampling)[0]}
    assert len(kinds) > 50
    after = own.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("tree", [True, False])
def test_completions_that_have_ended_are_not_computed_any_more(
    backbone: Any, prompts: list[Encoded], monkeypatch: pytest.MonkeyPatch, tree: bool
) -> None:
    rows: list[int] = []
    hidden_states = backbone.hidden_states

    def count(embeds: torch.Tensor, *rest: Any) -> Any:
        if embeds.shape[1] == 1:
            rows.append(len(embeds))
        return hidden_states(embeds, *rest)

    monkeypatch.setattr(backbone, "hidden_states", count)
    found = [each for of_prompt in drawn(backbone, prompts, 8, 64, tree) for each in of_prompt]
    running = [sum(len(each.tokens) > step + 1 for each in found) for step in range(len(rows))]
    assert rows[0] == len(found)
    assert all(present * 0.75 <= computed for present, computed in zip(running, rows, strict=True))
    assert all(computed * 0.75 <= present + 1 for present, computed in zip(running, rows, strict=True))
    assert rows[-1] < rows[0]
