"""The rules by which LLaMA-Factory (0.9.5) and ms-swift (4.6.0) read a dataset, written from their loaders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from data_builders.sources.geox_index import GeoxIndex

PLACEHOLDERS = ("<image>", "<video>", "<audio>")
# Columns that ms-swift keeps and gives a meaning (its preprocessor's standard keys, and GRPO's `solution`).
SWIFT_COLUMNS = {
    f"{prefix}{name}"
    for prefix in ("", "rejected_", "positive_", "negative_")
    for name in ("messages", "images", "videos", "audios", "tools", "objects")
} | {
    "rejected_response",
    "label",
    "channel",
    "margin",
    "teacher_prompt",
    "teacher_images",
    "questions",
    "kinds",
    "options",
    "target_probs",
    "state",
    "question_ids",
    "criteria",
    "omnijev_column_keys",
    "omnijev_video",
    "chat_template_kwargs",
    "ref_audios",
    "audio_codes",
    "solution",
}
# Names that its preprocessor takes for the same column; two of one row in a file would cancel each other.
SWIFT_ALIASES = [
    {"messages", "conversation", "conversations"},
    {"system", "system_prompt"},
    {"image", "images"},
    {"video", "videos"},
    {"audio", "audios"},
]
MEANT = {"images"}


@pytest.fixture(scope="module", params=["relative", "absolute"])
def dataset(request: pytest.FixtureRequest, every_shape: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param)
    settings = every_shape.settings(sources=["CVGloable", "CVUSA_zoom18"])
    GeoxIndex(**settings).make(out, "geox", paths=request.param)
    return out


def llama_factory_row(entry: dict[str, Any], row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What LLaMA-Factory makes of one row; raises where it would drop the row or fail."""
    columns = entry.get("columns", {"messages": "conversations"})
    # With `columns` present, a name that it leaves out is None, not its default.
    messages, system, images = (columns.get(name) for name in ("messages", "system", "images"))
    turns = row[messages]
    assert turns
    assert turns[0]["from"] != "system"
    for number, turn in enumerate(turns):
        assert turn["from"] in (("human", "observation"), ("gpt", "function_call"))[number % 2]
    assert len(turns) % 2 == 0
    text = "".join(turn["value"] for turn in turns)
    medias = row[images]
    assert isinstance(medias, list)
    assert all(isinstance(media, str) for media in medias)
    found = [os.path.join(folder, media) for media in medias]
    assert all(map(os.path.isfile, found)), "it would warn once and pass the bare name on"
    assert len(medias) == text.count("<image>")
    assert "<video>" not in text
    assert "<audio>" not in text
    assert all(placeholder not in row[system] for placeholder in PLACEHOLDERS)
    return {"prompt": turns[:-1], "response": turns[-1:], "system": row[system], "images": found}


def swift_row(row: dict[str, Any]) -> dict[str, Any]:
    """What ms-swift makes of one row (its preprocessor for files with a column `conversations`)."""
    roles = {"human": "user", "user": "user", "gpt": "assistant", "bot": "assistant", "assistant": "assistant"}
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") is not None else []
    for turn in row["conversations"]:
        assert set(turn) == {"from", "value"}
        assert turn["value"] is not None
        messages.append({"role": roles[turn["from"]], "content": turn["value"]})
    # It drops every column that is not one of its own.
    kept = {name: row[name] for name in row if name in SWIFT_COLUMNS}
    assert len(kept["images"]) == sum(message["content"].count("<image>") for message in messages)
    return kept | {"messages": messages}


def test_llama_factory(dataset: Path) -> None:
    # Read there in the encoding of the locale.
    info = json.loads((dataset / "dataset_info.json").read_text(encoding="ascii"))
    entry = info["geox"]
    assert entry["formatting"] == "sharegpt"
    assert set(entry["columns"]) <= {"messages", "system", "images"}
    path = dataset / entry["file_name"]
    assert path.is_file()
    assert path.suffix == ".jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2 * 20 * 39
    for row in rows:
        assert len(llama_factory_row(entry, row, dataset)["images"]) >= 2


def test_ms_swift(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in (dataset / "geox.jsonl").read_text(encoding="utf-8").splitlines()]
    columns = set(rows[0])
    assert columns & SWIFT_COLUMNS == MEANT
    assert all(len(columns & names) <= 1 for names in SWIFT_ALIASES)
    # It resolves paths from the working directory: absolute ones work from anywhere.
    monkeypatch.chdir(dataset if dataset.name.startswith("relative") else "/")
    for row in rows:
        made = swift_row(row)
        assert [message["role"] for message in made["messages"]] == ["system", "user", "assistant"]
        assert all(Path(image).is_file() for image in made["images"])


def test_datasets_reads_stable_columns(dataset: Path, tmp_path: Path) -> None:
    from datasets import List, Value, load_dataset

    path = str(dataset / "geox.jsonl")
    table = load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path))
    assert len(table) == 2 * 20 * 39
    strings = {name: Value("string") for name in ("id", "system", "task", "answer", "source", "place", "meta")}
    assert dict(table.features) == strings | {
        "images": List(Value("string")),
        "conversations": List({"from": Value("string"), "value": Value("string")}),
    }
    assert all(value is not None for name in strings for value in table[name])


def test_every_row_has_the_same_types(dataset: Path) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shape(inner) for name, inner in value.items()}
        if isinstance(value, list):
            kinds = [shape(inner) for inner in value]
            assert all(kind == kinds[0] for kind in kinds)
            return [kinds[0]]
        return type(value).__name__

    shapes = [shape(json.loads(line)) for line in (dataset / "geox.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(each == shapes[0] for each in shapes)
