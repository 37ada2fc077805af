"""Schemas of the commands other than `geotune train`, and their checks that types can't express."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from geotune.config.rules import above_zero, at_least, is_builder, is_named


@dataclass
class BuildConfig:
    """Config of `geotune build`."""

    builder: dict[str, Any]
    """Builder (`_target_` and its fields); `builder=<name>` chooses it and `<field>=<value>` sets its fields."""
    out: str
    """Folder to write."""
    name: str
    """Name of the dataset, which is written to <out>/<name>.jsonl."""
    paths: Literal["relative", "absolute"] = "relative"
    """Kind of path by which the records name their images."""
    max_reject_fraction: float = 0.01
    """Largest fraction of the source that may be rejected; above it the command fails with exit status 2."""
    shard: str | None = None
    """Part i of n to write, as i/n; `geotune merge` joins the parts. null writes the whole dataset."""


@dataclass
class MergeConfig:
    """Config of `geotune merge`."""

    out: str
    """Folder that holds the parts."""
    name: str | None = None
    """Name of the dataset; null means the only dataset that has parts in the folder."""


@dataclass
class SweepConfig:
    """Config of `geotune sweep`; a key that it does not have is passed to every training."""

    sweep: str
    """Name of the sweep: a file of recipes/sweep/, or any YAML file."""
    space: dict[str, Any] = field(default_factory=dict)
    """Search space: {low, high, log, step} or {choices} for each key of the training; null removes a key."""
    variants: dict[str, Any] = field(default_factory=dict)
    """Named sets of overrides, each trained once, instead of a search space; null removes a set."""
    trials: int = 20
    """Number of trials on all machines together; a restarted sweep runs new trials in place of those that failed."""
    metric: str | None = None
    """Figure to improve, suite/key or suite/task/key; null means mean_accuracy of the recipe's first suite."""
    direction: Literal["maximize", "minimize"] | None = None
    """Direction of improvement; null minimizes a figure whose name ends in _km and maximizes any other."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Sampler of values: tree-structured Parzen estimators (tpe), or independent random draws."""
    pruner: Literal["median", "asha", "none"] = "median"
    """Rule for early stopping: below the median at the same update, or asynchronous successive halving (asha)."""
    startup: int = 4
    """Number of finished trials before tpe and median use results."""
    prune_after: int = 0
    """Number of updates before the pruner may stop a trial."""
    seed: int | None = None
    """Seed of the sampler and of every trial; null means 0 for the sampler and the recipe's seed for the trials."""
    devices: list[int] | None = None
    """Indices of GPUs or CPU slots; [0,0] runs two trials on one device. null means every GPU, or one CPU slot."""
    devices_per_trial: int = 1
    """Number of devices per trial, with one process on each."""
    study: str | None = None
    """Name of the study and of the W&B group of its trials; null means <recipe>-<sweep>."""
    storage: str | None = None
    """Storage of the study: an SQL URL or a journal file; null means <sweep_dir>/study.journal."""
    sweep_dir: str | None = None
    """Folder of the trials and results; null means runs/sweeps/<study>."""
    max_failed: int = 3
    """Number of failed trials in a row after which the sweep stops."""
    grace: float = 60.0
    """Seconds that a trial has to end after SIGINT, and again after SIGTERM, before SIGKILL."""
    stale_after: float = 300.0
    """Seconds without a heartbeat after which a trial of another machine counts as dead and is taken over."""
    dry_run: bool = False
    """Check everything, show what would run, and stop."""
    wandb_yaml: str | None = None
    """Write the search as a W&B sweep to this file, for `wandb sweep` and `wandb agent`, and stop."""


@dataclass
class ExportConfig:
    """Config of `geotune export`."""

    checkpoint: str
    """Checkpoint: a step_<N> folder, a link to one (last, best), a run's folder for its best or else its last, or the
    name of a recipe for its newest run. A chain means its last finished leg."""
    out: str
    """Folder to write, with adapter/, merged/ and export_report.json."""
    base_model: str | None = None
    """Folder or hub id of the backbone; null means the one that training used."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of the merged weights in the files; merging itself is done in float32."""
    overwrite: bool = False
    """Replace an earlier export in `out`."""


