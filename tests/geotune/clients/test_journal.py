from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geotune.clients.journal import Journal
from geotune.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_journal_refuses_a_second_process_and_broken_lines(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with Journal(folder) as journal:
        call = journal.start("k", "p", 0.5)
        journal.answer(call, "k", "p", "body", 0.1, 7)
        journal.start("l", "q", 0.25)
        held = subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path; from geotune.clients.journal import Journal\n"
             f"Journal(Path({str(folder)!r})).__enter__()"],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert "another process" in held.stderr
    with Journal(folder) as journal:
        # The second call has no outcome: it counts as if it had cost the most.
        assert journal.spent_usd == pytest.approx(0.35)
        assert "k" in journal
        assert "l" not in journal
        assert journal.body("k") == "body"
        assert journal.start("m", "r", 0.0) == 2
    text = (folder / "calls.jsonl").read_text()
    (folder / "calls.jsonl").write_text("{broken}\n" + text)
    with pytest.raises(ConfigError, match=r"line 1 of .*calls\.jsonl"):
        Journal(folder).__enter__()
