"""Schemas of the commands other than training, and the checks that span several of their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from geotune.config.rules import above_zero, at_least, is_builder, is_named


@dataclass
class BuildConfig:
    """What `geotune build` runs."""

    builder: dict[str, Any]
    """The builder (`_target_` and its fields); `builder=<name>` chooses it, `<field>=<value>` sets its fields."""
    out: str
    """Folder to write."""
    name: str
    """Name of the dataset: <out>/<name>.jsonl."""
    paths: Literal["relative", "absolute"] = "relative"
    """How the records name their images."""
    max_reject_fraction: float = 0.01
    """Rejecting more than this share of the source is a mistake in the data."""
    shard: str | None = None
    """i/n: write one part of n, as one job of many; `geotune merge` joins them. null: all."""


@dataclass
class MergeConfig:
    """What `geotune merge` runs."""

    out: str
    """Folder that the parts were built into."""
    name: str | None = None
    """Name of the dataset; null: the one whose parts are there."""


@dataclass
class SweepConfig:
    """What `geotune sweep` runs; a key that is none of these goes to every training."""

    sweep: str
    """Name of the sweep: a file of recipes/sweep/, or any YAML file."""
    space: dict[str, Any] = field(default_factory=dict)
    """What to search: for each key of the training {low, high, log, step} or {choices}; null takes a key out."""
    variants: dict[str, Any] = field(default_factory=dict)
    """Instead of a space: named sets of keys of the training, each run once; null takes one out."""
    trials: int = 20
    """Trials of the study, on all machines together; those that failed are made up for when it is started again."""
    metric: str | None = None
    """Figure to improve, suite/key or suite/task/key; null: mean_accuracy of the recipe's first suite."""
    direction: Literal["maximize", "minimize"] | None = None
    """null: minimize what ends in _km, maximize anything else."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How values are drawn: tree-structured Parzen estimators, or independently."""
    pruner: Literal["median", "asha", "none"] = "median"
    """Which trials are stopped early: worse than the median at the same update, or by asynchronous halving."""
    startup: int = 4
    """Trials to finish before tpe and median look at results."""
    prune_after: int = 0
    """Updates before the pruner may stop a trial."""
    seed: int | None = None
    """Seed of the sampler and of every trial; null: 0 for the sampler, the recipe's own for the trials."""
    devices: list[int] | None = None
    """GPUs, or as many CPU slots, of this machine; [0,0] runs two trials on one. null: every GPU, or one CPU slot."""
    devices_per_trial: int = 1
    """Devices of each trial, one process on each."""
    study: str | None = None
    """Name of the study, and W&B group of its trials; null: <recipe>-<sweep>."""
    storage: str | None = None
    """Where the study is kept: an SQL URL, or a journal file; null: <sweep_dir>/study.journal."""
    sweep_dir: str | None = None
    """Folder of the trials and results; null: runs/sweeps/<study>."""
    max_failed: int = 3
    """Stop after this many failed trials in a row."""
    grace: float = 60.0
    """Seconds a trial has to end after SIGINT, and again after SIGTERM, before SIGKILL."""
    stale_after: float = 300.0
    """Seconds without a sign of life after which another machine's trial is taken over."""
    dry_run: bool = False
    """Check everything, show what would run, and stop."""
    wandb_yaml: str | None = None
    """Write the search as a W&B sweep to this file, for `wandb sweep` and `wandb agent`, and stop."""


@dataclass
class ExportConfig:
    """What `geotune export` runs."""

    checkpoint: str
    """A step_<N> folder of a run, a link to one (last, best), or the run's folder: its best one, else its last."""
    out: str
    """Folder to write: adapter/, merged/ and export_report.json."""
    base_model: str | None = None
    """Folder or hub id of the backbone; null: where training found it."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of the merged weights; they are merged in float32 whatever it is."""
    overwrite: bool = False
    """Replace what an earlier export wrote to `out`."""


