"""Generated answers and option scores equal those of the library, one by one and in batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones import generation
from geotune.backbones.generation import generate, score_options
from geotune.encoding.collate import collate, collate_tree
from geotune.encoding.prefix_tree import build_tree
from geotune.sample import Sample, Turn

City = tuple[Path, list[Sample]]
OPTIONS = ['{"direction": "N"}', '{"direction": "E"}', '{"direction": "top"}', '{"direction": "top_left"}', "West"]


def make_it_stop(backbone: Any, samples: Sequence[Sample]) -> None:
    """Make answers end at different lengths: add a token that is often generated to the stop tokens."""
    said = [
        backbone.tokenizer(text)["input_ids"] for text in generate(backbone, samples, max_new_tokens=8, batch_size=8)
    ]
    often = max({t for row in said for t in row[1:]}, key=lambda t: sum(t in row[1:] for row in said))
    backbone.stop_ids = (*backbone.stop_ids, often)
    backbone.base.generation_config.eos_token_id = list(backbone.stop_ids)


def test_generation_equals_the_librarys(load_tiny: Callable[..., Any], backbone: Any, city: City, stock: Any) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    own = load_tiny("qwen" if backbone.family == "qwen2_5_vl" else "internvl")
    make_it_stop(own, samples)
    prompts = [own.encode(sample, answer=False) for sample in samples]
    wanted = [stock.generate(own, prompt, 12) for prompt in prompts]
    assert len({len(text) for text in wanted}) > 2
    for batch_size in (1, 5, 24):
        assert generate(own, samples, max_new_tokens=12, batch_size=batch_size) == wanted
    assert generate(own, samples[:3], max_new_tokens=1, batch_size=2) == [
        stock.generate(own, prompt, 1) for prompt in prompts[:3]
    ]
    assert generate(own, [], max_new_tokens=4, batch_size=2) == []


def test_generating_leaves_modes_and_gradients_alone(backbone: Any, city: City) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    backbone.train()
    before = {name: module.training for name, module in backbone.named_modules()}
    generate(backbone, samples[:2], max_new_tokens=2, batch_size=2)
    assert {name: module.training for name, module in backbone.named_modules()} == before
    batch = collate([backbone.encode(sample) for sample in samples[:2]], backbone.encoder)
    backbone(batch).sum().backward()
    backbone.zero_grad()
    backbone.eval()


@torch.no_grad()
def plain_score(stock: Any, backbone: Any, sample: Sample, prefix: str, text: str) -> float:
    """Log-probability of the turn's tokens after the prefix, computed on a separate sequence."""
    turns = (*sample.turns[:-1], Turn("assistant", prefix + text))
    encoded = backbone.encode(replace(sample, turns=turns))
    logits = stock.logits(backbone, encoded)
    logits[:, backbone.never_drawn] = -torch.inf
    logprobs = logits.log_softmax(-1)
    ids = encoded.segments[-1].ids
    given = len(backbone.tokenizer(prefix)["input_ids"]) if prefix else 0
    start = encoded.length - len(ids)
    return float(sum(logprobs[start + at - 1, ids[at]] for at in range(given, len(ids))))


@pytest.mark.parametrize("prefix", ["", "The view shows a red block.\n"])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("tree", [True, False])
def test_scores_equal_separate_sequences(
    backbone: Any, city: City, prefix: str, batch_size: int, tree: bool, stock: Any
) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    options = [OPTIONS[: 2 + number % 4] for number in range(6)]
    scores = score_options(
        backbone, samples[:6], options, prefix=[prefix] * 6 if prefix else None, batch_size=batch_size, tree=tree
    )
    for sample, texts, found in zip(samples, options, scores, strict=False):
        wanted = [plain_score(stock, backbone, sample, prefix, text) for text in texts]
        assert found == pytest.approx(wanted, abs=1e-3)


def test_single_and_empty_options(backbone: Any, city: City, stock: Any) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    [[score]] = score_options(backbone, samples[:1], [["N"]], batch_size=2)
    assert score == pytest.approx(plain_score(stock, backbone, samples[0], "", "N"), abs=1e-3)
    [[score]] = score_options(backbone, samples[:1], [[""]], batch_size=2)
    assert score == pytest.approx(plain_score(stock, backbone, samples[0], "", ""), abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("family", ["qwen", "internvl"])
def test_a_tree_of_options_scores_as_rows_do(
    family: str, dtype: str, load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options that are equal, that begin another one, and that have nothing in common; a question that comes twice."""
    samples = [sample.in_folder(city[0]) for sample in city[1][:3]]
    options = [["north", "north east", "north", "n"], ["true", "false"], ["top left", "top", "top right", "bottom"]]
    backbone = load_tiny(family, dtype=dtype)
    asked: dict[str, Any] = {"samples": [*samples, samples[0]], "options": [*options, options[0][::-1]]}
    rows = score_options(backbone, **asked, batch_size=4, tree=False)
    lengths = []

    def counted(*args: Any) -> Any:
        batch = collate_tree(*args)
        lengths.append(batch.input_ids.numel())
        return batch

    monkeypatch.setattr(generation, "collate_tree", counted)
    found = score_options(backbone, **asked, batch_size=4)
    for one, other in zip(found, rows, strict=True):
        assert one == pytest.approx(other, abs=1e-3 if dtype == "float32" else 0.3)
    assert found[0][0] == found[0][2]
    assert found[3] == found[0][::-1]
    encoded = [backbone.encode(sample, answer=False) for sample in samples]
    once = build_tree(encoded).length
    turns = {tuple(backbone.encoder.tokens(text)) for text in itertools.chain(*options)}
    assert once < sum(lengths) <= once + sum(len(turn) + 1 for turn in turns), "nothing is read twice"


def test_scores_see_the_image(backbone: Any, city: City) -> None:
    samples = [sample.in_folder(city[0]) for sample in city[1]]
    other = replace(samples[0], images=(samples[1].images[0], *samples[0].images[1:]))
    one, two = score_options(backbone, [samples[0], other], [OPTIONS, OPTIONS], batch_size=2)
    assert one != pytest.approx(two, abs=1e-3)


def test_a_nested_evaluation_mode_changes_nothing(load_tiny: Callable[..., Any], city: City) -> None:
    folder, samples = city
    backbone = load_tiny("qwen").train()
    with torch.no_grad():
        for name, parameter in backbone.base.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    chosen = [sample.in_folder(folder) for sample in samples[:2]]
    options = [["N", "E"]] * 2
    wanted = score_options(backbone, chosen, options, batch_size=2)
    with backbone.evaluation_mode():
        found = [score_options(backbone, chosen, options, batch_size=2) for _ in range(3)]
        assert not backbone.training
    assert found == [wanted] * 3
    assert backbone.training
    assert score_options(backbone, chosen, options, batch_size=2) == wanted
