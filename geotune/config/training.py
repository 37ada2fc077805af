"""Dataclass schemas of a training recipe.

A field's default is its value in a recipe that does not set it; a field without a default is required. The docstring
below a field is its text in `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Scope = Literal["frozen", "lora", "full"]
Strategy = Literal["auto", "ddp", "deepspeed_zero2", "deepspeed_zero3_offload", "fsdp2"]
QUANTIZED_FULL = (
    "backbone.quantization={}: quantized weights can't be trained in full; "
    "set backbone.language_model=lora (or frozen), or backbone.quantization=null"
)


@dataclass
class LoraConfig:
    """Settings of the LoRA adapters."""

    r: int = 8
    """Rank of each update."""
    alpha: int = 32
    """Scale of the updates: each is multiplied by alpha / r."""
    dropout: float = 0.0
    """Dropout probability on the input of each update."""
    use_dora: bool = False
    """Use DoRA, which also learns a magnitude per output."""
    use_rslora: bool = False
    """Use rsLoRA, which scales by alpha / sqrt(r)."""
    target: Literal["all-linear", "attention", "mlp"] = "all-linear"
    """Linear layers that get an adapter, in each part that is set to `lora`."""


@dataclass
class BackboneConfig:
    """The vision-language model and the parts of it that train."""

    _target_: str
    """Class of the family: geotune.backbones.qwen_vl.QwenVL or geotune.backbones.internvl.InternVL."""
    path: str
    """Local folder or hub id of the weights and the processor."""
    max_pixels: int
    """Largest number of pixels of an image; larger images are scaled down."""
    min_pixels: int | None = None
    """Smallest number of pixels of an image; smaller images are scaled up. null means the family's own limit."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of the frozen weights and of the forward pass."""
    attn: Literal["sdpa", "flex", "eager"] = "sdpa"
    """Attention implementation; flex runs prefix trees through the compiled kernels of FlexAttention, on CUDA only."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    trust_remote_code: bool = False
    """Run code that comes with the weights."""
    tower: Scope = "frozen"
    """How the vision tower is trained."""
    projector: Scope = "frozen"
    """How the projector between vision tower and language model is trained."""
    language_model: Scope = "lora"
    """How the language model is trained."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    quantization: Literal["nf4"] | None = None
    """Quantization of the language model's frozen linear layers: nf4 (QLoRA) keeps them in four bits, a quarter of the
    memory; null keeps them as loaded."""


@dataclass
class StageConfig:
    """The way of training: objective, optimizer and learning-rate schedule."""

    _target_: str = "geotune.stages.sft.SFT"
    """Class of the stage."""
    lr: float = 1e-4
    """Peak learning rate."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Optimizer; muon trains the hidden matrices by Muon and the rest by AdamW, for whole models from scratch."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW."""
    eps: float = 1e-8
    """Epsilon of AdamW."""
    warmup: int | float = 0.05
    """Length of the linear warm-up: a whole number of updates, or a fraction below 1 of all updates."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    min_lr_ratio: float = 0.0
    """Learning rate at the end, as a fraction of the peak."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient, which is clipped above it; null means no clipping."""
    max_skipped: int = 5
    """Number of updates in a row with a gradient that is not finite, after which the run stops."""


@dataclass
class DataConfig:
    """The training samples and how they are put into micro-batches."""

    path: str
    """Training samples: a .json or .jsonl file, or a folder that a builder wrote."""
    batch_size: int
    """Number of samples per micro-batch and rank."""
    _target_: str = "geotune.data.datamodule.GeoData"
    """Class of the data module."""
    build: dict[str, Any] | None = None
    """Builder (`_target_` and its fields) that makes `path` if it does not exist yet or was built with other fields;
    null means that it must exist."""
    mix: dict[str, float] = field(default_factory=dict)
    """Further datasets as path: weight; besides all of `path`, an epoch has `weight` times the samples of each."""
    num_workers: int = 0
    """Number of worker processes that load images."""
    tasks: list[str] | None = None
    """Tasks to train on; null means all tasks of the data."""
    limit: int | None = None
    """Number of samples to train on, drawn with the seed; null means all."""
    max_length: int = 4096
    """Largest number of tokens of a sample; longer samples are rejected with a reason, never cut."""
    max_image_pixels: int = 50_000_000
    """Largest number of pixels of an image file; samples with larger images are rejected with a reason."""
    max_bad_samples: int = 10
    """Largest number of unreadable samples during training, which are left out and listed; the run stops at more."""
    prefix_tree: bool = True
    """Encode the shared part of the questions about one place only once; false encodes each sample alone, which is
    slower and gives the same gradients."""
    group_size: int = 13
    """Largest number of questions about one place per micro-batch, for prefix_tree; more is faster but mixes less."""
    max_tokens: int | None = None
    """Largest number of tokens per micro-batch, for prefix_tree; it can make updates smaller. null means no limit."""
    max_images: int | None = None
    """Largest number of images per micro-batch, for prefix_tree; null means no limit."""


