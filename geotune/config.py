"""Dataclass schemas behind every recipe, and the checks that span several keys, in one place.

A field's default is what a recipe gets that does not set it; a field without one is required. The docstring below a
field is its text in `--help`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Scope = Literal["frozen", "lora", "full"]


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
    attn: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation."""
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


@dataclass
class TrainerConfig:
    max_steps: int | None = None
    """Stop after this many updates."""
    epochs: float | None = None
    """Stop after this many passes over the data; with max_steps, whichever comes first."""
    accumulate: int = 1
    """Micro-batches per update and rank."""
    devices: int | Literal["auto"] = "auto"
    """How many devices to use."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several devices share the work."""
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
        (data.tasks != [], "data.tasks=[]: trains on nothing; name some tasks, or null for all"),
        (
            trainer.max_steps is not None or trainer.epochs is not None,
            "trainer.max_steps=null: says no end; give trainer.max_steps or trainer.epochs",
        ),
        _at_least("trainer.max_steps", trainer.max_steps, 1),
        _above_zero("trainer.epochs", trainer.epochs),
        _at_least("trainer.accumulate", trainer.accumulate, 1),
        _at_least("trainer.devices", None if trainer.devices == "auto" else trainer.devices, 1),
        _at_least("trainer.checkpoint_every", trainer.checkpoint_every, 1),
        _at_least("trainer.log_every", trainer.log_every, 1),
        _at_least("trainer.keep_last", trainer.keep_last, 1),
    ]
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


Rule = tuple[bool, str]
"""Whether it holds, and what to say if it does not."""


def _at_least(key: str, value: Any, least: int) -> Rule:
    return value is None or value >= least, f"{key}={value}: must be at least {least}"


def _above_zero(key: str, value: float | None, remedy: str = "give a number above 0") -> Rule:
    return value is None or 0 < value < math.inf, f"{key}={value}: {remedy}"


def _share(key: str, value: float) -> Rule:
    return 0 <= value < 1, f"{key}={value}: must lie in [0, 1)"


def _is_builder(key: str, build: dict[str, Any] | None) -> Rule:
    group = "builder" if key == "builder" else f"builder@{key}"
    return build is None or "_target_" in build, f"{key}: names no builder; choose one by {group}=<name>"
