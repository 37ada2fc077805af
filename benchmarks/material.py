"""The material of every contender: GeoX-Bench's mix of questions on a synthetic city, and a random Qwen2.5-VL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from geotune.backbones.qwen_vl import QwenVL
from geotune.exporting.untrained import CHAT_TEMPLATE, SPECIAL_TOKENS, texts_of, train_tokenizer
from geotune.records import read_samples, write_samples
from geotune.tasks import CROSS_VIEW_TASKS

QUESTIONS = 39
"""Number of questions about a ground view in GeoX-Bench: 1 + 9 + 1 + 9 + 9 + 1 + 9 over the seven tasks."""
PATCH, MERGE = 14, 2
SEED = 0

TEXT: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    # Few layers with a wide MLP keep the share of attention low, as in the 7B model, where attention is a fiftieth of
    # the multiplications.
    "25m": {"hidden_size": 512, "intermediate_size": 4608, "num_hidden_layers": 3, "num_attention_heads": 8},
    "deep": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 28, "num_attention_heads": 4},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEY_VALUE_HEADS = {"tiny": 2, "25m": 2, "deep": 2, "7b": 4}
ROTARY = {"tiny": [2, 3, 3], "25m": [8, 12, 12], "deep": [2, 3, 3], "7b": [16, 24, 24]}
TOWER: dict[str, dict[str, Any]] = {
    "tiny": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "fullatt_block_indexes": [1]},
    "25m": {"depth": 8, "hidden_size": 128, "intermediate_size": 344, "num_heads": 2, "fullatt_block_indexes": [7]},
    "deep": {
        "depth": 32,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "7b": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
MODELS = tuple(TEXT)
"""Sizes of the model; `deep` is as deep as the 7B model, and as narrow as `tiny`."""


class RandomQwen(QwenVL):
    """A Qwen2.5-VL with random weights, which are the same in every process."""

    def _load_weights(self, config: Any, trust_remote_code: bool) -> torch.nn.Module:
        return random_model(config, self.dtype)


def random_model(config: Any, dtype: torch.dtype) -> Any:
    """Return a model of `config` with the random weights of `SEED`, on the current default device."""
    torch.manual_seed(SEED)
    return QwenVL.model_class._from_config(config, dtype=dtype, attn_implementation="sdpa")


def parameter_counts(model: Any) -> dict[str, int]:
    """Return the number of frozen parameters that each text token and each patch passes through.

    The language model's head is left out, because it serves few tokens.
    """
    tower = sum(p.numel() for p in model.model.visual.parameters())
    named = model.model.language_model.named_parameters()
    text = sum(p.numel() for name, p in named if "embed_tokens" not in name and "lora_" not in name)
    return {"text_parameters": text, "tower_parameters": tower}


def build_questions(folder: Path, *, views: int, side: int) -> Path:
    """Write 39 questions about each of `views` ground views and return their file.

    Each view is of a different place, and its images are `side` pixels wide. A view or map of 512 pixels gives 324
    visual tokens, a crop of that map (341 pixels) gives 144.
    """
    from geotune.data.building import ensure_dataset

    builder = {
        "_target_": "data_builders.synthetic.builder.SyntheticCity",
        "places": views,
        "tasks": list(CROSS_VIEW_TASKS),
        "explain": False,
        "view_size": side,
        "map_size": side,
    }
    city = ensure_dataset(folder / f"city_{views}_{side}", builder)
    by_place: dict[str, list[Any]] = {}
    for sample in read_samples(city):
        by_place.setdefault(sample.place, []).append(sample)
    # The questions about a view are consecutive. Each place contributes another heading than the one before.
    chosen = [
        sample
        for number, samples in enumerate(by_place.values())
        for sample in samples[number % 4 * QUESTIONS : (number % 4 + 1) * QUESTIONS]
    ]
    assert len(chosen) == views * QUESTIONS
    file = city.with_name("questions.jsonl")
    write_samples(file, chosen)
    return file


def build_model(folder: Path, model: str, questions: Path) -> Path:
    """Write config, tokenizer, template and processor of a Qwen2.5-VL of the size `model`, without weights.

    Returns the folder.
    """
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from geotune.backbones.qwen_vl import Qwen2_5_VLProcessor

    out = folder / f"model_{model}"
    tokenizer = train_tokenizer(
        texts_of(questions), SPECIAL_TOKENS, image_token="<|image_pad|>", video_token="<|video_pad|>"
    )
    images = Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2)
    template = CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    Qwen2_5_VLProcessor(images, tokenizer, chat_template=template).save_pretrained(str(out))
    token = {name: number for number, name in enumerate(SPECIAL_TOKENS)}
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT[model],
            "vocab_size": 152064 if model == "7b" else len(tokenizer),
            "num_key_value_heads": KEY_VALUE_HEADS[model],
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": ROTARY[model]},
            "tie_word_embeddings": model != "7b",
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
        },
        vision_config={
            **TOWER[model],
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": TEXT[model]["hidden_size"],
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=model != "7b",
        architectures=["Qwen2_5_VLForConditionalGeneration"],
    )
    config.save_pretrained(str(out))
    return out
