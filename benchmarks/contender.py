"""One contender of `benchmarks.sft_speed`, a process of its own, so that its peak memory is its own.

It builds everything, does its warm-up updates and says so; then it does as many updates as it was told for every line
that it reads, and answers each with what they took. One JSON object a line; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch

NAMES = ("tree", "flex", "plain", "trl")
TREES = ("tree", "flex")
"""Those that read prefix trees: by SDPA, and by FlexAttention."""
LEARNING_RATE = 1e-4
COUNTED = ("samples", "tokens", "alone", "padded", "patches")
"""What a turn counts: samples; their tokens as read, as they would be one by one, and with padding; image patches."""
CHECKED = 39
"""Samples whose loss every contender states before it trains."""


@dataclass(frozen=True)
class Setup:
    """What a contender is told."""

    name: str
    """One of `NAMES`."""
    model: str
    """Folder of the model."""
    questions: str
    """File of the samples."""
    max_pixels: int
    batch_size: int
    """Samples of a micro-batch."""
    accumulate: int
    """Micro-batches of an update."""
    warmup: int
    """Updates before the first turn."""
    updates: int
    """Updates of a turn."""
    turns: int
    device: str = "cpu"
    dtype: str = "float32"
    checkpointing: bool = False

    @property
    def total(self) -> int:
        """Updates in all."""
        return self.warmup + self.updates * self.turns

    @property
    def workers(self) -> int:
        """Processes that load data: none where they would take the cores that compute."""
        return 4 if self.device == "cuda" else 0


class Turns:
    """Counts what training does and hands over to the other contenders at the end of each turn."""

    def __init__(self, setup: Setup, channel: IO[str]) -> None:
        self.setup = setup
        self.channel = channel
        self.done = 0
        self.since = 0.0
        self.count = dict.fromkeys(COUNTED, 0)

    def seen(self, **counts: int) -> None:
        """Add what a micro-batch holds."""
        for name, count in counts.items():
            self.count[name] += count

    def say(self, **figures: Any) -> None:
        """One line to whoever leads."""
        self.channel.write(json.dumps(figures) + "\n")
        self.channel.flush()

    def updated(self) -> None:
        """An update is over: at the end of a turn say what it took, and wait for the next."""
        self.done += 1
        if self.done < self.setup.warmup or (self.done - self.setup.warmup) % self.setup.updates:
            return
        seconds = self._now() - self.since
        if self.done == self.setup.warmup:
            self.say(ready=True)
        else:
            self.say(seconds=seconds, peak_memory_gb=self.peak_memory_gb(), **self.count)
        if self.done < self.setup.total and not sys.stdin.readline():
            raise SystemExit("nobody leads any more")
        self.count = dict.fromkeys(self.count, 0)
        self.since = self._now()

    def _now(self) -> float:
        if self.setup.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_memory_gb(self) -> float:
        """Most memory that this process ever held: resident on the CPU, allocated on the GPU."""
        if self.setup.device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / 1e9
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def load_backbone(setup: Setup) -> Any:
    """The random model as geotune trains it: LoRA r=8, alpha=32 on the language model, everything else frozen."""
    import torch

    from benchmarks.material import RandomQwen
    from geotune.config.training import LoraConfig

    with torch.device(setup.device):
        return RandomQwen(
            setup.model,
            setup.max_pixels,
            dtype=setup.dtype,  # type: ignore[arg-type]
            attn="flex" if setup.name == "flex" else "sdpa",
            gradient_checkpointing=setup.checkpointing,
            lora=LoraConfig(r=8, alpha=32),
        )


def parameters(model: Any) -> dict[str, int]:
    """Frozen parameters that each text token and each patch passes through; the head serves few tokens."""
    tower = sum(p.numel() for p in model.model.visual.parameters())
    named = model.model.language_model.named_parameters()
    text = sum(p.numel() for name, p in named if "embed_tokens" not in name and "lora_" not in name)
    return {"text_parameters": text, "tower_parameters": tower}


def train_geotune(setup: Setup, turns: Turns) -> None:
    """Lightning, the project's loader and its stage, with or without the prefix tree."""
    import torch
    from lightning.pytorch import Callback
    from omegaconf import OmegaConf

    from geotune.config.training import TrainerConfig
    from geotune.data.datamodule import GeoData
    from geotune.encoding.collate import collate, collate_tree
    from geotune.stages.sft import SFT, nll_sum
    from geotune.training.checkpointing import ends_update
    from geotune.training.trainer import trainer_from

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
            turns.seen(
                samples=len(batch.ids),
                tokens=batch.tokens,
                alone=sum(lengths[sample] for sample in batch.ids),
                padded=batch.input_ids.numel(),
                patches=sum(image.shape[-1] * image.shape[-2] for image in batch.pixels) // patch_area,
            )
            if ends_update(trainer, batch_idx):
                turns.updated()

    backbone = load_backbone(setup)
    encoder = backbone.encoder
    patch_area = encoder.processor.image_processor.patch_size**2
    # As with a dataset larger than the caches: no image of an earlier batch is found there.
    backbone.disable_feature_cache()
    encoder._pixels.limit = 0
    data = GeoData(
        setup.questions,
        setup.batch_size,
        prefix_tree=setup.name in TREES,
        group_size=setup.batch_size,
        num_workers=setup.workers,
    )
    dataset = data.load(encoder, seed=0)
    lengths = {sample.id: int(length) for sample, length in zip(dataset.samples, dataset.lengths, strict=True)}
    stage = SFT(backbone, lr=LEARNING_RATE, warmup=0, schedule="constant")
    stage.total_updates = data.stop = setup.total
    losses, targets = 0.0, 0
    join = collate_tree if setup.name in TREES else collate
    with torch.no_grad():
        for start in range(0, CHECKED, setup.batch_size):
            asked = [dataset.samples[i] for i in range(start, min(start + setup.batch_size, CHECKED, len(dataset)))]
            batch = join([encoder.encode(sample, dataset.folder) for sample in asked], encoder).to(setup.device)
            losses += float(nll_sum(backbone(batch), batch.labels))
            targets += len(batch.labels)
    turns.say(loss=losses / targets, **parameters(backbone.base))
    settings = TrainerConfig(
        accumulate=setup.accumulate, devices=1, accelerator="gpu" if setup.device == "cuda" else "cpu"
    )
    trainer = trainer_from(OmegaConf.create({"trainer": asdict(settings), "run_dir": None}), [], vision_trains=False)
    trainer.callbacks.append(Watch())  # type: ignore[attr-defined]
    trainer.fit(stage, datamodule=data)


