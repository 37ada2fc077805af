"""The tree holds each shared prefix once, and its mask is that of the separate sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.encoding.collate import collate, collate_tree, token_positions
from geotune.encoding.prefix_tree import attention_blocks, build_tree, path_blocks
from geotune.encoding.segments import Encoded, Segment
from geotune.sample import Sample
from tests.geotune.references import tree_tokens

City = tuple[Path, list[Sample]]
SEGMENTS = [Segment("text", tuple(range(length))) for length in (1, 2, 3, 5)]
PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=9)


def samples_of(paths: list[list[int]]) -> list[Encoded]:
    return [Encoded(str(n), tuple(SEGMENTS[number] for number in path)) for n, path in enumerate(paths)]


def dense_mask(subtree_end: np.ndarray) -> np.ndarray:
    """Boolean (length, length), true where token q (row) sees token k (column): the definition of `subtree_end`."""
    at = np.arange(len(subtree_end))
    return (at[None, :] <= at[:, None]) & (at[:, None] < subtree_end[None, :])


@given(PATHS)
@settings(deadline=None)
def test_every_path_is_its_sample(paths: list[list[int]]) -> None:
    samples = samples_of(paths)
    tree = build_tree(samples)
    ids = tree.ids()
    for sample, path in zip(samples, tree.paths, strict=True):
        together = np.concatenate([ids[tree.nodes[number].start : tree.nodes[number].stop] for number in path])
        assert together.tolist() == [token for segment in sample.segments for token in segment.ids]


@given(PATHS)
@settings(deadline=None)
def test_shared_prefixes_occur_once(paths: list[list[int]]) -> None:
    prefixes = {tuple(path[: end + 1]) for path in paths for end in range(len(path))}
    tree = build_tree(samples_of(paths))
    assert len(tree.nodes) == len(prefixes)
    sizes = np.array([len(segment.ids) for segment in SEGMENTS])
    assert tree.length == len(tree.ids()) == tree_tokens(paths, sizes)
    assert tree.length == sum(int(sizes[prefix[-1]]) for prefix in prefixes)


@given(PATHS)
@settings(deadline=None)
def test_a_token_sees_its_path_up_to_itself(paths: list[list[int]]) -> None:
    """Compare the mask with its definition, as a whole and block by block."""
    tree = build_tree(samples_of(paths))
    seen = np.zeros((tree.length, tree.length), dtype=bool)
    for number, node in enumerate(tree.nodes):
        above = []
        parent = node.parent
        while parent >= 0:
            above.append(tree.nodes[parent])
            parent = tree.nodes[parent].parent
        assert number > node.parent
        for token in range(node.start, node.stop):
            for other in above:
                seen[token, other.start : other.stop] = True
            seen[token, node.start : token + 1] = True
    subtree_end = tree.subtree_end()
    assert np.array_equal(dense_mask(subtree_end), seen)
    blockwise = np.zeros_like(seen)
    blocks = attention_blocks(subtree_end)
    for block in blocks:
        for earlier in block.ancestors:
            blockwise[block.start : block.stop, blocks[earlier].start : blocks[earlier].stop] = True
        own = slice(block.start, block.stop)
        blockwise[own, own] = np.tri(block.stop - block.start, dtype=bool)
    assert np.array_equal(blockwise, seen)


def test_a_chain_is_one_block() -> None:
    assert len(attention_blocks(build_tree(samples_of([[0, 1, 2, 3]])).subtree_end())) == 1


@pytest.mark.parametrize("family", ["qwen", "internvl"])
def test_the_batch_of_a_tree_matches_the_batch_of_rows(family: str, load_tiny: Callable[..., Any], city: City) -> None:
    folder, samples = city
    encoder = load_tiny(family).encoder
    encoded = [encoder.encode(sample.in_folder(folder)) for sample in samples]
    tree, rows = collate_tree(encoded, encoder, update_targets=7, update=2), collate(encoded, encoder)
    assert tree.ids == rows.ids
    assert (tree.update_targets, tree.update) == (7, 2)
    assert tree.labels.tolist() == rows.labels.tolist()
    assert tree.tokens == tree.input_ids.numel() < rows.tokens
    assert sorted(tree.images) == sorted(rows.images)
    assert len(tree.image_token_index) < len(rows.image_token_index), "images that samples share occur once"
    # The token that predicts a label is the same in both batches, at the same position.
    for name in ("input_ids", "position_ids"):
        flat = [getattr(batch, name).flatten(-2)[..., batch.logit_index] for batch in (tree, rows)]
        assert flat[0].tolist() == flat[1].tolist()
    plan = build_tree(encoded)
    positions = plan.positions(encoder)
    for sample, path in zip(encoded, plan.paths, strict=True):
        along = [positions[:, plan.nodes[number].start : plan.nodes[number].stop] for number in path]
        assert np.array_equal(np.concatenate(along, axis=1), token_positions(sample, encoder))


@given(PATHS)
@settings(deadline=None)
def test_a_sample_reads_a_block_as_a_whole_or_not_at_all(paths: list[list[int]]) -> None:
    """The blocks that a sample reads are its tokens, one of each depth, and there is no seam without a need."""
    tree = build_tree(samples_of(paths))
    blocks = path_blocks(tree)
    assert [token for block in blocks for token in range(block.start, block.stop)] == list(range(tree.length))
    readers = []
    for path in tree.paths:
        read = [block for block in blocks if block.first <= path[-1] < block.last]
        assert [block.depth for block in read] == list(range(len(read)))
        tokens = [token for node in path for token in range(tree.nodes[node].start, tree.nodes[node].stop)]
        assert [token for block in read for token in range(block.start, block.stop)] == tokens
        readers.append(read)
    sets = [frozenset(n for n, read in enumerate(readers) if block in read) for block in blocks]
    assert len(set(sets)) == len(sets), "blocks with the same readers are one block"
    assert all(sets)
