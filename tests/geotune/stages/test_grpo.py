"""The gradient of an update of GRPO: exact, however it is split, and zero where there is nothing to learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from geotune.backbones.base import Backbone
from geotune.config.parts import DataConfig, LoraConfig
from geotune.config.reward import RewardConfig
from geotune.config.rl import GRPOConfig, RolloutConfig
from geotune.data.datamodule import GeoData
from geotune.encoding.collate import collate
from geotune.records import write_samples
from geotune.rl.batches import CompletionBatch, completion_batch
from geotune.rl.rewards import Reward
from geotune.rl.rollout import Roller, slots_of
from geotune.runs.progress import RunProgress
from geotune.sample import Sample
from geotune.stages.grpo import GRPO
from tests.geotune.stages.bare_trainer import bare_trainer

City = tuple[Path, list[Sample]]


def reward_options(**options: Any) -> RewardConfig:
    term = {"_target_": "tests.geotune.rl.hashed.Hashed", **options}
    return RewardConfig({"hashed": term}, _target_="geotune.rl.rewards.Reward")


DEAD = reward_options(by_sample=True)


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
    given = {"lr": 1e-3, "warmup": 0, "clip_norm": None, "reward": reward_options()} | changes
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
) -> tuple[GRPO, Seen]:
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=batch_size, prefix_tree=False))
    dataset = data.load(backbone.encoder, seed=3)
    plan = data.plan(dataset, seed=3, accumulate=accumulate, ranks=1)
    dataset.prefix_tree = tree
    stage = GRPO(backbone, config, RunProgress(Path(), updates))
    served = stage.training_data(dataset, plan, seed=3, start=0, stop=updates, num_workers=0)
    seen = Seen()
    trainer = bare_trainer(seen, accumulate=accumulate)
    trainer.fit(stage, datamodule=served)
    assert stage.progress.is_complete
    return stage, seen


def roller(backbone: Any, folder: Path, config: GRPOConfig, **plan: Any) -> Roller:
    data = GeoData(DataConfig(path=str(folder / "city.jsonl"), batch_size=plan.pop("batch_size", 8), prefix_tree=False))
    dataset = data.load(backbone.encoder, seed=3)
    ranks = plan.get("ranks", 1)
    planned = data.plan(dataset, seed=3, accumulate=plan.get("accumulate", 1), ranks=ranks)
    return Roller(backbone, dataset, planned, Reward(config.reward), config, seed=3, ranks=ranks)


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


@pytest.mark.parametrize("family", ["qwen", "internvl"])
def test_groups_of_1_2_and_5_images_give_the_gradient_of_rows(
    load_tiny: Callable[..., Any], city: City, tmp_path: Path, family: str
) -> None:
    """Several kinds stand in each micro-batch."""
    folder, samples = city
    images = sorted({name for sample in samples for name in sample.images})
    counts = [(1, 2, 5)[number % 3] for number in range(len(samples))]
    mixed = [
        replace(
            sample,
            images=tuple(str(folder / images[(number + at) % len(images)]) for at in range(count)),
            turns=(replace(sample.turns[0], text="<image>\n" * count + "Which way?"), sample.turns[1]),
        )
        for number, (sample, count) in enumerate(zip(samples, counts, strict=True))
    ]
    write_samples(tmp_path / "city.jsonl", mixed)
    tree, rows = (
        run(policy(load_tiny, family), tmp_path, settings(), batch_size=4, accumulate=2, tree=each)[1]
        for each in (True, False)
    )
    assert max(len(batch.images) for batch in tree.batches) > 5
    same(tree.gradients[0], rows.gradients[0])


def test_the_losses_over_tokens_have_the_same_gradient_up_to_the_normaliser(
    load_tiny: Callable[..., Any], city: City
) -> None:
    found = {
        loss: run(policy(load_tiny), city[0], settings(loss=loss), batch_size=4, accumulate=2)[1]
        for loss in ("dr_grpo", "dapo", "cispo")
    }
    counts = found["dr_grpo"].batches[0].counts
    factor = counts.planned_tokens / counts.tokens
    for loss in ("dapo", "cispo"):
        same(found[loss].gradients[0], {k: v * factor for k, v in found["dr_grpo"].gradients[0].items()})


@pytest.mark.parametrize("loss", ["gspo", "grpo"])
def test_the_losses_over_completions_do_not_depend_on_the_split(
    load_tiny: Callable[..., Any], city: City, loss: Any
) -> None:
    whole, split = (
        run(policy(load_tiny), city[0], settings(loss=loss), batch_size=size, accumulate=8 // size)[1]
        for size in (8, 2)
    )
    same(split.gradients[0], whole.gradients[0])


@pytest.mark.parametrize(("family", "dtype"), [("qwen", "float32"), ("qwen", "bf16"), ("internvl", "bf16")])
def test_sampler_and_policy_agree_and_the_ratio_is_one(
    load_tiny: Callable[..., Any], city: City, family: str, dtype: str
) -> None:
    """Also with gradient checkpointing and at another temperature."""
    backbone = policy(load_tiny, family, dtype=dtype, gradient_checkpointing=True)
    stage, seen = run(backbone, city[0], settings(rollout={"temperature": 0.7}), batch_size=4, accumulate=2)
    figures = stage.metrics({k: sum(sums[k] for sums in seen.sums) for k in seen.sums[0]})
    assert figures["ratio"] == 1
    assert figures["clip_fraction"] == 0
    assert 0 <= figures["sampler_difference"] < (1e-5 if dtype == "float32" else 0.1)
    assert figures["entropy"] > 1


def test_what_is_dead_or_unfinished_carries_no_gradient(load_tiny: Callable[..., Any], city: City) -> None:
    backbone = policy(load_tiny)
    before = {name: value.clone() for name, value in backbone.trained_parameters().items()}
    stage, seen = run(backbone, city[0], settings(weight_decay=0.5, reward=DEAD), updates=2)
    assert stage.progress.skipped == 0
    assert all(not batch.is_live and len(set(batch.owner.tolist())) == 1 for batch in seen.batches)
    assert [sums["empty_updates"] for sums in seen.sums] == [1, 1]
    for name, value in backbone.trained_parameters().items():
        assert torch.equal(value, before[name]), name
    backbone = policy(load_tiny)
    groups = roller(backbone, city[0], settings()).roll_out(0, 0).groups
    unfinished = [c for group in groups for c in group.completions if not c.stopped]
    assert unfinished
    live = [group.completions[number] for group in groups for number in group.live]
    assert len(live) == sum(len(group.completions) for group in groups if not group.is_dead) - len(unfinished)
    assert not set(map(id, live)) & set(map(id, unfinished))


def test_dead_groups_pay_no_kl(load_tiny: Callable[..., Any], city: City) -> None:
    backbone = policy(load_tiny)
    _, seen = run(backbone, city[0], settings(beta=0.5, reward=DEAD), updates=2)
    assert [sums["kl"] for sums in seen.sums] == [0, 0]
    assert all(value.abs().max() == 0 for value in seen.gradients[0].values())


def test_kl_starts_at_zero_and_the_reference_is_the_start(load_tiny: Callable[..., Any], city: City) -> None:
    backbone = policy(load_tiny)
    begin = {name: value.detach().clone() for name, value in backbone.trained_parameters().items()}
    stage, seen = run(backbone, city[0], settings(beta=0.1, lr=3e-2), updates=3)
    kl = [sums["kl"] / sums["tokens"] for sums in seen.sums]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[2] > 1e-4
    kept = stage.extra_state()["start"]
    assert all(torch.equal(kept[name], value) for name, value in begin.items())
    assert any(not torch.equal(kept[n], p) for n, p in backbone.trained_parameters().items())
    assert not any("start" in name for name in backbone.base.state_dict())


def test_several_updates_see_one_rollout_and_the_old_log_probabilities_are_the_first_ones(
    load_tiny: Callable[..., Any], city: City
) -> None:
    config = settings(updates_per_rollout=3, lr=3e-3)
    _, seen = run(policy(load_tiny), city[0], config, batch_size=4, accumulate=2, updates=6)
    ratios = [sums["ratio"] / sums["tokens"] for sums in seen.sums]
    for start in (0, 6):
        assert ratios[start : start + 2] == pytest.approx([1, 1], abs=1e-6)
        assert all(abs(ratio - 1) > 1e-4 for ratio in ratios[start + 2 : start + 6])
        labels = [batch.labels.tolist() for batch in seen.batches[start : start + 6]]
        assert labels[0] == labels[2] == labels[4]
        assert labels[1] == labels[3] == labels[5]
    assert seen.batches[0].labels.tolist() != seen.batches[6].labels.tolist()


def test_a_rollout_does_not_depend_on_the_number_of_ranks(load_tiny: Callable[..., Any], city: City) -> None:
    """Which prompts, their completions and further prompts in place of dead groups."""
    backbone = policy(load_tiny)
    rollout = {"max_draws": 3, "group_size": 2, "max_new_tokens": 3}
    config = settings(rollout=rollout, reward=reward_options(levels=2))
    alone = roller(backbone, city[0], config, batch_size=2, accumulate=4)
    ranks = roller(backbone, city[0], config, batch_size=2, accumulate=2, ranks=2)

    def facts(*rollouts: Any) -> list[Any]:
        groups = [g for rollout in rollouts for g in (*rollout.groups, *rollout.redrawn)]
        return sorted((g.slot, g.draw, g.sample.id, g.texts, g.rewards) for g in groups)

    for number in range(3):
        one = facts(alone.roll_out(number, 0))
        assert one == facts(ranks.roll_out(number, 0), ranks.roll_out(number, 1))
        assert {slot for slot, *_ in one} == set(range(8))
    assert any(draw > 0 for _, draw, *_ in one)
    assert facts(alone.roll_out(1, 0)) == facts(alone.roll_out(1, 0))
    first = slots_of(alone.plan, 0, 0, 1)
    assert [slot.number for micro in first for slot in micro] == list(range(8))


def test_completions_are_the_same_with_copies_of_their_prompts(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = policy(load_tiny)
    sharing = roller(backbone, city[0], settings())
    wanted = [group.texts for group in sharing.roll_out(0, 0).groups]
    monkeypatch.setattr("geotune.backbones.generation.TreePrompts", None)
    with pytest.raises(TypeError):
        sharing.roll_out(0, 0)
    sharing.tree = False
    assert [group.texts for group in sharing.roll_out(0, 0).groups] == wanted


def test_completions_depend_on_the_image(load_tiny: Callable[..., Any], city: City) -> None:
    """The log-probability of a completion changes when the image of its prompt does."""
    folder, samples = city
    backbone = policy(load_tiny)
    [group, *_] = roller(backbone, folder, settings()).roll_out(0, 0).groups
    views = sorted({sample.images[0] for sample in samples})
    other = next(str(folder / view) for view in views if not group.sample.images[0].endswith(view))
    changed = backbone.encode(replace(group.sample, images=(other, *group.sample.images[1:])), answer=False)
    pair = [prompt.with_answer(group.completions[0].tokens) for prompt in (group.prompt, changed)]
    batch = collate(pair, backbone.encoder)
    with torch.no_grad():
        one, two = (backbone.token_logprobs(batch, suppress=True)[batch.owner == number] for number in (0, 1))
    torch.testing.assert_close(one, torch.tensor(group.completions[0].logprobs), atol=1e-5, rtol=0)
    assert (one - two).abs().max() > 1e-3


def test_equal_completions_are_one_branch(load_tiny: Callable[..., Any], city: City) -> None:
    """They are computed once, and the gradient counts each."""
    backbone = policy(load_tiny)
    found = roller(backbone, city[0], settings()).roll_out(0, 0).groups
    group = next(each for each in found if len(each.live) > 1)
    first, second = group.live[:2]
    completions = list(group.completions)
    completions[second] = completions[first]
    doubled = replace(group, completions=tuple(completions))
    tree, rows = (completion_batch([doubled], backbone.encoder, prefix_tree=t, stand_in=None) for t in (True, False))
    distinct = {doubled.completions[number].tokens for number in doubled.live}
    assert tree.input_ids.numel() == group.prompt.length + sum(map(len, distinct))
    assert tree.labels.tolist() == rows.labels.tolist()


def test_without_beta_no_reference_is_kept_or_computed(
    load_tiny: Callable[..., Any], city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[bool] = []
    own = Backbone.over_logits

    def counted(self: Any, *args: Any) -> torch.Tensor:
        passes.append(torch.is_grad_enabled())
        return own(self, *args)

    monkeypatch.setattr(Backbone, "over_logits", counted)
    backbone = policy(load_tiny)
    stage, _ = run(backbone, city[0], settings(), updates=2)
    assert passes == [True, True]
    assert "start" not in stage.extra_state()
    with pytest.raises(KeyError):
        backbone.copy_of("start")


def test_the_defaults_are_those_that_the_documentation_recommends() -> None:
    config = GRPOConfig(reward=reward_options())
    assert (config.rollout.group_size, config.rollout.temperature, config.rollout.max_draws) == (8, 1.0, 1)
    assert (config.loss, config.beta, config.scale, config.spread) == ("dr_grpo", 0.0, "none", 0.0)
    assert (config.lr, config.warmup, config.schedule, config.updates_per_rollout) == (1e-5, 10, "constant", 1)
    assert (LoraConfig().r, LoraConfig().alpha, LoraConfig().target) == (8, 32, "all-linear")


def test_the_time_of_a_rollout_is_not_time_that_was_waited_for_data(load_tiny: Callable[..., Any], city: City) -> None:
    _, seen = run(policy(load_tiny), city[0], settings(), batch_size=4, accumulate=2, updates=2)
    own = [batch.own_seconds for batch in seen.batches]
    assert own[0] > 0
    assert own[2] > 0
    assert own[1] == own[3] == 0
    assert seen.batches[0].figures["rollout_seconds"] == pytest.approx(own[0])


def test_the_batch_that_memory_is_measured_with_is_as_long_as_can_be(load_tiny: Callable[..., Any], city: City) -> None:
    backbone = policy(load_tiny)
    data = GeoData(DataConfig(path=str(city[0] / "city.jsonl"), batch_size=4, prefix_tree=False))
    dataset = data.load(backbone.encoder, seed=3)
    plan = data.plan(dataset, seed=3, accumulate=2, ranks=1)
    stage = GRPO(backbone, settings(beta=0.1), RunProgress(Path(), 3))
    served = stage.training_data(dataset, plan, seed=3, start=0, stop=3, num_workers=0)
    batch = served.longest_batch(0)
    assert batch is not None
    assert len(batch.labels) == 4 * 4 * 12
    stage.probe_loss(batch).backward()
    assert all(parameter.grad is not None for parameter in backbone.trained_parameters().values())
