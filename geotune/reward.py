"""`geotune reward reward=<name> file=<jsonl>`: show what a reward says of completions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command, show

if TYPE_CHECKING:
    from omegaconf import DictConfig


def reward(cfg: DictConfig) -> dict[str, Any]:
    """Judge the completions of `cfg.file`, print what each term says of each, and return the totals.

    Raises ConfigError if a line can't be judged, and RewardError if a term of the reward fails.
    """
    from geotune.config.instantiation import instantiate_checked
    from geotune.rl.judging import as_json_lines, judged, lines_table, read_completions, reward_totals, totals_table
    from geotune.system.screen import as_text

    judge = instantiate_checked(cfg.reward, "reward")
    lines = read_completions(Path(cfg.file), judge)
    rows = list(judged(lines, judge))
    if cfg.format == "json":
        show(as_json_lines(rows))
    else:
        tables = (lines_table(rows, f"reward {cfg.name}"), totals_table(rows, judge))
        show("\n".join(as_text(table) for table in tables).rstrip("\n"))
    return reward_totals(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("reward", reward, argv)


if __name__ == "__main__":
    raise SystemExit(main())
