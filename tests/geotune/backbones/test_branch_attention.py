"""Rows attend to the blocks on their paths and to their own tokens, as each would alone, with every kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geotune.backbones import branch_attention
from geotune.backbones.branch_attention import (
    BranchMask,
    Kernels,
    PromptKeys,
    RowKeys,
    attend_by_hand,
    flash_on_cpu,
    kernels_of,
    length_groups,
    stored_tokens,
)
from geotune.encoding.prefix_tree import PathBlock, build_tree, path_blocks
from geotune.encoding.segments import Encoded, Segment
from tests.geotune.backbones.test_varlen_attention import REFERENCE

SEGMENTS = [Segment("text", tuple(range(length))) for length in (1, 2, 3, 7, 20)]
PATHS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=7)
KERNELS = {
    "cpu": Kernels(flash_on_cpu, None),
    "by hand": Kernels(attend_by_hand, None),
    "packed": Kernels(attend_by_hand, REFERENCE),
}
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}


class Growing:
    """Rows that grow below a tree by random keys, and what each of them sees."""

    def __init__(self, paths: list[list[int]], rows: int, sizes: tuple[int, int, int], dtype: torch.dtype) -> None:
        samples = [Encoded("", tuple(SEGMENTS[number] for number in path)) for path in paths]
        tree = build_tree(samples)
        self.random = torch.Generator().manual_seed(len(paths))
        self.dtype, (self.heads, self.kv_heads, self.size) = dtype, sizes
        self.prompt = PromptKeys(path_blocks(tree))
        self.keys, self.values = self.draw(1, self.kv_heads, tree.length), self.draw(1, self.kv_heads, tree.length)
        self.prompt.update(self.keys, self.values, 0)
        ends = sorted(path[-1] for path in tree.paths)
        self.nodes = [node for node in ends for _ in range(rows)]
        tokens = [list(range(node.start, node.stop)) for node in tree.nodes]
        self.seen = {path[-1]: list(itertools.chain(*(tokens[node] for node in path))) for path in tree.paths}
        self.stacks = [stack.copy() for stack in self.prompt.stacks]
        self.own = RowKeys(limit=100)
        self.said: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in self.nodes]

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, self.size, generator=self.random).to(self.dtype)

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Grow by one token; return the output and what each row gives alone, in float64: (rows, 1, heads, size)."""
        rows, scale = len(self.nodes), 0.8 * self.size**-0.5
        groups = self.heads // self.kv_heads
        query, key, value = (self.draw(rows, heads, 1) for heads in (self.heads, self.kv_heads, self.kv_heads))
        for row in range(rows):
            self.said[row].append((key[row], value[row]))
        stored = self.own.update(key, value, 0)
        self.own.length += 1
        mask = BranchMask(self.stacks, self.nodes)
        found = branch_attention.branch_attention(query, *stored, mask, 0, scale=scale)
        wanted = []
        for row, node in enumerate(self.nodes):
            own = [torch.cat(parts, dim=1) for parts in zip(*self.said[row], strict=True)]
            keys, values = (
                torch.cat([tree[0][:, self.seen[node]], mine], dim=1).double().repeat_interleave(groups, dim=0)
                for tree, mine in zip((self.keys, self.values), own, strict=True)
            )
            weights = (query[row].double() @ keys.mT * scale).softmax(-1)
            wanted.append((weights @ values).transpose(0, 1))
        return found, torch.stack(wanted)

    def keep(self, kept: Sequence[int]) -> None:
        self.own.keep(torch.tensor(kept))
        self.nodes, self.said = [self.nodes[row] for row in kept], [self.said[row] for row in kept]
        self.stacks = [left for stack in self.stacks if (left := stack.read_by(self.nodes)) is not None]


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    monkeypatch.setattr(branch_attention, "kernels_of", lambda *_: KERNELS[request.param])
    return KERNELS[request.param]


