"""Schemas of the commands other than `geotune train`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geotune.config.figure_names import suite_name_problems
from geotune.config.options import Options
from geotune.config.parts import AnswerMode, IdentityPart
from geotune.config.reward import RewardConfig
from geotune.config.rules import above_zero, at_least, is_builder, is_named
from geotune.errors import ABSENT, Problem

RESULT_ENDINGS = (".jsonl", ".csv", ".geojson")
"""Endings of the files of results, each of which names a form."""


@dataclass
class BuildConfig(Options):
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

    def check(self) -> Iterator[Problem]:
        yield from is_builder("builder", self.builder, choice="builder")
        if not self.out:
            yield Problem("out", "", "the name is empty", "give out=<folder>")
        if not 0 <= self.max_reject_fraction <= 1:
            yield Problem("max_reject_fraction", self.max_reject_fraction, "give a fraction between 0 and 1")


@dataclass
class MergeConfig(Options):
    """Config of `geotune merge`."""

    out: str
    """Folder that holds the parts."""
    name: str | None = None
    """Name of the dataset; null means the only dataset that has parts in the folder."""

    def check(self) -> Iterator[Problem]:
        yield from is_named("out", self.out)
        yield from is_named("name", self.name)


@dataclass
class SweepConfig(Options):
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
    """Figure to improve, <suite>/<figure> or <suite>/<task>/<figure>; null means the headline figure of the recipe's
    first suite: mean_accuracy of a cross-view suite, geoscore of a distance suite."""
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

    def check(self) -> Iterator[Problem]:
        if bool(self.space) == bool(self.variants):
            both = "both" if self.space else "neither"
            yield Problem("space, variants", ABSENT, f"sweep={self.sweep} has {both}", "give exactly one of them")
        for key in ("trials", "startup", "devices_per_trial", "max_failed"):
            yield from at_least(key, getattr(self, key), 1)
        for key in ("prune_after", "seed"):
            yield from at_least(key, getattr(self, key), 0)
        yield from self._check_devices()
        for key in ("study", "storage", "sweep_dir"):
            value = getattr(self, key)
            if value is not None and not value.strip():
                yield Problem(key, "", "the name is empty", "give a name, or leave the key out")
        yield from above_zero("grace", self.grace)
        yield from above_zero("stale_after", self.stale_after)
        if self.wandb_yaml is not None and self.variants and not self.space:
            yield Problem(
                "wandb_yaml", self.wandb_yaml, "W&B sweeps have no named variants", "choose a sweep with a search space"
            )

    def _check_devices(self) -> Iterator[Problem]:
        if self.devices is None or self.devices_per_trial < 1:
            return
        for device in self.devices:
            yield from at_least("devices", device, 0)
        per_trial = f"devices_per_trial={self.devices_per_trial}"
        if not self.devices or len(self.devices) % self.devices_per_trial:
            yield Problem("devices", self.devices, f"name a multiple of {per_trial}")
        if self.devices_per_trial > 1 and len(set(self.devices)) < len(self.devices):
            yield Problem("devices", self.devices, f"with {per_trial} each device can be given only once")


@dataclass
class ExportConfig(Options):
    """Config of `geotune export`."""

    checkpoint: str
    """Checkpoint: a step_<N> folder, a link to one (last, best), a run's folder for its best or else its last, or the
    name of a recipe for its newest run. A chain means its last finished leg."""
    out: str
    """Folder to write, with adapter/, merged/ and export_report.json."""
    base_model: str | None = None
    """Folder or hub id of the backbone; null means the one that training used."""
    allow_changes: list[IdentityPart] = field(default_factory=list)
    """What may differ from the training: weights (of the base model), processor or prompt. The command goes on with a
    warning; any other difference ends it."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of the merged weights in the files; merging itself is done in float32."""
    overwrite: bool = False
    """Replace an earlier export in `out`."""

    def check(self) -> Iterator[Problem]:
        for key in ("checkpoint", "out", "base_model"):
            yield from is_named(key, getattr(self, key))


