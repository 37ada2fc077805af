"""Forward, generation and scoring equal the library's own, one by one and in batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones.generation import generate, score_options
from geotune.backbones.weights import load_adapter, load_full, save_adapter, save_full, save_pretrained
from geotune.encoding.collate import Batch, collate
from geotune.encoding.segments import Encoded
from geotune.errors import ConfigError
from geotune.sample import Sample, Turn

City = tuple[Path, list[Sample]]
FAMILIES = ("qwen", "internvl")
OPTIONS = ['{"direction": "N"}', '{"direction": "E"}', '{"direction": "top"}', '{"direction": "top_left"}', "West"]


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    return load_tiny(request.param)


def stock_arguments(backbone: Any, encoded: Encoded) -> dict[str, Any]:
    """One sample as the library's model takes it, its own positions and masks."""
    batch = collate([encoded], backbone.encoder)
    arguments = {"input_ids": batch.input_ids, "attention_mask": torch.ones_like(batch.input_ids)}
    if batch.pixels:
        arguments |= backbone.encoder.pixel_values(batch.pixels)
        arguments.pop("tiles", None)
    if backbone.family == "qwen2_5_vl":
        arguments["mm_token_type_ids"] = (batch.input_ids == backbone.encoder.image_token_id).int()
    return arguments


def encode_all(backbone: Any, city: City) -> list[Encoded]:
    folder, samples = city
    return [backbone.encode(sample, folder) for sample in samples]


