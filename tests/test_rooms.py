"""The rooms of docs/architecture.md: who may import by name, who may name whom, and that no two things share a name."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("geotune", "eval", "data_builders")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TABLE, RESOLVER = "geotune/cli/commands.py", "geotune/config/targets.py"

BY_NAME = re.compile(r"\b(import_module|__import__|importlib\.util|find_spec|spec_from_file_location|pkgutil|runpy)\b")
ABOVE = re.compile(r"\bdata_builders\b|(?<![\w.\"'])eval\.(?!/)[a-z_]+\b|from eval\b|import eval\b|[\"']eval\.[a-z_]")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_of(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, comments left out: they may speak of anything."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            number, column = token.start
            lines[number - 1] = lines[number - 1][:column]
    yield from enumerate(lines, start=1)


def found_in(path: Path, pattern: re.Pattern[str]) -> list[str]:
    lines = code_of(path.read_text(encoding="utf-8"))
    return [f"{name_of(path)}:{number}: {line.strip()}" for number, line in lines if pattern.search(line)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_table_and_the_resolver_import_by_name(path: Path) -> None:
    found = found_in(path, BY_NAME)
    assert bool(found) == (name_of(path) in (TABLE, RESOLVER)), found


@pytest.mark.parametrize("path", [path for path in SOURCES if name_of(path).startswith("geotune/")], ids=name_of)
def test_geotune_names_the_packages_above_it_in_the_table_alone(path: Path) -> None:
    found = found_in(path, ABOVE)
    assert bool(found) == (name_of(path) == TABLE), found


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ('importlib.import_module("data_builders.build")', True),
        ('_target_: str = "eval.callback.InLoopEvaluator"', True),
        ("from eval.suites import DistanceSuite", True),
        ('for file in (run / "eval" / name):', False),
        ('experiment.define_metric("eval/*", step_metric="eval/step")', False),
        ("self.eval()", False),
        ("model.eval.something", False),
    ],
)
def test_a_mention_is_seen(line: str, seen: bool) -> None:
    assert bool(ABOVE.search(line)) == seen


def test_no_two_classes_or_functions_share_a_name() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")].add(name_of(path))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                homes[node.name].add(name_of(path))
    shared = {name: sorted(paths) for name, paths in homes.items() if len(paths) > 1 and name != "main"}
    assert shared == {}


def test_every_room_stands_in_the_documentation() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["geotune"])
    rooms = {room for layer in layers for room in layer.split(" | ")} - {"__main__"}
    for name in ("architecture.md", "architecture.svg"):
        words = set(re.findall(r"\w+", (ROOT / "docs" / name).read_text(encoding="utf-8")))
        assert rooms <= words, name
