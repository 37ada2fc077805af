"""The time that a start takes to find out what a checkpoint depends on, at full size.

    python -m benchmarks.identity_speed

Measured are the facts about the 755,976 questions of everything that GeoX-Bench publishes, about a model of 16 GB whose
files are sparse, and about a tokenizer of 150,000 tokens; also the check of the dataset's cache, which the first of
them opens. The byte sizes of the images are made up, because a start knows them before.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.build_scale import RESULTS, VIEWS, Records, measured_alone
from benchmarks.machine import machine
from geotune.system.strict_json import write_json

SHARDS = 5
"""Number of files that the weights of a model are spread over."""
TOKENS = 150_000
"""Number of tokens of the tokenizer, about as many as Qwen's."""


def build(views: int, folder: Path) -> dict[str, float]:
    """Write the records with their index."""
    return {"records": Records(views).make(folder / "data", "records")["written"]}


def check_cache(views: int, folder: Path) -> dict[str, float]:
    """Measure the time to open an index, whose files are compared with their digests."""
    from geotune.data.sample_file import SampleFile

    return timed(lambda: SampleFile(folder / "data" / "records.jsonl"))


def data(views: int, folder: Path) -> dict[str, float]:
    """Measure the time to tell a training set from others, once its index, lengths and images are known."""
    from geotune.data.dataset import facts_of
    from geotune.data.image_sizes import KnownImage
    from geotune.data.sample_file import SampleFile

    source = SampleFile(folder / "data" / "records.jsonl")
    images = {name: KnownImage(number, number, 512, 512) for number, name in enumerate(source.image_names())}
    numbers, lengths = np.arange(len(source)), np.random.default_rng(0).integers(200, 4000, len(source))
    return {**timed(lambda: facts_of(source, numbers, lengths, images)), "images": len(images)}


def weights(views: int, folder: Path) -> dict[str, float]:
    """Measure the time to tell the weights of a base model from others."""
    from geotune.backbones.identity import weight_facts

    model = folder / "model"
    size, tensors = make_model(model, small=views < VIEWS[-1])
    weight_facts(str(model / "nowhere"))  # imports transformers, which a start has done before
    return {**timed(lambda: weight_facts(str(model))), "gigabytes": size / 1e9, "tensors": tensors}


def processor(views: int, folder: Path) -> dict[str, float]:
    """Measure the time to tell a processor from others."""
    from tokenizers import Tokenizer, models

    from geotune.backbones.qwen_vl import QwenVL
    from geotune.system.files import ASSETS

    encoder = QwenVL.load_encoder(str(ASSETS / "tiny"), max_pixels=10**6, min_pixels=None)
    letters = [chr(0x4E00 + number) for number in range(387)]
    merges = list(islice(product(letters, letters), TOKENS - len(letters)))
    words = [*letters, *(one + other for one, other in merges)]
    large = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    encoder.tokenizer._tokenizer = large
    return {**timed(lambda: encoder.facts), "tokens": large.get_vocab_size()}


def timed(function: Callable[[], object]) -> dict[str, float]:
    """Call a function, and return the seconds of the clock and those of the CPU, which other work does not lengthen."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def make_model(folder: Path, *, small: bool) -> tuple[int, int]:
    """Write a config and sparse files of weights, as Qwen2.5-VL-7B has them. Returns bytes and number of tensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    shapes = dict(qwen_shapes(width=64 if small else 3584, layers=2 if small else 28))
    names, place, total = list(shapes), {}, 0
    for number in range(SHARDS):
        shard = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        header, end = {}, 0
        for name in names[number * len(names) // SHARDS : (number + 1) * len(names) // SHARDS]:
            start, end = end, end + 2 * int(np.prod(shapes[name]))
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [start, end]}
            place[name] = shard
        text = json.dumps(header).encode()
        with (folder / shard).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        total += end
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}), encoding="utf-8")
    return total, len(names)


def qwen_shapes(width: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the tensors of a Qwen2.5-VL: the language model with `layers` layers, and a vision tower of 32 blocks."""
    narrow, wide, vision = width // 7, width * 37 // 7, min(width, 1280)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        yield name, (152_064, width)
    for layer in range(layers):
        block = f"model.layers.{layer}"
        for name, rows in (("q", width), ("k", narrow), ("v", narrow)):
            yield f"{block}.self_attn.{name}_proj.weight", (rows, width)
            yield f"{block}.self_attn.{name}_proj.bias", (rows,)
        yield f"{block}.self_attn.o_proj.weight", (width, width)
        for name, shape in (("gate", (wide, width)), ("up", (wide, width)), ("down", (width, wide))):
            yield f"{block}.mlp.{name}_proj.weight", shape
        for name in ("input", "post_attention"):
            yield f"{block}.{name}_layernorm.weight", (width,)
    for number in range(32):
        block = f"visual.blocks.{number}"
        for name, shape in (("attn.qkv", (3 * vision, vision)), ("attn.proj", (vision, vision))):
            yield f"{block}.{name}.weight", shape
            yield f"{block}.{name}.bias", shape[:1]
        for name, shape in (("gate", (3420, vision)), ("up", (3420, vision)), ("down", (vision, 3420))):
            yield f"{block}.mlp.{name}_proj.weight", shape
            yield f"{block}.mlp.{name}_proj.bias", shape[:1]
        for name in ("norm1", "norm2"):
            yield f"{block}.{name}.weight", (vision,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.identity_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--views", type=int, default=VIEWS[-1], help="ground views of 39 questions; fewer make the model small as well"
    )
    parser.add_argument("--work", type=Path, help="folder for temporary files; default: the system's")
    parser.add_argument("--out", type=Path, default=RESULTS / "identity_speed.json", help="result file")
    given = sys.argv[1:] if argv is None else list(argv)
    options = parser.parse_args(given)
    variants: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work, prefix="identity_speed_") as work:
        built = measured_alone(build, options.views, Path(work))
        for step in (check_cache, data, weights, processor):
            variants[step.__name__] = measured_alone(step, options.views, Path(work))
            print(f"{step.__name__}: {json.dumps(variants[step.__name__])}")
    write_json(
        options.out,
        {
            "bench": "identity_speed",
            "command": shlex.join(["python", "-m", "benchmarks.identity_speed", *given]),
            "machine": machine(),
            "versions": {name: version(name) for name in ("numpy", "tokenizers", "transformers")}
            | {"python": platform.python_version()},
            "settings": {"records": int(built["records"])},
            "variants": variants,
            "ratios": {},
            "in_all": {
                key: round(sum(variant[key] for variant in variants.values()), 3) for key in ("seconds", "cpu_seconds")
            },
        },
    )
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
