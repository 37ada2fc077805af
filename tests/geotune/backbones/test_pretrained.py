"""Errors for folders that can't be loaded name the folder and the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geotune.backbones.pretrained import refuse_missing_model
from geotune.config.parts import BackboneConfig
from geotune.errors import ConfigError


def test_folders_that_can_not_be_loaded(
    load_tiny: Callable[..., Any], qwen_path: Path, internvl_path: Path, tmp_path: Path
) -> None:
    from geotune.backbones.internvl import InternVL
    from geotune.backbones.qwen_vl import QwenVL

    with pytest.raises(ConfigError, match=r"backbone\.path=.*no config\.json"):
        load_tiny("qwen", path=str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"backbone\.path=.*internvl model.*QwenVL"):
        QwenVL(BackboneConfig(str(internvl_path), max_pixels=9216))
    with pytest.raises(ConfigError, match=r"backbone\.path=.*qwen2_5_vl model.*InternVL"):
        InternVL(BackboneConfig(str(qwen_path), max_pixels=9216))
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
        InternVL(BackboneConfig(str(internvl_path), max_pixels=9216, min_pixels=256))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_pointers_of_git_lfs_are_told(
    load_tiny: Callable[..., Any], qwen_path: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(qwen_path, tmp_path / "cloned")
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4\n")
    with pytest.raises(ConfigError, match=rf"^backbone\.path=.*{name} is a Git LFS pointer.*git lfs pull"):
        load_tiny("qwen", path=str(folder))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("models/typo", "there is no such folder, it is not in the cache of the hub, and"),
        ("typo", "there is no such folder, it is not in the cache of the hub, and"),
        ("a typo, here", "no such folder, and it is no hub id"),
        ("./typo", "there is no such folder"),
        ("~/typo", "there is no such folder"),
        (__file__, "this is a file, not a folder"),
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_what_is_no_model_is_told_at_once(
    path: str, said: str, *, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of discard, where nothing listens
    monkeypatch.setattr("geotune.backbones.pretrained.getproxies", dict)
    with pytest.raises(ConfigError, match=r"^backbone\.path=") as error:
        refuse_missing_model(path)
    assert said in str(error.value)


@pytest.mark.parametrize("kind", ["list", "one", "none_is_default"])
def test_several_chat_templates(load_tiny: Callable[..., Any], qwen_path: Path, tmp_path: Path, kind: str) -> None:
    """Old tokenizers hold a list of named templates; the one named default is the chat template."""
    folder = shutil.copytree(qwen_path, tmp_path / "several")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    names = {"list": ["tool_use", "default"], "one": ["mine"], "none_is_default": ["a", "b"]}[kind]
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": name, "template": template if name in ("default", "mine") else "{{ 1 }}"} for name in names
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if kind == "none_is_default":
        with pytest.raises(ConfigError, match=r"^backbone\.path=.*chat templates a, b, and none is named default"):
            load_tiny("qwen", path=str(folder))
    else:
        several = load_tiny("qwen", path=str(folder))
        assert several.template_hash == load_tiny("qwen").template_hash


def test_pickled_weights_are_refused(load_tiny: Callable[..., Any], qwen_path: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(qwen_path, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="only safetensors"):
        load_tiny("qwen", path=str(folder))


def test_damaged_weights_are_reported(load_tiny: Callable[..., Any], qwen_path: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def copy(name: str) -> tuple[Path, Path]:
        folder = shutil.copytree(qwen_path, tmp_path / name)
        return folder, folder / "model.safetensors"

    lacking, weights = copy("lacking")
    tensors = {name: tensor for name, tensor in load_file(weights).items() if "layers.1." not in name}
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"backbone\.path=.*lack .*layers\.1\..* in all"):
        load_tiny("qwen", path=str(lacking))
    truncated, weights = copy("truncated")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"backbone\.path=.*can't be loaded"):
        load_tiny("qwen", path=str(truncated))
    reshaped, weights = copy("reshaped")
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file({**tensors, name: tensors[name][:-1].contiguous()}, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"backbone\.path=.*another shape .*q_proj\.weight \(1 in all"):
        load_tiny("qwen", path=str(reshaped))
    deeper, weights = copy("deeper")
    more = {name.replace("layers.1.", "layers.2."): tensor.clone() for name, tensor in tensors.items()}
    save_file({**more, **tensors}, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"backbone\.path=.*hold an unknown .*layers\.2\."):
        load_tiny("qwen", path=str(deeper))
    beside, weights = copy("beside")
    save_file({**tensors, "mtp.head.weight": torch.ones(2)}, weights, metadata={"format": "pt"})
    load_tiny("qwen", path=str(beside))
