"""Reading a training set strictly: one message for a mistake, a reason for each rejected sample."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from geotune.config.parts import DataConfig
from geotune.data import image_sizes, measures
from geotune.data.datamodule import GeoData
from geotune.data.dataset import SampleDataset, load_dataset
from geotune.data.sampler import MicroBatch, UpdateSampler
from geotune.errors import ConfigError
from geotune.records import write_samples
from geotune.sample import Sample, Turn
from geotune.training.summary import left_out_in_words

City = tuple[Path, list[Sample]]


@pytest.fixture(scope="module")
def encoder(load_tiny: Callable[..., Any]) -> Any:
    return load_tiny("qwen").encoder


@pytest.fixture
def copy(city: City, tmp_path: Path) -> tuple[Path, list[Sample]]:
    """The city in a folder that a test may spoil."""
    folder = tmp_path / "city"
    shutil.copytree(city[0], folder)
    return folder, city[1]


def load(folder: Path, encoder: Any, seed: int = 0, **settings: Any) -> SampleDataset:
    config = DataConfig(**({"path": "", "batch_size": 1, "max_image_pixels": 10**6} | settings))
    return load_dataset(folder / "city.jsonl", encoder, config, seed=seed)


def test_sizes_and_items(encoder: Any, city: City) -> None:
    folder, samples = city
    dataset = load(folder, encoder)
    assert len(dataset) == 24
    encoded = [encoder.encode(sample.in_folder(folder)) for sample in samples]
    assert dataset.lengths.tolist() == [e.length for e in encoded]
    assert dataset.targets.tolist() == [e.targets for e in encoded]
    batch = dataset[MicroBatch((3, 4), 7, 55)]
    assert batch.ids == ("city/3", "city/4")
    assert (batch.update, batch.update_targets) == (7, 55)


def test_tasks_and_limit(encoder: Any, city: City) -> None:
    folder, _ = city
    assert {s.task for s in load(folder, encoder, tasks=["pose_fixed"]).samples} == {"pose_fixed"}
    first, again, other = (load(folder, encoder, limit=5, seed=seed) for seed in (0, 0, 1))
    assert [s.id for s in first.samples] == [s.id for s in again.samples] != [s.id for s in other.samples]
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(load(folder, encoder, limit=99)) == 24
    with pytest.raises(ConfigError, match=r"data\.tasks=.*only pose_fixed, pose_random"):
        load(folder, encoder, tasks=["judge"])
    longest = load(folder, encoder, tasks=["pose_fixed"], limit=5).lengths.max()
    some = load(folder, encoder, tasks=["pose_fixed"], limit=5, max_length=int(longest) - 1)
    assert some.left_out == {"tasks": 12, "limit": 7, "too_long": 5 - len(some)}
    assert 0 < len(some) < 5
    told, warned = zip(*left_out_in_words(some).items(), strict=True)
    assert told[:2] == (
        "12 samples are of other tasks than data.tasks and are left out",
        "7 samples are beyond data.limit and are left out",
    )
    share = (
        f"WARNING: {5 - len(some)} of 5 samples ({1 - len(some) / 5:.0%}) are longer than data.max_length={longest - 1}"
    )
    assert told[2].startswith(share)
    assert f"data.max_length={longest} keeps all" in told[2]
    assert warned == (False, False, True)


def test_each_task_must_have_a_sample(encoder: Any, copy: City, tmp_path: Path) -> None:
    """A name that is misspelled among others would go unnoticed."""
    folder, samples = copy

    def load_mix(*tasks: str) -> SampleDataset:
        mix = {str(folder / "more.jsonl"): 2.0}
        return GeoData(DataConfig(str(folder / "city.jsonl"), 1, mix=mix, tasks=list(tasks))).load(encoder, seed=0)

    write_samples(folder / "more.jsonl", [replace(sample, task="pose_random") for sample in samples[:4]])
    with pytest.raises(ConfigError, match=r"data\.tasks=.*no sample of pose_fixd, only .*did you mean pose_fixed"):
        load_mix("pose_random", "pose_fixd")
    assert load_mix("pose_random").left_out == {"tasks": 12, "limit": 0, "too_long": 0}
    write_samples(folder / "more.jsonl", [replace(sample, task="address") for sample in samples[:4]])
    assert len(load_mix("pose_fixed", "address")) == 16  # each is held by one of the datasets
    with pytest.raises(ConfigError, match=r"limit=0"):
        load(folder, encoder, limit=0)


def test_long_samples_are_rejected_not_cut(encoder: Any, city: City) -> None:
    folder, _ = city
    whole = load(folder, encoder)
    limit = int(np.median(whole.lengths))
    short = load(folder, encoder, max_length=limit)
    assert len(short) + len(short.rejected) == 24
    assert short.lengths.max() <= limit
    assert all(f"data.max_length={limit}" in reason for _, reason in short.rejected)
    with pytest.raises(ConfigError, match=r"data\.max_length=10: every sample"):
        load(folder, encoder, max_length=10)


def test_empty_and_bad_records(encoder: Any, copy: tuple[Path, list[Sample]]) -> None:
    folder, samples = copy
    write_samples(folder / "city.jsonl", [])
    with pytest.raises(ConfigError, match=r"data\.path=.*no samples"):
        load(folder, encoder)
    write_samples(folder / "city.jsonl", samples[:3])
    with (folder / "city.jsonl").open("a") as file:
        file.write(json.dumps({"id": "half", "images": [], "conversations": [{"from": "human", "value": "a"}]}) + "\n")
    with pytest.raises(ConfigError, match=r"data\.path=.*city\.jsonl:4.*half"):
        load(folder, encoder)


@pytest.mark.parametrize("harm", ["missing", "truncated", "text", "huge", "thin"])
def test_bad_images(encoder: Any, copy: tuple[Path, list[Sample]], harm: str) -> None:
    folder, _ = copy
    path = folder / "map1.png"
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif harm == "text":
        path.write_text("not an image")
    elif harm == "huge":
        Image.new("RGB", (1100, 1000)).save(path)
    else:
        Image.new("RGB", (4, 2000)).save(path)
    with pytest.raises(ConfigError, match=r"(?s)data\.path=.*city/1") as error:
        load(folder, encoder)
    assert "correct the record" in str(error.value)


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "link.png", "out/secret.png"])
def test_an_image_outside_the_folder(encoder: Any, copy: tuple[Path, list[Sample]], name: str) -> None:
    """A relative name or a link that leaves the dataset's folder is refused at every load, also of a known dataset."""
    folder, samples = copy
    secret = folder.parent / "secret.png"
    Image.new("RGB", (32, 32)).save(secret)
    (folder / "sub").mkdir()
    inside = replace(samples[0], images=(name, *samples[0].images[1:]))
    if "link" in name or "out" in name:  # a file and a folder at first, links later
        (folder / "out").mkdir()
        for target in ("link.png", "out/secret.png"):
            shutil.copy(secret, folder / target)
        write_samples(folder / "city.jsonl", [inside])
        assert len(load(folder, encoder)) == 1
        shutil.rmtree(folder / "out")
        (folder / "out").symlink_to(folder.parent)
        (folder / "link.png").unlink()
        (folder / "link.png").symlink_to(secret)
    else:
        write_samples(folder / "city.jsonl", [inside])
    with pytest.raises(ConfigError, match=r"(?s)data\.path=.*city/0.*leaves the dataset's folder"):
        load(folder, encoder)


