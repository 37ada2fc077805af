"""geotune's own contenders of `benchmarks.grpo_speed`: the stage GRPO on prefix trees, and its plain twin on rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from benchmarks.grpo_material import made_up_completions, planned_prompts, suppressed_tokens
from benchmarks.sft_contender import fit, load_backbone
from benchmarks.turns import LEARNING_RATE, Setup, Turns
from geotune.config.reward import RewardConfig
from geotune.config.rl import GRPOConfig, RolloutConfig
from geotune.encoding.collate import collate, collate_tree
from geotune.rl.rollout import Roller, Rollout
from geotune.runs.progress import RunProgress
from geotune.stages.grpo import GRPO, RolloutData

if TYPE_CHECKING:
    from geotune.rl.batches import CompletionBatch
    from geotune.rl.groups import CompletionGroup


REWARD = RewardConfig({"hash": {"_target_": "benchmarks.grpo_material.TextHash"}}, _target_="geotune.rl.rewards.Reward")


def train(setup: Setup, turns: Turns) -> None:
    """Train with geotune's stage and trainer on completions of exactly `new_tokens` tokens."""
    backbone = load_backbone(setup)
    suppressed = suppress_stops(backbone)
    dataset, plan = planned_prompts(setup, backbone.encoder)
    config = GRPOConfig(
        reward=REWARD,
        lr=LEARNING_RATE,
        warmup=0,
        guard="off",
        rollout=RolloutConfig(group_size=setup.group_size, max_new_tokens=setup.new_tokens),
    )
    stage = GRPO(backbone, config, RunProgress(Path(), setup.total))
    first = dataset.samples[plan.update(0)[0]]
    turns.report(**facts_of(backbone, first, suppressed, setup))
    data = ExactData(dataset, plan, stage=stage, seed=0, start=0, stop=setup.total, num_workers=0)
    fit(stage, data, setup, _TurnCallback(turns))


def suppress_stops(backbone: Any) -> list[int]:
    """Have the backbone draw no token that ends a completion. Returns all tokens that it never draws."""
    drawn_never = {*backbone.never_drawn.tolist(), *backbone.stop_ids}
    suppressed = suppressed_tokens(backbone.tokenizer, backbone.base.lm_head.out_features)
    assert drawn_never == set(suppressed), "all contenders draw from the same tokens"
    backbone.never_drawn = torch.tensor(suppressed)
    return suppressed


def facts_of(backbone: Any, sample: Any, suppressed: list[int], setup: Setup) -> dict[str, Any]:
    """Return the length of a prompt, and the mean loss per token of made-up completions, in nats, before training."""
    encoder = backbone.encoder
    prompt = backbone.encode(sample, answer=False)
    completions = made_up_completions(suppressed, backbone.base.lm_head.out_features, setup)
    join = collate_tree if setup.reads_trees else collate
    batch = join([prompt.with_answer(tokens) for tokens in completions], encoder).to(setup.device)
    with torch.no_grad():
        loss = -float(backbone.token_logprobs(batch).mean())
    return {"loss": loss, "prompt_tokens": prompt.length}


class ExactData(RolloutData):
    """Rollouts whose completions all count as finished; those of the plain twin have copies of their prompt's keys."""

    def roller(self, ranks: int) -> Roller:
        """Return what rolls out for the stage."""
        stage = self.stage
        shared: Any = (stage.backbone, self.dataset, self.plan, stage.reward, stage.config)
        return ExactRoller(*shared, seed=self.seed, ranks=ranks, tree=self.dataset.prefix_tree)


class ExactRoller(Roller):
    """Has completions count as finished that end at the limit of their length.

    With stops suppressed none ends by itself, and the loss would leave all of them out. Here the loss is that of all
    tokens of all completions, as in the other contenders. Rewards do not depend on it, and nothing is left from one
    update to the next: features and pixels are kept for one update alone.
    """

    def roll_out(self, number: int, rank: int) -> Rollout:
        """Sample and score the groups of a rollout."""
        self.backbone.clear_feature_cache()
        self.backbone.encoder._pixels.clear()
        rollout = super().roll_out(number, rank)
        micro_batches = tuple(tuple(finished(group) for group in groups) for groups in rollout.micro_batches)
        return replace(rollout, micro_batches=micro_batches)


def finished(group: CompletionGroup) -> CompletionGroup:
    """Return the group with completions that count as finished."""
    return replace(group, completions=tuple(replace(each, stopped=True) for each in group.completions))


class _TurnCallback(Callback):
    """Counts the tokens that updates are trained on, and the time of their rollouts."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: CompletionBatch, batch_idx: int
    ) -> None:
        """Count a micro-batch."""
        trained = batch.is_live * int((batch.advantages[batch.owner] != 0).sum())
        self.turns.add(trained=trained, rollout_seconds=batch.own_seconds)
        if pl_module.ends_update:
            self.turns.end_update()
