"""The gradient of an update of GRPO: exact, however it is split, and zero where there is nothing to learn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from geotune.config.parts import DataConfig
from geotune.config.reward import RewardConfig
from geotune.config.rl import GRPOConfig, RolloutConfig
from geotune.data.datamodule import GeoData
from geotune.encoding.collate import collate
from geotune.rl.batches import CompletionBatch
from geotune.rl.rewards import Reward, Term, TermValue
from geotune.rl.rollout import Roller
from geotune.runs.progress import RunProgress
from geotune.sample import Sample
from geotune.stages.grpo import GRPO

FORMAT = {"_target_": "geotune.rl.rewards.Reward", "terms": {"format": {"_target_": "geotune.rl.terms.Format"}}}
City = tuple[Path, list[Sample]]


@dataclass
class Hashed(Term):
    """A term that is a digest of the text, so that all groups are live; or of the sample, so that all are dead."""

    by_sample: bool = False

    def __call__(self, text: str, sample: Sample) -> TermValue:
        return TermValue(hashlib.sha256((sample.id if self.by_sample else text).encode()).digest()[0] / 255)


def hashed(**options: Any) -> Reward:
    reward = Reward(RewardConfig({"format": {"_target_": "geotune.rl.terms.Format"}}))
    reward.terms = {"hashed": Hashed(**options)}
    return reward


class Seen(Callback):
    """Keeps the gradient of every update, and the batches."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.batches: list[CompletionBatch] = []
        self.sums: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        self.sums.append({name: float(value) for name, value in outputs["sums"].items()})

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        named = pl_module.backbone.base.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def policy(load_tiny: Callable[..., Any], family: str = "qwen", **settings: Any) -> Any:
    """A random policy whose completions end raggedly: a sixth of its tokens are stop tokens."""
    torch.manual_seed(5)  # adapters begin at random
    backbone = load_tiny(family, **settings)
    with torch.no_grad():
        for parameter in backbone.trained_parameters().values():
            parameter.add_(0.02 * torch.randn_like(parameter))
    size = len(backbone.tokenizer)
    backbone.stop_ids = tuple({*backbone.stop_ids, *range(size - size // 6, size)})
    return backbone


def settings(**changes: Any) -> GRPOConfig:
    rollout = {"group_size": 4, "max_new_tokens": 12, **changes.pop("rollout", {})}
    given = {"lr": 1e-3, "warmup": 0, "clip_norm": None, "reward": FORMAT} | changes
    return GRPOConfig(rollout=RolloutConfig(**rollout), **given)


def run(
    backbone: Any,
    folder: Path,
    config: GRPOConfig,
    *,
    batch_size: int = 8,
    accumulate: int = 1,
    updates: int = 1,
    tree: bool = True,
    reward: Any = None,
) -> tuple[GRPO, Seen]:
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=batch_size, prefix_tree=False))
    dataset = data.load(backbone.encoder, seed=3)
    plan = data.plan(dataset, seed=3, accumulate=accumulate, ranks=1)
    dataset.prefix_tree = tree
    stage = GRPO(backbone, config, RunProgress(Path(), updates))
    stage.reward = hashed() if reward is None else reward
    served = stage.training_data(dataset, plan, seed=3, start=0, stop=updates, num_workers=0)
    seen = Seen()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        accumulate_grad_batches=accumulate,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[seen],
    )
    trainer.fit(stage, datamodule=served)
    assert stage.progress.is_complete
    return stage, seen


def roller(backbone: Any, folder: Path, config: GRPOConfig, reward: Any = None, **plan: Any) -> Roller:
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=plan.pop("batch_size", 8), prefix_tree=False))
    dataset = data.load(backbone.encoder, seed=3)
    ranks = plan.get("ranks", 1)
    planned = data.plan(dataset, seed=3, accumulate=plan.get("accumulate", 1), ranks=ranks)
    return Roller(backbone, dataset, planned, reward or hashed(), config, seed=3, ranks=ranks)


def same(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert any(value.abs().max() > 1e-6 for value in wanted.values())
    scale = max(float(value.abs().max()) for value in wanted.values())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=2e-5 * scale, rtol=1e-3)


@pytest.fixture(scope="module", params=["qwen", "internvl"])
def by_hand(request: Any, load_tiny: Callable[..., Any], city: City) -> tuple[str, dict[str, torch.Tensor]]:
    """The gradient of the first update by the definition of the loss, one sequence at a time."""
    folder, _ = city
    backbone = policy(load_tiny, request.param)
    config = settings()
    rollout = roller(backbone, folder, config).roll_out(0, 0)
    planned = sum(map(len, rollout.slots)) * 4 * 12
    backbone.train()
    total = torch.zeros(())
    lengths = set()
    for group in rollout.groups:
        mean = sum(group.rewards) / len(group.rewards)
        for completion, value in zip(group.completions, group.rewards, strict=True):
            if completion.stopped and not group.is_dead:
                lengths.add(len(completion.tokens))
                batch = collate([group.prompt.with_answer(completion.tokens)], backbone.encoder)
                scaled = backbone(batch).index_fill(-1, backbone.never_drawn, float("-inf"))
                total = total - (value - mean) * scaled.log_softmax(-1).gather(-1, batch.labels[:, None]).sum()
    assert len(lengths) > 3, "the completions are ragged"
    (total / planned).backward()
    return request.param, {n: p.grad for n, p in backbone.base.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (4, 2), (2, 4)])
def test_the_gradient_does_not_depend_on_how_an_update_is_split(
    load_tiny: Callable[..., Any], city: City, by_hand: Any, batch_size: int, accumulate: int, tree: bool
) -> None:
    family, wanted = by_hand
    folder, _ = city
    config = settings()
    _, seen = run(policy(load_tiny, family), folder, config, batch_size=batch_size, accumulate=accumulate, tree=tree)
    same(seen.gradients[0], wanted)