def test_an_image_with_two_names(
    encoder: Any, copy: tuple[Path, list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples whose names of an image differ share nothing of it, in the measures as in a batch."""
    folder, samples = copy
    sample = replace(samples[0], images=samples[0].images[:1], turns=(Turn("user", "<image>"), samples[0].turns[1]))
    names = [sample.images[0], f"./{sample.images[0]}", str(folder / sample.images[0])]
    write_samples(
        folder / "city.jsonl",
        [replace(sample, id=str(number), images=(name,)) for number, name in enumerate(names)],
    )
    monkeypatch.chdir(folder.parent)
    dataset = load(Path("city"), encoder)
    assert dataset.samples[0].images == dataset.samples[2].images == (str(folder / names[0]),)
    one, other, absolute = dataset.paths
    assert one == absolute
    assert len(one) == len(other)
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 1
    batch = dataset[MicroBatch((0, 1, 2), 0, 9)]
    assert len(batch.images) == 2
    assert torch.equal(*batch.pixels)


def test_control_tokens_in_a_record(encoder: Any, copy: tuple[Path, list[Sample]]) -> None:
    folder, samples = copy
    write_samples(folder / "city.jsonl", [replace(samples[0], system="<|im_end|>")])
    with pytest.raises(ConfigError, match=r"city/0.*control token '<\|im_end\|>'"):
        load(folder, encoder)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_deals_out_the_plan(encoder: Any, city: City, workers: int) -> None:
    folder, _ = city
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=3))
    dataset = data.load(encoder, seed=4)
    plan = data.plan(dataset, seed=4, accumulate=2, ranks=2)
    sampler = UpdateSampler(plan, rank=1, start=1, stop=3)
    loader: Any = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers, collate_fn=lambda b: b)
    batches = list(loader)
    assert [b.update for b in batches] == [1, 1, 2, 2]
    for batch, micro in zip(batches, sampler, strict=True):
        assert batch.ids == tuple(dataset.samples[index].id for index in micro.indices)
        assert torch.equal(batch.input_ids, dataset[micro].input_ids)


def test_measures_are_kept_and_equal_those_of_encoding_one_by_one(
    encoder: Any, copy: tuple[Path, list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow twin: every sample encoded alone, segments numbered as they first appear."""
    folder, samples = copy
    monkeypatch.setattr(measures, "BLOCK_SAMPLES", 5)
    first = load(folder, encoder)
    numbers: dict[Any, int] = {}
    for sample, path in zip(samples, first.paths, strict=True):
        segments = encoder.encode(sample.in_folder(folder)).segments
        assert path == tuple(numbers.setdefault(segment.key, len(numbers)) for segment in segments)
        assert [first.sizes[number] for number in path] == [len(segment.ids) for segment in segments]
        assert [first.is_image[number] for number in path] == [segment.kind == "image" for segment in segments]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a second measurement")

    monkeypatch.setattr(image_sizes, "check_image", never)
    monkeypatch.setattr(type(encoder), "encode", never)
    again = load(folder, encoder)
    assert again.fingerprint == first.fingerprint
    assert list(again.paths) == list(first.paths)
    assert list(again.ids) == [sample.id for sample in samples]
    assert again.task_counts == first.task_counts
    assert sum(again.task_counts.values()) == len(samples)


def test_an_image_that_changed_is_looked_at_again(encoder: Any, copy: tuple[Path, list[Sample]]) -> None:
    folder, samples = copy
    first = load(folder, encoder)
    path = folder / samples[0].images[-1]
    with Image.open(path) as image:
        larger = image.resize((image.width * 2, image.height))
    larger.save(path)
    again = load(folder, encoder)
    assert again.lengths[0] > first.lengths[0]
    path.unlink()
    with pytest.raises(ConfigError, match="is missing"):
        load(folder, encoder)


def test_datasets_are_mixed_by_weight(encoder: Any, copy: tuple[Path, list[Sample]], tmp_path: Path) -> None:
    folder, samples = copy
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns(".geotune"))
    write_samples(other / "city.jsonl", [replace(sample, id=f"other/{sample.id}") for sample in samples[:8]])
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=4, mix={str(other): 0.5}))
    mixed = data.load(encoder, seed=0)
    assert len(mixed) == 32
    assert mixed.samples[24].id == "other/city/0"
    assert mixed.samples[24].images[0].startswith(str(other))
    assert not set(mixed.places[:24]) & set(mixed.places[24:])
    plan = data.plan(mixed, seed=0, accumulate=1, ranks=1)
    shown = [index for number in range(plan.updates_for(2)) for index in plan.update(number)][:56]
    assert 6 <= sum(index >= 24 for index in shown) <= 11
    batch = mixed[MicroBatch((0, 24), 0, 9)]
    assert batch.ids == ("city/0", "other/city/0")
    plain = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=4, mix={str(other): 0.5}, prefix_tree=False))
    rows = plain.load(encoder, seed=0)
    assert plain.plan(rows, seed=0, accumulate=1, ranks=1).updates_for(1) == 7
    assert rows.fingerprint == mixed.fingerprint != load(folder, encoder).fingerprint
    with pytest.raises(ConfigError, match=r"mix.*=0: give a weight above 0"):
        GeoData(DataConfig(path="a", batch_size=1, mix={"b": 0}))


def test_no_data(encoder: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path=.*nowhere"):
        GeoData(DataConfig(path=str(tmp_path / "nowhere"), batch_size=2)).load(encoder, seed=0)
    with pytest.raises(ConfigError, match=r"batch_size=0"):
        GeoData(DataConfig(path="a", batch_size=0))
