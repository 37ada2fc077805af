"""TRL's SFTTrainer as a contender of `benchmarks.sft_speed`, and what it shares with other trainers of TRL."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image, Value
from datasets import List as ListOf
from peft import LoraConfig
from transformers import AutoConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.material import RandomQwen, parameter_counts, random_model
from benchmarks.turns import CHECKED, LEARNING_RATE, Setup, Turns
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.system.images import resolve_image

LORA = LoraConfig(r=8, lora_alpha=32, target_modules=r"model\.language_model\.layers\..*_proj", task_type="CAUSAL_LM")
"""The adapter of all contenders."""
PART = {"type": Value("string"), "text": Value("string")}
TURN = {"role": Value("string"), "content": ListOf(PART)}
"""Type of a turn in a dataset."""


def train(setup: Setup, turns: Turns) -> None:
    """Train with SFTTrainer as its documentation shows for images: prompt and completion, loss on the completion."""
    encoder, model = load_for_trl(setup)
    counts = parameter_counts(model)
    with tempfile.TemporaryDirectory() as out:
        trainer = trl_trainer(setup, turns, model, encoder, out)
        turns.report(loss=loss_before(trainer, setup, line_break=encoder.tokens("\n")[0]), **counts)
        trainer.train()


def load_for_trl(setup: Setup) -> tuple[Any, Any]:
    """Return geotune's encoder, for its processor and template, and the random model without an adapter."""
    encoder = RandomQwen.load_encoder(setup.model, max_pixels=setup.max_pixels, min_pixels=None)
    with torch.device(setup.device):
        model = random_model(
            AutoConfig.from_pretrained(setup.model), {"float32": torch.float32, "bf16": torch.bfloat16}[setup.dtype]
        )
    return encoder, model


def trainer_options(setup: Setup) -> dict[str, Any]:
    """Return the options of a trainer that every TRL contender has."""
    return {
        "gradient_accumulation_steps": setup.accumulate,
        "max_steps": setup.total,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "bf16": setup.dtype == "bf16",
        "use_cpu": setup.device == "cpu",
        "gradient_checkpointing": setup.checkpointing,
        "dataloader_num_workers": setup.workers,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


class TurnCallback(TrainerCallback):
    """Counts the updates of a trainer."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count an update, and wait for the next turn at the end of one."""
        self.turns.end_update()


def prompt_of(sample: Sample, encoder: Any) -> list[dict[str, Any]]:
    """Return the system prompt and the question of a sample as turns, in which parts stand for the images."""
    content = encoder.chat_template.user_content(sample.turns[0].text)
    return [
        {"role": "system", "content": [{"type": "text", "text": sample.system}]},
        {"role": "user", "content": [{"text": None, **piece} for piece in content]},
    ]


def trl_dataset(questions: Path, encoder: Any) -> Dataset:
    """Return the samples of the file `questions` as conversational prompts and completions with image files."""
    rows = [
        {
            "prompt": prompt_of(sample, encoder),
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": sample.turns[1].text}]}],
            "images": [str(resolve_image(questions.parent, name)) for name in sample.images],
        }
        for sample in read_samples(questions)
    ]
    features = Features({"prompt": ListOf(TURN), "completion": ListOf(TURN), "images": ListOf(Image())})
    return Dataset.from_list(rows, features=features)


def trl_trainer(setup: Setup, turns: Turns, model: Any, encoder: Any, out: str) -> SFTTrainer:
    """Return a trainer with the LoRA and schedule of the other contenders, which counts for `turns`."""

    class CountingTrainer(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            tokens = int(inputs["attention_mask"].sum())
            turns.add(
                samples=len(inputs["input_ids"]),
                tokens=tokens,
                alone=tokens,
                padded=inputs["input_ids"].numel(),
                patches=len(inputs["pixel_values"]),
            )
            return super().training_step(model, inputs, *args, **kwargs)

    return CountingTrainer(
        model,
        SFTConfig(
            out,
            per_device_train_batch_size=setup.batch_size,
            max_length=None,
            **trainer_options(setup),
        ),
        train_dataset=trl_dataset(Path(setup.questions), encoder),
        processing_class=encoder.processor,
        peft_config=LORA,
        callbacks=[TurnCallback(turns)],
    )


def loss_before(trainer: SFTTrainer, setup: Setup, *, line_break: int) -> float:
    """Return the mean loss per supervised token of the first `CHECKED` samples, before training.

    Args:
        line_break: Token of the line break with which the template ends a turn. It is left out of the loss, because
            geotune does not supervise it; no answer holds a line break.
    """
    collate, dataset = trainer.data_collator, trainer.train_dataset
    losses, targets = 0.0, 0
    with torch.no_grad():
        for start in range(0, CHECKED, setup.batch_size):
            batch = collate([dataset[i] for i in range(start, min(start + setup.batch_size, CHECKED))])
            batch = batch.to(setup.device)
            batch["labels"][batch["labels"] == line_break] = -100
            count = int((batch["labels"] != -100).sum())
            losses += float(trainer.compute_loss(trainer.model, batch)) * count
            targets += count
    return losses / targets
