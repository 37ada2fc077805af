"""Dataclass schemas behind every recipe, and the checks that span several keys, in one place.

A field's default is what a recipe gets that does not set it; a field without one is required. The docstring below a
field is its text in `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from geotune.config.rules import Rule, above_zero, at_least, is_builder, is_share

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
    """Images are scaled down to at most this many pixels."""
    min_pixels: int | None = None
    """Images are scaled up to at least this many pixels; null: the family's own limit."""
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
    """Worker processes that load images."""
    tasks: list[str] | None = None
    """Train on these tasks only; null: on all that the data holds."""
    limit: int | None = None
    """Train on this many samples only (a seeded choice); null: on all."""
    max_length: int = 4096
    """Longer samples, in tokens, are rejected with a reason, never cut."""
    max_image_pixels: int = 50_000_000
    """Larger images are rejected with a reason."""
    max_bad_samples: int = 10
    """Samples whose images can't be read while training are left out and listed; stop after more than these."""
    prefix_tree: bool = True
    """Read what the questions of a place share once; false: each sample by itself, slower, with the same gradients."""
    group_size: int = 13
    """Questions of a place that stand in one micro-batch; more: faster, and less mixed. For prefix_tree."""
    max_tokens: int | None = None
    """Tokens per micro-batch, at most: an update then takes fewer samples. For prefix_tree; null: no limit."""
    max_images: int | None = None
    """Images per micro-batch, at most. For prefix_tree; null: no limit."""


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
    _target_: str
    """Class of the evaluator, as the group `evaluator` names it."""
    suites: dict[str, Any]
    """Suites by name: each a node with `_target_` and its fields."""
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


def check_train(cfg: TrainConfig) -> list[str]:
    """Mistakes in a training recipe that types don't show, each naming key, value and remedy."""
    rules = [
        at_least("seed", cfg.seed, 0),
        *_backbone_rules(cfg.backbone),
        *_stage_rules(cfg.stage),
        *_data_rules(cfg.data),
        *_trainer_rules(cfg.trainer),
        *_strategy_rules(cfg),
        *(_evaluator_rules(cfg.evaluator) if cfg.evaluator is not None else []),
    ]
    return [mistake for fine, mistake in rules if not fine]


def _backbone_rules(backbone: BackboneConfig) -> list[Rule]:
    scopes = {backbone.tower, backbone.projector, backbone.language_model}
    return [
        at_least("backbone.max_pixels", backbone.max_pixels, 1),
        at_least("backbone.min_pixels", backbone.min_pixels, 1),
        (
            backbone.min_pixels is None or backbone.min_pixels <= backbone.max_pixels,
            f"backbone.min_pixels={backbone.min_pixels}: must not exceed backbone.max_pixels={backbone.max_pixels}",
        ),
        (
            scopes != {"frozen"},
            "backbone.language_model=frozen: every part is frozen, so nothing would train; "
            "set tower, projector or language_model to lora or full",
        ),
        (
            backbone.quantization is None or backbone.language_model != "full",
            QUANTIZED_FULL.format(backbone.quantization),
        ),
        at_least("backbone.lora.r", backbone.lora.r, 1),
        above_zero("backbone.lora.alpha", backbone.lora.alpha),
        is_share("backbone.lora.dropout", backbone.lora.dropout),
    ]


def _stage_rules(stage: StageConfig) -> list[Rule]:
    return [
        above_zero("stage.lr", stage.lr),
        at_least("stage.weight_decay", stage.weight_decay, 0),
        *(is_share("stage.betas", beta) for beta in stage.betas),
        above_zero("stage.eps", stage.eps),
        at_least("stage.warmup", stage.warmup, 0),
        (
            isinstance(stage.warmup, int) or stage.warmup < 1,
            f"stage.warmup={stage.warmup}: a share of all updates is below 1; a number of updates is a whole number",
        ),
        at_least("stage.min_lr_ratio", stage.min_lr_ratio, 0),
        (stage.min_lr_ratio <= 1, f"stage.min_lr_ratio={stage.min_lr_ratio}: a share of the peak is at most 1"),
        above_zero("stage.clip_norm", stage.clip_norm, remedy="give a number above 0, or null to never clip"),
        at_least("stage.max_skipped", stage.max_skipped, 1),
    ]


def _data_rules(data: DataConfig) -> list[Rule]:
    return [
        at_least("data.batch_size", data.batch_size, 1),
        at_least("data.num_workers", data.num_workers, 0),
        at_least("data.limit", data.limit, 1),
        at_least("data.max_length", data.max_length, 1),
        at_least("data.max_image_pixels", data.max_image_pixels, 1),
        at_least("data.max_bad_samples", data.max_bad_samples, 0),
        *(above_zero(f"data.mix.{path}", weight) for path, weight in data.mix.items()),
        (data.tasks != [], "data.tasks=[]: trains on nothing; name some tasks, or null for all"),
        is_builder("data.build", data.build),
    ]


def _trainer_rules(trainer: TrainerConfig) -> list[Rule]:
    return [
        (
            trainer.max_steps is not None or trainer.epochs is not None,
            "trainer.max_steps=null: says no end; give trainer.max_steps or trainer.epochs",
        ),
        at_least("trainer.max_steps", trainer.max_steps, 1),
        above_zero("trainer.epochs", trainer.epochs),
        at_least("trainer.accumulate", trainer.accumulate, 1),
        at_least("trainer.devices", None if trainer.devices == "auto" else trainer.devices, 1),
        at_least("trainer.num_nodes", trainer.num_nodes, 1),
        at_least("trainer.checkpoint_every", trainer.checkpoint_every, 1),
        at_least("trainer.log_every", trainer.log_every, 1),
        at_least("trainer.keep_last", trainer.keep_last, 1),
    ]


def _evaluator_rules(evaluator: EvaluatorConfig) -> list[Rule]:
    rules = [
        (evaluator.suites != {}, "evaluator.suites={}: evaluates nothing; add a suite, or evaluator=null"),
        at_least("evaluator.every", evaluator.every, 1),
        at_least("evaluator.batch_size", evaluator.batch_size, 1),
        at_least("evaluator.max_new_tokens", evaluator.max_new_tokens, 1),
    ]
    for name, suite in evaluator.suites.items():
        key = f"evaluator.suites.{name}"
        is_suite = isinstance(suite, dict) and "_target_" in suite
        rules += [
            (is_suite, f"{key}: is no suite; choose one by suite@{key}=<name>"),
            is_builder(f"{key}.build", suite.get("build") if isinstance(suite, dict) else None),
        ]
    return rules


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
