"""What a run can and can not be resumed from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from geotune.errors import ConfigError
from geotune.runs.identity import fingerprint_of_facts
from geotune.train import train
from geotune.training.resuming import read_tensors
from geotune.training.run import build_run, load_checkpoint


def test_runs_that_can_not_be_resumed(recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(recipe(run_dir=str(tmp_path / "run"), **{"trainer.max_steps": 2}))
    last = {"resume": str(tmp_path / "run" / "checkpoints" / "last"), "run_dir": str(tmp_path / "again")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"resume": "last"}, r"resume=last: .*no complete checkpoint"),
        ({"resume": "nowhere"}, r"resume=nowhere: not a complete checkpoint"),
        ({"seed": 1}, r"its seed was 0, now it is 1"),
        ({"data.limit": 20}, r"the training data changed: choice of samples: 24 .* then, 20 .*allow_changes=\[data\]"),
        ({"data.batch_size": 3}, r"its update size was 4, now it is 6"),
        ({"stage.optimizer": "muon"}, r"its optimizer was adamw, now it is muon; set stage\.optimizer=adamw"),
        ({"data.prefix_tree": False}, r"its plan of updates was prefix_tree=true, group_size=13"),
        ({"data.group_size": 5}, r"now it is prefix_tree=true, group_size=5"),
        ({"backbone.lora.r": 4}, r"backbone\.lora\.r=4"),
        ({"trainer.max_steps": 2}, r"at update 2 of 2, nothing is left"),
    ]
    for changes, message in cases:
        with pytest.raises(ConfigError, match=message):
            train(recipe(**(last | changes)))
    (tmp_path / "run" / "checkpoints" / "last" / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"adapter_config\.json: can't be read"):
        train(recipe(**last))


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_torn_trainer_state(tmp_path: Path, size: int) -> None:
    if size == 100:
        torn = b"x" * size  # no archive at all
    else:
        torch.save({"a": torch.ones(4000)}, tmp_path / "whole.pt")
        torn = (tmp_path / "whole.pt").read_bytes()[:size]
    (tmp_path / "trainer.pt").write_bytes(torn)
    with pytest.raises(ConfigError, match=r"trainer\.pt: can't be read .*name another checkpoint"):
        read_tensors(tmp_path / "trainer.pt")


def test_resume_from_torn_trainer_state(recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(recipe(**{"trainer.max_steps": 2}))
    folder = tmp_path / "run" / "checkpoints" / "last"
    for name in ("rng_0.pt", "trainer.pt"):
        (folder / name).write_bytes((folder / name).read_bytes()[:500])
        with pytest.raises(ConfigError, match=rf"{name}: can't be read"):
            train(recipe(resume="last"))


def test_what_a_checkpoint_depends_on(
    recipe: Callable[..., Any], tmp_path: Path, city: Any, qwen_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other texts, images, base weights, processor or prompt: each is named, and the run goes on only if allowed."""
    data, base = tmp_path / "data", tmp_path / "base"
    shutil.copytree(city[0], data, ignore=shutil.ignore_patterns(".geotune"))
    shutil.copytree(qwen_path, base)
    own = {"data.path": str(data / "city.jsonl"), "backbone.path": str(base)}
    train(recipe(**own, **{"trainer.max_steps": 2}))

    def resume(*allowed: str) -> None:
        load_checkpoint(build_run(recipe(resume="last", **own)), "last", allowed)

    resume()
    assert "changed" not in caplog.text
    shutil.move(base, tmp_path / "moved")
    own["backbone.path"] = str(base := tmp_path / "moved")
    resume()

    def other_answers() -> None:
        lines = (data / "city.jsonl").read_text().splitlines()
        (data / "city.jsonl").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")

    def other_images() -> None:
        path = data / city[1][0].images[0]
        with Image.open(path) as image:
            size = image.size
        Image.new("RGB", size, "red").save(path)

    def other_weights() -> None:
        tensors = load_file(base / "model.safetensors")
        tensors = {name: value * 0 if "mlp" in name else value for name, value in tensors.items()}
        save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})

    def other_processor() -> None:
        file = base / "processor_config.json"
        file.write_text(file.read_text().replace('"rescale_factor": 0.0039', '"rescale_factor": 0.0038'))

    def other_prompt() -> None:
        file = base / "chat_template.jinja"
        file.write_text(file.read_text().replace("helpful", "h e l p f u l"))

    cases: list[tuple[Callable[[], None], str, set[str]]] = [
        (other_images, r"the training data changed: images: \d files of [\d,]+ bytes .* then, \d files of", {"data"}),
        (other_answers, r"the training data changed: file of records: 24 .* then, 24 .* now", {"data"}),
        (other_weights, r"the base weights changed: values: ", {"weights"}),
        (other_processor, r"the processor changed: image processor: ", {"processor"}),
        (other_prompt, r"the prompt changed: chat template and system prompt: ", {"prompt"}),
    ]
    allowed: set[str] = set()
    for change, message, parts in cases:
        change()
        with pytest.raises(ConfigError, match=rf"resume=.*{message}.*allow_changes=\["):
            resume(*(allowed - parts))
        allowed |= parts
        caplog.clear()
        resume(*allowed)
        assert "this is allowed, and the run goes on" in caplog.text
    caplog.clear()
    with pytest.raises(ConfigError, match=r"the base weights changed: .* the processor changed: .* the prompt changed"):
        build_run(recipe(start=str(tmp_path / "run"), run_dir=str(tmp_path / "next"), **own))
    build_run(recipe(start=str(tmp_path / "run"), run_dir=str(tmp_path / "next"), allow_changes=list(allowed), **own))
    assert caplog.text.count("this is allowed") == 1
    state = tmp_path / "run" / "checkpoints" / "last" / "state.json"
    content = json.loads(state.read_text())
    assert content["data_fingerprint"] == fingerprint_of_facts(content["identity"]["data"])
    del content["identity"]
    state.write_text(json.dumps(content))
    caplog.clear()
    resume("prompt")
    assert "with the same training data and base weights and processor can't be compared" in caplog.text
