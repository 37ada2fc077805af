"""The benchmark for GPUs runs on a CPU too; a part that fails or takes too long is told and stops no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import ROOT, Part, main, read_last_line, read_tests, table
from benchmarks.gpu import test_files as files_for_gpus


def test_the_micro_batch_taken_apart_answers_and_a_grpo_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    tiny = ["--model", "tiny", "--device", "cpu", "--side", "112", "--work", str(tmp_path / "work"), "--out", str(out)]
    assert main([*tiny, "--contenders", "tree", "--tokens", "4", "--only", "training", "answers", "a GRPO step"]) == 0
    parts = json.loads(out.read_text(encoding="utf-8"))["parts"]
    assert parts.keys() == {"training", "answers", "a GRPO step"}
    assert parts["training"]["samples"] == 13
    assert len(parts["training"]["ten_most_expensive_ms"]) == 10
    assert all(parts["training"][key] > 0 for key in ("tower_ms", "forward_ms", "backward_ms", "tokens"))
    assert all(count > 0 for count in parts["training"]["launches"].values())
    assert all(parts["answers"][f"{mode}_questions_per_second"] > 0 for mode in ("generate", "choice"))
    assert parts["a GRPO step"]["variants"].keys() == {"ours@4"}
    shown = capsys.readouterr().out
    assert "aten::mm" in shown
    assert "choice_questions_per_second" in shown
    assert "| ours@4 |" in shown


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "--device cpu --model tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "limit", "reason"),
    [
        (["no_such_module"], 60, "ended with status 1"),
        (["http.server", "0", "--bind", "127.0.0.1"], 1, "took longer than 1 s"),
        (["this"], 60, "printed no figures"),
    ],
)
def test_a_part_without_figures_says_why(tmp_path: Path, arguments: list[str], limit: int, reason: str) -> None:
    result = Part(arguments, limit, read_last_line).run(tmp_path / "none.json", dict(os.environ), tmp_path / "log")
    assert result["failed"] == reason
    assert isinstance(result["log"], list)


def test_a_part_that_takes_too_long_keeps_what_it_has_measured(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('{\"tokens\": 3}', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = Part(["slow"], 5, read_last_line).run(tmp_path / "none.json", environment, tmp_path / "log")
    assert result["failed"] == "took longer than 5 s"
    assert result["tokens"] == 3
    assert "tokens: 3" in table({"parts": {"slow": result}})


def test_pytests_summary_is_read() -> None:
    text = "FAILED tests/a.py::test_b - assert 1 == 2\n=== 1 failed, 11 passed, 2 skipped in 3.21s ===\n"
    found = read_tests(text, Path())
    assert found == {"failed": 1, "passed": 11, "skipped": 2, "not_passed": ["tests/a.py::test_b"]}
    with pytest.raises(ValueError, match="no summary"):
        read_tests("killed", Path())


def test_trl_survives_a_wandb_that_cannot_be_imported(tmp_path: Path) -> None:
    """transformers and TRL ask for its specification, and import it if there is one."""
    (tmp_path / "wandb.py").write_text("import no_such_dependency_of_wandb\n", encoding="utf-8")
    code = (
        "from benchmarks.contender import hide_broken_wandb\n"
        "from importlib.util import find_spec\n"
        "assert find_spec('wandb')\n"
        "hide_broken_wandb()\n"
        "assert find_spec('wandb') is None\n"
        "from transformers.integrations import is_wandb_available\n"
        "assert not is_wandb_available()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "wandb can't be imported" in done.stderr


def test_all_files_with_tests_for_gpus_are_found() -> None:
    marker = "mark" + ".gpu"
    files = [path for path in (ROOT / "tests").rglob("*.py") if marker in path.read_text(encoding="utf-8")]
    assert sorted(files_for_gpus()) == sorted(str(path.relative_to(ROOT)) for path in files)