@dataclass
class TrainerConfig:
    """Length, devices and checkpoints of a run."""

    max_steps: int | None = None
    """Number of updates after which the run stops."""
    epochs: float | None = None
    """Number of passes over the data after which the run stops; with max_steps, whichever comes first."""
    accumulate: int = 1
    """Number of micro-batches per update and rank."""
    devices: int | Literal["auto"] = "auto"
    """Number of devices on each node."""
    num_nodes: int = 1
    """Number of machines that the run is started on."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""
    strategy: Strategy = "auto"
    """How several devices share the model: auto and ddp keep everything on each, deepspeed_zero2 spreads gradients and
    optimizer state, and the others spread the weights as well."""
    checkpoint_every: int = 500
    """Number of updates between checkpoints."""
    log_every: int = 10
    """Number of updates between logged figures."""
    keep_last: int = 2
    """Number of newest checkpoints to keep, besides the best."""


@dataclass
class EvaluatorConfig:
    """The evaluation during training."""

    _target_: str
    """Class of the evaluator, as the group `evaluator` names it."""
    suites: dict[str, Any]
    """Suites by name: each a node with `_target_` and its fields."""
    answer_mode: Literal["generate", "choice", "explain_choice"] = "generate"
    """How answers are found: generated, or by scoring the legal answers after the prompt or after an explanation."""
    every: int | None = None
    """Number of updates between evaluations; null means at each checkpoint."""
    at_start: bool = True
    """Evaluate before the first update."""
    batch_size: int = 16
    """Number of prompts per forward pass."""
    max_new_tokens: int = 256
    """Largest number of tokens of an answer."""


@dataclass
class WandbConfig:
    """Settings of the W&B run."""

    project: str = "geotune"
    """W&B project."""
    entity: str | None = None
    """W&B user or team; null means W&B's default."""
    group: str | None = None
    """W&B group of the run."""
    name: str | None = None
    """Name of the W&B run; null means the name of the run's folder."""
    mode: Literal["offline", "online", "disabled"] | None = None
    """Mode of W&B; null means the mode in WANDB_MODE, or offline if it is not set."""
    tags: list[str] = field(default_factory=list)
    """W&B tags of the run."""


@dataclass(kw_only=True)
class TrainConfig:
    """Config of `geotune train`."""

    recipe: str
    """Name of the recipe: a file of recipes/recipe/, or any YAML file. One with `chain` trains several legs one after
    the other; --help with that recipe lists the keys of a chain."""
    run_dir: str | None = None
    """Folder of the run; null means runs/<recipe>/<date-time>."""
    dry_run: bool = False
    """Show the resolved recipe, the trainable modules and one sample, and stop."""
    resume: str | None = None
    """Checkpoint folder to resume from, or `last` for the newest of run_dir or else of the recipe's newest run."""
    start: str | None = None
    """Whose trained weights training begins with: a run (its best checkpoint or else its last), a checkpoint, an export
    or another model's folder, or the name of a recipe for its newest run; null means the backbone as it is."""
    seed: int = 0
    """Seed of everything random in the run."""
    backbone: BackboneConfig
    stage: StageConfig
    data: DataConfig
    trainer: TrainerConfig
    evaluator: EvaluatorConfig | None = None
    wandb: WandbConfig = field(default_factory=WandbConfig)
