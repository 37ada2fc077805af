"""What an earlier run has left is moved aside, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotune.runs.aside import set_aside, set_aside_after


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


OWN = {
    *("config.yaml", "metrics.json", "metrics.csv", "updates.jsonl", "rejected.jsonl", "bad_samples.jsonl"),
    *("accuracy.png", "accuracy_geox.png", "eval/step_000000.json", "outcomes/step_000000.1.jsonl"),
    "maps/geolocate_step_000000.png",
    *("predictions/step_000000.jsonl", "checkpoints/.step_000002.partial/adapter/model", "checkpoints/step_000002/x"),
}
OTHERS = {
    "maps/own.png",
    "stdout.txt",
    "slurm-12.out",
    "wandb/offline-run-1/run.wandb",
    "notes/config.yaml",
    "eval/__init__.py",
}


def test_what_a_run_writes_is_moved_and_what_others_write_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, *OWN, *OTHERS)
    (tmp_path / "checkpoints" / "last").symlink_to("step_000002")
    set_aside(tmp_path)
    assert files_in(tmp_path / "aside" / "1") == OWN
    assert (tmp_path / "aside" / "1" / "checkpoints" / "last").is_symlink()
    assert not list((tmp_path / "checkpoints").iterdir())
    assert files_in(tmp_path) - {f"aside/1/{name}" for name in OWN} == OTHERS
    assert f"is now in {tmp_path / 'aside' / '1'}" in caplog.text
    caplog.clear()
    set_aside(tmp_path)
    assert not caplog.text
    fill(tmp_path, "config.yaml")
    set_aside(tmp_path)
    assert files_in(tmp_path / "aside" / "2") == {"config.yaml"}
    assert files_in(tmp_path / "aside" / "1") == OWN


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    run, disk = tmp_path / "run", tmp_path / "disk"
    fill(disk, ".step_000002.partial/x")
    run.mkdir()
    (run / "checkpoints").symlink_to(disk)
    set_aside(run)
    assert (run / "checkpoints").is_symlink()
    assert not list(disk.iterdir())
    assert files_in(run / "aside") == {"1/checkpoints/.step_000002.partial/x"}


def test_what_follows_the_checkpoint_that_a_run_goes_on_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = {
        *("checkpoints/step_000002/state.json", "eval/step_000002.json", "outcomes/step_000002.jsonl", "config.yaml"),
        *("maps/geolocate_step_000002.png", "maps/of_step_000004_step_000002.png", "eval/own_step_000004.json"),
    }
    later = {
        *("checkpoints/step_000004/state.json", "checkpoints/step_1000000/state.json", "eval/step_000004.json"),
        *("outcomes/step_000004.jsonl", "outcomes/step_000004.1.jsonl", "predictions/step_000004.jsonl"),
        *("maps/geolocate_step_000004.png", "maps/step_step_1000000.png", "maps/2_step_000003.png"),
    }
    logs = {"updates.jsonl", "metrics.csv"}
    fill(tmp_path, *kept, *later, *logs, *OTHERS)
    (tmp_path / "metrics.json").write_text('{"step": 4}')
    set_aside_after(tmp_path, 2, updates_left=True)
    assert files_in(tmp_path / "aside" / "1") == later | logs | {"metrics.json"}
    assert {name for name in files_in(tmp_path) if not name.startswith("aside")} == kept | logs | OTHERS
    assert "after update 2" in caplog.text


def test_evaluations_behind_the_newest_checkpoint_stay(tmp_path: Path) -> None:
    fill(tmp_path, "checkpoints/step_000002/state.json", "eval/step_000003.json", "updates.jsonl")
    set_aside_after(tmp_path, 2, updates_left=True)
    assert not (tmp_path / "aside").exists()


def test_final_figures_of_a_run_that_is_extended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "checkpoints/step_000002/state.json", "updates.jsonl")
    (tmp_path / "metrics.json").write_text('{"step": 2}')
    set_aside_after(tmp_path, 2, updates_left=False)
    assert not (tmp_path / "aside").exists(), "only its last evaluation is missing"
    set_aside_after(tmp_path, 2, updates_left=True)
    assert files_in(tmp_path / "aside") == {"1/metrics.json"}
    assert "final figures of update 2" in caplog.text
