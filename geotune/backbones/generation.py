"""Answers of a backbone: sampled completions, and log-probabilities of the options of a multiple-choice question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from geotune.backbones.base import Backbone
from geotune.backbones.decoding import CopiedPrompts, Prompts, TreePrompts, reading_order
from geotune.backbones.output_head import label_logprobs, leave_out
from geotune.backbones.sampling import Sampling, TokenChooser, greedy
from geotune.encoding.collate import collate_options, collate_tree
from geotune.encoding.segments import Encoded, Segment

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch
    from geotune.encoding.encoder import Encoder
    from geotune.sample import Sample


@dataclass(frozen=True)
class Completion:
    """What a backbone said to one prompt."""

    tokens: tuple[int, ...]
    """The generated token ids, including the stop token that ended the completion."""
    logprobs: tuple[float, ...]
    """Log-probability of each token, in nats, under the softmax of logits / temperature: before any nucleus is cut out.

    The tokens that are never drawn (`Backbone.never_drawn`) are left out of the softmax. The temperature of greedy
    completions is 1.
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
    max_cached_tokens: int | None = None,
    sampling: Sampling | None = None,
    tree: bool | None = None,
) -> list[list[Completion]]:
    """Generate `n` completions of each prompt, in the order of `prompts`.

    Each prompt goes through the model once for all of its completions, and what prompts of a batch share goes through
    it once for all of them. A completion ends after `max_new_tokens` tokens at the latest. It never holds a token of
    `Backbone.never_drawn`.

    Args:
        backbone: the backbone.
        prompts: encoded samples without an answer.
        n: number of completions of each prompt.
        max_new_tokens: largest number of tokens of a completion.
        batch_size: largest number of completions that are generated at a time.
        max_cached_tokens: largest number of tokens whose keys and values are kept at a time: those of the prompts, and
            `max_new_tokens` for each completion that is being generated. A single completion is generated even if it
            takes more. None for no bound.
        sampling: how tokens are drawn; None chooses the most likely token each time.
        tree: whether completions share the keys of their prompts (`TreePrompts`) or have copies (`CopiedPrompts`), the
            slow twin; None for sharing unless the attention is eager, which can't.
    """
    assert n >= 1
    assert batch_size >= 1
    assert not (tree and backbone.attn == "eager")
    shares = backbone.attn != "eager" if tree is None else tree
    kind: type[Prompts] = TreePrompts if shares else CopiedPrompts
    completions: list[list[Completion]] = [[] for _ in prompts]
    temperature = 1.0 if sampling is None else sampling.temperature
    with backbone.evaluation_mode():
        for chosen, count in _batches(prompts, n, max_new_tokens, batch_size, max_cached_tokens, kind):
            read = kind(backbone, [prompts[index] for index in chosen])
            for start in range(0, n, count):
                numbers = range(start, min(start + count, n))
                rows = [(prompt, number) for prompt in range(len(chosen)) for number in numbers]
                choose: TokenChooser = greedy
                if sampling is not None:
                    seeds = [(*sampling.seeds[chosen[prompt]], number) for prompt, number in rows]
                    choose = sampling.chooser(seeds, max_new_tokens, backbone.device)
                of_row = [prompt for prompt, _ in rows]
                found = _complete(read, of_row, max_new_tokens, choose, temperature, keep=numbers.stop < n)
                for (prompt, _), completion in zip(rows, found, strict=True):
                    completions[chosen[prompt]].append(completion)
            del read  # or its keys and values would still be there while the next prompts are read
    return completions


def _batches(
    prompts: Sequence[Encoded],
    n: int,
    max_new_tokens: int,
    batch_size: int,
    max_cached_tokens: int | None,
    kind: type[Prompts],
) -> Iterator[tuple[list[int], int]]:
    """Yield the prompts to read together, and how many completions of each of them to generate at a time.

    Without `max_cached_tokens` the number of batches depends on the number of prompts alone, so that processes that
    share the work also share its number of forward passes over prompts.
    """

    def fits(chosen: Sequence[int], rows: int) -> bool:
        if max_cached_tokens is None:
            return True
        return kind.cached_tokens([prompts[index] for index in chosen], rows, max_new_tokens) <= max_cached_tokens

    most = max(1, batch_size // n)
    order = reading_order(prompts)
    while order:
        count = min(n, batch_size)
        while count > 1 and not fits(order[:1], count):
            count -= 1
        size = 1
        while size < min(most, len(order)) and count == n and fits(order[: size + 1], (size + 1) * n):
            size += 1
        yield order[:size], count
        order = order[size:]


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
    tree: bool = True,
) -> list[list[float]]:
    """Log-probability of each option of each sample, in the order of `samples` and `options`.

    It is the log-probability that the assistant's turn is exactly prefix + option, given that it begins with `prefix`
    (one per sample; None for no prefix): the sum over the tokens after the prefix, including the end of the turn, so
    that an option is not favored for being the beginning of another. Tokens that are never drawn are left out, as in
    `sample`: the probabilities are those with which the model answers.

    tree: whether the samples of a batch are one prefix tree, with the options of each as a trie below it, so that
    images and whatever else they share are read once. False has a row for each sample instead, the slow twin.

    Raises BadRecord if a sample can't be encoded.
    """
    encoder = backbone.encoder
    starts = [""] * len(samples) if prefix is None else list(prefix)
    questions = []
    for prompt, start, texts in zip(_prompts(backbone, samples), starts, options, strict=True):
        turns = [(*encoder.tokens(start + text), encoder.stop_id) for text in texts]
        questions.append(OptionTurns(prompt, turns, encoder.tokens(start)))
    scores: list[list[float]] = [[] for _ in questions]
    prompts = [question.prompt for question in questions]
    with backbone.evaluation_mode():
        for chosen in (prompt_batches if tree else similar_batches)(prompts, batch_size):
            asked = [questions[index] for index in chosen]
            batch = _option_tree(asked, encoder) if tree else _option_rows(asked, encoder)
            logprobs = backbone.token_logprobs(batch.to(backbone.device), suppress=True).cpu().double()
            counts = [len(question.turns) for question in asked]
            sums = torch.zeros(sum(counts), dtype=torch.float64).index_add_(0, batch.owner, logprobs)
            for index, option_scores in zip(chosen, sums.split(counts), strict=True):
                scores[index] = option_scores.tolist()
    return scores


