"""Small untrained models in the ordinary Hugging Face layout: tokenizer, processor, config and random weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from geotune.records import read_samples
from geotune.tasks import SYSTEM_PROMPT, TASKS

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
INTERNVL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
CHAT_TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Qwen's chat template without its default system prompt. IMAGE is replaced by the image tokens of the family."""
PATCH = 8
MERGE = 2
WORDS = r" ?[A-Za-z]+| ?[0-9]|[^\sA-Za-z0-9]|\s"
"""Pattern of the pieces across which the tokenizer never merges.

A word is one piece, and so is each digit, so that numbers are read digit by digit.
"""

MROPE_SECTION = (0, 1, 1, 0, 1, 1, *[1] * 12)
"""Numbers of rotary frequencies given in turn to time, row and column, from the fastest frequency on.

Large models use three long sections. All frequencies of the columns would then be so slow that the few columns of a
small image could hardly be told apart.
"""
LANGUAGE_MODEL_SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def train_tokenizer(texts: Iterable[str], special: Sequence[str], vocab_size: int = 1024, **extra: Any) -> Any:
    """Train a byte-level BPE tokenizer, which can encode any text, and the common words of `texts` in one token each.

    Args:
        texts: training texts.
        special: special tokens in the order of their ids; the first one pads.
        vocab_size: largest number of tokens.
        extra: further special tokens by the name of their attribute.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(special),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special[1:]),
        extra_special_tokens=extra,
        model_max_length=2048,
    )


def tiny_config(vocab_size: int) -> Any:
    """Configure a Qwen2.5-VL with a few million parameters, 16 x 16 pixels per visual token and full vision attention.

    Images are only 4 to 6 tokens wide, so the rotary base is small and rows and columns get the fast frequencies.
    """
    from transformers import Qwen2_5_VLConfig

    token_ids = {name: number for number, name in enumerate(SPECIAL_TOKENS)}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocab_size,
            **LANGUAGE_MODEL_SIZES,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": list(MROPE_SECTION)},
            "tie_word_embeddings": True,
            "bos_token_id": token_ids["<|endoftext|>"],
            "eos_token_id": token_ids["<|im_end|>"],
            "pad_token_id": token_ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_heads": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 1024,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [0, 1],
        },
        image_token_id=token_ids["<|image_pad|>"],
        video_token_id=token_ids["<|video_pad|>"],
        vision_start_token_id=token_ids["<|vision_start|>"],
        vision_end_token_id=token_ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def texts_of(corpus: Path) -> Iterator[str]:
    """Yield the text of every turn of a dataset, after the system prompt and every prompt of the project's tasks."""
    yield SYSTEM_PROMPT
    for task in TASKS.values():
        for explain in (False, True):
            yield task.prompt(explain=explain)
    for sample in read_samples(corpus):
        for turn in sample.turns:
            yield turn.text


def create_tiny(corpus: Path, out: Path, seed: int = 0) -> None:
    """Write an untrained Qwen2.5-VL to `out`: a tokenizer trained on `corpus`, processor, config and random weights."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from geotune.backbones.qwen_vl import Qwen2_5_VLProcessor

    tokenizer = train_tokenizer(
        texts_of(corpus), SPECIAL_TOKENS, image_token="<|image_pad|>", video_token="<|video_pad|>"
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": 256, "longest_edge": 512 * 512},
    )
    template = CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    Qwen2_5_VLProcessor(images, tokenizer, chat_template=template).save_pretrained(str(out))
    torch.manual_seed(seed)
    Qwen2_5_VLForConditionalGeneration(tiny_config(len(tokenizer))).save_pretrained(str(out))


def tiny_internvl_config(vocab_size: int) -> Any:
    """Configure an InternVL with tiles of 64 x 64 pixels and 16 visual tokens per tile."""
    from transformers import InternVLConfig

    token_ids = {name: number for number, name in enumerate(INTERNVL_TOKENS)}
    return InternVLConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": vocab_size,
            **LANGUAGE_MODEL_SIZES,
            "bos_token_id": token_ids["<|endoftext|>"],
            "eos_token_id": token_ids["<|im_end|>"],
            "pad_token_id": token_ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": [64, 64],
            "patch_size": [8, 8],
        },
        image_token_id=token_ids["<IMG_CONTEXT>"],
        image_seq_length=16,
        tie_word_embeddings=True,
    )


def create_tiny_internvl(corpus: Path, out: Path, seed: int = 0) -> None:
    """Write an untrained InternVL to `out`: a tokenizer trained on `corpus`, processor, config and random weights."""
    import torch
    from transformers import InternVLForConditionalGeneration
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    from geotune.backbones.internvl import InternVLProcessor

    tokenizer = train_tokenizer(
        texts_of(corpus),
        INTERNVL_TOKENS,
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    images = GotOcr2ImageProcessorPil(size={"height": 64, "width": 64}, crop_to_patches=True, max_patches=12)
    template = CHAT_TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n")
    InternVLProcessor(images, tokenizer, image_seq_length=16, chat_template=template).save_pretrained(str(out))
    torch.manual_seed(seed)
    InternVLForConditionalGeneration(tiny_internvl_config(len(tokenizer))).save_pretrained(str(out))
