"""Dataclass schemas behind every recipe, and the checks that span several keys, in one place.

A field's default is what a recipe gets that does not set it; a field without one is required. The docstring below a
field is its text in `--help`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Scope = Literal["frozen", "lora", "full"]
Strategy = Literal["auto", "ddp", "deepspeed_zero2", "deepspeed_zero3_offload", "fsdp2"]
SHARDED = ("deepspeed_zero3_offload", "fsdp2")
"""Strategies that spread the weights over the processes: all of them must run every layer at the same time."""
QUANTIZED_FULL = (
    "backbone.quantization={}: weights in four bits can't be trained themselves; "
    "set backbone.language_model=lora (or frozen), or backbone.quantization=null"
)


@dataclass
class LoraConfig:
    r: int = 8
    """Rank of each update."""
    alpha: int = 32
    """Updates are scaled by alpha / r."""
    dropout: float = 0.0
    """Dropout on the input of each update."""
    use_dora: bool = False
    """DoRA: learn a magnitude per output beside the direction."""
    use_rslora: bool = False
    """rsLoRA: scale by alpha / sqrt(r)."""
    target: Literal["all-linear", "attention", "mlp"] = "all-linear"
    """Which linear layers of a part that is set to `lora`."""


@dataclass
class BackboneConfig:
    _target_: str
    """Class of the family: geotune.backbones.qwen_vl.QwenVL or geotune.backbones.internvl.InternVL."""
    path: str
    """Local folder or hub id of the weights and the processor."""
    max_pixels: int
    """Pictures are scaled down to at most this many pixels."""
    min_pixels: int | None = None
    """Pictures are scaled up to at least this many pixels; null: the family's own limit."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of the frozen weights and of the forward pass."""
    attn: Literal["sdpa", "flex", "eager"] = "sdpa"
    """Attention implementation; flex: prefix trees by FlexAttention's compiled kernels, on CUDA."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    trust_remote_code: bool = False
    """Run code that comes with the weights; off by default."""
    tower: Scope = "frozen"
    """How the vision tower trains."""
    projector: Scope = "frozen"
    """How the projector between tower and language model trains."""
    language_model: Scope = "lora"
    """How the language model trains."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    quantization: Literal["nf4"] | None = None
    """nf4: the language model's frozen linear layers in four bits (QLoRA), a quarter of the memory; null: as loaded."""


@dataclass
class StageConfig:
    _target_: str = "geotune.stages.sft.SFT"
    """Class of the stage."""
    lr: float = 1e-4
    """Peak learning rate."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the hidden matrices and AdamW for the rest, for training whole models from scratch."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    warmup: int | float = 0.05
    """Linear warm-up: a whole number counts updates, a fraction below 1 is the share of all updates."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    min_lr_ratio: float = 0.0
    """Learning rate at the end, as a share of the peak."""
    clip_norm: float | None = 1.0
    """Gradients are clipped to this global norm; null: never."""
    max_skipped: int = 5
    """Stop after this many updates in a row whose gradient was not finite."""


@dataclass
class DataConfig:
    path: str
    """Training samples: a .json or .jsonl file, or a folder that a builder wrote."""
    batch_size: int
    """Samples per micro-batch and rank."""
    _target_: str = "geotune.data.datamodule.GeoData"
    """Class of the data module."""
    build: dict[str, Any] | None = None
    """Builder (`_target_` and its fields) that makes `path` when it is not there yet; null: `path` must exist."""
    mix: dict[str, float] = field(default_factory=dict)
    """Further datasets, path: weight. An epoch shows all of `path` and of each of these `weight` times its samples."""
    num_workers: int = 0
    """Worker processes that load pictures."""
    tasks: list[str] | None = None
    """Train on these tasks only; null: on all that the data holds."""
    limit: int | None = None
    """Train on this many samples only (a seeded choice); null: on all."""
    max_length: int = 4096
    """Longer samples, in tokens, are rejected with a reason, never cut."""
    max_image_pixels: int = 50_000_000
    """Larger pictures are rejected with a reason."""
    max_bad_samples: int = 10
    """Samples whose pictures can't be read while training are left out and listed; stop after more than these."""
    prefix_tree: bool = True
    """Read what the questions of a place share once; false: each sample by itself, slower, with the same gradients."""
    group_size: int = 13
    """Questions of a place that stand in one micro-batch; more: faster, and less mixed. For prefix_tree."""
    max_tokens: int | None = None
    """Tokens per micro-batch, at most: an update then takes fewer samples. For prefix_tree; null: no limit."""
    max_images: int | None = None
    """Pictures per micro-batch, at most. For prefix_tree; null: no limit."""


