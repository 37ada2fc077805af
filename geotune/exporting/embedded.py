"""The embedded backbone: a small Qwen2.5-VL with its own tokenizer, in the ordinary Hugging Face layout.

    python -m geotune.exporting.embedded create <dataset.jsonl> <folder>
    python -m geotune.exporting.embedded internvl <dataset.jsonl> <folder>
    python -m geotune.exporting.embedded export <checkpoint> <folder> [--skills <dataset.jsonl>]

`create` makes an untrained folder: a tokenizer trained on the texts of a dataset, a processor and random weights, which
the recipes `tiny_perceive` and `tiny_pretrain` train; `export` turns a checkpoint of theirs into a folder that loads
like any other model's. `geotune/assets/tiny` is one. `internvl` makes a small InternVL of random weights, to try the
other family.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from geotune.backbones.generation import generate
from geotune.backbones.weights import save_processor
from geotune.errors import ConfigError
from geotune.records import read_samples
from geotune.sample import Sample
from geotune.tasks import SYSTEM_PROMPT, TASKS

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

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
"""Qwen's, without its default system prompt; IMAGE stands for the family's image mark."""
PROVENANCE = "provenance.json"
PATCH = 8
MERGE = 2
WORDS = r" ?[A-Za-z]+| ?[0-9]|[^\sA-Za-z0-9]|\s"
"""What the tokenizer never merges across: words stay whole, digits single, so that numbers are read digit by digit."""

MROPE_SECTION = (0, 1, 1, 0, 1, 1, *[1] * 12)
"""Rotary frequencies of time, row and column in turn, from the fastest: with three long sections, as in large models,
all of the columns' are so slow that the few columns of a small image look the same."""


def assets() -> Path:
    """The folder of the embedded backbone."""
    return Path(str(importlib.resources.files("geotune") / "assets" / "tiny"))


def train_tokenizer(texts: Iterable[str], special: Sequence[str], vocab_size: int = 1024, **extra: Any) -> Any:
    """A byte-level BPE tokenizer in which the common words of `texts` are single tokens; any text can be written."""
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
    """A Qwen2.5-VL of a few million parameters: 16 pixels per visual token, every vision layer over the whole image.

    A small rotary base and more room for rows and columns than in large models: images are 4 to 6 tokens wide.
    """
    from transformers import Qwen2_5_VLConfig

    token = {name: number for number, name in enumerate(SPECIAL_TOKENS)}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": list(MROPE_SECTION)},
            "tie_word_embeddings": True,
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
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
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def texts_of(corpus: Path) -> Iterator[str]:
    """Everything a dataset says, and every prompt of the project's tasks."""
    yield SYSTEM_PROMPT
    for task in TASKS.values():
        for explain in (False, True):
            yield task.prompt(explain=explain)
    for sample in read_samples(corpus):
        for turn in sample.turns:
            yield turn.text


def create_tiny(corpus: Path, out: Path, seed: int = 0) -> None:
    """Write the untrained backbone: tokenizer of the texts of `corpus`, processor, config, random weights of `seed`."""
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


def create_tiny_internvl(corpus: Path, out: Path, seed: int = 0) -> None:
    """Write an InternVL of random weights: tiles of 64 pixels, 16 visual tokens each."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration
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
    token = {name: number for number, name in enumerate(INTERNVL_TOKENS)}
    images = GotOcr2ImageProcessorPil(size={"height": 64, "width": 64}, crop_to_patches=True, max_patches=12)
    template = CHAT_TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n")
    InternVLProcessor(images, tokenizer, image_seq_length=16, chat_template=template).save_pretrained(str(out))
    config = InternVLConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
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
        image_token_id=token["<IMG_CONTEXT>"],
        image_seq_length=16,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    InternVLForConditionalGeneration(config).save_pretrained(str(out))


def export_embedded(checkpoint: Path, out: Path, skills: Path | None = None) -> None:
    """Write the fully trained model of a checkpoint in bfloat16, with its processor and `provenance.json`.

    Args:
        skills: exercises on places that training has not seen; what the model says to them, word for word, is measured.
    """
    import torch

    from geotune.backbones.qwen_vl import QwenVL
    from geotune.backbones.weights import load_weights

    config = OmegaConf.load(checkpoint / "config.yaml")
    settings: dict[str, Any] = {"max_pixels": config.backbone.max_pixels, "dtype": "float32"}
    whole: dict[str, Any] = dict.fromkeys(("tower", "projector", "language_model"), "full")
    backbone = QwenVL(path=config.backbone.path, **settings, **whole)
    load_weights(backbone, checkpoint)
    save_processor(backbone, out)
    model: Any = backbone.base
    model.to(torch.bfloat16).save_pretrained(str(out))
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    report = json.loads((Path(config.data.path) / "build_report.json").read_text(encoding="utf-8"))
    recipe: Any = OmegaConf.to_container(config)
    provenance: dict[str, Any] = {
        "made_by": f"python -m geotune.train recipe={config.recipe}",
        "updates": state["step"],
        "recipe": {key: value for key, value in recipe.items() if key not in ("run_dir", "resume", "wandb")},
        "data_fingerprint": state["data_fingerprint"],
        "city_fingerprint": report["audit"]["city_fingerprint"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if skills is not None:
        provenance["skills_word_for_word"] = skill_figures(QwenVL(path=str(out), **settings), skills)
    before = Path(config.backbone.path) / PROVENANCE
    if before.is_file():
        provenance["started_from"] = json.loads(before.read_text(encoding="utf-8"))
    (out / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def skill_figures(backbone: Backbone, exercises: Path, per_skill: int = 100) -> dict[str, float]:
    """Share of exercises, by skill, that free generation answers word for word."""
    by_skill: dict[str, list[Sample]] = {}
    for sample in read_samples(exercises):
        by_skill.setdefault(sample.task, []).append(sample)
    figures = {}
    for skill, samples in sorted(by_skill.items()):
        asked = samples[:per_skill]
        said = generate(backbone, asked, exercises.parent, max_new_tokens=160, batch_size=50)
        figures[skill] = round(sum(a == s.response for a, s in zip(said, asked, strict=True)) / len(asked), 4)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; SystemExit(2) for paths that are not what they should be."""
    parser = argparse.ArgumentParser(
        prog="python -m geotune.exporting.embedded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["create", "internvl", "export"])
    parser.add_argument("source", type=Path, help="a sharegpt dataset; for export a checkpoint")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--skills", type=Path, help="export: measure the skills on this dataset of exercises")
    args = parser.parse_args(argv)
    try:
        if args.command == "export":
            export_embedded(args.source, args.out, args.skills)
        else:
            {"create": create_tiny, "internvl": create_tiny_internvl}[args.command](args.source, args.out)
    except (ConfigError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