@dataclass(frozen=True)
class OptionTurns:
    """A question and its options as tokens."""

    prompt: Encoded
    """The question."""
    turns: Sequence[tuple[int, ...]]
    """The assistant's whole turn for each option, with the token that ends it."""
    opening: Sequence[int]
    """The tokens with which the turn is known to begin; the last ones may merge with those of the option."""

    @property
    def shared(self) -> int:
        """Number of leading tokens that all turns share."""
        return _common_prefix([turn[:-1] for turn in self.turns])

    @property
    def known(self) -> int:
        """Number of leading tokens that are given, not scored."""
        return min(self.shared, _common_prefix([self.turns[0], self.opening]))


def _option_tree(questions: Sequence[OptionTurns], encoder: Encoder) -> Batch:
    """Make a batch of one prefix tree, in which each option is a path."""
    paths = []
    for question in questions:
        known = question.known
        given = (Segment("text", question.turns[0][:known]),) if known else ()
        for turn in question.turns:
            # A segment for each token: options part wherever their tokens do.
            scored = (Segment("answer", (token,)) for token in turn[known:])
            paths.append(Encoded(question.prompt.id, (*question.prompt.segments, *given, *scored)))
    return collate_tree(paths, encoder)


def _option_rows(questions: Sequence[OptionTurns], encoder: Encoder) -> Batch:
    """Make a batch of one row for each question: what its options share as a trunk, then one branch per option."""
    trunks = []
    for question in questions:
        trunk = (Segment("answer", question.turns[0][: question.shared]),) if question.shared else ()
        trunks.append(Encoded(question.prompt.id, question.prompt.segments + trunk))
    branches = [[turn[question.shared :] for turn in question.turns] for question in questions]
    return collate_options(trunks, branches, encoder, [question.known for question in questions])


def _complete(
    prompts: Prompts,
    of_row: Sequence[int],
    max_new_tokens: int,
    choose: TokenChooser,
    temperature: float,
    *,
    keep: bool,
) -> list[Completion]:
    """Generate one completion for each of the prompts with the numbers `of_row`; keep: see `Prompts.rows`.

    Completions that have ended are removed from the batch once they are a quarter of it.
    """
    backbone, count = prompts.backbone, len(of_row)
    device = backbone.device
    growing = prompts.rows(of_row, max_new_tokens, keep=keep)
    first = torch.tensor(of_row, device=device)
    hidden, position = prompts.hidden[first], prompts.positions[first]
    stops, never = torch.tensor(backbone.stop_ids, device=device), backbone.never_drawn.to(device)
    rows = torch.arange(count, device=device)
    running = torch.ones(count, dtype=torch.bool, device=device)
    written = torch.full((count, max_new_tokens), backbone.stop_ids[0], dtype=torch.long, device=device)
    logprobs = torch.zeros(count, max_new_tokens, device=device)
    for step in range(max_new_tokens):
        logits = leave_out(backbone.base.lm_head(hidden), never)
        token = choose(logits, rows, step)
        written[rows, step] = torch.where(running, token, written[rows, step])
        logprobs[rows, step] = label_logprobs(logits, token, temperature)
        running &= ~torch.isin(token, stops)
        left = int(running.sum())
        if left == 0 or step + 1 == max_new_tokens:
            break
        if left <= 0.75 * len(rows):
            growing.keep(running.nonzero().squeeze(1))
            rows, token, position = rows[running], token[running], position[running]
            running = running[running]
        embeds = backbone.base.get_input_embeddings()(token[:, None])
        hidden = growing.read(embeds, position[None, :, None].expand(backbone.encoder.axes, -1, 1))
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


def _prompts(backbone: Backbone, samples: Sequence[Sample]) -> list[Encoded]:
    return [backbone.encode(sample, answer=False) for sample in samples]


def similar_batches(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Indices of samples in batches of similar length, longest first; samples with the same images are neighbors."""
    order = sorted(range(len(encoded)), key=lambda i: (-encoded[i].length, encoded[i].images, i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def prompt_batches(prompts: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Indices of prompts in batches that have much in common, or else similar lengths: see `reading_order`."""
    order = reading_order(prompts)
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