@dataclass
class LocateConfig:
    """What `geotune locate` runs."""

    image: str
    """A photo, or a folder: every image in it, at any depth."""
    checkpoint: str | None = None
    """A checkpoint or a run's folder, an exported folder or any model's; null: the embedded backbone as it is."""
    base_model: str | None = None
    """Folder or hub id of the backbone that a checkpoint or an adapter belongs to; null: where training found it."""
    samples: int = 16
    """Answers drawn for each photo, which the uncertainty comes from."""
    temperature: float = 1.0
    """Of the sampling; 1 draws from the model's own distribution."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    seed: int = 0
    """Seed of the sampling; a photo's answers do not depend on what else is asked."""
    explain: bool = True
    """Ask for a short explanation before the coordinates."""
    format: Literal["table", "json"] = "table"
    """How the result is printed."""
    batch_size: int = 32
    """Answers per forward pass."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    max_pixels: int | None = None
    """Photos are scaled down to at most this many pixels; null: as in training."""
    dtype: Literal["bf16", "float32"] | None = None
    """Precision of weights and forward pass; null: as in training."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""


def check_build(cfg: BuildConfig) -> list[str]:
    """Mistakes in what `geotune build` is asked for that types don't show."""
    rules = [
        is_builder("builder", cfg.builder),
        (cfg.out != "", "out=: an empty name; give out=<folder>"),
        (
            0 <= cfg.max_reject_fraction <= 1,
            f"max_reject_fraction={cfg.max_reject_fraction}: a share lies between 0 and 1",
        ),
    ]
    return [mistake for fine, mistake in rules if not fine]


def check_merge(cfg: MergeConfig) -> list[str]:
    """Mistakes in what `geotune merge` is asked for that types don't show."""
    return [mistake for fine, mistake in [is_named("out", cfg.out), is_named("name", cfg.name)] if not fine]


def check_sweep(cfg: SweepConfig) -> list[str]:
    """Mistakes in what `geotune sweep` is asked for that types don't show."""
    devices = len(cfg.devices) if cfg.devices is not None else None
    rules = [
        (
            (cfg.space != {}) != (cfg.variants != {}),
            f"space, variants: sweep={cfg.sweep} has {'both' if cfg.space else 'neither'}; give one of them",
        ),
        at_least("trials", cfg.trials, 1),
        at_least("startup", cfg.startup, 1),
        at_least("prune_after", cfg.prune_after, 0),
        at_least("seed", cfg.seed, 0),
        *(at_least("devices", device, 0) for device in cfg.devices or []),
        at_least("devices_per_trial", cfg.devices_per_trial, 1),
        (
            devices is None or (devices > 0 and devices % cfg.devices_per_trial == 0),
            f"devices={cfg.devices}: name a multiple of devices_per_trial={cfg.devices_per_trial}",
        ),
        (
            cfg.devices_per_trial == 1 or devices is None or len(set(cfg.devices or [])) == devices,
            f"devices={cfg.devices}: with devices_per_trial={cfg.devices_per_trial} each device can be named only once",
        ),
        *(
            (
                value is None or value.strip() != "",
                f"{key}=: an empty name; give one, or leave the key out",
            )
            for key, value in (("study", cfg.study), ("storage", cfg.storage), ("sweep_dir", cfg.sweep_dir))
        ),
        at_least("max_failed", cfg.max_failed, 1),
        above_zero("grace", cfg.grace),
        above_zero("stale_after", cfg.stale_after),
        (
            cfg.wandb_yaml is None or cfg.variants == {} or cfg.space != {},
            f"wandb_yaml={cfg.wandb_yaml}: W&B sweeps have no named variants; choose a sweep with a space",
        ),
    ]
    return [mistake for fine, mistake in rules if not fine]


def check_export(cfg: ExportConfig) -> list[str]:
    """Mistakes in what `geotune export` is asked for that types don't show."""
    rules = [is_named(key, path) for key, path in vars(cfg).items() if key in ("checkpoint", "out", "base_model")]
    return [mistake for fine, mistake in rules if not fine]


def check_locate(cfg: LocateConfig) -> list[str]:
    """Mistakes in what `geotune locate` is asked for that types don't show."""
    rules = [
        is_named("image", cfg.image),
        is_named("checkpoint", cfg.checkpoint),
        is_named("base_model", cfg.base_model),
        at_least("samples", cfg.samples, 1),
        above_zero("temperature", cfg.temperature),
        (0 < cfg.top_p <= 1, f"top_p={cfg.top_p}: a share of the probability lies in (0, 1]"),
        at_least("seed", cfg.seed, 0),
        at_least("batch_size", cfg.batch_size, 1),
        at_least("max_new_tokens", cfg.max_new_tokens, 1),
        at_least("max_pixels", cfg.max_pixels, 1),
    ]
    return [mistake for fine, mistake in rules if not fine]
