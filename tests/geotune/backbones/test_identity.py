"""Base weights and processors are told from others by what they are, not by where they lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from geotune.backbones.identity import PIECE_BYTES, PIECES, backbone_identity, weight_facts

FILE = "model.safetensors"


def changed(facts: dict[str, str], other: dict[str, str]) -> set[str]:
    assert facts.keys() == other.keys()
    return {name for name in facts if facts[name] != other[name]}


@pytest.fixture
def model(qwen_path: Path, tmp_path: Path) -> Path:
    return shutil.copytree(qwen_path, tmp_path / "model")


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def test_a_copy_has_the_same_weights(qwen_path: Path, model: Path, tmp_path: Path) -> None:
    facts = weight_facts(str(qwen_path))
    assert facts.keys() == {"tensors", "values", "config.json"}
    assert weight_facts(str(model)) == facts
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "transformers_version": "9", "use_cache": False}))
    assert weight_facts(str(model)) == facts
    (model / "config.json").write_text(json.dumps({**config, "vision_config": {}}))
    assert changed(weight_facts(str(model)), facts) == {"config.json"}
    assert weight_facts(str(tmp_path / "nowhere")) == {}


def test_shards_change_nothing(qwen_path: Path, model: Path) -> None:
    tensors = load_file(model / FILE)
    (model / FILE).unlink()
    names = sorted(tensors, reverse=True)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, own in halves.items():
        save_file({name: tensors[name] for name in own}, model / shard)
    place = {name: shard for shard, own in halves.items() for name in own}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    assert weight_facts(str(model)) == weight_facts(str(qwen_path))


def test_other_names_shapes_and_values(qwen_path: Path, model: Path) -> None:
    facts, tensors = weight_facts(str(qwen_path)), load_file(model / FILE)
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    one = torch.zeros_like(tensors[name])
    one[1, 1] = 1
    for value, fact in (
        (tensors[name] + one, {"values"}),
        (tensors[name].T.contiguous(), {"tensors", "values"}),
        (tensors[name].to(torch.bfloat16), {"tensors", "values"}),
    ):
        rewrite(model, {**tensors, name: value})
        assert changed(weight_facts(str(model)), facts) == fact
    tensors["another"] = tensors.pop(name)
    rewrite(model, tensors)
    assert "tensors" in changed(weight_facts(str(model)), facts)


def test_of_a_large_tensor_pieces_from_its_start_to_its_end_are_read(model: Path) -> None:
    size = 10 * PIECES * PIECE_BYTES

    def facts_with(*ones: int) -> dict[str, str]:
        values = torch.zeros(size, dtype=torch.uint8)
        values[list(ones)] = 1
        rewrite(model, {"a": values})
        return weight_facts(str(model))

    plain = facts_with()
    for place in (0, PIECE_BYTES - 1, size - 1, size - PIECE_BYTES, (size - PIECE_BYTES) // 3 + 1):
        assert changed(facts_with(place), plain) == {"values"}, place
    assert facts_with(PIECE_BYTES + 1) == plain, "what is not read is not known"


def test_processors(load_tiny: Callable[..., Any], model: Path) -> None:
    def facts(family: str = "qwen", **settings: Any) -> dict[str, str]:
        found: dict[str, str] = load_tiny(family, **settings).encoder.facts
        return found

    first = backbone_identity(load_tiny("qwen"))
    assert backbone_identity(load_tiny("qwen", path=str(model))) == first
    encoder = load_tiny("qwen").encoder
    encoder.tokenizer(["a", "a b c d"], padding=True, truncation=True, max_length=3)
    assert encoder.facts == first["processor"], "what a call of the tokenizer sets does not count"
    assert changed(facts(max_pixels=64 * 64), first["processor"]) == {"image size"}
    file = model / "processor_config.json"
    content = json.loads(file.read_text())
    content["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    file.write_text(json.dumps(content))
    assert changed(facts(path=str(model)), first["processor"]) == {"image processor"}
    template = model / "chat_template.jinja"
    template.write_text(template.read_text().replace("helpful", "terse"))
    other = backbone_identity(load_tiny("qwen", path=str(model)))
    assert other["prompt"] != first["prompt"]
    tokens = json.loads((model / "tokenizer.json").read_text())
    tokens["model"]["merges"] = tokens["model"]["merges"][:-1]
    (model / "tokenizer.json").write_text(json.dumps(tokens))
    assert "tokenizer" in changed(facts(path=str(model)), first["processor"])
    assert changed(facts("internvl"), first["processor"]) >= {"family", "tokenizer"}