@dataclass
class TrainerConfig:
    max_steps: int | None = None
    """Stop after this many updates."""
    epochs: float | None = None
    """Stop after this many passes over the data; with max_steps, whichever comes first."""
    accumulate: int = 1
    """Micro-batches per update and rank."""
    devices: int | Literal["auto"] = "auto"
    """How many devices to use, on each node."""
    num_nodes: int = 1
    """Machines that the run is started on."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""
    strategy: Strategy = "auto"
    """How several devices share the work: ddp (auto's choice) keeps all weights on each, the others spread them."""
    checkpoint_every: int = 500
    """Updates between checkpoints."""
    log_every: int = 10
    """Updates between logged figures."""
    keep_last: int = 2
    """Newest checkpoints to keep, beside the best."""


@dataclass
class EvaluatorConfig:
    suites: dict[str, Any]
    """Suites by name: each a node with `_target_` and its fields."""
    _target_: str = "eval.callback.InLoopEvaluator"
    """Class of the evaluator."""
    answer_mode: Literal["generate", "choice", "explain_choice"] = "generate"
    """What the model says; legal answers scored after the prompt; or scored after the model's own explanation."""
    every: int | None = None
    """Updates between evaluations; null: at each checkpoint."""
    at_start: bool = True
    """Evaluate before the first update."""
    batch_size: int = 16
    """Prompts per forward pass."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""


@dataclass
class WandbConfig:
    project: str = "geotune"
    """W&B project."""
    entity: str | None = None
    """W&B user or team."""
    group: str | None = None
    """W&B group of runs."""
    name: str | None = None
    """Name of the run; null: the name of its folder."""
    mode: Literal["offline", "online", "disabled"] | None = None
    """null: what WANDB_MODE says, and offline when it is not set."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""


@dataclass(kw_only=True)
class TrainConfig:
    """What `geotune train` runs."""

    recipe: str
    """Name of the recipe: a file of recipes/recipe/."""
    run_dir: str | None = None
    """Folder of the run; null: runs/<recipe>/<date-time>."""
    dry_run: bool = False
    """Show the resolved recipe, the trainable modules and one sample, and stop."""
    resume: str | None = None
    """A checkpoint folder to go on from, or `last`: the newest of run_dir, or of the recipe's newest run."""
    seed: int = 0
    """Seed of everything random in the run."""
    backbone: BackboneConfig
    stage: StageConfig
    data: DataConfig
    trainer: TrainerConfig
    evaluator: EvaluatorConfig | None = None
    wandb: WandbConfig = field(default_factory=WandbConfig)


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
    """How the records name their pictures."""
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
    """A photo, or a folder: every picture in it, at any depth."""
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


def check_train(cfg: TrainConfig) -> list[str]:
    """Mistakes in a training recipe that types don't show, each naming key, value and remedy."""
    backbone, stage, data, trainer, evaluator = cfg.backbone, cfg.stage, cfg.data, cfg.trainer, cfg.evaluator
    lora = backbone.lora
    parts = {"tower": backbone.tower, "projector": backbone.projector, "language_model": backbone.language_model}
    rules = [
        _at_least("seed", cfg.seed, 0),
        _at_least("backbone.max_pixels", backbone.max_pixels, 1),
        _at_least("backbone.min_pixels", backbone.min_pixels, 1),
        (
            backbone.min_pixels is None or backbone.min_pixels <= backbone.max_pixels,
            f"backbone.min_pixels={backbone.min_pixels}: must not exceed backbone.max_pixels={backbone.max_pixels}",
        ),
        (
            set(parts.values()) != {"frozen"},
            "backbone.language_model=frozen: every part is frozen, so nothing would train; "
            "set tower, projector or language_model to lora or full",
        ),
        (
            backbone.quantization is None or backbone.language_model != "full",
            QUANTIZED_FULL.format(backbone.quantization),
        ),
        _at_least("backbone.lora.r", lora.r, 1),
        _above_zero("backbone.lora.alpha", lora.alpha),
        _share("backbone.lora.dropout", lora.dropout),
        _above_zero("stage.lr", stage.lr),
        _at_least("stage.weight_decay", stage.weight_decay, 0),
        *(_share("stage.betas", beta) for beta in stage.betas),
        _above_zero("stage.eps", stage.eps),
        _at_least("stage.warmup", stage.warmup, 0),
        (
            isinstance(stage.warmup, int) or stage.warmup < 1,
            f"stage.warmup={stage.warmup}: a share of all updates is below 1; a number of updates is a whole number",
        ),
        _at_least("stage.min_lr_ratio", stage.min_lr_ratio, 0),
        (stage.min_lr_ratio <= 1, f"stage.min_lr_ratio={stage.min_lr_ratio}: a share of the peak is at most 1"),
        _above_zero("stage.clip_norm", stage.clip_norm, remedy="give a number above 0, or null to never clip"),
        _at_least("stage.max_skipped", stage.max_skipped, 1),
        _at_least("data.batch_size", data.batch_size, 1),
        _at_least("data.num_workers", data.num_workers, 0),
        _at_least("data.limit", data.limit, 1),
        _at_least("data.max_length", data.max_length, 1),
        _at_least("data.max_image_pixels", data.max_image_pixels, 1),
        _at_least("data.max_bad_samples", data.max_bad_samples, 0),
        *(_above_zero(f"data.mix.{path}", weight) for path, weight in data.mix.items()),
        (data.tasks != [], "data.tasks=[]: trains on nothing; name some tasks, or null for all"),
        (
            trainer.max_steps is not None or trainer.epochs is not None,
            "trainer.max_steps=null: says no end; give trainer.max_steps or trainer.epochs",
        ),
        _at_least("trainer.max_steps", trainer.max_steps, 1),
        _above_zero("trainer.epochs", trainer.epochs),
        _at_least("trainer.accumulate", trainer.accumulate, 1),
        _at_least("trainer.devices", None if trainer.devices == "auto" else trainer.devices, 1),
        _at_least("trainer.num_nodes", trainer.num_nodes, 1),
        _at_least("trainer.checkpoint_every", trainer.checkpoint_every, 1),
        _at_least("trainer.log_every", trainer.log_every, 1),
        _at_least("trainer.keep_last", trainer.keep_last, 1),
    ]
    rules += _strategy_rules(cfg)
    if evaluator is not None:
        rules += [
            (evaluator.suites != {}, "evaluator.suites={}: evaluates nothing; add a suite, or evaluator=null"),
            *(
                (
                    isinstance(suite, dict) and "_target_" in suite,
                    f"evaluator.suites.{name}: is no suite; choose one by suite@evaluator.suites.{name}=<name>",
                )
                for name, suite in evaluator.suites.items()
            ),
            _at_least("evaluator.every", evaluator.every, 1),
            _at_least("evaluator.batch_size", evaluator.batch_size, 1),
            _at_least("evaluator.max_new_tokens", evaluator.max_new_tokens, 1),
        ]
    builds = {"data.build": data.build}
    for name, suite in (evaluator.suites if evaluator else {}).items():
        builds[f"evaluator.suites.{name}.build"] = suite.get("build") if isinstance(suite, dict) else None
    rules += [_is_builder(key, build) for key, build in builds.items()]
    return [mistake for fine, mistake in rules if not fine]


def _strategy_rules(cfg: TrainConfig) -> list[Rule]:
    """What a strategy can't do."""
    backbone, strategy = cfg.backbone, cfg.trainer.strategy
    key = f"trainer.strategy={strategy}"
    replicated = strategy in ("auto", "ddp")
    sharded = strategy in SHARDED
    seen = backbone.tower == backbone.projector == "frozen"
    return [
        (
            not sharded or cfg.evaluator is None,
            f"{key}: processes that answer different questions can't share out one model's weights, generation would "
            "wait for ever; set evaluator=null and evaluate the checkpoints afterwards, or use ddp or deepspeed_zero2",
        ),
        (
            not sharded or backbone.quantization is None,
            f"{key}: weights in four bits can't be spread over processes; set backbone.quantization=null, or use ddp "
            "or deepspeed_zero2, which keep them on each device",
        ),
        (
            strategy != "fsdp2" or seen,
            f"{key}: only the language model is spread; set backbone.tower=frozen and backbone.projector=frozen, or "
            "use ddp or deepspeed_zero2",
        ),
        (
            replicated or cfg.stage.optimizer == "adamw",
            f"stage.optimizer={cfg.stage.optimizer}: needs whole gradients, {key} keeps none; use adamw or ddp",
        ),
    ]


def check_build(cfg: BuildConfig) -> list[str]:
    """Mistakes in what `geotune build` is asked for that types don't show."""
    rules = [
        _is_builder("builder", cfg.builder),
        (cfg.out != "", "out=: an empty name; give out=<folder>"),
        (
            0 <= cfg.max_reject_fraction <= 1,
            f"max_reject_fraction={cfg.max_reject_fraction}: a share lies between 0 and 1",
        ),
    ]
    return [mistake for fine, mistake in rules if not fine]


def check_merge(cfg: MergeConfig) -> list[str]:
    """Mistakes in what `geotune merge` is asked for that types don't show."""
    return [mistake for fine, mistake in [_named("out", cfg.out), _named("name", cfg.name)] if not fine]


def check_sweep(cfg: SweepConfig) -> list[str]:
    """Mistakes in what `geotune sweep` is asked for that types don't show."""
    devices = len(cfg.devices) if cfg.devices is not None else None
    rules = [
        (
            (cfg.space != {}) != (cfg.variants != {}),
            f"space, variants: sweep={cfg.sweep} has {'both' if cfg.space else 'neither'}; give one of them",
        ),
        _at_least("trials", cfg.trials, 1),
        _at_least("startup", cfg.startup, 1),
        _at_least("prune_after", cfg.prune_after, 0),
        _at_least("seed", cfg.seed, 0),
        *(_at_least("devices", device, 0) for device in cfg.devices or []),
        _at_least("devices_per_trial", cfg.devices_per_trial, 1),
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
        _at_least("max_failed", cfg.max_failed, 1),
        _above_zero("grace", cfg.grace),
        _above_zero("stale_after", cfg.stale_after),
        (
            cfg.wandb_yaml is None or cfg.variants == {} or cfg.space != {},
            f"wandb_yaml={cfg.wandb_yaml}: W&B sweeps have no named variants; choose a sweep with a space",
        ),
    ]
    return [mistake for fine, mistake in rules if not fine]


def check_export(cfg: ExportConfig) -> list[str]:
    """Mistakes in what `geotune export` is asked for that types don't show."""
    rules = [_named(key, path) for key, path in vars(cfg).items() if key in ("checkpoint", "out", "base_model")]
    return [mistake for fine, mistake in rules if not fine]


def check_locate(cfg: LocateConfig) -> list[str]:
    """Mistakes in what `geotune locate` is asked for that types don't show."""
    rules = [
        _named("image", cfg.image),
        _named("checkpoint", cfg.checkpoint),
        _named("base_model", cfg.base_model),
        _at_least("samples", cfg.samples, 1),
        _above_zero("temperature", cfg.temperature),
        (0 < cfg.top_p <= 1, f"top_p={cfg.top_p}: a share of the probability lies in (0, 1]"),
        _at_least("seed", cfg.seed, 0),
        _at_least("batch_size", cfg.batch_size, 1),
        _at_least("max_new_tokens", cfg.max_new_tokens, 1),
        _at_least("max_pixels", cfg.max_pixels, 1),
    ]
    return [mistake for fine, mistake in rules if not fine]


Rule = tuple[bool, str]
"""Whether it holds, and what to say if it does not."""


def _at_least(key: str, value: Any, least: int) -> Rule:
    return value is None or value >= least, f"{key}={value}: must be at least {least}"


def _named(key: str, path: str | None) -> Rule:
    return path is None or path.strip() != "", f"{key}=: an empty name; give {key}=<path>"


def _above_zero(key: str, value: float | None, remedy: str = "give a number above 0") -> Rule:
    return value is None or 0 < value < math.inf, f"{key}={value}: {remedy}"


def _share(key: str, value: float) -> Rule:
    return 0 <= value < 1, f"{key}={value}: must lie in [0, 1)"


def _is_builder(key: str, build: dict[str, Any] | None) -> Rule:
    group = "builder" if key == "builder" else f"builder@{key}"
    return build is None or "_target_" in build, f"{key}: names no builder; choose one by {group}=<name>"