@dataclass
class LocateConfig:
    """Config of `geotune locate`."""

    image: str
    """Photo to locate, or a folder whose images are all located, at any depth."""
    checkpoint: str | None = None
    """Checkpoint, run folder, exported folder, model folder, or the name of a recipe for its newest run; null means the
    embedded backbone without training. A chain means its last finished leg."""
    base_model: str | None = None
    """Folder or hub id of the backbone below a checkpoint or an adapter; null means the one that training used."""
    samples: int = 16
    """Number of answers drawn for each photo, from which the uncertainty is estimated."""
    temperature: float = 1.0
    """Temperature of the sampling; 1 draws from the model's own distribution."""
    top_p: float = 1.0
    """Nucleus sampling: draw from the likeliest tokens that together hold this much of the probability."""
    seed: int = 0
    """Seed of the sampling; the answers for a photo do not depend on the other photos."""
    explain: bool = True
    """Ask for a short explanation before the coordinates."""
    format: Literal["table", "json"] = "table"
    """Format of the printed result."""
    batch_size: int = 32
    """Number of answers per forward pass."""
    max_new_tokens: int = 256
    """Largest number of tokens of an answer."""
    max_pixels: int | None = None
    """Largest number of pixels of a photo; larger photos are scaled down. null means the limit of the training."""
    dtype: Literal["bf16", "float32"] | None = None
    """Precision of the weights and the forward pass; null means the precision of the training."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""


def check_build(cfg: BuildConfig) -> list[str]:
    """Return the mistakes in a config of `geotune build` that its types allow."""
    rules = [
        is_builder("builder", cfg.builder),
        (cfg.out != "", "out=: the name is empty; give out=<folder>"),
        (
            0 <= cfg.max_reject_fraction <= 1,
            f"max_reject_fraction={cfg.max_reject_fraction}: give a fraction between 0 and 1",
        ),
    ]
    return [mistake for fine, mistake in rules if not fine]


def check_merge(cfg: MergeConfig) -> list[str]:
    """Return the mistakes in a config of `geotune merge` that its types allow."""
    return [mistake for fine, mistake in [is_named("out", cfg.out), is_named("name", cfg.name)] if not fine]


def check_sweep(cfg: SweepConfig) -> list[str]:
    """Return the mistakes in a config of `geotune sweep` that its types allow."""
    devices = len(cfg.devices) if cfg.devices is not None else None
    rules = [
        (
            (cfg.space != {}) != (cfg.variants != {}),
            f"space, variants: sweep={cfg.sweep} has {'both' if cfg.space else 'neither'}; give exactly one of them",
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
            f"devices={cfg.devices}: with devices_per_trial={cfg.devices_per_trial} each device can be given only once",
        ),
        *(
            (
                value is None or value.strip() != "",
                f"{key}=: the name is empty; give a name, or leave the key out",
            )
            for key, value in (("study", cfg.study), ("storage", cfg.storage), ("sweep_dir", cfg.sweep_dir))
        ),
        at_least("max_failed", cfg.max_failed, 1),
        above_zero("grace", cfg.grace),
        above_zero("stale_after", cfg.stale_after),
        (
            cfg.wandb_yaml is None or cfg.variants == {} or cfg.space != {},
            f"wandb_yaml={cfg.wandb_yaml}: W&B sweeps have no named variants; choose a sweep with a search space",
        ),
    ]
    return [mistake for fine, mistake in rules if not fine]


def check_export(cfg: ExportConfig) -> list[str]:
    """Return the mistakes in a config of `geotune export` that its types allow."""
    rules = [is_named(key, path) for key, path in vars(cfg).items() if key in ("checkpoint", "out", "base_model")]
    return [mistake for fine, mistake in rules if not fine]


def check_locate(cfg: LocateConfig) -> list[str]:
    """Return the mistakes in a config of `geotune locate` that its types allow."""
    rules = [
        is_named("image", cfg.image),
        is_named("checkpoint", cfg.checkpoint),
        is_named("base_model", cfg.base_model),
        at_least("samples", cfg.samples, 1),
        above_zero("temperature", cfg.temperature),
        (0 < cfg.top_p <= 1, f"top_p={cfg.top_p}: give a probability above 0 and up to 1"),
        at_least("seed", cfg.seed, 0),
        at_least("batch_size", cfg.batch_size, 1),
        at_least("max_new_tokens", cfg.max_new_tokens, 1),
        at_least("max_pixels", cfg.max_pixels, 1),
    ]
    return [mistake for fine, mistake in rules if not fine]
