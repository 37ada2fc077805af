"""Keeps completions of a training by rewards: in a file, and in W&B as a table with their images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from geotune.runs.logs import COMPLETIONS_FILE, append_lines
from geotune.sample import sample_to_record
from geotune.stages.base import as_stage
from geotune.stages.grpo import GRPO
from geotune.system.images import load_image, side_by_side
from geotune.training.wandb_logger import files_beside

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch
    from geotune.rl.groups import CompletionGroup
    from geotune.rl.rewards import Reward
    from geotune.runs.progress import RunProgress

log = logging.getLogger(__name__)
TABLE = "train/completions"
TABLE_COLUMNS = ("step", "images", "prompt", "completion", "reward", "km", "why", "id")
LONGEST_TEXT = 2000
"""Largest number of characters of a completion in the table."""


class CompletionLog(Callback):
    """Appends the completions that a `GRPO` stage keeps to `completions.jsonl` in the folder of the run.

    A line holds the number of the update that first used a completion, its text, reward, advantage, what each term of
    the reward says of it, and its sample; `geotune reward` reads such files. Every `every` updates W&B gets the newest
    as a table.
    """

    def __init__(self, progress: RunProgress, *, every: int) -> None:
        self.progress = progress
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write the completions of a rollout after the first update on it."""
        stage, step = as_stage(pl_module), self.progress.step
        if not (isinstance(stage, GRPO) and stage.ends_update and trainer.is_global_zero):
            return
        groups, stage.kept_groups = stage.kept_groups, ()
        if not groups:
            return
        lines = [line for group in groups for line in completion_lines(group, stage.reward, step)]
        with self.progress.noting_a_full_disk():
            append_lines(self.progress.run_dir / COMPLETIONS_FILE, lines)
        if step % self.every < stage.config.updates_per_rollout:
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    try:
                        log_table(logger, groups, lines, step)
                    except Exception as error:  # such as an image that broke meanwhile: a report must not end a run
                        log.warning("update %d: W&B gets no table of completions (%r); the run goes on", step, error)


def completion_lines(group: CompletionGroup, reward: Reward, step: int) -> list[dict[str, Any]]:
    """Return the completions of a group as records."""
    lines = []
    for number, (completion, text, scored) in enumerate(zip(group.completions, group.texts, group.scored, strict=True)):
        lines.append(
            {
                "step": step,
                "id": group.sample.id,
                "slot": group.slot,
                "draw": group.draw,
                "number": number,
                "text": text,
                "tokens": len(completion.tokens),
                "stopped": completion.stopped,
                "reward": group.rewards[number],
                "advantage": group.advantages[number],
                "gated": scored.gated,
                "km": reward.distance_km(scored, group.sample),
                "terms": {name: {"value": term.value, "reason": term.reason} for name, term in scored.terms.items()},
                "sample": sample_to_record(group.sample),
            }
        )
    return lines


def log_table(
    logger: WandbLogger, groups: Sequence[CompletionGroup], lines: Sequence[dict[str, Any]], step: int
) -> None:
    """Log completions to W&B as a table, with the images of their prompts."""
    import wandb

    images = {
        group.sample.id: wandb.Image(side_by_side([load_image(path) for path in group.sample.images]), file_type="jpg")
        for group in groups
    }
    prompts = {group.sample.id: group.sample.prompt for group in groups}
    table = wandb.Table(columns=list(TABLE_COLUMNS))
    for line in lines:
        why = ", ".join(sorted({each["reason"] for each in line["terms"].values() if each["reason"]}))
        text, sample = line["text"][:LONGEST_TEXT], line["id"]
        table.add_data(step, images[sample], prompts[sample], text, line["reward"], line["km"], why, sample)
    with files_beside(logger.experiment):
        logger.experiment.log({TABLE: table, "trainer/global_step": step})
