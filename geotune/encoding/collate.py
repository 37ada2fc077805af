"""Join encoded samples into one batch: as padded rows, as a prefix tree, or as prompts with answer options."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from geotune.encoding.prefix_tree import build_tree
from geotune.encoding.segments import Encoded, Segment

if TYPE_CHECKING:
    from geotune.encoding.encoder import Encoder


Target = tuple[int, np.ndarray, tuple[int, ...]]
"""Supervised tokens of a path: the path's number, the indices int64 (n,) of the tokens before them, n token ids."""
ImageTokens = tuple[str, np.ndarray]
"""Path of an image, and the indices int64 (n,) of its n image tokens."""


@dataclass(frozen=True)
class Batch:
    """The input of a backbone's forward pass: B rows of T tokens.

    A batch is either one padded row per sample, or a prefix tree of all samples in a single row (`subtree_end` is then
    set). T is the length of the longest row. N tokens are supervised, M tokens are image tokens. Index tensors refer to
    the flattened (B * T) tokens. Integer tensors are int64.
    """

    ids: tuple[str, ...]
    """Ids of the samples."""
    input_ids: torch.Tensor
    """Token ids (B, T)."""
    position_ids: torch.Tensor
    """Position ids (axes, B, T)."""
    present: torch.Tensor
    """Boolean (B, T), false on padding."""
    attention: torch.Tensor | None
    """Boolean (B, 1, T, T), true where a token (row) may attend to another.

    None stands for plain causal attention, which suits rows padded on the right: no token looks ahead at the padding.
    """
    logit_index: torch.Tensor
    """Indices (N,) of the tokens whose next token is supervised."""
    labels: torch.Tensor
    """The supervised token ids (N,)."""
    owner: torch.Tensor
    """Number of the path (N,) that each label belongs to: a sample, or an option of a multiple-choice question.

    Paths are numbered in the order in which they were given. A token that several options share stands once per option
    in `logit_index` and `labels`.
    """
    images: tuple[str, ...]
    """Paths of the distinct images."""
    pixels: tuple[torch.Tensor, ...]
    """Each distinct image, resized but not normalized: uint8 (tiles, 3, H, W)."""
    image_token_index: torch.Tensor
    """Indices (M,) of the tokens whose embeddings are replaced by image features."""
    feature_index: torch.Tensor
    """Index (M,) of the feature for each image token, in the concatenated features of all distinct images."""
    update_targets: int = 0
    """Supervised tokens of the whole update that this micro-batch belongs to, over all micro-batches and ranks."""
    update: int = -1
    """Number of that update, counted from 0; -1 outside training."""
    subtree_end: torch.Tensor | None = None
    """For a prefix tree the end of each token's subtree (T,): token q sees token k if k <= q < subtree_end[k].

    None for a batch of rows.
    """
    unreadable: tuple[tuple[str, str], ...] = ()
    """(id, reason) of each unreadable sample; none of its tokens are supervised."""
    unreadable_targets: int = 0
    """Supervised tokens of the unreadable samples, which `update_targets` includes."""
    update_ids: tuple[str, ...] | None = None
    """Ids of the samples of the whole update, over all ranks; None if they are those of its plan."""
    own_seconds: float = 0.0
    """Time that making the batch took in the main process itself, such as for rollouts."""

    @property
    def tokens(self) -> int:
        """Number of tokens without padding."""
        return int(self.present.sum())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy the batch to `device`."""
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory."""
        return self._map_tensors(lambda tensor: tensor.pin_memory())

    def _map_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        fields: dict[str, Any] = {k: change(v) for k, v in self.__dict__.items() if isinstance(v, torch.Tensor)}
        return replace(self, **fields, pixels=tuple(change(image) for image in self.pixels))


def token_positions(encoded: Encoded, encoder: Encoder) -> np.ndarray:
    """Position ids of a sample on its own, int64 (axes, length)."""
    columns = []
    start = 0
    for segment in encoded.segments:
        positions, span = encoder.positions(segment)
        columns.append(positions + start)
        start += span
    return np.concatenate(columns, axis=1)


def next_position(encoded: Encoded, encoder: Encoder) -> int:
    """Position id, the same on all axes, of a token that follows the sample."""
    return sum(encoder.positions(segment)[1] for segment in encoded.segments)


def causal_mask(present: torch.Tensor) -> torch.Tensor:
    """Boolean causal mask (B, 1, T, T) of rows whose padding is false in `present` (B, T).

    Each token sees the earlier tokens that are present, and itself, so that no row of the mask is empty.
    """
    length = present.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=present.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=present.device)
    return ((present[:, None, :] & causal) | itself)[:, None]


