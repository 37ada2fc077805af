"""The embedded backbone: its files match their provenance, and untrained models can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_builders.synthetic.builder import city_fingerprint
from data_builders.synthetic.exercises import SKILLS
from data_builders.synthetic.skills import SyntheticSkills
from geotune.backbones.generation import generate
from geotune.backbones.internvl import InternVL
from geotune.backbones.qwen_vl import QwenVL
from geotune.config.parts import BackboneConfig
from geotune.encoding.collate import collate
from geotune.exporting import embedded as tiny
from geotune.system.files import ASSETS
from geotune.tasks import CROSS_VIEW_TASKS, TASKS

EMBEDDED = ASSETS / "tiny"


@pytest.fixture(scope="module")
def exercises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("skills")
    SyntheticSkills(places=12, split="validation", records_per_place=30, workers=1).make(out, "skills")
    return out / "skills.jsonl"


@pytest.fixture(scope="module")
def embedded() -> QwenVL:
    return QwenVL(BackboneConfig(path=str(EMBEDDED), max_pixels=96 * 96, dtype="float32"))


def test_the_stored_folder_is_small_and_holds_safetensors_alone() -> None:
    files = [file for file in EMBEDDED.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10 * 2**20
    assert not [file.name for file in files if file.suffix in {".bin", ".pt", ".pth", ".py"}]


def test_provenance_names_recipe_data_city_and_figures() -> None:
    provenance = json.loads((EMBEDDED / tiny.PROVENANCE).read_text())
    assert provenance["recipe"]["recipe"] == "tiny_pretrain"
    first = provenance
    while "started_from" in first:
        first = first["started_from"]
    assert first["recipe"]["recipe"] == "tiny_perceive"
    assert provenance["city_fingerprint"] == city_fingerprint()
    assert set(provenance["skills_word_for_word"]) == set(SKILLS)
    assert provenance["parameters"] < 5e6


def test_its_recipes_name_no_task() -> None:
    """The embedded backbone learns skills alone: no question of its data is one of the tasks."""
    assert not set(SKILLS) & set(TASKS)


def test_the_embedded_backbone_has_the_skills_that_are_stated(embedded: QwenVL, exercises: Path) -> None:
    stated = json.loads((EMBEDDED / tiny.PROVENANCE).read_text())["skills_word_for_word"]
    found = tiny.skill_figures(embedded, exercises, per_skill=8)
    assert sum(found.values()) / len(found) > sum(stated.values()) / len(stated) - 0.15


def test_every_prompt_and_answer_can_be_written(embedded: QwenVL) -> None:
    tokenizer = embedded.tokenizer
    texts = [TASKS[name].prompt(explain=explain) for name in TASKS for explain in (False, True)]
    for text in [*texts, "Straße 北京 {'é': 1.5}\n"]:
        ids = tokenizer(text.replace("<image>", ""), add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text.replace("<image>", "")
    for name in CROSS_VIEW_TASKS:
        words = TASKS[name].prompt(explain=True).replace("<image>\n", "")
        assert len(tokenizer(words)["input_ids"]) < 120


def test_the_untrained_folder_is_a_function_of_its_corpus_and_seed(tmp_path: Path, exercises: Path) -> None:
    for name in ("a", "b"):
        tiny.main(["create", str(exercises), str(tmp_path / name)])
    for file in ("tokenizer.json", "model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("command", ["create", "internvl", "export"])
def test_a_wrong_path_is_reported(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        tiny.main([command, str(tmp_path / "nowhere"), str(tmp_path / "out")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere" in error


def test_a_tiny_internvl_loads_and_answers(tmp_path: Path, exercises: Path) -> None:
    from geotune.records import read_samples

    tiny.main(["internvl", str(exercises), str(tmp_path)])
    backbone = InternVL(BackboneConfig(path=str(tmp_path), max_pixels=3 * 64 * 64, dtype="float32"))
    sample = next(sample for sample in read_samples(exercises) if sample.images)
    encoded = backbone.encode(sample.in_folder(exercises.parent))
    assert backbone(collate([encoded], backbone.encoder)).shape[0] == encoded.targets
    assert len(generate(backbone, [sample.in_folder(exercises.parent)], max_new_tokens=4, batch_size=1)) == 1
