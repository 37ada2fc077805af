"""Reinforcement learning with group-relative advantages (GRPO, arXiv 2402.03300, and its successors).

An update begins with a rollout: the policy answers the prompts of the update, `group_size` times each, and the reward
scores the answers. Then the update's micro-batches train on those completions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch

from geotune.backbones.output_head import leave_out
from geotune.config.rl import GRPOConfig
from geotune.config.targets import resolve_target
from geotune.data.datamodule import TrainingData
from geotune.encoding.collate import collate, collate_tree
from geotune.errors import BadRecord, ConfigError, Problem, in_one_line
from geotune.rl.advantages import spread_refusals
from geotune.rl.batches import CompletionBatch, completion_batch, update_counts
from geotune.rl.figures import REASON, CompletionRow, completion_rows, mean, rollout_figures
from geotune.rl.guard import Guard
from geotune.rl.kernels import POSITIVE_DEFINITE
from geotune.rl.losses import policy_loss
from geotune.rl.rollout import Roller, Rollout
from geotune.rl.terms import Accuracy, PlaceLevel
from geotune.stages.base import Stage, StepOutput
from geotune.system.progress import progress_bar
from geotune.system.ranks import gather_items

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.config.parts import StageConfig
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan
    from geotune.encoding.collate import Batch
    from geotune.encoding.segments import Encoded
    from geotune.rl.groups import CompletionGroup
    from geotune.rl.rewards import Reward
    from geotune.runs.progress import RunProgress

log = logging.getLogger(__name__)
REWARD = "stage.reward"
"""Key of the reward in a recipe."""
LONGEST_PREVIEW = 300
"""Largest number of characters of a completion that a dry run shows."""
START = "start"
"""Name of the copy of the weights that training began with."""


class GRPO(Stage):
    """Trains a policy on the rewards of its own completions.

    Raises ConfigError for a reward with mistakes, and for a spread that would not make the policy honest.
    """

    Config: ClassVar[type[StageConfig]] = GRPOConfig
    config: GRPOConfig

    def __init__(self, backbone: Backbone, config: StageConfig, progress: RunProgress) -> None:
        super().__init__(backbone, config, progress)
        self.config = cast(GRPOConfig, config)
        self.reward: Reward = resolve_target(self.config.reward._target_, REWARD)(self.config.reward, key=REWARD)
        self._check_spread()
        self.is_live = True
        """Whether a completion of the current update teaches anything, on any rank."""
        self.kept_groups: tuple[CompletionGroup, ...] = ()
        """Groups of the newest rollout that are to be shown."""
        self._guard = Guard()
        self._old: dict[int, torch.Tensor] = {}
        """Log-probabilities at the first update of the rollout, by micro-batch; empty with one update per rollout."""
        if self.config.beta:
            backbone.keep_copy(START)

    def _check_spread(self) -> None:
        """Raise ConfigError for each reason why the spread would not make the policy honest."""
        config, geodesic = self.config, self.reward.geodesic
        if geodesic is not None and geodesic[1].weight == 0:  # it earns nothing, spread or not
            geodesic = None
        refusals = spread_refusals(
            config.spread,
            kernel=None if geodesic is None else geodesic[1].kernel,
            positive_definite=POSITIVE_DEFINITE,
            scale=config.scale,
            group_size=config.rollout.group_size,
            weights={
                kind: sum(term.weight for term in self.reward.terms.values() if isinstance(term, of_kind))
                for kind, of_kind in (("place", PlaceLevel), ("accuracy", Accuracy))
            },
        )
        if problems := [Problem("stage.spread", config.spread, why, "or set {key}=0") for why in refusals]:
            raise ConfigError(*problems)

    def training_data(self, dataset: SampleDataset, plan: UpdatePlan, **settings: Any) -> TrainingData:
        """Return the data module that rolls out. Raises ConfigError if the reward can't score a sample."""
        with progress_bar("checking what is rewarded", len(dataset)) as advance:
            for sample in dataset.samples:
                try:
                    self.reward.check(sample)
                except BadRecord as error:
                    text, remedy = f"can't be rewarded: {error.reason}", "correct the record, or leave it out"
                    raise ConfigError(Problem("data.path", sample.id, text, remedy)) from None
                advance()
        return RolloutData(dataset, plan, stage=self, **settings)

    def preview(self, data: TrainingData) -> str:
        """Return the completions of the run's first prompt with their rewards, as text."""
        assert isinstance(data, RolloutData)
        group = data.roller(1).first_group()
        lines = [f"# Completions of {group.sample.id}"]
        for text, scored, reward in zip(group.texts, group.scored, group.rewards, strict=True):
            km = self.reward.distance_km(scored, group.sample)
            terms = [f"{name} {term.value:.3f}" for name, term in scored.terms.items()]
            reasons = sorted({term.reason for term in scored.terms.values() if term.reason})
            facts = [f"reward {reward:.3f}", *terms, *([] if km is None else [f"{km:,.0f} km"]), *reasons]
            lines.append(f"{', '.join(facts)}: {in_one_line(text, LONGEST_PREVIEW)}")
        return "\n".join(lines)

    def begin_rollout(self, rollout: Rollout) -> None:
        """Forget what belongs to the rollout before, and keep the groups of this one that are to be shown."""
        self._old.clear()
        self.kept_groups = rollout.groups[: self.config.kept_groups]

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """Return the micro-batch's share of the loss of the update, and sums over its tokens."""
        assert isinstance(batch, CompletionBatch)
        config, backbone = self.config, self.backbone
        logprobs, entropy = self._logprobs_and_entropies(batch)
        now = logprobs.detach()
        old = self._old.get(batch.number, now)
        if config.updates_per_rollout > 1 and batch.round == 0:
            self._old[batch.number] = now
        reference = None
        if config.beta:
            with backbone.weights_of(START):
                reference, _ = self._logprobs_and_entropies(batch)
        share, sums = policy_loss(config, logprobs, old, batch.owner, batch.advantages, batch.counts, reference)
        weight = float(batch.is_live)
        # DDP averages over ranks and the trainer over micro-batches, and the shares are to be added up.
        loss = share * weight * self.trainer.world_size * self.trainer.accumulate_grad_batches
        difference = (now - batch.sampled).abs()
        self.is_live = batch.counts.completions > 0
        first = float(batch.number == 0 and self.trainer.is_global_zero)
        found: dict[str, torch.Tensor | float] = {
            "loss": share.detach() * weight,
            **{name: value * weight for name, value in sums.items()},
            "entropy": entropy.detach().sum() * weight,
            "sampler_difference": difference.sum() * weight * (batch.round == 0),
            "sampled_tokens": len(difference) * weight * (batch.round == 0),
            "updates": first,
            "empty_updates": first * (not self.is_live),
        }
        for name, value in batch.figures.items():
            counts = first and not math.isnan(value)
            found |= {name: value if counts else 0.0, f"{COUNT}{name}": float(counts)}
        return {"loss": loss, "sums": found}

    def _logprobs_and_entropies(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probability of each label of `batch`, and the entropy of its distribution: (N,) each."""
        temperature, never_drawn = self.config.rollout.temperature, self.backbone.never_drawn.to(self.backbone.device)

        def function(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return logprob_and_entropy(logits, labels, temperature, never_drawn)

        logprobs, entropies = self.backbone.over_logits(batch, function).view(-1, 2).unbind(-1)
        return logprobs, entropies

    def probe_loss(self, batch: Batch) -> torch.Tensor:
        """Return a scalar whose computation takes as much memory as a training step on `batch` does."""
        reference: torch.Tensor | float = 0.0
        if self.config.beta:
            with self.backbone.weights_of(START):
                reference = self._logprobs_and_entropies(batch)[0].sum()
        return self._logprobs_and_entropies(batch)[0].sum() - reference

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of updates: those of their rollouts (`rollout_figures`), and those of the loss.

        `loss` is that of an update, `entropy` the mean entropy in nats of a token's distribution, `clip_fraction` the
        share of tokens whose gradient is cut off, `kl` the divergence from the start per token, `sampler_difference`
        the mean difference in nats between the sampler's log-probability of a token and the first update's, and
        `empty_updates` the share of updates without anything to learn from, which change no weight.
        """
        means: dict[str, float] = {}
        for name in [name.removeprefix(COUNT) for name in sums if name.startswith(COUNT)]:
            # A reason is missing in a rollout where no completion had it, which counts as a share of 0.
            count = sums[COUNT + ("reward" if name.startswith(REASON) else name)]
            means[name] = sums[name] / count if count else math.nan

        def per(name: str, of: str) -> float:
            return sums[name] / sums[of] if sums[of] else math.nan

        return means | {
            "loss": per("loss", "updates"),
            "entropy": per("entropy", "tokens"),
            "ratio": per("ratio", "tokens"),
            "clip_fraction": per("clipped", "tokens"),
            **({"kl": per("kl", "tokens")} if "kl" in sums else {}),
            "sampler_difference": per("sampler_difference", "sampled_tokens"),
            "empty_updates": per("empty_updates", "updates"),
        }

    def note_figures(self, figures: Mapping[str, float]) -> None:
        """Tighten the reward's scale if it has settled, and warn or stop as the guard says."""
        tightening, geodesic = self.reward.tightening, self.reward.geodesic
        if tightening is not None and geodesic is not None:
            earned = figures.get(f"term_{geodesic[0]}", math.nan)
            if math.isfinite(earned):  # later updates on the same rollout have none
                tightening.note(earned)
        if self.config.guard == "off":
            return
        for trouble in self._guard.note(figures):
            if self.config.guard == "stop":
                self.stop_reason = self.stop_reason or f"stage.guard=stop: {trouble}"
            elif self.trainer.is_global_zero:
                log.warning("update %d: %s", self.progress.step, trouble)

    @property
    def can_be_saved(self) -> bool:
        """Whether all updates on the present rollout are done: a resumed run rolls out anew."""
        return self.progress.step % self.config.updates_per_rollout == 0

    def gradient_scale(self) -> float | None:
        """Return 0 for an update without anything to learn from, which then changes no weight."""
        return None if self.is_live else 0.0

    def extra_state(self) -> dict[str, Any]:
        """Return the reference weights, the scale of a reward that tightens, and what the guard has seen.

        The number of updates on a rollout is there too: it tells how many rollouts there have been.
        """
        tightening = self.reward.tightening
        state: dict[str, Any] = {
            "tightening": None if tightening is None else tightening.state(),
            "guard": self._guard.state(),
            "updates_per_rollout": self.config.updates_per_rollout,
        }
        if self.config.beta:
            state[START] = self.backbone.copy_of(START)
        return state

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `extra_state` returned. Raises ValueError if a rollout had another number of updates."""
        then, now = state["updates_per_rollout"], self.config.updates_per_rollout
        if then != now:
            raise ValueError(f"stage.updates_per_rollout was {then}, now it is {now}")
        self._guard.load_state(state["guard"])
        if self.reward.tightening is not None and state["tightening"] is not None:
            self.reward.tightening.load_state(state["tightening"])
        if self.config.beta and START not in state:
            raise ValueError("it holds no reference weights, since stage.beta was 0")
        if self.config.beta:
            self.backbone.load_copy(START, state[START])


COUNT = "n/"
"""Start of the names under which the numbers of rollouts with a value of a figure are added up."""


def logprob_and_entropy(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float, never_drawn: torch.Tensor
) -> torch.Tensor:
    """Return the log-probability of each label and the entropy of its distribution, in nats: (n, 2) in float32.

    The distribution is the softmax of logits (n, V) / temperature over the tokens that can be drawn. The entropy has no
    gradient.
    """
    scaled = leave_out(logits.float() / temperature, never_drawn)
    logprobs = scaled.log_softmax(-1)
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs.masked_fill(logprobs.isinf(), 0)).sum(-1)
    return torch.stack([logprobs.gather(-1, labels[:, None]).squeeze(-1), entropy], dim=-1)


class RolloutData(TrainingData):
    """Serves the micro-batches of completions, which it samples from the policy of `stage` as it is by then.

    The other arguments are those of `TrainingData`; `start` and `stop` count updates.
    """

    def __init__(self, *args: Any, stage: GRPO, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.stage = stage

    def roller(self, ranks: int) -> Roller:
        """Return what rolls out for the stage."""
        stage = self.stage
        return Roller(stage.backbone, self.dataset, self.plan, stage.reward, stage.config, seed=self.seed, ranks=ranks)

    def longest_batch(self, rank: int) -> Batch | None:
        """Return the micro-batch with the longest prompts, with made-up completions, all as long as can be."""
        micro_batch, rollout = self.longest_micro_batch(rank), self.stage.config.rollout
        if micro_batch is None:
            return None
        encoder, roller = self.dataset.encoder, self.roller(1)
        prompts: list[Encoded] = []
        for index in micro_batch.indices:
            with suppress(BadRecord):  # it is told when its turn comes
                prompts.append(roller.prompt_of(self.dataset.samples[index]))
        if not prompts:
            return None
        tokens = [(number, *[encoder.stop_id] * (rollout.max_new_tokens - 1)) for number in range(rollout.group_size)]
        paths = [prompt.with_answer(each) for prompt in prompts for each in tokens]
        return (collate_tree if self.dataset.prefix_tree else collate)(paths, encoder)

    def train_dataloader(self) -> Any:
        """Return the micro-batches of this rank; they are made in the main process, when they are asked for."""
        return _Rollouts(self)


class _Rollouts:
    """The micro-batches of a rank, update by update.

    It has a length, because Lightning prefetches a batch from a loader without one: the next rollout would then come
    before the optimizer has stepped.
    """

    def __init__(self, data: RolloutData) -> None:
        self.data = data

    def __len__(self) -> int:
        return (self.data.stop - self.data.start) * self.data.plan.accumulate

    def __iter__(self) -> Iterator[CompletionBatch]:
        data, stage, trainer = self.data, self.data.stage, self.data.trainer
        assert trainer is not None
        rank, per_rollout = trainer.global_rank, stage.config.updates_per_rollout
        assert data.start % per_rollout == 0, "checkpoints fall between rollouts"
        roller = data.roller(trainer.world_size)
        for number in range(data.start // per_rollout, math.ceil(data.stop / per_rollout)):
            rollout = roller.roll_out(number, rank)
            yield from self._updates(rollout)

    def _updates(self, rollout: Rollout) -> Iterator[CompletionBatch]:
        """Yield the micro-batches of the updates on a rollout, after telling the other ranks what it holds."""
        data, stage = self.data, self.data.stage
        config = stage.config
        own = [row for group in (*rollout.redrawn, *rollout.groups) for row in completion_rows(group, stage.reward)]
        rows: list[CompletionRow] = gather_items(own)
        used = sorted(gather_items([(group.slot, group.sample.id) for group in rollout.groups]))
        places = gather_items([len(slots) for slots in rollout.slots])
        planned = sum(places) * config.rollout.group_size * config.rollout.max_new_tokens
        counts = update_counts(gather_items([group.live_lengths for group in rollout.groups]), planned)
        figures = rollout_figures(rows) | {"rollout_seconds": mean(gather_items([rollout.seconds]))}
        stage.begin_rollout(rollout)
        for turn in range(config.updates_per_rollout):
            for number, groups in enumerate(rollout.micro_batches):
                slot = rollout.slots[number][0]
                batch = completion_batch(
                    groups,
                    data.dataset.encoder,
                    prefix_tree=data.dataset.prefix_tree,
                    stand_in=None if groups else data.dataset.unsupervised_text(data.dataset.samples[slot.index]),
                )
                is_first = turn == number == 0
                yield replace(
                    batch,
                    counts=counts,
                    number=number,
                    round=turn,
                    figures=figures if turn == 0 else dict.fromkeys(figures, math.nan),
                    update=rollout.number,
                    update_ids=tuple(sample for _, sample in used),
                    unreadable=rollout.unreadable if is_first else (),
                    own_seconds=rollout.seconds if is_first else 0.0,
                )
