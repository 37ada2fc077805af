"""What tells a backbone from another: its base weights, its processor and its prompt, as facts of an identity."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geotune.runs.identity import TEMPLATE
from geotune.system.digests import fingerprint_of

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PIECE_BYTES = 16 * 2**10
PIECES = 4
"""Number of pieces that are read of each tensor, from its start to its end: 64 KiB in all."""
READERS = 8
"""Number of threads that read; they wait for the disk most of the time."""
IGNORED_SETTINGS = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache", "architectures")
"""Settings of a model's config.json that differ between two copies of one model."""


def backbone_identity(backbone: Backbone) -> dict[str, dict[str, str]]:
    """Return the parts `weights`, `processor` and `prompt` of the identity of what is trained on `backbone`."""
    return {
        "weights": weight_facts(backbone.path),
        "processor": backbone.encoder.facts,
        "prompt": {TEMPLATE: backbone.template_hash},
    }


def weight_facts(path: str) -> dict[str, str]:
    """Return facts about the weights at `path`, a folder or a hub id whose files are in the local cache.

    They are the config, the names, types and shapes of the tensors, and 64 KiB of each tensor. Weights that are spread
    over other files in another order are the same. There are no facts without safetensors.
    """
    tensors = sorted(_tensors(path), key=lambda tensor: tensor.name)
    if not tensors:
        return {}
    with ThreadPoolExecutor(READERS) as pool:
        digests = list(pool.map(_digest, tensors))
    config = json.loads(Path(_file(path, CONFIG) or "").read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in IGNORED_SETTINGS}
    layout = fingerprint_of(json.dumps([(tensor.name, tensor.kind, tensor.shape) for tensor in tensors]))
    return {
        "tensors": f"{len(tensors):,} names and shapes ({layout})",
        "values": fingerprint_of("".join(digests)),
        CONFIG: fingerprint_of(json.dumps(kept, sort_keys=True)),
    }


class _Tensor(NamedTuple):
    """Where a tensor lies in a file of safetensors."""

    name: str
    kind: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int


def _tensors(path: str) -> Iterator[_Tensor]:
    """Yield the tensors at `path`, from one file or from all that an index names."""
    if (whole := _file(path, WEIGHTS)) is not None:
        yield from _tensors_in(whole)
    elif (index := _file(path, INDEX)) is not None:
        names: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        for shard in sorted(set(names.values())):
            if (file := _file(path, shard)) is not None:
                yield from (tensor for tensor in _tensors_in(file) if names.get(tensor.name) == shard)


def _tensors_in(file: Path) -> Iterator[_Tensor]:
    """Yield the tensors of a file of safetensors: eight bytes hold the length of a header in JSON, which lists them."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header: dict[str, Any] = json.loads(opened.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield _Tensor(name, entry["dtype"], tuple(entry["shape"]), file, 8 + length + start, 8 + length + end)


def _digest(tensor: _Tensor) -> str:
    """Return a digest of a small tensor, or of `PIECES` pieces of a large one."""
    last = tensor.end - PIECE_BYTES
    spans = [(tensor.start, tensor.end - tensor.start)]
    if spans[0][1] > PIECES * PIECE_BYTES:
        step = (last - tensor.start) / (PIECES - 1)
        spans = [(tensor.start + round(number * step), PIECE_BYTES) for number in range(PIECES)]
    digest = hashlib.blake2b(digest_size=8)
    with tensor.file.open("rb", buffering=0) as file:
        for start, size in spans:
            digest.update(os.pread(file.fileno(), size, start))
    return digest.hexdigest()


def _file(path: str, name: str) -> Path | None:
    """Return a file of the model at `path`, without asking the network; None if there is none."""
    from transformers.utils import cached_file

    try:
        found = cached_file(path, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
    except OSError:  # not in the local cache
        return None
    return None if found is None else Path(found)
