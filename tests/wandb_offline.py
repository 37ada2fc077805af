"""Reads what W&B wrote offline; the library has no reader of its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def wandb_records(run_dir: Path) -> list[Any]:
    """All records of a finished offline run, which is complete on disk."""
    (file,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    records = list(read_wandb_records(file.read_bytes()))
    assert records[-1].WhichOneof("record_type") == "exit"
    return records


def read_wandb_records(data: bytes) -> Iterator[Any]:
    """Read the complete records of a LevelDB log: blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    block, at, whole = 32768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + size > len(data):
            return
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # full, or the last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record