@dataclass
class LocateConfig(Options):
    """Config of `geotune locate`."""

    image: str
    """Photo to locate, or a folder whose images are all located, at any depth."""
    out: str | None = None
    """File of the results, <name>.jsonl, <name>.csv or <name>.geojson. It is written at the end and on an interruption,
    after which the same command goes on from <out>.partial.jsonl. null prints the results."""
    overwrite: bool = False
    """Replace the file of an earlier result in `out`."""
    checkpoint: str | None = None
    """Checkpoint, run folder, exported folder, model folder, hub id, or the name of a recipe for its newest run; null
    means the embedded backbone without training. A chain means its last finished leg."""
    base_model: str | None = None
    """Folder or hub id of the backbone below a checkpoint or an adapter; null means the one that training used."""
    allow_changes: list[IdentityPart] = field(default_factory=list)
    """What may differ from the training: weights (of the base model), processor or prompt. The command goes on with a
    warning; any other difference ends it."""
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
    """Format of what is printed: the results, or the totals if `out` names a file."""
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

    def check(self) -> Iterator[Problem]:
        for key in ("image", "out", "checkpoint", "base_model"):
            yield from is_named(key, getattr(self, key))
        if self.out and not self.out.lower().endswith(RESULT_ENDINGS):
            yield Problem("out", self.out, f"its ending names no form; give {', '.join(RESULT_ENDINGS)}")
        yield from above_zero("temperature", self.temperature)
        if not 0 < self.top_p <= 1:
            yield Problem("top_p", self.top_p, "give a probability above 0 and up to 1")
        yield from at_least("seed", self.seed, 0)
        for key in ("samples", "batch_size", "max_new_tokens", "max_pixels"):
            yield from at_least(key, getattr(self, key), 1)


@dataclass
class EvalConfig(Options):
    """Config of `geotune eval`."""

    checkpoint: list[str] = field(default_factory=list)
    """Models: checkpoints, run folders, exported folders, model folders, hub ids, or names of recipes for their newest
    runs. An empty list means the embedded backbone without training. A chain means its last finished leg."""
    suites: dict[str, Any] = field(default_factory=dict)
    """Suites by name, each a node with `_target_` and its fields; suites=[cross_view] chooses files of recipes/suite/,
    and suites.cross_view.path=<dataset> sets a field. None means those of each model's recipe."""
    answer_mode: AnswerMode | None = None
    """How answers are found, for suites that do not say it: generate, choice or explain_choice; null means as the
    model's recipe says, else generate."""
    max_new_tokens: int | None = None
    """Largest number of tokens of an answer; null means as the model's recipe says, else 256."""
    batch_size: int | None = None
    """Number of prompts per forward pass; null means as the model's recipe says, else 16."""
    out: str = "runs/eval"
    """Folder of all evaluations; each is in <suite>/local-<identity>."""
    rerun: Literal["missing", "failed"] = "missing"
    """What to ask in an evaluation that exists: the questions without an answer (missing), or also those whose answer
    failed (failed). The later answer counts, and the earlier one stays in the file."""
    base_model: str | None = None
    """Folder or hub id of the backbone below a checkpoint or an adapter; null means the one that training used."""
    allow_changes: list[IdentityPart] = field(default_factory=list)
    """What may differ from the training: weights (of the base model), processor or prompt. The command goes on with a
    warning; any other difference ends it."""
    max_pixels: int | None = None
    """Largest number of pixels of an image; larger images are scaled down. null means the limit of the training."""
    dtype: Literal["bf16", "float32"] | None = None
    """Precision of the weights and the forward pass; null means the precision of the training."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""
    dry_run: bool = False
    """Show what would be asked, and stop."""

    def check(self) -> Iterator[Problem]:
        yield from is_named("out", self.out)
        yield from is_named("base_model", self.base_model)
        for name in self.checkpoint:
            yield from is_named("checkpoint", name)
        if repeated := sorted({name for name in self.checkpoint if self.checkpoint.count(name) > 1}):
            yield Problem("checkpoint", self.checkpoint, f"{repeated[0]} is named twice", "name each model once")
        yield from suite_name_problems(self.suites)
        for name, suite in self.suites.items():
            if not (isinstance(suite, Mapping) and "_target_" in suite):
                yield Problem(f"suites.{name}", ABSENT, "this is no suite", "choose one by suites=[<name>]")
        for key in ("max_new_tokens", "batch_size", "max_pixels"):
            yield from at_least(key, getattr(self, key), 1)


@dataclass
class RewardCommandConfig(Options):
    """Config of `geotune reward`."""

    file: str
    """JSON lines to judge, each {"text": <completion>, "sample": <sharegpt record>}; other keys do not matter."""
    name: str
    """Name of the reward, which the table shows."""
    reward: RewardConfig
    """Reward that judges; `reward=<name>` chooses it and terms.<name>.<field>=<value> sets a field of a term."""
    format: Literal["table", "json"] = "table"
    """Format of what is printed: a table with totals below it, or one JSON object per line, the totals in the last."""

    def check(self) -> Iterator[Problem]:
        yield from is_named("file", self.file)
