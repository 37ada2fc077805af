"""What `--help` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.cli.entry import run_command
from geotune.cli.help import aligned, what_is
from geotune.config import recipe_files
from geotune.config.recipe_files import RECIPES, choices_of
from tests.geotune.commands import RECIPE


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["--help", "nonsense"]])
def test_help_lists_the_recipes_and_the_keys(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", lambda cfg: None, argv) == 0
    out = capsys.readouterr().out
    for name in choices_of("recipe"):
        assert f"  {name}" in out
        assert what_is("recipe", name) in out
    for words in (
        "backbone.lora.r ",
        "Rank of each update. [8]",
        "bf16 | float32",
        "[nf4; null]",
        "resume",
        "internvl3_8b, qwen2_5_vl_7b",
    ):
        assert words in out


def test_help_on_one_recipe_shows_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", lambda cfg: None, ["--help", RECIPE]) == 0
    out = capsys.readouterr().out
    assert "arXiv 2511.13259" in out
    assert "Memory: " in out


def test_help_on_a_recipe_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", lambda cfg: None, ["recipe=quickstrat", "--help"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "recipe=quickstrat: there is no such recipe" in told.err
    assert "did you mean quickstart or quickstart_rl?" in told.err
    for file in ("nope.yaml", str(RECIPES / "recipe" / "quickstart.yml")):
        for words in ([f"recipe={file}", "--help"], [f"recipe={file}"]):
            assert run_command("train", lambda cfg: None, words) == 2
            assert f"recipe={file}: this file can't be read as a recipe" in capsys.readouterr().err


def test_help_on_a_builder_shows_its_fields(
    targets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "builder").mkdir()
    (tmp_path / "builder" / "city.yaml").write_text(f"# A city.\n_target_: {targets}.City\nplaces: 77\nfolder: ???\n")
    monkeypatch.setattr(recipe_files, "RECIPES", tmp_path)
    assert run_command("build", lambda cfg: None, ["builder=city", "--help"]) == 0
    out = capsys.readouterr().out
    assert "What the city is called." in out
    assert "[77]" in out, "what the file sets, not the field's own default"
    assert "[required]" in out


@pytest.mark.parametrize("columns", [40, 80, None])
def test_two_columns_fit_the_terminal(columns: int | None) -> None:
    rows = [
        ("backbone.lora.r", "Rank of each update. [8]"),
        ("run_dir", f"Folder of the run; {'or ' * 40}null. [null]"),
    ]
    lines = aligned(rows, columns)
    assert " ".join(" ".join(lines).split()) == " ".join(f"{name} {text}" for name, text in rows)
    assert [line.startswith("   ") for line in lines[:2]] == [False, False]
    if columns is None:
        assert len(lines) == 2
    else:
        assert max(map(len, lines)) <= max(columns, 19 + 24)
        assert all(line.startswith(" " * 19) for line in lines[2:])


def test_help_on_a_recipe_shows_the_keys_of_its_stage(capsys: pytest.CaptureFixture[str]) -> None:
    for recipe, shown in (("quickstart_rl", True), ("quickstart", False), ("geo_honest", True)):
        assert run_command("train", lambda cfg: None, [f"recipe={recipe}", "--help"]) == 0
        text = capsys.readouterr().out
        assert ("stage.rollout.group_size" in text) == shown
        assert ("stage.reward.gate" in text) == shown
        assert "stage.lr" in text