@torch.no_grad()
def test_logits_equal_the_librarys_one_by_one(backbone: Any, city: City) -> None:
    encoded = encode_all(backbone, city)[:8]
    batch = collate(encoded, backbone.encoder)
    ours = backbone(batch)
    start = 0
    for number, sample in enumerate(encoded):
        stock = backbone.base(**stock_arguments(backbone, sample)).logits[0]
        inside = batch.logit_index[(batch.logit_index // batch.input_ids.shape[1]) == number] % batch.input_ids.shape[1]
        torch.testing.assert_close(ours[start : start + len(inside)], stock[inside], atol=2e-5, rtol=1e-4)
        start += len(inside)
    assert start == len(ours) == sum(sample.targets for sample in encoded)


@torch.no_grad()
def test_padding_on_either_side_and_eager_attention(load_tiny: Callable[..., Any], backbone: Any, city: City) -> None:
    encoded = encode_all(backbone, city)[:6]
    right = collate(encoded, backbone.encoder)
    left = collate(encoded, backbone.encoder, side="left")
    assert right.attention is None
    assert left.attention is not None
    wanted = backbone(right)
    torch.testing.assert_close(backbone(left), wanted, atol=2e-5, rtol=1e-4)
    eager = load_tiny("qwen" if backbone.family == "qwen2_5_vl" else "internvl", attn="eager")
    torch.testing.assert_close(eager(right), wanted, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(eager(left), wanted, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_text_alone(backbone: Any) -> None:
    sample = Sample(id="t", images=(), turns=(Turn("user", "The map"), Turn("assistant", "north")), system="")
    encoded = backbone.encode(sample, Path())
    batch = collate([encoded, encoded], backbone.encoder)
    assert batch.images == ()
    logits = backbone(batch)
    arguments = {"input_ids": batch.input_ids[:1], "attention_mask": torch.ones_like(batch.input_ids[:1])}
    stock = backbone.base(**arguments).logits[0][batch.logit_index[: len(logits) // 2]]
    torch.testing.assert_close(logits[: len(stock)], stock, atol=2e-5, rtol=1e-4)


def counted(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the tower gets."""
    calls: list[int] = []
    own = backbone.image_features

    def spy(pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        features: list[torch.Tensor] = own(pixels)
        calls.append(len(features))
        return features

    monkeypatch.setattr(backbone, "image_features", spy)
    return calls


def test_each_image_goes_through_the_tower_once(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, samples = city
    training = load_tiny("qwen", projector="full").train()
    calls = counted(training, monkeypatch)
    batch = collate([training.encode(sample, folder) for sample in samples], training.encoder)
    assert len(batch.images) == 8  # six views and two maps
    training(batch)
    training(batch)
    assert calls == [8, 8]
    generate(training, samples[:12], folder, max_new_tokens=1, batch_size=4)
    assert sum(calls[2:]) == 8
    training(batch)
    assert calls[-1] == 8, "features of a projector that trains must not outlive an evaluation"

    frozen = load_tiny("qwen").train()
    calls = counted(frozen, monkeypatch)
    frozen(batch).sum().backward()
    generate(frozen, samples, folder, max_new_tokens=1, batch_size=4)
    frozen(batch).sum().backward()
    assert calls == [8]


def stock_generate(backbone: Any, sample: Sample, folder: Path, count: int) -> str:
    """The library's own greedy generation of one answer."""
    arguments = stock_arguments(backbone, backbone.encode(sample, folder, answer=False))
    made = backbone.base.generate(**arguments, max_new_tokens=count, do_sample=False)
    return str(backbone.tokenizer.decode(made[0, arguments["input_ids"].shape[1] :], skip_special_tokens=True))


def make_it_stop(backbone: Any, folder: Path, samples: Sequence[Sample]) -> None:
    """Have answers end at different lengths: add a token that is often said to those that end one."""
    said = [
        backbone.tokenizer(text)["input_ids"]
        for text in generate(backbone, samples, folder, max_new_tokens=8, batch_size=8)
    ]
    often = max({t for row in said for t in row[1:]}, key=lambda t: sum(t in row[1:] for row in said))
    backbone.stop_ids = (*backbone.stop_ids, often)
    backbone.base.generation_config.eos_token_id = list(backbone.stop_ids)


def test_generation_equals_the_librarys(load_tiny: Callable[..., Any], backbone: Any, city: City) -> None:
    folder, samples = city
    own = load_tiny("qwen" if backbone.family == "qwen2_5_vl" else "internvl")
    make_it_stop(own, folder, samples)
    stock = [stock_generate(own, sample, folder, 12) for sample in samples]
    assert len({len(text) for text in stock}) > 2
    for batch_size in (1, 5, 24):
        assert generate(own, samples, folder, max_new_tokens=12, batch_size=batch_size) == stock
    assert generate(own, samples[:3], folder, max_new_tokens=1, batch_size=2) == [
        stock_generate(own, sample, folder, 1) for sample in samples[:3]
    ]
    assert generate(own, [], folder, max_new_tokens=4, batch_size=2) == []


def test_answering_leaves_modes_and_gradients_alone(backbone: Any, city: City) -> None:
    folder, samples = city
    backbone.train()
    before = {name: module.training for name, module in backbone.named_modules()}
    generate(backbone, samples[:2], folder, max_new_tokens=2, batch_size=2)
    assert {name: module.training for name, module in backbone.named_modules()} == before
    batch = collate([backbone.encode(sample, folder) for sample in samples[:2]], backbone.encoder)
    backbone(batch).sum().backward()
    backbone.zero_grad()
    backbone.eval()


@torch.no_grad()
def plain_score(backbone: Any, sample: Sample, folder: Path, prefix: str, text: str) -> float:
    """Log-probability of the turn's tokens after the prefix's, in a sequence of their own."""
    turns = (*sample.turns[:-1], Turn("assistant", prefix + text))
    encoded = backbone.encode(replace(sample, turns=turns), folder)
    stock = backbone.base(**stock_arguments(backbone, encoded)).logits[0].log_softmax(-1)
    ids = encoded.segments[-1].ids
    given = len(backbone.tokenizer(prefix)["input_ids"]) if prefix else 0
    start = encoded.length - len(ids)
    return float(sum(stock[start + at - 1, ids[at]] for at in range(given, len(ids))))


@pytest.mark.parametrize("prefix", ["", "The view shows a red block.\n"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_equal_separate_sequences(backbone: Any, city: City, prefix: str, batch_size: int) -> None:
    folder, samples = city
    options = [OPTIONS[: 2 + number % 4] for number in range(6)]
    scores = score_options(
        backbone, samples[:6], folder, options, prefix=[prefix] * 6 if prefix else None, batch_size=batch_size
    )
    for sample, texts, found in zip(samples, options, scores, strict=False):
        wanted = [plain_score(backbone, sample, folder, prefix, text) for text in texts]
        assert found == pytest.approx(wanted, abs=1e-3)


def test_single_and_empty_options(backbone: Any, city: City) -> None:
    folder, samples = city
    [[score]] = score_options(backbone, samples[:1], folder, [["N"]], batch_size=2)
    assert score == pytest.approx(plain_score(backbone, samples[0], folder, "", "N"), abs=1e-3)
    [[score]] = score_options(backbone, samples[:1], folder, [[""]], batch_size=2)
    assert score == pytest.approx(plain_score(backbone, samples[0], folder, "", ""), abs=1e-3)


def test_scores_see_the_image(backbone: Any, city: City) -> None:
    folder, samples = city
    other = replace(samples[0], images=(samples[1].images[0], *samples[0].images[1:]))
    one, two = score_options(backbone, [samples[0], other], folder, [OPTIONS, OPTIONS], batch_size=2)
    assert one != pytest.approx(two, abs=1e-3)


# Loading


def test_what_can_not_be_loaded(
    load_tiny: Callable[..., Any], qwen_path: Path, internvl_path: Path, tmp_path: Path
) -> None:
    from geotune.backbones.internvl import InternVL
    from geotune.backbones.qwen_vl import QwenVL

    with pytest.raises(ConfigError, match=r"backbone\.path=.*no config\.json"):
        load_tiny("qwen", path=str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"backbone\.path=.*internvl model.*QwenVL"):
        QwenVL(str(internvl_path), max_pixels=9216)
    with pytest.raises(ConfigError, match=r"backbone\.path=.*qwen2_5_vl model.*InternVL"):
        InternVL(str(qwen_path), max_pixels=9216)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(qwen_path / name, bare / name)
    with pytest.raises(ConfigError, match=rf"backbone\.path={bare}: holds no usable processor"):
        load_tiny("qwen", path=str(bare))
    shutil.copy(qwen_path / "tokenizer.json", bare)
    shutil.copy(qwen_path / "tokenizer_config.json", bare)
    with pytest.raises(ConfigError, match=rf"backbone\.path={bare}"):
        load_tiny("qwen", path=str(bare))
    with pytest.raises(ConfigError, match=r"backbone\.min_pixels=256"):
        InternVL(str(internvl_path), max_pixels=9216, min_pixels=256)


def test_pickled_weights_are_refused(load_tiny: Callable[..., Any], qwen_path: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(qwen_path, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="only safetensors"):
        load_tiny("qwen", path=str(folder))


def test_whole_folder_round_trip(load_tiny: Callable[..., Any], city: City, tmp_path: Path) -> None:
    settings: Any = {"tower": "full", "projector": "full", "language_model": "full"}
    backbone = load_tiny("qwen", **settings)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
    save_pretrained(backbone, tmp_path)
    again = load_tiny("qwen", path=str(tmp_path), **settings)
    batch: Batch = collate(encode_all(backbone, city)[:3], backbone.encoder)
    with torch.no_grad():
        assert torch.equal(backbone(batch), again(batch))


def test_broken_weights_are_the_users_to_mend(load_tiny: Callable[..., Any], qwen_path: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def copy(name: str) -> tuple[Path, Path]:
        folder = shutil.copytree(qwen_path, tmp_path / name)
        return folder, folder / "model.safetensors"

    lacking, weights = copy("lacking")
    tensors = {name: tensor for name, tensor in load_file(weights).items() if "layers.1." not in name}
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"backbone\.path=.*lack .*layers\.1\..* in all"):
        load_tiny("qwen", path=str(lacking))
    torn, weights = copy("torn")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"backbone\.path=.*can't be loaded"):
        load_tiny("qwen", path=str(torn))
    bent, weights = copy("bent")
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file({**tensors, name: tensors[name][:-1].contiguous()}, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"backbone\.path=.*another shape .*q_proj\.weight \(1 in all"):
        load_tiny("qwen", path=str(bent))
    deeper, weights = copy("deeper")
    more = {name.replace("layers.1.", "layers.2."): tensor.clone() for name, tensor in tensors.items()}
    save_file({**more, **tensors}, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"backbone\.path=.*hold an unknown .*layers\.2\."):
        load_tiny("qwen", path=str(deeper))
    beside, weights = copy("beside")
    save_file({**tensors, "mtp.head.weight": torch.ones(2)}, weights, metadata={"format": "pt"})
    load_tiny("qwen", path=str(beside))


def test_torn_files_of_a_checkpoint(load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    for scope, save, load in (("lora", save_adapter, load_adapter), ("full", save_full, load_full)):
        backbone, folder = load_tiny("qwen", language_model=scope), tmp_path / scope
        save(backbone, folder)
        (weights,) = folder.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:5000])
        with pytest.raises(ConfigError, match=rf"{weights}: can't be read .*name another checkpoint"):
            load(backbone, folder)
