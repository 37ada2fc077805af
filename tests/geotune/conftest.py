"""Small random models of both families in the layout of the hub, and samples for them."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geotune.records import write_samples
from geotune.sample import Sample, Turn

QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INTERNVL_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
QWEN_TOKENS += ["<|video_pad|>"]
INTERNVL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
CORPUS = [
    "You are a helpful assistant. system user assistant Which way does the camera look? Answer in JSON.",
    '{"direction": "N"} {"direction": "E"} {"direction": "S"} {"direction": "W"} {"location": "top_left"}',
    "The view shows a red block on the left and a blue block on the right; the map shows them to the north.",
]


@pytest.fixture(autouse=True, scope="session")
def heeded_signals() -> None:
    """Undo what nohup and the background jobs of a shell do: they start programs with some signals ignored."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def make_tokenizer(special: list[str], **extra: Any) -> Any:
    """Train a byte-level BPE tokenizer on a few sentences. special: the special tokens; extra: further arguments."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=special[3:],
        **extra,
    )


def text_config(tokenizer: Any) -> dict[str, Any]:
    """Settings of a small language model that both families share."""
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
    }


def save_random_model(model_class: Any, config: Any, folder: Path, seed: int) -> None:
    """Save a model with random weights drawn from `seed`."""
    import torch

    torch.manual_seed(seed)
    model = model_class(config)
    spread(model)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    model.save_pretrained(folder)


def make_qwen(folder: Path, seed: int = 0) -> None:
    """Save a random Qwen2.5-VL: 16 x 16 pixels per visual token, one windowed and one full ViT layer."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from geotune.backbones.qwen_vl import Qwen2_5_VLProcessor

    tokenizer = make_tokenizer(QWEN_TOKENS)
    image = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, min_pixels=16 * 16, max_pixels=512 * 512)
    Qwen2_5_VLProcessor(image, tokenizer, chat_template=QWEN_TEMPLATE).save_pretrained(folder)
    ids = dict(zip(QWEN_TOKENS, tokenizer.convert_tokens_to_ids(QWEN_TOKENS), strict=True))
    config = Qwen2_5_VLConfig(
        text_config={
            **text_config(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 32,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    save_random_model(Qwen2_5_VLForConditionalGeneration, config, folder, seed)


def make_internvl(folder: Path, seed: int = 0) -> None:
    """Save a random InternVL: tiles of 32 x 32 pixels with four visual tokens each."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    from geotune.backbones.internvl import InternVLProcessor

    tokenizer = make_tokenizer(
        INTERNVL_TOKENS,
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    image = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=12)
    processor = InternVLProcessor(image, tokenizer, image_seq_length=4, chat_template=INTERNVL_TEMPLATE)
    processor.save_pretrained(folder)
    ids = dict(zip(INTERNVL_TOKENS, tokenizer.convert_tokens_to_ids(INTERNVL_TOKENS), strict=True))
    config = InternVLConfig(
        text_config={
            **text_config(tokenizer),
            "model_type": "qwen2",
            "tie_word_embeddings": False,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [32, 32],
            "patch_size": [8, 8],
        },
        image_token_id=ids["<IMG_CONTEXT>"],
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    save_random_model(InternVLForConditionalGeneration, config, folder, seed)


def spread(model: Any) -> None:
    """Enlarge the weights, whose usual scale is 0.02, so that outputs depend on inputs and greedy choices are clear.

    Embeddings are not enlarged: with tied ones the model would repeat its last token.
    """
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed_tokens" not in name:
                parameter.mul_(6)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread: several threads sum gradients in an order that changes from run to run."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def qwen_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen2.5-VL."""
    folder = tmp_path_factory.mktemp("tiny-qwen")
    make_qwen(folder)
    return folder


@pytest.fixture(scope="session")
def internvl_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random InternVL."""
    folder = tmp_path_factory.mktemp("tiny-internvl")
    make_internvl(folder)
    return folder


@pytest.fixture(scope="session")
def load_tiny(qwen_path: Path, internvl_path: Path) -> Callable[..., Any]:
    """`load_tiny("qwen" | "internvl", **settings)` loads a new float32 backbone."""

    def load(family: str, **settings: Any) -> Any:
        from geotune.backbones.internvl import InternVL
        from geotune.backbones.qwen_vl import QwenVL
        from geotune.config.parts import BackboneConfig

        kind, path, pixels = (QwenVL, qwen_path, 96 * 96) if family == "qwen" else (InternVL, internvl_path, 3 * 1024)
        return kind(BackboneConfig(**{"path": str(path), "max_pixels": pixels, "dtype": "float32", **settings}))

    return load


def image(path: Path, size: tuple[int, int], seed: int) -> str:
    """Write a random image of `size` (width, height) to `path` and return its name."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sample]]:
    """A folder of images with `city.jsonl`, and its 24 samples: two or three images, answers of several lengths."""
    folder = tmp_path_factory.mktemp("city")
    views = [image(folder / f"view{i}.png", (48, 32), i) for i in range(6)]
    maps = [image(folder / f"map{i}.png", (64, 64), 100 + i) for i in range(3)]
    samples = []
    for number in range(24):
        images = (views[number % 6], *maps[: 1 + number % 2])
        prompt = "<image>\n" * len(images) + "Which way does the camera look?" + " Answer in JSON." * (number % 3)
        explanation = "The view shows a red block on the left.\n" * (number % 4)
        gold = "NESW"[number % 4]
        samples.append(
            Sample(
                id=f"city/{number}",
                images=images,
                turns=(Turn("user", prompt), Turn("assistant", f'{explanation}{{"direction": "{gold}"}}')),
                system="You are a helpful assistant.",
                task="pose_fixed" if number % 2 else "pose_random",
                answer=gold,
                source="city",
                place=f"city/{number % 6}",
            )
        )
    write_samples(folder / "city.jsonl", samples)
    return folder, samples


@pytest.fixture
def recipe(qwen_path: Path, internvl_path: Path, city: tuple[Path, list[Sample]], tmp_path: Path) -> Callable[..., Any]:
    """`recipe(**{"stage.lr": 0.1})` makes the complete config of a short run on the city, in its own folder."""
    from omegaconf import OmegaConf

    from geotune.config.parts import BackboneConfig, DataConfig, StageConfig
    from geotune.config.training import TrainConfig, TrainerConfig, WandbConfig

    def make(family: str = "qwen", **changes: Any) -> Any:
        target, path, pixels = {
            "qwen": ("geotune.backbones.qwen_vl.QwenVL", qwen_path, 96 * 96),
            "internvl": ("geotune.backbones.internvl.InternVL", internvl_path, 3 * 1024),
        }[family]
        config = TrainConfig(
            recipe="test",
            backbone=BackboneConfig(str(path), pixels, dtype="float32", _target_=target),
            stage=StageConfig(lr=1e-2, _target_="geotune.stages.sft.SFT"),
            data=DataConfig(str(city[0] / "city.jsonl"), batch_size=2, _target_="geotune.data.datamodule.GeoData"),
            trainer=TrainerConfig(max_steps=6, accumulate=2, accelerator="cpu", checkpoint_every=2, log_every=2),
            wandb=WandbConfig(mode="disabled"),
            run_dir=str(tmp_path / "run"),
        )
        cfg = OmegaConf.create(asdict(config))
        for key, value in changes.items():
            OmegaConf.update(cfg, key, value, force_add=True)
        OmegaConf.set_struct(cfg, True)
        if not cfg.dry_run:
            Path(cfg.run_dir).mkdir(parents=True, exist_ok=True)
        return cfg

    return make


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`full_disk(size)`: within the block no file grows beyond `size` bytes, as on a full disk."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
