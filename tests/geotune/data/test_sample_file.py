"""Random access to samples gives the same samples as reading the file in order."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from geotune.data import cache, index
from geotune.data.cache import CACHE
from geotune.data.sample_file import SampleFile
from geotune.errors import ConfigError
from geotune.records import read_samples, write_samples
from geotune.sample import Sample, Turn


def samples(count: int) -> list[Sample]:
    return [
        Sample(
            id=f"a/{number}",
            images=tuple(f"{name}.png" for name in (f"view{number // 4}", f"map{number % 3}")[: number % 3]),
            turns=(Turn("user", "<image>" * (number % 3) + f"Wo? {number}"), Turn("assistant", "Zürich")),
            task=("pose_fixed", "intra_map")[number // 2 % 2],
            answer="N",
            place=f"p/{number // 4}" if number % 5 else "",
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_any_record_is_read_as_in_order(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "BLOCK_BYTES", 300)  # many blocks, cut in the middle of records
    path = tmp_path / f"data{suffix}"
    write_samples(path, samples(25))
    file = SampleFile(path)
    whole = list(read_samples(path))
    assert len(file) == 25
    for number in np.random.default_rng(0).permutation(25).tolist():
        assert file[number] == whole[number]
    assert file[-1] == whole[-1]
    assert pickle.loads(pickle.dumps(file))[3] == whole[3]
    assert [file.task_names[task] for task in file.tasks] == [sample.task for sample in whole]
    names = file.image_names()
    for number, sample in enumerate(whole):
        shown = file.image_numbers[file.image_starts[number] : file.image_starts[number + 1]]
        assert [names[image] for image in shown] == list(sample.images)
    chosen = np.array([7, 8, 20])
    shown_in_order = dict.fromkeys(name for number in chosen for name in whole[number].images)
    assert [names[image] for image in file.images_of(chosen)] == list(shown_in_order)
    groups = [index.group_of(sample) for sample in whole]
    order = {group: rank for rank, group in enumerate(dict.fromkeys(groups))}
    assert file.groups.tolist() == [order[group] for group in groups]
    with pytest.raises(IndexError):
        file[25]


def test_quirks_that_the_slow_reader_allows(tmp_path: Path) -> None:
    path = tmp_path / "quirks.jsonl"
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    lines = [json.dumps({"conversations": turns}), "", "  ", json.dumps({"id": 7, "conversations": turns})]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    file = SampleFile(path)
    assert [file[number] for number in range(2)] == list(read_samples(path))
    assert [sample.id for sample in (file[0], file[1])] == ["quirks/0", "7"]


BLANKS = [*map(chr, range(0x1C, 0x20)), *"\t\r\x0b\x0c\x85\xa0\u2028\u3000\ufeff", "\ufeff \ufeff\xa0"]


@pytest.mark.parametrize("blank", BLANKS)
def test_one_rule_says_which_lines_are_blank(tmp_path: Path, blank: str) -> None:
    """The index, its reader and the sequential reader pass over the same lines, and strip the same ends of records."""
    path = tmp_path / "data.jsonl"
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    records = [json.dumps({"id": name, "conversations": turns}) for name in "abc"]
    path.write_bytes(
        f"{blank}\n{records[0]}\n{blank}\n\n{blank}{records[1]}{blank}\n{blank}\n{records[2]}\n{blank}".encode()
    )
    file = SampleFile(path)
    assert [sample.id for sample in read_samples(path)] == list("abc")
    assert [file[number].id for number in range(len(file))] == list("abc")


@pytest.mark.parametrize("line", [b"\xff", "\u200b".encode(), b"\0", b"\xc2\xa0."])
def test_a_line_of_anything_else_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "data.jsonl"
    write_samples(path, samples(2))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ConfigError, match=r"data\.jsonl:3"):
        SampleFile(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "a/1", "conversations": []}', "turns must alternate"),
        ("{", "not JSON"),
        (
            '{"id": "a/0", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}',
            "is taken",
        ),
    ],
)
def test_a_bad_record_is_named_as_by_the_slow_reader(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "data.jsonl"
    write_samples(path, samples(3))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=rf"data\.path=.*data\.jsonl:4.*{reason}.*correct the record"):
        SampleFile(path)


def test_the_index_is_made_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.jsonl"
    write_samples(path, samples(6))
    first = SampleFile(path)
    passes: list[Path] = []
    checked = index._check_block
    monkeypatch.setattr(index, "_check_block", lambda path, span: passes.append(path) or checked(path, span))
    assert SampleFile(path).digest == first.digest
    assert not passes
    monkeypatch.setattr(cache, "IN_USE_SECONDS", -1)
    write_samples(path, samples(7))
    os.utime(path, ns=(1, 1))
    again = SampleFile(path)
    assert (len(again), len(passes)) == (7, 1)
    assert again.digest != first.digest
    assert len(list(index.cache_folder(path).glob("index-*"))) == 1


def test_an_index_that_was_just_opened_is_kept(tmp_path: Path) -> None:
    """Another process may be about to read it."""
    path = tmp_path / "data.jsonl"
    write_samples(path, samples(6))
    first = index.open_index(path)[1]
    write_samples(path, samples(7))
    assert len(SampleFile(path)) == 7
    assert len(np.load(first / "starts.npy")) == 7


def test_a_folder_that_cant_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "read_only" / "data.jsonl"
    write_samples(path, samples(3))
    (path.parent / CACHE).write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(SampleFile(path)) == 3
    assert list((tmp_path / "cache" / "geotune").iterdir())


def test_the_index_that_is_noted_while_writing_is_the_one_that_a_pass_finds(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_samples(path, samples(25))
    maker = index.IndexMaker()
    for sample, line in zip(samples(25), path.read_text(encoding="utf-8").splitlines(keepends=True), strict=True):
        maker.add(sample, line)
    maker.keep(path)
    (noted,) = (tmp_path / CACHE / path.name).glob("index-*")
    files = {file.name: file.read_bytes() for file in noted.iterdir()}
    for file in noted.iterdir():
        file.unlink()
    noted.rmdir()
    assert SampleFile(path).folder == noted, "found anew"
    assert {file.name: file.read_bytes() for file in noted.iterdir()} == files
