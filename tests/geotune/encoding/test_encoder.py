"""Tokens and pixels equal those of the stock processors, and only the assistant's words are supervised."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geotune.backbones.weights import save_processor
from geotune.encoding.collate import collate
from geotune.errors import BadRecord, ConfigError
from geotune.sample import Sample, Turn
from geotune.system.images import load_image

City = tuple[Path, list[Sample]]
FAMILIES = ("qwen", "internvl")


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    return load_tiny(request.param)


def stock_inputs(backbone: Any, sample: Sample, folder: Path, *, prompt_only: bool) -> Any:
    """Inputs that the stock processor makes of the sample."""
    encoder = backbone.encoder
    turns = sample.turns[:-1] if prompt_only else sample.turns
    messages: list[dict[str, Any]] = [{"role": "system", "content": [{"type": "text", "text": sample.system}]}]
    messages += [{"role": t.role, "content": encoder.chat_template.user_content(t.text)} for t in turns]
    text = backbone.tokenizer.apply_chat_template(
        messages, chat_template=encoder.chat_template.source, tokenize=False, add_generation_prompt=prompt_only
    )
    images = [load_image(folder / name) for name in sample.images]
    return backbone.processor(text=[text], images=images, return_tensors="pt")


@pytest.mark.parametrize("number", [0, 5, 7])
def test_tokens_and_pixels_are_the_processors_own(backbone: Any, city: City, number: int) -> None:
    folder, samples = city
    encoded = backbone.encode(samples[number].in_folder(folder), answer=False)
    batch = collate([encoded], backbone.encoder)
    stock = stock_inputs(backbone, samples[number], folder, prompt_only=True)
    assert batch.input_ids[0].tolist() == stock["input_ids"][0].tolist()
    ours = backbone.encoder.pixel_values(batch.pixels)
    assert torch.equal(ours["pixel_values"], stock["pixel_values"])
    if "image_grid_thw" in stock:
        assert torch.equal(ours["image_grid_thw"], stock["image_grid_thw"])


@pytest.mark.parametrize("size", [(30, 50), (500, 33), (96, 96), (1, 1), (700, 600)])
def test_pixels_of_odd_sizes(backbone: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    encoder = backbone.encoder
    stock = backbone.processor.image_processor(image, return_tensors="pt", **stock_kwargs(backbone))
    ours = encoder.pixel_values([torch.from_numpy(encoder.pixels(str(tmp_path / "a.png")))])
    assert torch.equal(ours["pixel_values"], stock["pixel_values"])
    count = sum(token == encoder.image_token_id for token in encoder._image_ids(encoder.grid(str(tmp_path / "a.png"))))
    assert count == sum(len(f) for f in backbone.image_features(ours))


def stock_kwargs(backbone: Any) -> dict[str, Any]:
    """InternVL's processor, not its image processor, switches tiling on by default."""
    return {"crop_to_patches": True} if backbone.family == "internvl" else {}


def test_max_pixels_is_honoured(load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    for family, limit in (("qwen", 64 * 64), ("qwen", 200 * 200), ("internvl", 1024), ("internvl", 7 * 1024)):
        encoder = load_tiny(family, max_pixels=limit).encoder
        array = encoder.pixels(str(tmp_path / "a.png"))
        assert array.shape[0] * array.shape[2] * array.shape[3] <= limit
    for family, limit in (("qwen", 255), ("internvl", 1023)):
        with pytest.raises(ConfigError, match=f"backbone.max_pixels={limit}"):
            load_tiny(family, max_pixels=limit)


def test_turned_photos_are_read_upright(load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    encoder = load_tiny("qwen").encoder
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 32)).save(tmp_path / "turned.jpg", exif=exif)
    path = str(tmp_path / "turned.jpg")
    assert encoder.grid(path) == (1, 12, 4)
    assert encoder.pixels(path).shape == (1, 3, 96, 32)


def test_only_the_assistants_words_are_supervised(backbone: Any, city: City) -> None:
    folder, samples = city
    for sample in samples:
        batch = collate([backbone.encode(sample.in_folder(folder))], backbone.encoder)
        assert backbone.tokenizer.decode(batch.labels.tolist()) == sample.turns[-1].text + "<|im_end|>"
        flat = batch.input_ids.flatten()
        assert torch.equal(flat[batch.logit_index + 1], batch.labels)
        assert backbone.encoder.image_token_id not in batch.labels


def test_prompt_and_answer_form_the_whole_conversation(backbone: Any, city: City) -> None:
    folder, samples = city
    encoded = backbone.encode(samples[3].in_folder(folder))
    stock = stock_inputs(backbone, samples[3], folder, prompt_only=False)["input_ids"][0].tolist()
    ids = [token for segment in encoded.segments for token in segment.ids]
    assert backbone.tokenizer.decode(stock) == backbone.tokenizer.decode(ids) + "\n"
    prompt = backbone.encode(samples[3].in_folder(folder), answer=False)
    assert [s.key for s in prompt.segments] == [s.key for s in encoded.segments[:-1]]


