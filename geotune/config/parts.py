"""Options of the parts of a run that recipes name by `_target_`: backbone, stage, data and evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geotune.config.figure_names import suite_name_problems
from geotune.config.options import Options, PartOptions
from geotune.config.rules import above_zero, at_least, is_builder, is_share
from geotune.errors import ABSENT, Problem

AnswerMode = Literal["generate", "choice", "explain_choice"]
Scope = Literal["frozen", "lora", "full"]
IdentityPart = Literal["data", "weights", "processor", "prompt"]
"""What a checkpoint depends on besides its own weights."""


@dataclass
class LoraConfig(Options):
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

    def check(self) -> Iterator[Problem]:
        yield from at_least("r", self.r, 1)
        yield from above_zero("alpha", self.alpha)
        yield from is_share("dropout", self.dropout)


@dataclass
class BackboneConfig(PartOptions):
    """The vision-language model and the parts of it that train."""

    path: str
    """Local folder or hub id of the weights and the processor."""
    max_pixels: int
    """Largest number of pixels of an image; larger images are scaled down."""
    min_pixels: int | None = None
    """Smallest number of pixels of an image; smaller images are scaled up. null means the family's own limit."""
    dtype: Literal["bf16", "float32"] = "bf16"
    """Precision of the frozen weights and of the forward pass."""
    attn: Literal["auto", "flex", "varlen", "sdpa", "eager"] = "auto"
    """Attention implementation. For prefix trees on CUDA: flash kernels depth by depth (varlen, in bf16 alone),
    FlexAttention (flex, compiled at its first use), or SDPA block by block (sdpa, slow); auto takes the first of them
    that works. On the CPU, and for anything but trees, these four are the same. eager is slow and meant for
    comparisons."""
    kernels: Literal["auto", "compile", "off"] = "auto"
    """Norms, rotary positions and gated MLPs: compiled by torch.compile (compile), as transformers has them (off), or
    compiled on CUDA alone (auto). The first updates wait for the compiler."""
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

    def check(self) -> Iterator[Problem]:
        yield from at_least("max_pixels", self.max_pixels, 1)
        yield from at_least("min_pixels", self.min_pixels, 1)
        if self.min_pixels is not None and self.min_pixels > self.max_pixels:
            yield Problem("min_pixels", self.min_pixels, f"must not exceed max_pixels={self.max_pixels}", "decrease it")
        if self.quantization is not None and self.language_model == "full":
            yield Problem(
                "quantization",
                self.quantization,
                "quantized weights can't be trained in full",
                "set backbone.language_model=lora (or frozen), or {key}=null",
            )


@dataclass
class StageConfig(PartOptions):
    """The way of training: objective, optimizer and learning-rate schedule."""

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

    def check(self) -> Iterator[Problem]:
        yield from above_zero("lr", self.lr)
        yield from at_least("weight_decay", self.weight_decay, 0)
        for beta in self.betas:
            yield from is_share("betas", beta)
        yield from above_zero("eps", self.eps)
        yield from at_least("warmup", self.warmup, 0)
        if isinstance(self.warmup, float) and self.warmup >= 1:
            yield Problem("warmup", self.warmup, "give a whole number of updates, or a fraction below 1 of all updates")
        yield from at_least("min_lr_ratio", self.min_lr_ratio, 0)
        if self.min_lr_ratio > 1:
            yield Problem("min_lr_ratio", self.min_lr_ratio, "a fraction of the peak is at most 1")
        yield from above_zero("clip_norm", self.clip_norm, remedy="give a number above 0, or null for no clipping")
        yield from at_least("max_skipped", self.max_skipped, 1)


@dataclass
class DataConfig(PartOptions):
    """The training samples and how they are put into micro-batches."""

    path: str
    """Training samples: a .json or .jsonl file, or a folder that a builder wrote."""
    batch_size: int
    """Number of samples per micro-batch and rank."""
    build: dict[str, Any] | None = None
    """Builder (`_target_` and its fields) that makes `path` if it does not exist yet; one that was built with other
    fields is refused, and build.overwrite=true replaces it. null means that the dataset must exist."""
    mix: dict[str, float] = field(default_factory=dict)
    """Further datasets, {<path>: <weight>}; besides all of `path`, an epoch has `weight` times the samples of each."""
    num_workers: int = 0
    """Number of worker processes that load images."""
    tasks: list[str] | None = None
    """Tasks to train on, each of which must have a sample; null means all tasks of the data."""
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

    def check(self) -> Iterator[Problem]:
        for key in ("batch_size", "limit", "max_length", "max_image_pixels", "group_size", "max_tokens", "max_images"):
            yield from at_least(key, getattr(self, key), 1)
        for key in ("num_workers", "max_bad_samples"):
            yield from at_least(key, getattr(self, key), 0)
        for key in ("max_tokens", "max_images"):
            if getattr(self, key) is not None and not self.prefix_tree:
                remedy = "without data.prefix_tree=true it has no effect; set data.batch_size"
                yield Problem(key, getattr(self, key), "limits micro-batches of prefix trees", remedy)
        for path, weight in self.mix.items():
            yield from above_zero(f"mix.{path}", weight, "give a weight above 0, or leave the dataset out")
        if self.tasks == []:
            yield Problem("tasks", [], "there would be nothing to train on", "name some tasks, or null for all")
        yield from is_builder("build", self.build)


@dataclass
class EvaluatorConfig(PartOptions):
    """The evaluation during training."""

    suites: dict[str, Any]
    """Suites by name: each a node with `_target_` and its fields."""
    answer_mode: AnswerMode = "generate"
    """How answers are found: generated, or by scoring the legal answers after the prompt or after an explanation."""
    every: int | None = None
    """Number of updates between evaluations; null means at each checkpoint."""
    at_start: bool = True
    """Evaluate before the first update."""
    batch_size: int = 16
    """Number of prompts per forward pass."""
    max_new_tokens: int = 256
    """Largest number of tokens of an answer."""

    def check(self) -> Iterator[Problem]:
        if not self.suites:
            yield Problem("suites", {}, "there is nothing to evaluate", "add a suite, or set evaluator=null")
        yield from suite_name_problems(self.suites)
        for key in ("every", "batch_size", "max_new_tokens"):
            yield from at_least(key, getattr(self, key), 1)
        for name, suite in self.suites.items():
            if not hasattr(suite, "measure") and not (isinstance(suite, Mapping) and "_target_" in suite):
                yield Problem(f"suites.{name}", ABSENT, "this is no suite", "choose one by suite@{key}=<name>")
