"""What every contender is given: GeoX-Bench's mix of questions on a drawn city, and a Qwen2.5-VL of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from geotune.backbones.qwen_vl import QwenVL
from geotune.exporting.untrained import CHAT_TEMPLATE, SPECIAL_TOKENS, texts_of, train_tokenizer
from geotune.records import read_samples, write_samples
from geotune.tasks import CROSS_VIEW_TASKS

QUESTIONS = 39
"""Of a ground view in GeoX-Bench: 1 + 9 + 1 + 9 + 9 + 1 + 9 over the seven tasks."""
PATCH, MERGE = 14, 2
SEED = 0

TEXT: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    # Few layers with a wide MLP: attention is a fiftieth of the 7B's products, and more the smaller a model is.
    "25m": {"hidden_size": 512, "intermediate_size": 4608, "num_hidden_layers": 3, "num_attention_heads": 8},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEY_VALUE_HEADS = {"tiny": 2, "25m": 2, "7b": 4}
ROTARY = {"tiny": [2, 3, 3], "25m": [8, 12, 12], "7b": [16, 24, 24]}
TOWER: dict[str, dict[str, Any]] = {
    "tiny": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "fullatt_block_indexes": [1]},
    "25m": {"depth": 8, "hidden_size": 128, "intermediate_size": 344, "num_heads": 2, "fullatt_block_indexes": [7]},
    "7b": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
MODELS = tuple(TEXT)


class RandomQwen(QwenVL):
    """A Qwen2.5-VL whose weights are drawn instead of read, the same in every process."""

    def _load_model(self, path: str, config: Any, trust_remote_code: bool) -> torch.nn.Module:
        return random_model(config, self.dtype)


def random_model(config: Any, dtype: torch.dtype) -> Any:
    """The model of `config` with the weights of `SEED`, on the current default device."""
    torch.manual_seed(SEED)
    return QwenVL.model_class._from_config(config, dtype=dtype, attn_implementation="sdpa")


def build_questions(folder: Path, *, views: int, side: int) -> Path:
    """The file of 39 questions to each of `views` ground views, each of a place of its own; images `side` px wide.

    Views and maps of 512 px are 324 visual tokens, the nine crops of a map (341 px) 144.
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
    asked: dict[str, list[Any]] = {}
    for sample in read_samples(city):
        asked.setdefault(sample.place, []).append(sample)
    # The questions of a view stand together; a place's views take turns, so that all four headings occur.
    chosen = [
        sample
        for number, samples in enumerate(asked.values())
        for sample in samples[number % 4 * QUESTIONS : (number % 4 + 1) * QUESTIONS]
    ]
    assert len(chosen) == views * QUESTIONS
    file = city.with_name("questions.jsonl")
    write_samples(file, chosen)
    return file


def build_model(folder: Path, model: str, questions: Path) -> Path:
    """A folder with config, tokenizer, template and processor of a Qwen2.5-VL of the size `model`, without weights."""
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
