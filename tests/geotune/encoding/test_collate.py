"""Padding, positions and masks of batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.encoding.collate import (
    Batch,
    causal_mask,
    collate,
    collate_options,
    collate_tree,
    next_position,
    token_positions,
)
from geotune.sample import Sample

City = tuple[Path, list[Sample]]


@pytest.fixture(scope="module", params=["qwen", "internvl"])
def encoder(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    return load_tiny(request.param).encoder


def test_rows_and_their_padding(encoder: Any, city: City) -> None:
    folder, samples = city
    encoded = [encoder.encode(sample.in_folder(folder)) for sample in samples[:5]]
    for side in ("right", "left"):
        batch = collate(encoded, encoder, side=side, update_targets=9, update=3)
        assert (batch.update_targets, batch.update) == (9, 3)
        assert batch.present.sum(1).tolist() == [e.length for e in encoded]
        assert batch.tokens == sum(e.length for e in encoded)
        assert batch.ids == tuple(e.id for e in encoded)
        edge = -1 if side == "left" else 0
        assert batch.present[:, edge].all()
        for row, e in enumerate(encoded):
            ids = [token for segment in e.segments for token in segment.ids]
            assert batch.input_ids[row][batch.present[row]].tolist() == ids
            assert batch.position_ids[:, row][:, batch.present[row]].tolist() == token_positions(e, encoder).tolist()
        assert len(batch.labels) == sum(e.targets for e in encoded)
        assert (batch.input_ids.flatten()[batch.image_token_index] == encoder.image_token_id).all()
        assert batch.image_token_index.shape == batch.feature_index.shape


def test_shared_images_occur_once(encoder: Any, city: City) -> None:
    folder, samples = city
    batch = collate([encoder.encode(samples[number].in_folder(folder)) for number in (0, 6, 12, 1)], encoder)
    assert len(batch.images) == len(batch.pixels) == len(set(batch.images)) == 4  # two views, two maps
    counts = torch.bincount(batch.feature_index)
    assert (counts > 0).all(), "every feature is used"
    assert set(counts.tolist()) == {1, 3, 4}  # a view of three samples, one of one, a map of four, one of one


def test_positions_are_the_librarys(load_tiny: Callable[..., Any], city: City) -> None:
    folder, samples = city
    backbone = load_tiny("qwen")
    for sample in samples[:6]:
        encoded = backbone.encode(sample.in_folder(folder))
        batch = collate([encoded], backbone.encoder)
        grids = backbone.encoder.pixel_values(batch.pixels)["image_grid_thw"]
        kinds = (batch.input_ids == backbone.encoder.image_token_id).int()
        wanted, delta = backbone.base.model.get_rope_index(batch.input_ids, kinds, grids)
        assert torch.equal(batch.position_ids, wanted)
        assert next_position(encoded, backbone.encoder) == encoded.length + int(delta)


def test_padding_attends_to_itself_alone() -> None:
    present = torch.tensor([[False, False, True, True], [True, True, True, True]])
    mask = causal_mask(present)[:, 0]
    assert mask[0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert torch.equal(mask[1], torch.ones(4, 4, dtype=torch.bool).tril())


def test_branches_see_the_trunk_and_themselves(encoder: Any, city: City) -> None:
    folder, samples = city
    trunk = encoder.encode(samples[0].in_folder(folder), answer=False)
    leaves = [(5, 6), (7,), (8, 9, 10)]
    batch = collate_options([trunk], [leaves], encoder, [0])
    length = trunk.length
    after = next_position(trunk, encoder)
    assert batch.position_ids[0, 0, length:].tolist() == [after, after + 1, after, after, after + 1, after + 2]
    seen = batch.attention[0, 0, length:]
    assert seen[:, :length].all()
    assert seen[:, length:].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]
    assert [tuple(batch.labels[batch.owner == option].tolist()) for option in range(3)] == leaves
    assert batch.logit_index.tolist() == [
        length - 1,
        length,
        length - 1,
        length - 1,
        length + 3,
        length + 4,
    ]


def test_a_shared_opening_belongs_to_each_option(encoder: Any, city: City) -> None:
    folder, samples = city
    trunks = [encoder.encode(sample.in_folder(folder), answer=False) for sample in samples[:3]]
    opened = [trunks[0], trunks[1].with_answer((25, 26, 27)), trunks[2].with_answer((25,))]
    leaves = [[(28,), (29, 30)], [(28, 29), (31,)], [(32,)]]
    batch = collate_options(opened, leaves, encoder, [0, 1, 1])
    turns = [(28,), (29, 30), (26, 27, 28, 29), (26, 27, 31), (32,)]
    assert [tuple(batch.labels[batch.owner == option].tolist()) for option in range(5)] == turns
    tokens = batch.input_ids.flatten()
    for option, turn in enumerate(turns):
        before = tokens[batch.logit_index[batch.owner == option]].tolist()
        assert before[1:] == list(turn[:-1])
    width = batch.input_ids.shape[1]
    assert (batch.logit_index // width)[batch.owner == 3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("join", [collate, collate_tree])
def test_owners_of_labels(encoder: Any, city: City, join: Callable[..., Batch]) -> None:
    """Each label belongs to its sample, also where samples share answers, have several, or none."""
    folder, samples = city
    prompts = [encoder.encode(sample.in_folder(folder), answer=False) for sample in samples[:3]]
    answers: list[list[tuple[int, ...]]] = [[(25, 26)], [], [(27, 28), (29,)], [(25, 26)], [(25, 27)]]
    paths = [prompts[number % 3] for number in range(5)]
    for number, turns in enumerate(answers):
        for turn in turns:
            paths[number] = paths[number].with_answer(turn)
    batch = join(paths, encoder)
    for number, turns in enumerate(answers):
        assert batch.labels[batch.owner == number].tolist() == [token for turn in turns for token in turn]
        assert paths[number].targets == sum(map(len, turns))
    assert batch.owner.dtype == torch.int64
    assert len(batch.owner) == len(batch.labels) == len(batch.logit_index)
    empty = join(prompts, encoder)
    assert empty.owner.shape == empty.labels.shape == (0,)


def test_moving_a_batch_keeps_its_fields(encoder: Any, city: City) -> None:
    folder, samples = city
    batch = collate([encoder.encode(samples[0].in_folder(folder))], encoder, side="left", update_targets=4)
    moved = batch.to("meta")
    assert moved.input_ids.device.type == moved.pixels[0].device.type == "meta"
    assert moved.ids == batch.ids
    assert moved.update_targets == 4
