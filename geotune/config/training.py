"""Schema of a training recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from geotune.config.figure_names import figure_problems
from geotune.config.options import Options
from geotune.config.parts import BackboneConfig, DataConfig, EvaluatorConfig, IdentityPart, StageConfig
from geotune.config.rl import GRPOConfig
from geotune.config.rules import above_zero, at_least, is_named
from geotune.errors import Problem

Strategy = Literal["auto", "ddp", "deepspeed_zero2", "deepspeed_zero3_offload", "fsdp2"]
SHARDED = ("deepspeed_zero3_offload", "fsdp2")
"""Strategies that spread the weights over the processes, so that all processes must run every layer together."""
LONGEST_PROJECT = 128
"""Characters of the name of a W&B project at most."""
LONGEST_TAG = 64
"""Characters of a W&B tag at most."""


@dataclass
class TrainerConfig(Options):
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
    best: str | None = None
    """Figure that decides which checkpoint is the best, <suite>/<figure> or <suite>/<task>/<figure>; null means the
    headline figure of the recipe's first suite: mean_accuracy of a cross-view suite, geoscore of a distance suite."""
    best_direction: Literal["maximize", "minimize"] | None = None
    """Direction of improvement of that figure; null minimizes one whose name ends in _km and maximizes any other."""

    def check(self) -> Iterator[Problem]:
        if self.max_steps is None and self.epochs is None:
            yield Problem("max_steps", None, "the run would have no end", "give trainer.max_steps or trainer.epochs")
        yield from above_zero("epochs", self.epochs)
        yield from at_least("devices", None if self.devices == "auto" else self.devices, 1)
        for key in ("max_steps", "accumulate", "num_nodes", "checkpoint_every", "log_every", "keep_last"):
            yield from at_least(key, getattr(self, key), 1)


@dataclass
class WandbConfig(Options):
    """Settings of the W&B run."""

    project: str = "geotune"
    """W&B project. The variable WANDB_PROJECT wins over a recipe's value, as the other variables named here do."""
    entity: str | None = None
    """W&B user or team (WANDB_ENTITY); null means W&B's default."""
    group: str | None = None
    """W&B group of the run (WANDB_RUN_GROUP)."""
    name: str | None = None
    """Name of the W&B run (WANDB_NAME); null means the name of the run's folder."""
    mode: Literal["offline", "online", "disabled"] | None = None
    """Mode of W&B (WANDB_MODE); null means offline."""
    tags: list[str] = field(default_factory=list)
    """W&B tags of the run (WANDB_TAGS, split at commas)."""

    def check(self) -> Iterator[Problem]:
        """Yield what W&B would refuse when the run starts."""
        wrong = sorted(set(self.project) & set("/\\#?%:"))
        entity, _, project = self.project.partition("/")
        if not self.project.strip():
            yield Problem("project", self.project, "the name is empty", "give {key}=<name>")
        elif entity and project and wrong == ["/"] and "/" not in project:
            remedy = f"give wandb.entity={entity} and wandb.project={project}"
            yield Problem("project", self.project, "a project's name has no slash", remedy)
        elif wrong:
            yield Problem(
                "project", self.project, f"a project's name can't hold {' '.join(wrong)}", "give another name"
            )
        elif len(self.project) > LONGEST_PROJECT:
            yield Problem("project", self.project, f"the name has more than {LONGEST_PROJECT} characters")
        if self.entity is not None and (not self.entity.strip() or "/" in self.entity):
            yield Problem("entity", self.entity, "this is no name of a user or team", "give it without the project")
        for tag in self.tags:
            if not 0 < len(tag.strip()) <= len(tag) <= LONGEST_TAG:
                yield Problem("tags", tag, f"a tag has 1 to {LONGEST_TAG} characters, and this one has {len(tag)}")


@dataclass(kw_only=True)
class TrainConfig(Options):
    """Config of `geotune train`."""

    recipe: str
    """Name of the recipe: a file of recipes/recipe/, or any YAML file. One with `chain` trains several legs one after
    the other; --help with that recipe lists the keys of a chain."""
    run_dir: str | None = None
    """Folder of the run; null means runs/<recipe>/<date-time>. One with a complete checkpoint is only for a run that
    resumes there."""
    dry_run: bool = False
    """Show the resolved recipe, the trainable modules and one sample, and stop; nothing is written, no data is built,
    and figures of data that is not built yet are left open."""
    resume: str | None = None
    """Checkpoint folder to resume from, or `last` for the newest of run_dir or else of the recipe's newest run."""
    start: str | None = None
    """Whose trained weights training begins with: a run (its best checkpoint or else its last), a checkpoint, an export
    or another model's folder, or the name of a recipe for its newest run; null means the backbone as it is."""
    allow_changes: list[IdentityPart] = field(default_factory=list)
    """What may differ from what the weights that `resume` or `start` names were trained with: data, weights (of the
    base model), processor or prompt. The run goes on with a warning; any other difference ends it."""
    seed: int = 0
    """Seed of everything random in the run: 0 or any larger whole number."""
    backbone: BackboneConfig
    stage: StageConfig
    data: DataConfig
    trainer: TrainerConfig
    evaluator: EvaluatorConfig | None = None
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def check(self) -> Iterator[Problem]:
        """Yield the mistakes that span several parts."""
        yield from is_named("start", self.start)
        yield from at_least("seed", self.seed, 0)
        backbone, strategy = self.backbone, self.trainer.strategy
        if {backbone.tower, backbone.projector, backbone.language_model} == {"frozen"}:
            yield Problem(
                "backbone.language_model",
                "frozen",
                "every part is frozen, so nothing would train",
                "set tower, projector or language_model to lora or full",
            )
        if strategy in SHARDED:
            yield from self._check_sharded()
        if isinstance(self.stage, GRPOConfig):
            yield from self._check_rollouts(self.stage)
        if self.trainer.best is not None:
            suites = {} if self.evaluator is None else self.evaluator.suites
            yield from figure_problems("trainer.best", self.trainer.best, suites)
        optimizer = self.stage.optimizer
        if strategy not in ("auto", "ddp") and optimizer != "adamw":
            yield Problem(
                "stage.optimizer",
                optimizer,
                f"needs whole gradients, which trainer.strategy={strategy} splits",
                "use adamw or ddp",
            )

    def _check_rollouts(self, stage: GRPOConfig) -> Iterator[Problem]:
        """Yield what does not go together with rollouts."""
        strategy, backbone, per_rollout = self.trainer.strategy, self.backbone, stage.updates_per_rollout
        if strategy in SHARDED:
            reason = "processes that share one model's weights can't generate different numbers of tokens"
            yield Problem("trainer.strategy", strategy, reason, "use ddp or deepspeed_zero2")
        if backbone.lora.dropout > 0 and "lora" in (backbone.tower, backbone.projector, backbone.language_model):
            reason = "the loss would be that of other weights than those that completions were drawn with"
            yield Problem("backbone.lora.dropout", backbone.lora.dropout, reason, "set {key}=0")
        if self.trainer.checkpoint_every % per_rollout:
            yield Problem(
                "trainer.checkpoint_every",
                self.trainer.checkpoint_every,
                f"checkpoints fall between rollouts, which are of stage.updates_per_rollout={per_rollout} updates",
                "give a multiple of it",
            )
        if self.evaluator is not None and (self.evaluator.every or 0) % per_rollout:
            reason = f"evaluations fall between rollouts, which are of stage.updates_per_rollout={per_rollout} updates"
            yield Problem("evaluator.every", self.evaluator.every, reason, "give a multiple of it")
        if (self.trainer.max_steps or 0) % per_rollout:
            reason = f"the last rollout would not be used whole (stage.updates_per_rollout={per_rollout})"
            yield Problem("trainer.max_steps", self.trainer.max_steps, reason, "give a multiple of it")

    def _check_sharded(self) -> Iterator[Problem]:
        """Yield what a strategy does not support that spreads the weights over the processes."""
        key, strategy, backbone = "trainer.strategy", self.trainer.strategy, self.backbone
        if self.evaluator is not None:
            yield Problem(
                key,
                strategy,
                "processes that share one model's weights can't answer different questions at the same time",
                "set evaluator=null and evaluate the checkpoints afterwards, or use ddp or deepspeed_zero2",
            )
        if backbone.quantization is not None:
            yield Problem(
                key,
                strategy,
                "quantized weights can't be spread over processes",
                "set backbone.quantization=null, or use ddp or deepspeed_zero2, which keep all weights on each device",
            )
        if strategy == "fsdp2" and not backbone.tower == backbone.projector == "frozen":
            yield Problem(
                key,
                strategy,
                "only the language model is spread, so nothing else can train",
                "set backbone.tower=frozen and backbone.projector=frozen, or use ddp or deepspeed_zero2",
            )
