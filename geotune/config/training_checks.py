"""Checks of a training recipe that span several keys or that types can't express."""

from __future__ import annotations

from geotune.config.rules import Rule, above_zero, at_least, is_builder, is_named, is_share
from geotune.config.training import (
    QUANTIZED_FULL,
    BackboneConfig,
    DataConfig,
    EvaluatorConfig,
    StageConfig,
    TrainConfig,
    TrainerConfig,
)

SHARDED = ("deepspeed_zero3_offload", "fsdp2")
"""Strategies that spread the weights over the processes, so that all processes must run every layer together."""


def check_train(cfg: TrainConfig) -> list[str]:
    """Return the mistakes in a training recipe that its types allow, each with key, value and remedy."""
    rules = [
        is_named("start", cfg.start),
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
    """Rules of the backbone."""
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
    """Rules of the stage."""
    return [
        above_zero("stage.lr", stage.lr),
        at_least("stage.weight_decay", stage.weight_decay, 0),
        *(is_share("stage.betas", beta) for beta in stage.betas),
        above_zero("stage.eps", stage.eps),
        at_least("stage.warmup", stage.warmup, 0),
        (
            isinstance(stage.warmup, int) or stage.warmup < 1,
            f"stage.warmup={stage.warmup}: give a whole number of updates, or a fraction below 1 of all updates",
        ),
        at_least("stage.min_lr_ratio", stage.min_lr_ratio, 0),
        (stage.min_lr_ratio <= 1, f"stage.min_lr_ratio={stage.min_lr_ratio}: a fraction of the peak is at most 1"),
        above_zero("stage.clip_norm", stage.clip_norm, remedy="give a number above 0, or null for no clipping"),
        at_least("stage.max_skipped", stage.max_skipped, 1),
    ]


def _data_rules(data: DataConfig) -> list[Rule]:
    """Rules of the data."""
    return [
        at_least("data.batch_size", data.batch_size, 1),
        at_least("data.num_workers", data.num_workers, 0),
        at_least("data.limit", data.limit, 1),
        at_least("data.max_length", data.max_length, 1),
        at_least("data.max_image_pixels", data.max_image_pixels, 1),
        at_least("data.max_bad_samples", data.max_bad_samples, 0),
        *(above_zero(f"data.mix.{path}", weight) for path, weight in data.mix.items()),
        (data.tasks != [], "data.tasks=[]: there would be nothing to train on; name some tasks, or null for all"),
        is_builder("data.build", data.build),
    ]


def _trainer_rules(trainer: TrainerConfig) -> list[Rule]:
    """Rules of the trainer."""
    return [
        (
            trainer.max_steps is not None or trainer.epochs is not None,
            "trainer.max_steps=null: the run would have no end; give trainer.max_steps or trainer.epochs",
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
    """Rules of the evaluator and of each of its suites."""
    rules = [
        (
            evaluator.suites != {},
            "evaluator.suites={}: there is nothing to evaluate; add a suite, or set evaluator=null",
        ),
        at_least("evaluator.every", evaluator.every, 1),
        at_least("evaluator.batch_size", evaluator.batch_size, 1),
        at_least("evaluator.max_new_tokens", evaluator.max_new_tokens, 1),
    ]
    for name, suite in evaluator.suites.items():
        key = f"evaluator.suites.{name}"
        is_suite = isinstance(suite, dict) and "_target_" in suite
        rules += [
            (is_suite, f"{key}: this is no suite; choose one by suite@{key}=<name>"),
            is_builder(f"{key}.build", suite.get("build") if isinstance(suite, dict) else None),
        ]
    return rules


def _strategy_rules(cfg: TrainConfig) -> list[Rule]:
    """Rules of what each strategy supports."""
    backbone, strategy = cfg.backbone, cfg.trainer.strategy
    key = f"trainer.strategy={strategy}"
    replicated = strategy in ("auto", "ddp")
    sharded = strategy in SHARDED
    vision_frozen = backbone.tower == backbone.projector == "frozen"
    return [
        (
            not sharded or cfg.evaluator is None,
            f"{key}: processes that share one model's weights can't answer different questions at the same time; set "
            "evaluator=null and evaluate the checkpoints afterwards, or use ddp or deepspeed_zero2",
        ),
        (
            not sharded or backbone.quantization is None,
            f"{key}: quantized weights can't be spread over processes; set backbone.quantization=null, or use ddp "
            "or deepspeed_zero2, which keep all weights on each device",
        ),
        (
            strategy != "fsdp2" or vision_frozen,
            f"{key}: only the language model is spread, so nothing else can train; set backbone.tower=frozen and "
            "backbone.projector=frozen, or use ddp or deepspeed_zero2",
        ),
        (
            replicated or cfg.stage.optimizer == "adamw",
            f"stage.optimizer={cfg.stage.optimizer}: needs whole gradients, which {key} splits; use adamw or ddp",
        ),
    ]