@given(paths=PATHS, rows=st.integers(1, 3), sizes=st.sampled_from([(4, 4, 8), (6, 2, 5), (4, 1, 16)]), data=st.data())
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("name", KERNELS)
def test_each_row_sees_its_path_and_itself(
    name: str, paths: list[list[int]], rows: int, sizes: tuple[int, int, int], data: Any
) -> None:
    """While rows leave, until a single one is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branch_attention, "kernels_of", lambda *_: KERNELS[name])
        growing = Growing(paths, rows, sizes, torch.float32)
        while True:
            for _ in range(2):
                found, wanted = growing.step()
                torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-4)
            if len(growing.nodes) == 1:
                break
            kept = data.draw(st.sets(st.integers(0, len(growing.nodes) - 1), min_size=1))
            growing.keep(sorted(kept)[: len(growing.nodes) - 1])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_every_dtype_with_heads_of_any_size(kernels: Kernels, dtype: torch.dtype) -> None:
    for size in (3, 20, 64, 272):
        growing = Growing([[4, 0], [4, 1, 2], [4, 1, 3], [3]], 2, (4, 2, size), dtype)
        for _ in range(3):
            found, wanted = growing.step()
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), wanted, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])


def test_rows_may_grow_beyond_what_there_is_room_for_at_first(kernels: Kernels) -> None:
    growing = Growing([[4, 0], [4, 1]], 1, (2, 2, 8), torch.float32)
    for _ in range(2 * RowKeys.FIRST + 10):
        found, wanted = growing.step()
    torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-4)
    assert growing.own.length < growing.own.limit


def test_one_call_per_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many prompts there are: their keys of similar lengths are attended to together."""
    calls: list[int] = []

    def counted(*arguments: Any) -> Any:
        calls.append(len(arguments[0]))
        return flash_on_cpu(*arguments)

    monkeypatch.setattr(branch_attention, "kernels_of", lambda *_: Kernels(counted, None))
    own = [Segment("text", (100 + number,) * (15 + number % 5)) for number in range(30)]
    monkeypatch.setattr("tests.geotune.backbones.test_branch_attention.SEGMENTS", [*SEGMENTS[:4], *own])
    growing = Growing([[3, 4 + number] for number in range(30)], 4, (4, 2, 8), torch.float32)
    growing.step()
    assert sorted(calls) == [1, 30, 120], "the shared beginning, the prompts, and the rows' own tokens"


BLOCKS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), min_size=1, max_size=20)


@given(BLOCKS)
@settings(deadline=None)
def test_groups_hold_each_block_once_with_little_padding(drawn: list[tuple[int, int]]) -> None:
    starts = itertools.accumulate((length for _, length in drawn), initial=0)
    blocks = [
        PathBlock(start, start + length, depth, number, number + 1)
        for number, (start, (depth, length)) in enumerate(zip(starts, drawn, strict=False))
    ]
    groups = length_groups(blocks)
    assert sorted(itertools.chain(*groups), key=lambda block: block.start) == blocks
    for group in groups:
        assert len({block.depth for block in group}) == 1
        assert 2 * min(block.length for block in group) >= max(block.length for block in group)
        assert group == sorted(group, key=lambda block: block.start)
    tokens = sum(length for _, length in drawn)
    assert tokens <= stored_tokens(blocks) <= 2 * tokens


@pytest.mark.parametrize(
    ("device", "dtype", "size", "dense", "packed"),
    [
        ("cpu", torch.float32, 64, "flash_on_cpu", False),
        ("cuda", torch.bfloat16, 128, "flash_on_cuda", True),
        ("cuda", torch.float32, 128, "attend_by_hand", False),
        ("cuda", torch.float16, 20, "attend_by_hand", False),
        ("cuda", torch.bfloat16, 512, "attend_by_hand", False),
        ("mps", torch.float16, 64, "attend_by_hand", False),
    ],
)
def test_the_kernels_of_a_device(
    device: str, dtype: torch.dtype, size: int, dense: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    found = kernels_of(device, dtype, size)
    assert found.dense is getattr(branch_attention, dense)
    assert (found.packed is not None) == packed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("groups", [1, 3])
def test_the_cuda_kernels_give_the_same(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_attention, "kernels_of", lambda *_: KERNELS["by hand"])
    plain = Growing([[4, 0], [4, 1, 2], [4, 1, 3], [3]], 4, (2 * groups, 2, 64), torch.bfloat16)
    monkeypatch.undo()
    device: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor.cuda()  # noqa: E731
    prompt, own = PromptKeys(plain.prompt.blocks), RowKeys(limit=100)
    prompt.update(device(plain.keys), device(plain.values), 0)
    rows = len(plain.nodes)
    for step in range(3):
        query, key, value = (plain.draw(rows, heads, 1) for heads in (2 * groups, 2, 2))
        found = branch_attention.branch_attention(
            device(query),
            *own.update(device(key), device(value), 0),
            BranchMask(prompt.stacks, plain.nodes),
            0,
            scale=None,
        )
        monkeypatch.setattr(branch_attention, "kernels_of", lambda *_: KERNELS["by hand"])
        stored = plain.own.update(key, value, 0)
        wanted = branch_attention.branch_attention(query, *stored, BranchMask(plain.stacks, plain.nodes), 0, scale=None)
        monkeypatch.undo()
        own.length = plain.own.length = step + 1
        torch.testing.assert_close(found.cpu(), wanted, atol=2e-2, rtol=2e-2)
