"""Answers of a backbone: generated text, and log-probabilities of the options of a multiple-choice question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from geotune.backbones.base import Backbone
from geotune.backbones.sampling import Sampling, TokenChooser, greedy
from geotune.encoding.collate import collate, collate_options, next_position
from geotune.encoding.segments import Encoded, Segment

if TYPE_CHECKING:
    from geotune.sample import Sample


def generate(
    backbone: Backbone,
    samples: Sequence[Sample],
    dataset_dir: Path,
    *,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
) -> list[str]:
    """Generate one answer per sample, in the order of `samples`.

    An answer ends at a stop token, which its text leaves out, or after `max_new_tokens`. sampling: how tokens are
    drawn; None chooses the most likely token each time. Raises BadRecord if a sample can't be encoded.
    """
    encoded = _prompts(backbone, samples, dataset_dir)
    answers = [""] * len(encoded)
    with backbone.evaluation_mode():
        for chosen in _batches(encoded, batch_size):
            prompts = [encoded[index] for index in chosen]
            choose = greedy if sampling is None else sampling.chooser(chosen, max_new_tokens, backbone.device)
            answered = _generate_tokens(backbone, prompts, max_new_tokens, choose)
            for index, tokens in zip(chosen, answered, strict=True):
                answers[index] = backbone.encoder.decode(tokens)
    return answers


def score_options(
    backbone: Backbone,
    samples: Sequence[Sample],
    dataset_dir: Path,
    options: Sequence[Sequence[str]],
    *,
    prefix: Sequence[str] | None = None,
    batch_size: int,
) -> list[list[float]]:
    """Log-probability of each option of each sample, in the order of `samples` and `options`.

    It is the log-probability that the assistant's turn is exactly prefix + option, given that it begins with `prefix`
    (one per sample; None for no prefix): the sum over the tokens after the prefix, including the end of the turn, so
    that an option is not favored for being the beginning of another. Tokens that all options of a sample share are
    encoded once, as a trunk with one branch per option. Raises BadRecord if a sample can't be encoded.
    """
    encoded = _prompts(backbone, samples, dataset_dir)
    starts = [""] * len(encoded) if prefix is None else list(prefix)
    trunks: list[Encoded] = []
    known: list[int] = []
    branches: list[list[tuple[int, ...]]] = []
    for prompt, start, texts in zip(encoded, starts, options, strict=True):
        turns = [(*backbone.encoder.tokens(start + text), backbone.encoder.stop_id) for text in texts]
        shared = _common_prefix([turn[:-1] for turn in turns])
        opening = backbone.encoder.tokens(start)
        known.append(min(shared, _common_prefix([turns[0], opening])))
        trunk = (Segment("answer", turns[0][:shared]),) if shared else ()
        trunks.append(Encoded(prompt.id, prompt.segments + trunk))
        branches.append([turn[shared:] for turn in turns])
    scores: list[list[float]] = [[] for _ in encoded]
    with backbone.evaluation_mode():
        for chosen in _batches(trunks, batch_size):
            batch, owner = collate_options(
                [trunks[i] for i in chosen], [branches[i] for i in chosen], backbone.encoder, [known[i] for i in chosen]
            )
            batch = batch.to(backbone.device)
            hidden = backbone.hidden_states(backbone.embed(batch), batch.attention, batch.position_ids, None)
            logits = backbone.base.lm_head(hidden.flatten(0, 1)[batch.logit_index]).float()
            logprobs = logits.log_softmax(-1).gather(1, batch.labels[:, None]).squeeze(1).cpu()
            for index, spans in zip(chosen, owner, strict=True):
                scores[index] = [float(sum(logprobs[span].double().sum() for span in option)) for option in spans]
    return scores


def _generate_tokens(
    backbone: Backbone, prompts: Sequence[Encoded], max_new_tokens: int, choose: TokenChooser
) -> list[list[int]]:
    """Generate the tokens of each answer, without its stop token.

    Rows that have ended are removed from the batch once they are a quarter of it.
    """
    from transformers import DynamicCache

    batch = collate(prompts, backbone.encoder, side="left").to(backbone.device)
    count, width = batch.input_ids.shape
    cache = DynamicCache(config=backbone.base.config.get_text_config())
    hidden = backbone.hidden_states(backbone.embed(batch), batch.attention, batch.position_ids, cache)[:, -1]
    room = torch.ones(count, max_new_tokens, dtype=torch.bool, device=backbone.device)
    present = None if batch.attention is None else torch.cat([batch.present, room], dim=1)
    position = torch.tensor([next_position(p, backbone.encoder) for p in prompts], device=backbone.device)
    stops = torch.tensor(backbone.stop_ids, device=backbone.device)
    rows = torch.arange(count, device=backbone.device)
    running = torch.ones(count, dtype=torch.bool, device=backbone.device)
    written = torch.full((count, max_new_tokens), backbone.stop_ids[0], dtype=torch.long, device=backbone.device)
    for step in range(max_new_tokens):
        token = choose(backbone.base.lm_head(hidden), rows, step)
        written[rows, step] = torch.where(running, token, written[rows, step])
        running &= ~torch.isin(token, stops)
        left = int(running.sum())
        if left == 0 or step + 1 == max_new_tokens:
            break
        if left <= 0.75 * len(rows):
            cache.batch_select_indices(running.nonzero().squeeze(1))
            rows, token, position = rows[running], token[running], position[running]
            present = None if present is None else present[running]
            running = running[running]
        mask = None if present is None else present[:, None, None, : width + step + 1]
        embeds = backbone.base.get_input_embeddings()(token[:, None])
        axes = position[None, :, None].expand(backbone.encoder.axes, -1, 1)
        hidden = backbone.hidden_states(embeds, mask, axes, cache)[:, -1]
        position = position + 1
    ends = torch.isin(written, stops)
    lengths = torch.where(ends.any(1), ends.int().argmax(1), max_new_tokens).tolist()
    return [line[:length] for line, length in zip(written.tolist(), lengths, strict=True)]


def _prompts(backbone: Backbone, samples: Sequence[Sample], dataset_dir: Path) -> list[Encoded]:
    return [backbone.encode(sample, dataset_dir, answer=False) for sample in samples]


def _batches(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Indices of samples in batches of similar length, longest first; samples with the same images are neighbors."""
    order = sorted(range(len(encoded)), key=lambda i: (-encoded[i].length, encoded[i].images, i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all `rows` share."""
    shared = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared
