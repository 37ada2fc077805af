"""Tokens that no answer holds: which they are, that none is drawn or scored, and that all others follow the softmax."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones.generation import generate, sample, score_options
from geotune.backbones.output_head import leave_out
from geotune.backbones.sampling import Sampling
from geotune.backbones.weights import save_pretrained
from geotune.encoding.collate import collate_tree
from geotune.sample import Sample

City = tuple[Path, list[Sample]]
REAL_GENERATION_CONFIG = {
    "do_sample": True,
    "repetition_penalty": 1.05,
    "temperature": 1e-06,
    "top_k": 1,
    "top_p": 0.001,
    "transformers_version": "4.49.0",
}
"""What Qwen2.5-VL's generation_config.json says of sampling."""
ROOM = 13
"""Rows of the embedding matrix beyond the tokenizer."""


@pytest.fixture(scope="module")
def padded(qwen_path: Path, load_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Qwen with `<think>` as Qwen3 has it, a padded embedding matrix, several stop tokens and the padding among them.

    Its generation_config.json says what that of Qwen2.5-VL says.
    """
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("padded") / "qwen"
    shutil.copytree(qwen_path, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.add_tokens(["<think>", "</think>"]) == 2
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer) + ROOM, mean_resizing=False)
    model.save_pretrained(folder)
    stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    content = {**REAL_GENERATION_CONFIG, "eos_token_id": stops, "pad_token_id": stops[0]}
    (folder / "generation_config.json").write_text(json.dumps(content), encoding="utf-8")
    return load_tiny("qwen", path=str(folder))


def names(backbone: Any) -> list[str | None]:
    found: list[str | None] = backbone.tokenizer.convert_ids_to_tokens(backbone.never_drawn.tolist())
    return found


def test_the_tokens_of_both_families(backbone: Any) -> None:
    placeholders = {"qwen2_5_vl": ["<|image_pad|>", "<|video_pad|>"], "internvl": ["<IMG_CONTEXT>", "<video>"]}
    marks = {"qwen2_5_vl": ["<|vision_start|>", "<|vision_end|>"], "internvl": ["<img>", "</img>"]}
    family = backbone.family
    assert sorted(map(str, names(backbone))) == sorted(
        ["<|endoftext|>", "<|im_start|>", *placeholders[family], *marks[family]]
    )
    assert not set(backbone.stop_ids) & set(backbone.never_drawn.tolist())


def test_padding_rows_stop_tokens_and_thoughts(padded: Any) -> None:
    known = len(padded.tokenizer)
    assert padded.base.lm_head.out_features == known + ROOM
    assert set(padded.stop_ids) == set(padded.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))
    never = padded.never_drawn.tolist()
    assert never == sorted(set(never))
    assert never[-ROOM:] == list(range(known, known + ROOM))
    drawable = padded.tokenizer.convert_tokens_to_ids(["<think>", "</think>", "<|im_end|>", "<|endoftext|>"])
    assert not set(drawable) & set(never)
    assert padded.tokenizer.convert_tokens_to_ids("<|im_start|>") in never


@pytest.fixture
def wishful(backbone: Any) -> Iterator[Any]:
    """A backbone whose model would say nothing but tokens that are never drawn."""
    head = backbone.base.lm_head
    bias = torch.zeros(head.out_features)
    bias[backbone.never_drawn] = 50.0
    head.bias = torch.nn.Parameter(bias, requires_grad=False)
    yield backbone
    head.bias = None


def test_they_are_never_drawn_whatever_the_model_wishes(wishful: Any, city: City) -> None:
    samples = [one.in_folder(city[0]) for one in city[1][:3]]
    prompts = [wishful.encode(one, answer=False) for one in samples]
    never = set(wishful.never_drawn.tolist())
    for tree in (True, False):
        for sampling in (None, Sampling([(0,)] * 3), Sampling([(1,)] * 3, 2.0, 0.9)):
            limits: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 6, "tree": tree}
            found = list(chain(*sample(wishful, prompts, n=2, sampling=sampling, **limits)))
            assert not never & set(chain(*(one.tokens for one in found)))
            assert all(-20 < value <= 0 for one in found for value in one.logprobs)
    assert all(generate(wishful, samples, max_new_tokens=8, batch_size=3))
    scores = score_options(wishful, samples, [["N", "E"]] * 3, batch_size=3)
    assert all(value > -30 for row in scores for value in row), "of the same distribution"


def test_the_training_loss_still_knows_them(wishful: Any, city: City) -> None:
    batch = collate_tree([wishful.encode(one.in_folder(city[0])) for one in city[1][:2]], wishful.encoder)
    with torch.no_grad():
        whole, drawn = (wishful.token_logprobs(batch, suppress=suppress) for suppress in (False, True))
    assert (whole < -30).all()
    assert (drawn > -30).all()


def test_gradients_of_suppressed_log_probabilities(load_tiny: Callable[..., Any], city: City) -> None:
    """They are those of the softmax over the other tokens alone."""
    backbone = load_tiny("qwen").train()
    batch = collate_tree([backbone.encode(one.in_folder(city[0])) for one in city[1][:2]], backbone.encoder)
    others = torch.ones(backbone.base.lm_head.out_features, dtype=torch.bool)
    others[backbone.never_drawn] = False
    place = others.cumsum(0) - 1
    trained = list(backbone.trained_parameters().values())
    fast = backbone.token_logprobs(batch, 0.7, suppress=True)
    logits = backbone(batch)[:, others] / 0.7
    slow = logits.log_softmax(-1).gather(-1, place[batch.labels][:, None]).squeeze(-1)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    for one, other in zip(*(torch.autograd.grad(found.sum(), trained) for found in (fast, slow)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_draws_fit_the_softmax_whatever_the_model_folder_says_of_sampling(
    padded: Any, city: City, stock: Any, temperature: float
) -> None:
    prompt = padded.encode(city[1][1].in_folder(city[0]), answer=False)
    arguments = stock.arguments(padded, prompt)
    said = {int(padded.base.generate(**arguments, max_new_tokens=1)[0, -1]) for _ in range(20)}
    assert len(said) == 1, "the library obeys the file"
    count = 20000
    limits = {"max_new_tokens": 1, "batch_size": count}
    [found] = sample(padded, [prompt], n=count, sampling=Sampling([(3,)], temperature), **limits)
    drawn = torch.bincount(torch.tensor([one.tokens[0] for one in found]), minlength=padded.base.lm_head.out_features)
    with torch.no_grad():
        logits = leave_out(stock.logits(padded, prompt)[-1:], padded.never_drawn)[0]
    expected = (logits.double() / temperature).softmax(-1) * count
    common = expected >= 5
    degrees = int(common.sum())  # all rare tokens together are one more cell, and the cells sum to the count
    assert degrees > 50
    assert drawn[padded.never_drawn].sum() == 0
    observed = torch.cat([drawn[common], drawn[~common].sum()[None]]).double()
    wanted = torch.cat([expected[common], expected[~common].sum()[None]])
    statistic = float(((observed - wanted).square() / wanted.clamp(min=1)).sum())
    assert abs(statistic - degrees) < 4 * (2 * degrees) ** 0.5, "a chi-square variable of as many degrees of freedom"


def test_a_written_model_names_them(padded: Any, tmp_path: Path, load_tiny: Callable[..., Any]) -> None:
    """In the form that transformers reads, beside what the folder said of sampling."""
    from transformers import GenerationConfig

    plain = load_tiny("qwen", path=padded.path, language_model="full")
    save_pretrained(plain, tmp_path)
    content = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    assert content["suppress_tokens"] == padded.never_drawn.tolist()
    assert content["top_k"] == 1
    assert GenerationConfig.from_pretrained(tmp_path).suppress_tokens == padded.never_drawn.tolist()
    assert torch.equal(load_tiny("qwen", path=str(tmp_path)).never_drawn, padded.never_drawn)
