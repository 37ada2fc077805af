"""The self-test of an export: models are compared by their logits and greedy answers on fixed prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from geotune.backbones.generation import generate
from geotune.encoding.collate import collate
from geotune.sample import IMAGE_TAG, Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.geolocate import GEOLOCATE

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.encoding.encoder import Encoder
    from geotune.encoding.segments import Encoded

TOLERANCE = 1e-4
"""Allowed `logit_difference` of two models with equal weights that both compute in float32."""
ROUNDING_TOLERANCE = 0.1
"""Allowed `logit_difference` if the weights of one of the two models were rounded to bfloat16."""
NEW_TOKENS = 16
"""Largest number of greedy tokens in an answer."""


@dataclass(frozen=True)
class Observed:
    """Logits and answers of a model on the fixed prompts."""

    logits: torch.Tensor
    """Logits (N, vocabulary) at the N supervised positions of all prompts."""
    answers: tuple[str, ...]
    """Greedy answers of at most `NEW_TOKENS` tokens."""


def logit_difference(logits: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the largest difference of two logits, relative to the largest logit of `reference`. Shapes are equal."""
    return float((logits - reference).abs().max() / reference.abs().max())


def fixed_prompts(folder: Path) -> list[Sample]:
    """Make samples with one image, with two and with none, and write their images to `folder`."""
    random = np.random.default_rng(0)
    images = []
    for number, (width, height) in enumerate(((320, 240), (256, 256))):
        blocks = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        images.append(str((folder / f"{number}.png").absolute()))
        Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(images[-1])
    prompts: tuple[tuple[list[str], str, str], ...] = (
        (images[:1], GEOLOCATE.prompt(explain=False), '{"latitude": 48.8566, "longitude": 2.3522}'),
        (images, f"{IMAGE_TAG}\n{IMAGE_TAG}\nWhich way does the camera look?", '{"direction": "north"}'),
        ([], "Name the capital of France.", "Paris."),
    )
    return [
        Sample(
            id=f"self-test/{number}",
            images=tuple(paths),
            turns=(Turn("user", question), Turn("assistant", answer)),
            system=SYSTEM_PROMPT,
        )
        for number, (paths, question, answer) in enumerate(prompts)
    ]


@torch.no_grad()
def logits_of(backbone: Backbone, prompts: Sequence[Sample]) -> torch.Tensor:
    """Compute logits (N, vocabulary) at the N supervised positions of all prompts, by this project's forward pass."""
    return torch.cat([backbone(collate([backbone.encode(sample)], backbone.encoder)) for sample in prompts])


def observe_backbone(backbone: Backbone, prompts: Sequence[Sample]) -> Observed:
    """Observe a backbone by this project's own forward pass and generation."""
    answers = generate(backbone, prompts, max_new_tokens=NEW_TOKENS, batch_size=1)
    return Observed(logits_of(backbone, prompts), tuple(answers))


@torch.no_grad()
def observe_model(
    model: Any, encoder: Encoder, stop_ids: Sequence[int], never_drawn: Sequence[int], prompts: Sequence[Sample]
) -> Observed:
    """Observe a model of transformers or PEFT by the library's own forward pass and generation.

    stop_ids, never_drawn: those of the backbone that it is compared with.
    """
    from transformers import GenerationConfig

    logits, answers = [], []
    # The configuration that comes with the model may hold a repetition penalty.
    model.generation_config = GenerationConfig(
        eos_token_id=list(stop_ids), pad_token_id=stop_ids[0], suppress_tokens=list(never_drawn) or None
    )
    for sample in prompts:
        encoded = encoder.encode(sample)
        predict = collate([encoded], encoder).logit_index
        logits.append(model(**_library_inputs(encoder, encoded)).logits[0, predict].float())
        inputs = _library_inputs(encoder, encoder.encode(sample, answer=False))
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        answers.append(encoder.decode(tokens[0, inputs["input_ids"].shape[1] :].tolist()))
    return Observed(torch.cat(logits), tuple(answers))


def _library_inputs(encoder: Encoder, encoded: Encoded) -> dict[str, Any]:
    """Return the arguments of a library model's forward pass for one sample; the model makes the positions."""
    batch = collate([encoded], encoder)
    inputs = {"input_ids": batch.input_ids, "attention_mask": torch.ones_like(batch.input_ids)}
    if batch.pixels:
        inputs |= encoder.pixel_values(batch.pixels)
        inputs.pop("tiles", None)
    if encoder.axes == 3:
        inputs["mm_token_type_ids"] = (batch.input_ids == encoder.image_token_id).int()
    return inputs


@dataclass(frozen=True)
class Check:
    """One comparison of two models on the fixed prompts."""

    subject: str
    """Name of the model under test."""
    reference: str
    """Name of the model that it must equal."""
    difference: float
    """`logit_difference` of the two models."""
    tolerance: float
    same_answers: bool
    answers_required: bool = True
    """False for rounded weights, which may choose another token where two are nearly tied."""

    @property
    def passed(self) -> bool:
        """Whether the two are the same model. A difference of NaN never passes."""
        return self.difference <= self.tolerance and (self.same_answers or not self.answers_required)

    def __str__(self) -> str:
        answers = "the same answers" if self.same_answers else "different answers"
        return (
            f"{self.subject} and {self.reference}: logits differ by {self.difference:.1e} of the largest logit "
            f"({self.tolerance:.0e} is allowed); {answers}"
        )


def compare_models(
    subject: str, observed: Observed, reference: str, expected: Observed, *, rounded: bool = False
) -> Check:
    """Compare the `observed` answers of the model `subject` with those `expected` of the model `reference`.

    Args:
        rounded: whether the weights of one of the two models were rounded to bfloat16.

    Raises:
        RuntimeError: they are not the same model.
    """
    tolerance = ROUNDING_TOLERANCE if rounded else TOLERANCE
    difference = logit_difference(observed.logits, expected.logits)
    same_answers = observed.answers == expected.answers
    check = Check(subject, reference, difference, tolerance, same_answers, answers_required=not rounded)
    if not check.passed:
        raise RuntimeError(f"self-test: {check}. Nothing was exported")
    return check


def load_model(folder: Path, base_model: str | None) -> Any:
    """Load a model in float32 with transformers and PEFT alone: the one in `folder`, or its adapter on `base_model`."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    path = str(folder) if base_model is None else base_model
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    return model if base_model is None else PeftModel.from_pretrained(model, str(folder)).eval()