def train_trl(setup: Setup, turns: Turns) -> None:
    """TRL's SFTTrainer as its documentation has it for images: prompt and completion, loss on the completion."""
    import tempfile

    import torch
    from datasets import Dataset, Features, Image, Value
    from datasets import List as ListOf
    from peft import LoraConfig
    from transformers import AutoConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from benchmarks.material import RandomQwen, random_model
    from geotune.records import read_samples
    from geotune.system.images import resolve_image

    encoder = RandomQwen.load_encoder(setup.model, max_pixels=setup.max_pixels, min_pixels=None)
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[setup.dtype]
    with torch.device(setup.device):
        model = random_model(AutoConfig.from_pretrained(setup.model), dtype)
    sizes = parameters(model)
    folder = Path(setup.questions).parent
    part = {"type": Value("string"), "text": Value("string")}
    turn = {"role": Value("string"), "content": ListOf(part)}
    rows = []
    for sample in read_samples(setup.questions):
        question, answer = sample.turns
        content = encoder.chat_template.user_content(question.text)
        rows.append(
            {
                "prompt": [
                    {"role": "system", "content": [{"type": "text", "text": sample.system}]},
                    {"role": "user", "content": [{"text": None, **piece} for piece in content]},
                ],
                "completion": [{"role": "assistant", "content": [{"type": "text", "text": answer.text}]}],
                "images": [str(resolve_image(folder, name)) for name in sample.images],
            }
        )
    features = Features({"prompt": ListOf(turn), "completion": ListOf(turn), "images": ListOf(Image())})

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.updated()

    class Counted(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            tokens = int(inputs["attention_mask"].sum())
            turns.seen(
                samples=len(inputs["input_ids"]),
                tokens=tokens,
                alone=tokens,
                padded=inputs["input_ids"].numel(),
                patches=len(inputs["pixel_values"]),
            )
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as out:
        trainer = Counted(
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
            train_dataset=Dataset.from_list(rows, features=features),
            processing_class=encoder.processor,
            peft_config=LoraConfig(
                r=8, lora_alpha=32, target_modules=r"model\.language_model\.layers\..*_proj", task_type="CAUSAL_LM"
            ),
            callbacks=[Watch()],
        )
        collate, train_dataset = trainer.data_collator, trainer.train_dataset
        line_break = encoder.tokens("\n")[0]
        losses, targets = 0.0, 0
        with torch.no_grad():
            for start in range(0, CHECKED, setup.batch_size):
                asked = range(start, min(start + setup.batch_size, CHECKED))
                batch = collate([train_dataset[i] for i in asked]).to(setup.device)
                # The template ends a turn with a line break, which geotune does not supervise; nor is it in an answer.
                batch["labels"][batch["labels"] == line_break] = -100
                count = int((batch["labels"] != -100).sum())
                losses += float(trainer.compute_loss(trainer.model, batch)) * count
                targets += count
        turns.say(loss=losses / targets, **sizes)

        trainer.train()


def main() -> None:
    """Command line: the setup as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setup", type=json.loads)
    setup = Setup(**parser.parse_args().setup)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from geotune.system.libraries import silence_libraries

    silence_libraries()
    train: Callable[[Setup, Turns], None] = train_trl if setup.name == "trl" else train_geotune
    train(setup, Turns(setup, channel))


if __name__ == "__main__":
    main()