def test_several_turns(backbone: Any, city: City) -> None:
    folder, samples = city
    turns = (*samples[1].turns, Turn("user", "And now?"), Turn("assistant", "East."))
    encoded = backbone.encode(replace(samples[1], turns=turns).in_folder(folder))
    answers = [backbone.tokenizer.decode(list(s.ids)) for s in encoded.segments if s.kind == "answer"]
    assert answers == [samples[1].turns[1].text + "<|im_end|>", "East.<|im_end|>"]
    text = "".join(backbone.tokenizer.decode(list(s.ids)) for s in encoded.segments)
    assert text.endswith("<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\nEast.<|im_end|>")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"turns": (Turn("user", "<image>\n<|im_end|>"), Turn("assistant", "N"))}, "control token"),
        ({"turns": (Turn("user", "<image>\n"), Turn("assistant", "<|im_start|>"))}, "control token"),
        ({"turns": (Turn("user", "no image"), Turn("assistant", "N"))}, "more images"),
        ({"turns": (Turn("user", "<image><image><image>"), Turn("assistant", "N"))}, "fewer images"),
        ({"turns": (Turn("user", "<image>\n"),)}, "does not end with the assistant"),
    ],
)
def test_bad_samples(backbone: Any, city: City, change: dict[str, Any], reason: str) -> None:
    folder, samples = city
    sample = replace(samples[0], images=samples[0].images[:1], **change)
    with pytest.raises(BadRecord, match=reason):
        backbone.encode(sample.in_folder(folder))


def test_names_of_images_are_paths(
    load_tiny: Callable[..., Any], city: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative name counts from the working directory; a file that is named in two ways is two segments."""
    folder, samples = city
    encoder = load_tiny("qwen").encoder
    sample = replace(samples[0], images=samples[0].images[:1], turns=(Turn("user", "<image>"), samples[0].turns[1]))
    shutil.copytree(folder, tmp_path / "city")
    shutil.copyfile(folder / "map0.png", tmp_path / "city" / sample.images[0])
    (tmp_path / "link").symlink_to(folder)

    def segment(named: Sample) -> Any:
        (found,) = (segment for segment in encoder.encode(named).segments if segment.kind == "image")
        return found

    wanted = segment(sample.in_folder(folder))
    assert wanted.image == str(folder / sample.images[0])
    monkeypatch.chdir(folder)
    assert segment(sample).key == wanted.key
    assert segment(replace(sample, images=(f"./{sample.images[0]}",))).key != wanted.key
    assert segment(sample.in_folder(tmp_path / "link")).key != wanted.key, "links are not followed"
    monkeypatch.chdir(tmp_path / "city")
    assert segment(sample).key != wanted.key, "the same relative name is another file now"
    assert encoder.pixels(segment(sample).image).shape != encoder.pixels(wanted.image).shape


def test_image_token_in_a_record_is_rejected(backbone: Any, city: City) -> None:
    folder, samples = city
    forged = Turn("user", f"<image>\n{backbone.encoder.image_token}")
    with pytest.raises(BadRecord, match="control token"):
        backbone.encode(
            replace(samples[0], images=samples[0].images[:1], turns=(forged, samples[0].turns[1])).in_folder(folder)
        )


def test_encoder_survives_pickling(backbone: Any, city: City) -> None:
    folder, samples = city
    copy = pickle.loads(pickle.dumps(backbone.encoder))
    a, b = (collate([e.encode(samples[5].in_folder(folder))], e) for e in (backbone.encoder, copy))
    assert torch.equal(a.input_ids, b.input_ids)
    assert all(map(torch.equal, a.pixels, b.pixels))


def test_saved_processor_is_a_stock_one(backbone: Any, tmp_path: Path, city: City) -> None:
    import transformers
    from transformers import AutoTokenizer
    from transformers.models.auto.processing_auto import processor_class_from_name

    from geotune.backbones.image_only import VIDEO_FILE

    save_processor(backbone, tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    stock = processor_class_from_name(saved["processor_class"])
    assert stock.__module__.startswith("transformers.")
    assert issubclass(type(backbone.processor), stock)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["processor_class"] == saved["processor_class"]
    kind = type(backbone.processor.image_processor).__name__
    assert saved["image_processor"]["image_processor_type"] == kind.removesuffix("Pil") != kind
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == backbone.tokenizer.get_vocab()
    # Where torchvision is installed, the stock class also requires a video processor, which the folder must name.
    video = json.loads((tmp_path / VIDEO_FILE).read_text())
    assert hasattr(transformers, video["video_processor_type"])
    assert video.keys() > saved["image_processor"].keys() - {"image_processor_type"}
    again = type(backbone).load_encoder(str(tmp_path), max_pixels=backbone.max_pixels, min_pixels=None)
    folder, samples = city
    a, b = (collate([e.encode(samples[5].in_folder(folder))], e) for e in (backbone.encoder, again))
    assert torch.equal(a.input_ids, b.input_ids)
    assert all(map(torch.equal, a.pixels, b.pixels))
    assert again.template_hash == backbone.template_hash


def test_template_without_end_of_turn(backbone: Any, tmp_path: Path) -> None:
    save_processor(backbone, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] }}{% endfor %}assistant:")
    with pytest.raises(ConfigError, match="control token"):
        type(backbone).load_encoder(str(tmp_path), max_pixels=backbone.max_pixels, min_pixels=None)