def _join_targets(targets: Sequence[Target]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return `logit_index`, `labels` and `owner` of a batch."""
    labels = [token for _, _, tokens in targets for token in tokens]
    owner = [path for path, _, tokens in targets for _ in tokens]
    index = _concatenate([index for _, index, _ in targets])
    return index, torch.tensor(labels, dtype=torch.long), torch.tensor(owner, dtype=torch.long)


def _concatenate(parts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.int64))


def collate(
    samples: Sequence[Encoded],
    encoder: Encoder,
    *,
    side: Literal["right", "left"] = "right",
    update_targets: int = 0,
    update: int = -1,
) -> Batch:
    """Make a batch with one row per sample, padded on `side`.

    A batch padded on the left gets an `attention` mask, unless all rows have the same length. Raises BadRecord if an
    image can't be read.
    """
    lengths = [encoded.length for encoded in samples]
    width = max(lengths)
    pad = encoder.tokenizer.pad_token_id
    input_ids = np.full((len(samples), width), 0 if pad is None else pad, dtype=np.int64)
    position_ids = np.zeros((encoder.axes, len(samples), width), dtype=np.int64)
    present = np.zeros((len(samples), width), dtype=bool)
    targets: list[Target] = []
    image_tokens: list[ImageTokens] = []
    for row, (encoded, length) in enumerate(zip(samples, lengths, strict=True)):
        offset = width - length if side == "left" else 0
        span = slice(offset, offset + length)
        position_ids[:, row, span] = token_positions(encoded, encoder)
        present[row, span] = True
        at = offset
        for segment in encoded.segments:
            ids = np.asarray(segment.ids, dtype=np.int64)
            input_ids[row, at : at + len(ids)] = ids
            base = row * width + at
            if segment.image is not None:
                image_tokens.append((segment.image, base + np.flatnonzero(ids == encoder.image_token_id)))
            elif segment.kind == "answer":
                assert at > offset, "an answer follows a prompt"
                targets.append((row, np.arange(base - 1, base - 1 + len(ids)), segment.ids))
            at += len(ids)
    padded = torch.from_numpy(present)
    attention = causal_mask(padded) if side == "left" and not present.all() else None
    batch = _assemble(samples, encoder, input_ids, position_ids, padded, targets, image_tokens)
    return replace(batch, attention=attention, update_targets=update_targets, update=update)


def collate_tree(samples: Sequence[Encoded], encoder: Encoder, *, update_targets: int = 0, update: int = -1) -> Batch:
    """Make a batch of one row that holds the prefix tree of `samples`.

    Its `labels` and `owner` equal those of `collate`. Raises BadRecord if an image can't be read.
    """
    tree = build_tree(samples)
    by_image: dict[str, list[ImageTokens]] = {}
    for node in tree.nodes:
        if node.segment.image is not None:
            places = node.start + np.flatnonzero(np.asarray(node.segment.ids) == encoder.image_token_id)
            by_image.setdefault(node.segment.image, []).append((node.segment.image, places))
    targets: list[Target] = []
    for owner, path in enumerate(tree.paths):
        for before, number in itertools.pairwise(path):
            node = tree.nodes[number]
            if node.segment.kind == "answer":
                index = np.array([tree.nodes[before].stop - 1, *range(node.start, node.stop - 1)])
                targets.append((owner, index, node.segment.ids))
    present = torch.ones(1, tree.length, dtype=torch.bool)
    image_tokens = list(itertools.chain.from_iterable(by_image.values()))
    batch = _assemble(
        samples, encoder, tree.ids()[None], tree.positions(encoder)[:, None], present, targets, image_tokens
    )
    subtree_end = torch.from_numpy(tree.subtree_end())
    return replace(batch, subtree_end=subtree_end, update_targets=update_targets, update=update)


def _assemble(
    samples: Sequence[Encoded],
    encoder: Encoder,
    input_ids: np.ndarray,
    position_ids: np.ndarray,
    present: torch.Tensor,
    targets: Sequence[Target],
    image_tokens: Sequence[ImageTokens],
) -> Batch:
    """Make a batch of tokens whose layout is done; each distinct image is decoded once."""
    logit_index, labels, owner = _join_targets(targets)
    assert not (labels == encoder.image_token_id).any(), "an image token is supervised"
    counts = {path: len(places) for path, places in image_tokens}
    first = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    return Batch(
        ids=tuple(encoded.id for encoded in samples),
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        present=present,
        attention=None,
        logit_index=logit_index,
        labels=labels,
        owner=owner,
        images=tuple(counts),
        pixels=tuple(torch.from_numpy(encoder.pixels(path)) for path in counts),
        image_token_index=_concatenate([places for _, places in image_tokens]),
        feature_index=_concatenate([first[path] + np.arange(len(places)) for path, places in image_tokens]),
    )


def collate_options(
    trunks: Sequence[Encoded],
    branches: Sequence[Sequence[tuple[int, ...]]],
    encoder: Encoder,
    known: Sequence[int],
) -> Batch:
    """Make a batch with one row per trunk, which holds the trunk and all of its branches.

    A branch sees the trunk and itself, at the positions that it has alone. The last segment of a trunk may be an
    answer, with which all of its branches begin; its first `known` tokens (one number per trunk) are not supervised,
    and the others are supervised for each branch. The paths of `owner` are the branches, row by row.
    """
    flat = [
        Encoded(trunk.id, (*trunk.segments, *(Segment("text", tokens) for tokens in leaves)))
        for trunk, leaves in zip(trunks, branches, strict=True)
    ]
    batch = collate(flat, encoder)
    width = batch.input_ids.shape[1]
    attention = causal_mask(batch.present)
    position_ids = batch.position_ids.clone()
    targets: list[Target] = []
    owners = itertools.count()
    for row, (trunk, leaves, given) in enumerate(zip(trunks, branches, known, strict=True)):
        length, base = trunk.length, row * width
        opening = trunk.segments[-1].ids[given:] if trunk.segments[-1].kind == "answer" else ()
        shared = np.arange(base + length - len(opening) - 1, base + length)  # ends before the first own token
        after = next_position(trunk, encoder)
        at = length
        for tokens in leaves:
            end = at + len(tokens)
            attention[row, 0, at:end, length:at] = False
            position_ids[:, row, at:end] = torch.arange(after, after + len(tokens))
            index = np.concatenate([shared, np.arange(base + at, base + end - 1)])
            targets.append((next(owners), index, (*opening, *tokens)))
            at = end
    logit_index, labels, owner = _join_targets(targets)
    return replace(
        batch,
        position_ids=position_ids,
        attention=attention,
        logit_index=logit_index,
        labels=labels,
        owner=owner,
    )
