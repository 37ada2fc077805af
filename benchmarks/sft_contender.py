"""geotune's own contenders of `benchmarks.sft_speed`, and what they share with those of other benchmarks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.turns import CHECKED, LEARNING_RATE, Setup, Turns

if TYPE_CHECKING:
    from geotune.encoding.collate import Batch


def load_backbone(setup: Setup) -> Any:
    """Return the random model as geotune trains it: LoRA r=8, alpha=32 on the language model, all else frozen."""
    import torch

    from benchmarks.material import RandomQwen
    from geotune.config.parts import BackboneConfig, LoraConfig

    with torch.device(setup.device):
        return RandomQwen(
            BackboneConfig(
                setup.model,
                setup.max_pixels,
                dtype=setup.dtype,  # type: ignore[arg-type]
                attn=setup.attn,  # type: ignore[arg-type]
                kernels=setup.kernels,  # type: ignore[arg-type]
                gradient_checkpointing=setup.checkpointing,
                lora=LoraConfig(r=8, alpha=32),
            )
        )


def disable_caches(backbone: Any) -> None:
    """Have every batch read all of its images, as in a dataset that is larger than the caches."""
    backbone.disable_feature_cache()
    backbone.encoder._pixels.limit = 0


def train(setup: Setup, turns: Turns) -> None:
    """Train with geotune's data module, stage and trainer, with or without the prefix tree."""
    from lightning.pytorch import Callback

    from benchmarks.material import parameter_counts
    from geotune.config.parts import DataConfig, StageConfig
    from geotune.data.datamodule import GeoData, TrainingData
    from geotune.runs.progress import RunProgress
    from geotune.stages.sft import SFT

    class TurnCallback(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
            turns.add(
                samples=len(batch.ids),
                tokens=batch.tokens,
                alone=sum(lengths[sample] for sample in batch.ids),
                padded=batch.input_ids.numel(),
                patches=sum(image.shape[-1] * image.shape[-2] for image in batch.pixels) // patch_area,
            )
            if pl_module.ends_update:
                turns.end_update()

    backbone = load_backbone(setup)
    disable_caches(backbone)
    encoder = backbone.encoder
    patch_area = encoder.processor.image_processor.patch_size**2
    settings = GeoData(
        DataConfig(
            setup.questions,
            setup.batch_size,
            prefix_tree=setup.reads_trees,
            group_size=setup.batch_size,
        )
    )
    dataset = settings.load(encoder, seed=0)
    plan = settings.plan(dataset, seed=0, accumulate=setup.accumulate, ranks=1)
    data = TrainingData(dataset, plan, seed=0, start=0, stop=setup.total, num_workers=setup.workers)
    lengths = {sample.id: int(length) for sample, length in zip(dataset.samples, dataset.lengths, strict=True)}
    progress = RunProgress(Path(), setup.total)
    stage = SFT(backbone, StageConfig(lr=LEARNING_RATE, warmup=0, schedule="constant"), progress)
    turns.report(loss=loss_before(backbone, dataset, setup), **parameter_counts(backbone.base))
    fit(stage, data, setup, TurnCallback())


def fit(stage: Any, data: Any, setup: Setup, callback: Any) -> None:
    """Train a stage on a data module with geotune's trainer and one callback."""
    from omegaconf import OmegaConf

    from geotune.config.training import TrainerConfig
    from geotune.training.trainer import trainer_from

    options = TrainerConfig(
        max_steps=setup.total,
        accumulate=setup.accumulate,
        devices=1,
        accelerator="gpu" if setup.device == "cuda" else "cpu",
    )
    trainer = trainer_from(OmegaConf.create({"trainer": asdict(options), "run_dir": None}), [], vision_trains=False)
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    trainer.fit(stage, datamodule=data)


def loss_before(backbone: Any, dataset: Any, setup: Setup) -> float:
    """Return the mean loss per supervised token of the first `CHECKED` samples, before training."""
    import torch

    from geotune.encoding.collate import collate, collate_tree
    from geotune.stages.sft import nll_sum

    encoder = backbone.encoder
    join = collate_tree if setup.reads_trees else collate
    losses, targets = 0.0, 0
    with torch.no_grad():
        for start in range(0, CHECKED, setup.batch_size):
            samples = [dataset.samples[i] for i in range(start, min(start + setup.batch_size, CHECKED, len(dataset)))]
            batch = join([encoder.encode(sample) for sample in samples], encoder).to(setup.device)
            losses += float(nll_sum(backbone(batch), batch.labels))
            targets += len(batch.labels)
    return losses / targets
