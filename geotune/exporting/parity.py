"""Whether exported folders hold the very model of the checkpoint: logits and greedy answers on fixed prompts."""

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
from geotune.sample import Sample, Turn
from geotune.tasks import SYSTEM_PROMPT
from geotune.tasks.geolocate import GEOLOCATE

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone
    from geotune.encoding.encoder import Encoder
    from geotune.encoding.segments import Encoded

TOLERANCE = 1e-4
"""Largest difference of two logits over the largest logit, where both were computed in float32 on equal weights."""
ROUNDING_TOLERANCE = 0.1
"""The same where one of the two has had its weights rounded to bfloat16."""
NEW_TOKENS = 16
"""Greedy tokens of each answer."""


@dataclass(frozen=True)
class Observed:
    """What a model says to the fixed prompts."""

    logits: torch.Tensor
    """(N, vocabulary) at the supervised places of all prompts."""
    answers: tuple[str, ...]
    """Greedy, at most `NEW_TOKENS` tokens each."""


def distance(logits: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference of two logits over the largest logit of `reference`."""
    return float((logits - reference).abs().max() / reference.abs().max())


def fixed_prompts(folder: Path) -> list[Sample]:
    """Questions about one image, about two, and about none, with answers; the images are written to `folder`."""
    random = np.random.default_rng(0)
    images = []
    for number, (width, height) in enumerate(((320, 240), (256, 256))):
        blocks = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        images.append(str((folder / f"{number}.png").absolute()))
        Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(images[-1])
    asked: tuple[tuple[list[str], str, str], ...] = (
        (images[:1], GEOLOCATE.prompt(explain=False), '{"latitude": 48.8566, "longitude": 2.3522}'),
        (images, "<image>\n<image>\nWhich way does the camera look?", '{"direction": "north"}'),
        ([], "Name the capital of France.", "Paris."),
    )
    return [
        Sample(
            id=f"self-test/{number}",
            images=tuple(shown),
            turns=(Turn("user", question), Turn("assistant", answer)),
            system=SYSTEM_PROMPT,
        )
        for number, (shown, question, answer) in enumerate(asked)
    ]


@torch.no_grad()
def logits_of(backbone: Backbone, prompts: Sequence[Sample]) -> torch.Tensor:
    """Logits (N, vocabulary) at the supervised places of all prompts, by this project's own forward pass."""
    return torch.cat([backbone(collate([backbone.encode(sample, Path())], backbone.encoder)) for sample in prompts])


def observe_backbone(backbone: Backbone, prompts: Sequence[Sample]) -> Observed:
    """What the checkpoint says, by this project's own forward pass and generation."""
    answers = generate(backbone, prompts, Path(), max_new_tokens=NEW_TOKENS, batch_size=1)
    return Observed(logits_of(backbone, prompts), tuple(answers))


@torch.no_grad()
def observe_model(model: Any, encoder: Encoder, stop_ids: Sequence[int], prompts: Sequence[Sample]) -> Observed:
    """What `model` of transformers or PEFT says by the library's own forward pass and generation."""
    from transformers import GenerationConfig

    logits, answers = [], []
    # Its own may hold a repetition penalty.
    model.generation_config = GenerationConfig(eos_token_id=list(stop_ids), pad_token_id=stop_ids[0])
    for sample in prompts:
        encoded = encoder.encode(sample, Path())
        predict = collate([encoded], encoder).logit_index
        logits.append(model(**_library_inputs(encoder, encoded)).logits[0, predict].float())
        inputs = _library_inputs(encoder, encoder.encode(sample, Path(), answer=False))
        made = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        answers.append(encoder.decode(made[0, inputs["input_ids"].shape[1] :].tolist()))
    return Observed(torch.cat(logits), tuple(answers))


def _library_inputs(encoder: Encoder, encoded: Encoded) -> dict[str, Any]:
    """One sample as the library's models take it, with their own positions and masks."""
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
    """One comparison of what two models say."""

    subject: str
    """What was tested."""
    reference: str
    """What it must equal."""
    difference: float
    """Largest difference of two logits over the reference's largest logit."""
    tolerance: float
    same_answers: bool
    answers_required: bool = True
    """Rounded weights may well choose another token where two are nearly tied."""

    @property
    def passed(self) -> bool:
        """Whether the two are the same model. A difference that is no number is none."""
        return self.difference <= self.tolerance and (self.same_answers or not self.answers_required)

    def __str__(self) -> str:
        answers = "the same answers" if self.same_answers else "other answers"
        return (
            f"{self.subject} and {self.reference}: logits differ by {self.difference:.1e} of the largest, at most "
            f"{self.tolerance:.0e} is allowed; {answers}"
        )


def compare_models(subject: str, found: Observed, reference: str, wanted: Observed, *, rounded: bool = False) -> Check:
    """Compare what was `found` with what was `wanted`. Raises RuntimeError when they are not the same model.

    rounded: the weights of one of the two have been rounded to bfloat16.
    """
    tolerance = ROUNDING_TOLERANCE if rounded else TOLERANCE
    same = found.answers == wanted.answers
    made = Check(
        subject, reference, distance(found.logits, wanted.logits), tolerance, same, answers_required=not rounded
    )
    if not made.passed:
        raise RuntimeError(f"self-test: {made}. Nothing was exported")
    return made


def load_model(folder: Path, base_model: str | None) -> Any:
    """The model in `folder`, or with the adapter there on `base_model`, in float32, as anyone would load it."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    path = str(folder) if base_model is None else base_model
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    return model if base_model is None else PeftModel.from_pretrained(model, str(folder)).eval()
