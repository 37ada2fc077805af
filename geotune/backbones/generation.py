"""Answers of a backbone: sampled completions, and log-probabilities of the options of a multiple-choice question."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from geotune.backbones.base import Backbone
from geotune.backbones.output_head import label_logprobs
from geotune.backbones.sampling import Sampling, TokenChooser, greedy
from geotune.encoding.collate import collate, collate_options, next_position
from geotune.encoding.segments import Encoded, Segment

if TYPE_CHECKING:
    from geotune.encoding.encoder import Encoder
    from geotune.sample import Sample


@dataclass(frozen=True)
class Completion:
    """What a backbone said to one prompt."""

    tokens: tuple[int, ...]
    """The generated token ids, including the stop token that ended the completion."""
    logprobs: tuple[float, ...]
    """Log-probability of each token, in nats, under the softmax of logits / temperature: before any nucleus is cut out.

    The temperature of greedy completions is 1.
    """
    stopped: bool
    """Whether a stop token ended the completion; false if it reached the limit of its length."""

    def text(self, encoder: Encoder) -> str:
        """Return the text, without the stop token and other control tokens."""
        return encoder.decode(self.tokens[:-1] if self.stopped else self.tokens)


def sample(
    backbone: Backbone,
    prompts: Sequence[Encoded],
    *,
    n: int = 1,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
) -> list[list[Completion]]:
    """Generate `n` completions of each prompt, in the order of `prompts`.

    Each prompt goes through the model once for all of its completions. At most `batch_size` completions are generated
    at a time, and only the keys and values of their prompts are kept. sampling: how tokens are drawn; None chooses the
    most likely token each time. A completion ends after `max_new_tokens` tokens at the latest.
    """
    assert n >= 1
    assert batch_size >= 1
    completions: list[list[Completion]] = [[] for _ in prompts]
    with backbone.evaluation_mode():
        for chosen in similar_batches(prompts, max(1, batch_size // n)):
            prefilled = _Prefilled(backbone, [prompts[index] for index in chosen])
            for start in range(0, n, batch_size):
                numbers = range(start, min(start + batch_size, n))
                rows = [(prompt, number) for prompt in range(len(chosen)) for number in numbers]
                choose: TokenChooser = greedy
                if sampling is not None:
                    seeds = [(*sampling.seeds[chosen[prompt]], number) for prompt, number in rows]
                    choose = sampling.chooser(seeds, max_new_tokens, backbone.device)
                temperature = 1.0 if sampling is None else sampling.temperature
                found = prefilled.complete(
                    [prompt for prompt, _ in rows], max_new_tokens, choose, temperature, keep=numbers.stop < n
                )
                for (prompt, _), completion in zip(rows, found, strict=True):
                    completions[chosen[prompt]].append(completion)
            del prefilled  # or its keys and values would still be there while the next prompts are read
    return completions


def generate(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
) -> list[str]:
    """Generate the text of one answer per sample, in the order of `samples`; see `sample`.

    Raises BadRecord if a sample can't be encoded.
    """
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "sampling": sampling}
    completions = sample(backbone, _prompts(backbone, samples), **settings)
    return [completion.text(backbone.encoder) for (completion,) in completions]


def score_options(
    backbone: Backbone,
    samples: Sequence[Sample],
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
    encoded = _prompts(backbone, samples)
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
        for chosen in similar_batches(trunks, batch_size):
            batch = collate_options(
                [trunks[i] for i in chosen], [branches[i] for i in chosen], backbone.encoder, [known[i] for i in chosen]
            )
            logprobs = backbone.token_logprobs(batch.to(backbone.device)).cpu().double()
            counts = [len(branches[i]) for i in chosen]
            sums = torch.zeros(sum(counts), dtype=torch.float64).index_add_(0, batch.owner, logprobs)
            for index, option_scores in zip(chosen, sums.split(counts), strict=True):
                scores[index] = option_scores.tolist()
    return scores


class _Prefilled:
    """A batch of prompts that the language model has read, from which completions can be generated repeatedly."""

    def __init__(self, backbone: Backbone, prompts: Sequence[Encoded]) -> None:
        from transformers import DynamicCache

        self.backbone = backbone
        batch = collate(prompts, backbone.encoder, side="left").to(backbone.device)
        self.cache = DynamicCache(config=backbone.base.config.get_text_config())
        embeds = backbone.embed(batch)
        self.hidden = backbone.hidden_states(embeds, batch.attention, batch.position_ids, self.cache)[:, -1]
        """Hidden state of the last token of each prompt (prompts, hidden)."""
        self.present = None if batch.attention is None else batch.present
        """True on the tokens of each prompt (prompts, width), false on its padding; None without padding."""
        self.width = batch.input_ids.shape[1]
        self.positions = torch.tensor([next_position(p, backbone.encoder) for p in prompts], device=backbone.device)
        """Position id of the first generated token of each prompt (prompts,)."""

    def complete(
        self, prompts: Sequence[int], max_new_tokens: int, choose: TokenChooser, temperature: float, *, keep: bool
    ) -> list[Completion]:
        """Generate one completion for each of the numbers `prompts`, in which a prompt may occur several times.

        keep: whether more completions will be asked for; if not, the keys and values of the prompts are used up.
        Completions that have ended are removed from the batch once they are a quarter of it.
        """
        backbone, device, count = self.backbone, self.backbone.device, len(prompts)
        cache = _copy_of(self.cache) if keep else self.cache
        hidden, position, present = self.hidden, self.positions, self.present
        if list(prompts) != list(range(len(hidden))):
            of_row = torch.tensor(prompts, device=device)
            cache.batch_select_indices(of_row)
            hidden, position = hidden[of_row], position[of_row]
            present = None if present is None else present[of_row]
        if present is not None:
            present = torch.cat([present, present.new_ones(count, max_new_tokens)], dim=1)
        stops = torch.tensor(backbone.stop_ids, device=device)
        rows = torch.arange(count, device=device)
        running = torch.ones(count, dtype=torch.bool, device=device)
        written = torch.full((count, max_new_tokens), backbone.stop_ids[0], dtype=torch.long, device=device)
        logprobs = torch.zeros(count, max_new_tokens, device=device)
        for step in range(max_new_tokens):
            logits = backbone.base.lm_head(hidden)
            token = choose(logits, rows, step)
            written[rows, step] = torch.where(running, token, written[rows, step])
            logprobs[rows, step] = label_logprobs(logits, token, temperature)
            running &= ~torch.isin(token, stops)
            left = int(running.sum())
            if left == 0 or step + 1 == max_new_tokens:
                break
            if left <= 0.75 * len(rows):
                cache.batch_select_indices(running.nonzero().squeeze(1))
                rows, token, position = rows[running], token[running], position[running]
                present = None if present is None else present[running]
                running = running[running]
            mask = None if present is None else present[:, None, None, : self.width + step + 1]
            embeds = backbone.base.get_input_embeddings()(token[:, None])
            axes = position[None, :, None].expand(backbone.encoder.axes, -1, 1)
            hidden = backbone.hidden_states(embeds, mask, axes, cache)[:, -1]
            position = position + 1
        ends = torch.isin(written, stops)
        stopped = ends.any(1)
        lengths = torch.where(stopped, ends.int().argmax(1) + 1, max_new_tokens).tolist()
        return [
            Completion(tuple(tokens[:length]), tuple(values[:length]), ended)
            for tokens, values, length, ended in zip(
                written.tolist(), logprobs.tolist(), lengths, stopped.tolist(), strict=True
            )
        ]


def _copy_of(cache: Any) -> Any:
    """Return a copy of a cache that grows by itself. The keys and values so far are shared: they are never written."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def _prompts(backbone: Backbone, samples: Sequence[Sample]) -> list[Encoded]:
    return [backbone.encode(sample, answer=False) for sample in samples]


def similar_batches(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
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
