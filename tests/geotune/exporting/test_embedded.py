"""The embedded backbone: its files match their provenance, and untrained models can be made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from data_builders.synthetic.builder import city_fingerprint
from data_builders.synthetic.exercises import SKILLS
from data_builders.synthetic.skills import SyntheticSkills
from geotune.backbones.generation import generate
from geotune.backbones.internvl import InternVL
from geotune.backbones.qwen_vl import QwenVL
from geotune.config.parts import BackboneConfig
from geotune.encoding.collate import collate
from geotune.errors import ConfigError
from geotune.exporting import embedded as tiny
from geotune.runs.chain import Leg, write_chain
from geotune.system.files import ASSETS
from geotune.tasks import CROSS_VIEW_TASKS, TASKS
from geotune.training.training_process import TrainingProcess

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


def test_provenance_names_recipes_data_city_time_and_figures() -> None:
    provenance = json.loads((EMBEDDED / tiny.PROVENANCE).read_text())
    assert provenance["made_by"].endswith(f"raise <folder> --seed {provenance['seed']}")
    assert [(name, leg["recipe"]["recipe"]) for name, leg in provenance["legs"].items()] == [
        ("words", "tiny_words"),
        ("perceive", "tiny_perceive"),
        ("beside", "tiny_beside"),
        ("points", "tiny_points"),
        ("pretrain", "tiny_pretrain"),
        ("asides", "tiny_asides"),
    ]
    for leg in provenance["legs"].values():
        assert leg["recipe"]["seed"] == provenance["seed"]
        assert leg["recipe"]["data"]["build"]["_target_"].endswith("SyntheticSkills")
        assert leg["identity"].keys() == {"data", "weights", "processor", "prompt"}
        assert leg["minutes_of_updates"] > 0
    # The legs before the last were trained before one phrase of the city changed.
    assert provenance["city_fingerprint"] == leg["city_fingerprint"] == city_fingerprint()
    assert set(provenance["skills_word_for_word"]) == set(SKILLS)
    assert provenance["parameters"] < 5e6


SMALL = ["data.build.places=3", "data.build.records_per_place=30", "trainer.max_steps=2", "trainer.log_every=1"]


@pytest.fixture
def few_exercises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, and measure the skills on few exercises."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiny, "EXERCISES_BUILD", [*tiny.EXERCISES_BUILD, "places=2", "records_per_place=40"])


@pytest.mark.usefixtures("few_exercises")
def test_raising_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two updates of each leg give a folder that loads; the same command then trains no more and writes the same."""
    tiny.main(["raise", "out", "--seed", "3", *SMALL])
    provenance = json.loads(Path("out", tiny.PROVENANCE).read_text())
    assert [leg["updates"] for leg in provenance["legs"].values()] == [2] * 6
    assert all("trainer.max_steps=2" in leg["overrides"] for leg in provenance["legs"].values())
    assert provenance["seed"] == 3
    assert QwenVL(BackboneConfig(path="out", max_pixels=96 * 96, dtype="float32")).base.dtype == torch.float32
    monkeypatch.setattr(tiny, "TrainingProcess", None)
    tiny.main(["raise", "again", "--seed", "3", *SMALL])
    for file in ("model.safetensors", "tokenizer.json", tiny.PROVENANCE):
        assert Path("out", file).read_bytes() == Path("again", file).read_bytes()


@pytest.mark.usefixtures("few_exercises")
def test_raising_goes_on_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[list[str]] = []

    class Stopping(TrainingProcess):
        stopped = 15  # type: ignore[assignment]

        def run(self, overrides: Sequence[str], variables: Mapping[str, str]) -> int:
            trained.append(list(overrides))
            (folder,) = (Path(text.removeprefix("run_dir=")) for text in overrides if text.startswith("run_dir="))
            folder.mkdir(parents=True, exist_ok=True)
            write_chain(folder, [Leg("words", "1_words", [], [], state="waiting")])
            return 143

    monkeypatch.setattr(tiny, "TrainingProcess", Stopping)
    settings = ([], [], ["stage.lr=1e-3"])
    for more in settings:
        with pytest.raises(SystemExit) as stop:
            tiny.main(["raise", "out", *SMALL, *more])
        assert stop.value.code == 143
        assert "give the same command again" in capsys.readouterr().err
    first, again, other = trained
    assert again == [*first, "resume=last"]
    # With other settings it begins anew, in another folder.
    assert "resume=last" not in other
    assert not [text for text in other if text.startswith("run_dir=") and text in first]
    assert not Path("out").exists()


def test_a_chain_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a finished chain"):
        tiny.export_embedded(tmp_path, tmp_path / "out")
    write_chain(tmp_path, [Leg("a", "1_a", [], [], state="finished"), Leg("b", "2_b", [], [])])
    with pytest.raises(ConfigError, match="not the folder of a finished chain"):
        tiny.export_embedded(tmp_path, tmp_path / "out")


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
