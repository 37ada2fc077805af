"""TRL's SFTTrainer as a contender of `benchmarks.sft_speed`."""

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
from geotune.system.images import resolve_image


def train_trl(setup: Setup, turns: Turns) -> None:
    """Train with SFTTrainer as its documentation shows for images: prompt and completion, loss on the completion."""
    encoder = RandomQwen.load_encoder(setup.model, max_pixels=setup.max_pixels, min_pixels=None)
    with torch.device(setup.device):
        model = random_model(
            AutoConfig.from_pretrained(setup.model), {"float32": torch.float32, "bf16": torch.bfloat16}[setup.dtype]
        )
    counts = parameter_counts(model)
    with tempfile.TemporaryDirectory() as out:
        trainer = trl_trainer(setup, turns, model, encoder, out)
        turns.report(loss=loss_before(trainer, setup, line_break=encoder.tokens("\n")[0]), **counts)
        trainer.train()


def trl_dataset(questions: Path, encoder: Any) -> Dataset:
    """Return the samples of the file `questions` as conversational prompts and completions with image files."""
    part = {"type": Value("string"), "text": Value("string")}
    turn = {"role": Value("string"), "content": ListOf(part)}
    rows = []
    for sample in read_samples(questions):
        question, answer = sample.turns
        content = encoder.chat_template.user_content(question.text)
        rows.append(
            {
                "prompt": [
                    {"role": "system", "content": [{"type": "text", "text": sample.system}]},
                    {"role": "user", "content": [{"text": None, **piece} for piece in content]},
                ],
                "completion": [{"role": "assistant", "content": [{"type": "text", "text": answer.text}]}],
                "images": [str(resolve_image(questions.parent, name)) for name in sample.images],
            }
        )
    features = Features({"prompt": ListOf(turn), "completion": ListOf(turn), "images": ListOf(Image())})
    return Dataset.from_list(rows, features=features)


def trl_trainer(setup: Setup, turns: Turns, model: Any, encoder: Any, out: str) -> SFTTrainer:
    """Return a trainer with the LoRA and schedule of the other contenders, which counts for `turns`."""

    class TurnCallback(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.end_update()

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
            gradient_accumulation_steps=setup.accumulate,
            max_steps=setup.total,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_length=None,
            bf16=setup.dtype == "bf16",
            use_cpu=setup.device == "cpu",
            gradient_checkpointing=setup.checkpointing,
            dataloader_num_workers=setup.workers,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=trl_dataset(Path(setup.questions), encoder),
        processing_class=encoder.processor,
        peft_config=LoraConfig(
            r=8, lora_alpha=32, target_modules=r"model\.language_model\.layers\..*_proj", task_type="CAUSAL_LM"
        ),
        callbacks=[TurnCallback()],
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
