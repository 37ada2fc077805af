"""The results of a sweep: trials.csv, sweep.json, best.yaml, the plots, and the tables for the terminal."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from geotune.config.composing import compose
from geotune.config.override_text import as_overrides
from geotune.sweeps.plan import SweepPlan
from geotune.sweeps.rows import STATES, TrialRow, best_of, rows, short_names, show_figure, show_value
from geotune.sweeps.space import VARIANT
from geotune.system.files import open_atomically
from geotune.system.strict_json import write_json
from geotune.system.tables import FittingTable, TableColumn

if TYPE_CHECKING:
    from optuna import Study

    from geotune.sweeps.processes import Slot


TABLE_FILE = "trials.csv"
WAYS = (("checkpoint", "run_dir"), ("recipe", "recipe"))
"""Keys that take the best trial, and the entries of sweep.json with their values."""
STYLES = {"complete": "", "pruned": "yellow", "failed": "red", "running": "cyan", "waiting": "dim"}


def write_results(plan: SweepPlan, study: Study, storage: str, *, plots: bool) -> dict[str, Any]:
    """Write all results into `plan.sweep_dir` and return the content of sweep.json. `storage` goes into it as text."""
    from geotune.sweeps.plots import write_plots

    trials = rows(study.get_trials(deepcopy=False))
    best = best_of(trials, plan.direction)
    plan.sweep_dir.mkdir(parents=True, exist_ok=True)
    write_table(plan.sweep_dir / TABLE_FILE, trials)
    summary = {
        "sweep": plan.cfg.sweep,
        "recipe": plan.base.recipe,
        "study": plan.study,
        "storage": storage,
        "metric": plan.metric,
        "direction": plan.direction,
        "trials": {state: count for state in STATES.values() if (count := sum(row.state == state for row in trials))},
        "seconds": sum(row.seconds or 0.0 for row in trials),
        "best": None,
    }
    if best is not None:
        write_best(plan, best, sum(row.state == "complete" for row in trials))
        summary["best"] = {
            "trial": best.number,
            "value": best.value,
            "run_dir": best.run_dir,
            "params": best.params,
            "figures": best.figures,
            "recipe": "best.yaml",
        }
    if plots:
        summary |= write_plots(plan, study, trials)
    write_json(plan.sweep_dir / "sweep.json", summary)
    return summary


def write_table(path: Path, trials: Sequence[TrialRow]) -> None:
    """Write one CSV line per trial: its state and value, then every parameter and figure that any trial has."""
    params = list(dict.fromkeys(key for row in trials for key in row.params))
    figures = list(dict.fromkeys(key for row in trials for key in row.figures))
    with open_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", "state", "value", "step", "seconds", "run_dir", *params, *figures, "error"])
        for row in trials:
            seconds = None if row.seconds is None else round(row.seconds, 1)
            cells = [row.number, row.state, row.value, row.step, seconds, row.run_dir]
            cells += [show_value(row.params[key], exact=True) if key in row.params else "" for key in params]
            writer.writerow([*cells, *(row.figures.get(key) for key in figures), row.error.strip()])


def table(plan: SweepPlan, trials: Sequence[TrialRow]) -> FittingTable:
    """Make a table for the terminal with one line per trial, the best trial in bold."""
    best = best_of(trials, plan.direction)
    names = short_names(list(dict.fromkeys(key for row in trials for key in row.params)))
    states = [row.state for row in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STYLES if state in states)
    params = [
        TableColumn(name, [show_value(row.params[key]) if key in row.params else "" for row in trials], right=False)
        for key, name in names.items()
    ]
    columns = [
        TableColumn("trial", [str(row.number) for row in trials]),
        TableColumn("state", states, right=False),
        TableColumn("update", ["" if row.step is None else str(row.step) for row in trials]),
        TableColumn(plan.metric, [show_figure(row.value) for row in trials]),
        *params,
        TableColumn("time", ["" if row.seconds is None else f"{row.seconds:,.0f} s" for row in trials]),
    ]
    styles = ["bold green" if row is best else STYLES[row.state] for row in trials]
    return FittingTable(f"{plan.study}: {counts}", columns, styles)


def sweep_words(plan: SweepPlan, summary: Mapping[str, Any]) -> str:
    """Return the text about a sweep that has ended, given the content of sweep.json."""
    folder, best = plan.sweep_dir, summary["best"]
    lines = []
    if best is not None:
        run, recipe = (shlex.quote(f"{key}={folder / best[name]}") for key, name in WAYS)
        lines += [
            f"best: trial {best['trial']}, {plan.metric} {show_figure(best['value'])}: {folder / best['run_dir']}",
            f"train with its settings: geotune train {recipe}",
            f"locate photos: geotune locate {run} image=<file or folder>",
        ]
    if summary["importance_note"] is not None:
        lines.append(f"no importance plot: {summary['importance_note']}")
    lines += [f"plot: {folder / name}" for name in summary["plots"] if name.endswith(".html")]
    return "\n".join([*lines, f"results: {folder / TABLE_FILE}"])


def sweep_summary(plan: SweepPlan, slots: Sequence[Slot]) -> str:
    """Describe what the sweep would run, for `dry_run`."""
    count = f"{len(plan.variants)} variants" if plan.variants else f"{plan.cfg.trials} trials"
    varied = {name: " ".join(as_overrides(values)) or "(unchanged)" for name, values in plan.variants.items()}
    lines = [
        f"study {plan.study}: {count} in {plan.sweep_dir}, to {plan.direction} {plan.metric}",
        f"slots: {'; '.join(map(str, slots))}",
        *(f"  {name}: {values}" for name, values in (varied or plan.dimensions).items()),
    ]
    example = plan.varied({VARIANT: next(iter(plan.variants))}) if plan.variants else ["<the values of the trial>"]
    return "\n".join([*lines, f"each trial: geotune train {' '.join([*plan.training, *example])}"])


def write_best(plan: SweepPlan, best: TrialRow, complete: int) -> Path:
    """Write `best.yaml`, the complete recipe of the best trial, which `recipe=<this file>` runs.

    Args:
        best: the best trial.
        complete: number of complete trials, for the header.
    """
    path = plan.sweep_dir / "best.yaml"
    cfg = compose("train", plan.trial_overrides(best.params))
    # Not resolved, so that an escaped `${` in a value is still text when the file is read.
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    kept = {key: value for key, value in tree.items() if key not in ("run_dir", "resume", "dry_run")}
    kept["recipe"] = f"{plan.study}-best"
    figures = [f"{key} {show_figure(value)}" for key, value in best.figures.items() if value is not None]
    wrapped = [", ".join(figures[at : at + 4]) for at in range(0, len(figures), 4)]
    header = [
        "@package _global_",
        f"python -m geotune.train recipe={shlex.quote(str(path))}",
        f"The best of {complete} complete trials of the sweep {plan.study}: trial {best.number}, {best.run_dir}.",
        f"It varied: {' '.join(plan.varied(best.params)) or 'nothing'}",
        f"Reached: {plan.metric} {show_figure(best.value)} at update {best.step}, in {best.seconds or 0.0:.0f} s.",
        *wrapped,
    ]
    with open_atomically(path) as file:
        file.writelines(f"# {line}\n" for line in header)
        file.write(OmegaConf.to_yaml(OmegaConf.create(kept)))
    return path
