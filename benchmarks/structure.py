"""Figures about the structure of the code: packages, import circles, options, the longest files and functions.

    python -m benchmarks.structure [<checkout>]

By default this measures the checkout that holds this file. Every import counts, including those for type checkers and
those inside functions. A circle is a set of siblings (modules or packages of one package) that import each other. The
imports against the direction of the others are those that grimp nominates for removal so that no circle is left.
`lint-imports` checks the layers themselves.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grimp import ImportGraph

PACKAGES = ("geotune", "data_builders", "eval")
LONGEST = 10
TAKERS = {
    "BackboneConfig": ("Backbone",),
    "StageConfig": ("Stage",),
    "DataConfig": ("GeoData",),
    "EvaluatorConfig": ("InLoopEvaluator", "Evaluator"),
    "TrainerConfig": (),
}
"""Classes that take the options of each schema."""


def circles(graph: ImportGraph, package: str) -> list[list[str]]:
    """Return the sets of children of `package` that import each other, each child with everything below it."""
    children = sorted(graph.find_children(package))
    imports = {
        (importer, imported)
        for importer, imported in permutations(children, 2)
        if graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)
    }
    reach = {child: {child} for child in children}
    for _ in children:
        for importer, imported in imports:
            reach[importer] |= reach[imported]
    groups = {frozenset(b for b in children if b in reach[a] and a in reach[b]) for a in children}
    return sorted(sorted(circle) for circle in groups if len(circle) > 1)


def packages_below(graph: ImportGraph, package: str) -> Iterator[str]:
    """Yield `package` and every package inside it."""
    children = graph.find_children(package)
    if children:
        yield package
    for child in sorted(children):
        yield from packages_below(graph, child)


def functions_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of lines and the name of each function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, node.name


def options_of(root: Path) -> dict[str, list[str]]:
    """Return where each option of a recipe's parts is defined, by its name `<schema>.<field>`.

    A definition is a field of the schema in `geotune/config/`, or an argument or field of the same name of the class
    that takes the options.
    """
    classes: dict[str, list[tuple[Path, ast.ClassDef]]] = {}
    for path in sorted(path for top in ("geotune", "eval") for path in (root / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append((path, node))
    found: dict[str, list[str]] = {}
    for schema, takers in TAKERS.items():
        [(path, node)] = [(path, node) for path, node in classes[schema] if "config" in path.parts]
        for option in _fields(node):
            places = [f"{path.relative_to(root)}:{schema}"]
            for taker in takers:
                for where, body in classes.get(taker, []):
                    if option in _fields(body) or option in _constructor_arguments(body):
                        places.append(f"{where.relative_to(root)}:{taker}")
            found[f"{schema}.{option}"] = places
    return found


def _fields(node: ast.ClassDef) -> set[str]:
    """Return the annotated fields of a dataclass, without its private ones."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return set()
    names = (
        line.target.id for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    )
    return {name for name in names if not name.startswith("_")}


def _constructor_arguments(node: ast.ClassDef) -> set[str]:
    """Return the names of the arguments of a class's own constructor."""
    made = (line for line in node.body if isinstance(line, ast.FunctionDef) and line.name == "__init__")
    return {argument.arg for line in made for argument in (*line.args.args, *line.args.kwonlyargs)}


def report(root: Path) -> Iterator[str]:
    """Yield the figures of the checkout `root`, line by line."""
    from grimp import build_graph

    sys.path.insert(0, str(root))
    os.chdir(root)
    graph = build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=False)
    packages = [package for top in PACKAGES for package in packages_below(graph, top)]
    files = [path for top in PACKAGES for path in (root / top).rglob("*.py")]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    yield f"{len(packages)} packages, {len(graph.modules)} modules, {sum(lines.values()):,} lines"
    found = [circle for package in packages for circle in circles(graph, package)]
    yield f"import circles: {len(found)}"
    yield from (f"  {', '.join(circle)}" for circle in found)
    against = sorted(pair for package in packages for pair in graph.nominate_cycle_breakers(package))
    yield f"imports against the direction of the others: {len(against)}"
    yield from (f"  {importer} -> {imported}" for importer, imported in against)
    options = options_of(root)
    several = {name: places for name, places in options.items() if len(places) > 1}
    yield f"options of a recipe's parts: {len(options)}, defined more than once: {len(several)}"
    yield from (f"  {name}: {', '.join(places)}" for name, places in several.items())
    yield "longest files:"
    longest = sorted(files, key=lambda path: -lines[path])[:LONGEST]
    yield from (f"  {lines[path]:>5}  {path.relative_to(root)}" for path in longest)
    yield "longest functions:"
    functions = sorted((-count, name, path) for path in files for count, name in functions_of(path))[:LONGEST]
    yield from (f"  {-count:>5}  {name} ({path.relative_to(root)})" for count, name, path in functions)


def main() -> None:
    """Print the figures of the checkout that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.structure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    for line in report(parser.parse_args().checkout.resolve()):
        print(line)


if __name__ == "__main__":
    main()
