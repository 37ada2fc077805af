"""The one way in for every command: composes a recipe, validates it, words errors, sets the exit status.

For an entry point (all that a command's module needs):

    def train(cfg: DictConfig) -> dict[str, float]: ...

    def main(argv: Sequence[str] | None = None) -> int:
        return cli.main("train", train, argv)

    if __name__ == "__main__":
        raise SystemExit(main())

The module imports nothing heavy at its top (torch, lightning, transformers: inside the function), so that `--help`
answers at once. A new command is one entry of `COMMANDS` here, a schema in `geotune.config` and a file in `recipes/`.

The function receives an OmegaConf `DictConfig` that is complete (every key of the schema in `geotune.config` is
there, defaults included), validated (types, enumerations, cross-field checks), fully resolved (no interpolation left)
and in struct mode (reading a key that does not exist raises). What lies below `_target_` of a builder or a suite has
been checked against that target's own fields. For `train`: `cfg.run_dir` is fixed, exists and is writable (unless
`cfg.dry_run`), and is the same in the children of DDP. What the function returns is not used here.

Raise `ConfigError` for a mistake of the user: status 2 and its message on stderr, without a traceback. Ctrl-C: 1.
Anything else propagates: a traceback and status 1.

What a user may type; it takes precedence over what the recipe says:

    recipe=quickstart backbone=tiny      a file of recipes/<group>/, or recipe=<any file.yaml>
    builder@data.build=synthetic         a group's file placed at a key; `+` in front where the recipe has none there
    stage.lr=1e-4  data.tasks=[a,b]      the key's type decides how a value is read
    data.path=/photos (2024), a=b/{x}    a key that holds text takes all that stands behind the first `=`
    evaluator=null  ~data.limit          nothing; back to the default
    places=200                           `build` only: a field of the builder, short for builder.places=200

Quotes around a whole value are taken off, a leading `~/` is the home folder, `+key=` and `++key=` mean `key=`.
Interpolation (`${...}`) works in recipe files; on the command line it is text like any other.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from geotune import schema
from geotune.config import (
    BuildConfig,
    ExportConfig,
    LocateConfig,
    MergeConfig,
    SweepConfig,
    TrainConfig,
    check_build,
    check_export,
    check_locate,
    check_merge,
    check_sweep,
    check_train,
)
from geotune.errors import ConfigError

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
"""Beside the package: in a checkout the folder itself, once installed the data of the package `recipes`."""

ASSETS = Path(__file__).resolve().parent / "assets"
OmegaConf.register_new_resolver("embedded", lambda name: str(ASSETS / name), replace=True)

RUN_DIR_VARIABLE = "GEOTUNE_RUN_DIR"
"""How the process that starts a run tells its DDP children, which parse the same command line, the dated folder."""


@dataclass(frozen=True)
class Command:
    """What sets one command apart from the others."""

    module: str
    summary: str
    config: Any
    """Schema of the composed tree."""
    check: Callable[[Any], list[str]]
    """Mistakes that span several keys, as messages."""
    example: str
    choice: str = ""
    """The group that must be chosen on the command line; empty: there is nothing to choose."""
    kept_at: str = ""
    """Key that holds the name of the choice, unless it is given."""
    shorthand: str = ""
    """Keys that the schema does not know are looked up below this one."""
    beside: str = ""
    """What the usage line shows before the choice."""


COMMANDS = {
    "train": Command(
        "geotune.train",
        "fine-tune a backbone, evaluating it while it trains",
        TrainConfig,
        choice="recipe",
        kept_at="recipe",
        check=check_train,
        example="geotune train recipe=quickstart",
    ),
    "sweep": Command(
        "geotune.sweep",
        "train a recipe many times: a search of its keys, or named variants",
        SweepConfig,
        choice="sweep",
        kept_at="sweep",
        check=check_sweep,
        example="geotune sweep recipe=quickstart sweep=lora trials=8 trainer.max_steps=100",
        beside="recipe=<name> ",
    ),
    "build": Command(
        "data_builders.build",
        "turn a source dataset into samples and pictures",
        BuildConfig,
        choice="builder",
        kept_at="name",
        check=check_build,
        example="geotune build builder=synthetic out=datasets/city places=200",
        shorthand="builder",
    ),
    "merge": Command(
        "data_builders.merge",
        "join the parts that `build shard=i/n` wrote into one dataset",
        MergeConfig,
        check=check_merge,
        example="geotune merge out=datasets/geox_benchmark",
    ),
    "export": Command(
        "geotune.export",
        "write a checkpoint as an adapter and as a whole model that others can load",
        ExportConfig,
        check=check_export,
        example="geotune export checkpoint=runs/quickstart/<date-time> out=exports/quickstart",
    ),
    "locate": Command(
        "geotune.locate",
        "say where photos were taken, and how sure the model is",
        LocateConfig,
        check=check_locate,
        example="geotune locate checkpoint=exports/quickstart image=photo.jpg",
    ),
}


def main(command: str, function: Callable[[DictConfig], Any], argv: Sequence[str] | None = None) -> int:
    """Run `function` on the config that the command line `argv` (default: `sys.argv[1:]`) asks for; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if {"--help", "-h"} & set(arguments):
            show(help_text(command, [word for word in arguments if word not in ("--help", "-h")]))
            return 0
        _show_own_messages()
        cfg = compose(command, arguments)
        with _run_dir(cfg):
            function(cfg)
    except ConfigError as error:
        print(f"error: {_own_words(error)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning shuts down on Ctrl-C and then leaves with SystemExit(1).
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)
        return 1
    return 0


def show(text: str) -> None:
    """Print `text`, of which a reader such as `head` may want only the beginning."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes standard output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """The validated, complete config of `command` for `overrides` as typed (no side effects; `run_dir` may be null)."""
    spec = COMMANDS[command]
    groups, values = _sort_overrides(overrides, spec)
    tree, choices = _compose_groups(command, spec, groups)
    if spec.choice:
        chosen = Path(choices[spec.choice]).name
        if spec.kept_at == spec.choice and isinstance(tree.get(spec.choice), dict):
            raise ConfigError(f"{spec.choice}={chosen}: this file must begin with the line '# @package _global_'")
        tree.setdefault(spec.kept_at, chosen)
    for key, text in values:
        apply_value(tree, key, text, spec.config)
    try:
        plain = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_lines(error)) from error
    problems: list[schema.Problem] = []
    config = schema.convert(plain, spec.config, "", problems)
    if problems:
        typed = {".".join(key) for key, _ in values}
        raise ConfigError("\n".join(_word(problem, spec, choices, typed) for problem in problems))
    mistakes = spec.check(config)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    complete = OmegaConf.create(_escape(asdict(config)))
    OmegaConf.set_struct(complete, True)
    return complete


def instantiate_checked(node: Mapping[str, Any] | DictConfig, where: str, **given: Any) -> Any:
    """Call `node._target_` with the other keys of `node`, checked against its dataclass fields or signature.

    `where` is the node's place in the config tree ("builder", "evaluator.suites.geox"), for messages. `given` are
    further arguments that do not come from a config (a backbone, a writer); they are passed unchecked and must not be
    in `node`. Nested nodes are passed as plain dicts and lists (`build: {_target_: ...}` arrives as a dict), or as
    instances where the target's type hint names a dataclass; lists become tuples and strings Paths where it says so.
    Raises ConfigError: unknown key (with near misses), missing key, wrong type, no such target.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    if "_target_" not in plain:
        raise ConfigError(f"{where}: names no _target_; give {where}._target_=<package.module.Class>")
    target = schema.locate(plain["_target_"], where)
    problems: list[schema.Problem] = []
    arguments = schema.read_arguments(plain, target, where, problems, given)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    try:
        return target(**arguments, **given)
    except ConfigError as error:  # a target names its own field; the user knows it by its place in the tree
        own = str(error).partition("=")[0] in schema.parameters_of(target)
        if own and where:
            raise ConfigError(f"{where}.{error}") from error
        raise


# --- the command line ---

_OVERRIDE = re.compile(r"(?P<prefix>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./@-]*)(?:=(?P<text>.*))?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_DELETE = object()


def _sort_overrides(overrides: Sequence[str], spec: Command) -> tuple[dict[str, str], list[tuple[list[str], Any]]]:
    """Choices of groups for Hydra, and values by path for ourselves; the last of several wins."""
    groups: dict[str, str] = {}
    values: list[tuple[list[str], Any]] = []
    for word in overrides:
        match = _OVERRIDE.fullmatch(word)
        if match is None or (match["text"] is None) != (match["prefix"] == "~"):
            raise ConfigError(f"{word}: write key=value{_guess(word, spec)}; --help lists the keys")
        prefix, key, text = match["prefix"], match["key"], match["text"] or ""
        group = key.partition("@")[0]
        if group in _groups() and ("@" in key or group in schema.parameters_of(spec.config)):
            if prefix == "~":
                groups[f"~{key}"] = ""
                continue
            choice = _file_of(key, _unquote(text))
            name = choice.stem if choice in _files(group) else _take_in(group, choice)
            groups[f"+{key}" if prefix in ("+", "++") else key] = name
        elif "@" in key or "/" in key:
            raise ConfigError(f"{word}: there is no group {group}; the groups are {', '.join(_groups())}")
        else:
            path = key.split(".")
            if spec.shorthand and path[0] not in schema.parameters_of(spec.config):
                path.insert(0, spec.shorthand)
            values.append((path, _DELETE if prefix == "~" else text))
    if spec.choice and spec.choice not in groups:
        raise ConfigError(
            f"{spec.choice}={schema.MISSING}: choose one, for example {spec.example!r}; "
            f"there are {', '.join(choices_of(spec.choice))}"
        )
    return groups, values


def _guess(word: str, spec: Command) -> str:
    """A remedy for `--lr=1`, `--lr 1` and a bare `quickstart`."""
    bare = word.lstrip("-")
    if spec.choice and bare in choices_of(spec.choice):
        return f", as in {spec.choice}={bare}"
    return f", as in {bare if '=' in bare else f'{bare}=<value>'}" if word.startswith("-") and bare else ""


def apply_value(tree: dict[str, Any], path: list[str], text: Any, config: Any) -> None:
    """Set (or delete) one key of the composed tree, reading the text as the key's type asks."""
    node = tree
    for part in path[:-1]:
        inner = node.get(part)
        if not isinstance(inner, dict):
            if text is _DELETE:
                return
            inner = node[part] = {}
        node = inner
    if text is _DELETE:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = _escape(_read(text, schema.hint_at(config, tree, path)))


def _read(text: str, hint: Any) -> Any:
    """The first reading of `text` that suits the key's type: as a value, as a list of strings, as the bare string.

    So `run_dir=2024` is a folder, `stage.lr=1` a number, and `[a, b]` a list where one is expected, a name elsewhere.
    """
    readings = [_literal(text), _literal(text, strings=True), _home(text)]
    for reading in readings:
        problems: list[schema.Problem] = []
        schema.convert(reading, hint, "", problems)
        if not problems:
            return reading
    return readings[0]


def _literal(text: str, *, strings: bool = False) -> Any:
    """null, a boolean, a number or a list of such; else the text without its quotes. `strings`: lists of text only."""
    stripped = text.strip()
    if stripped.startswith("[") and stripped.endswith("]"):
        items = _split(stripped[1:-1])
        if items is not None:
            return [_unquote(item) if strings else _literal(item) for item in items]
    if strings:
        return _unquote(text)
    words = {"null": None, "true": True, "false": False}
    if stripped.lower() in words:
        return words[stripped.lower()]
    if _NUMBER.fullmatch(stripped):
        whole = stripped.lstrip("+-")
        if whole.isdecimal() and (whole == "0" or whole[0] != "0"):
            return int(stripped)
        if not whole.isdecimal():  # 007 is a name
            return float(stripped)
    return _home(_unquote(text))


def _split(text: str) -> list[str] | None:
    """Items between commas, none inside quotes or inner brackets; None when those do not close."""
    items, depth, quote, start = [], 0, "", 0
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not text[start:at].strip():  # an apostrophe inside a name opens nothing
            quote = letter
        elif letter in "[]":
            depth += 1 if letter == "[" else -1
            if depth < 0:
                return None
        elif letter == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    if quote or depth:
        return None
    items.append(text[start:].strip())
    return [] if items == [""] else items


def _unquote(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _home(text: str) -> str:
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def _escape(value: Any) -> Any:
    """The same value for OmegaConf, which would read `${` in a string as an interpolation."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value)
    if isinstance(value, dict):
        return {name: _escape(item) for name, item in value.items()}
    return [_escape(item) for item in value] if isinstance(value, (list, tuple)) else value


# --- the recipes ---


def _groups() -> list[str]:
    return sorted(path.name for path in RECIPES.iterdir() if path.is_dir() and any(path.glob("*.yaml")))


def choices_of(group: str) -> list[str]:
    """Names that `<group>=` takes."""
    return [path.stem for path in _files(group)]


def _files(group: str) -> list[Path]:
    return sorted((RECIPES / group).glob("*.yaml"))


def _file_of(key: str, choice: str) -> Path:
    """The file that `<key>=<choice>` names: one of the group's, or a recipe or sweep from elsewhere."""
    group = key.partition("@")[0]
    if group in ("recipe", "sweep") and Path(choice).suffix in (".yaml", ".yml"):
        return Path(choice)
    names = choices_of(group)
    if choice not in names:
        near = schema.near(choice, names)
        raise ConfigError(f"{key}={choice}: there is no such {group}; there are {', '.join(names)}{near}")
    return RECIPES / group / f"{choice}.yaml"


def _take_in(group: str, path: Path) -> str:
    """Make a file from elsewhere one of the group `recipe` or `sweep`; its name there."""
    try:
        node = OmegaConf.load(path)
    except (OSError, yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{group}={path}: this file can't be read as a {group} ({_first_lines(error)}); "
            f"name a YAML file, or one of {', '.join(choices_of(group))}"
        ) from error
    if not isinstance(node, DictConfig):
        raise ConfigError(
            f"{group}={path}: a {group} is a mapping of keys, this file holds a list; see recipes/{group}/"
        )
    ConfigStore.instance().store(
        name=path.stem, node=node, group=f"{group}/file", package="_global_", provider=str(path)
    )
    return f"file/{path.stem}"


def _compose_groups(command: str, spec: Command, groups: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree that Hydra composes, still with its interpolations, and the choice made in each group."""
    words = [f"{key}={choice}" if choice else key for key, choice in groups.items()]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(RECIPES), job_name=command):
            composed = hydra_compose(command, overrides=words, return_hydra_config=True)
        choices = dict(composed.hydra.runtime.choices)
        tree: Any = OmegaConf.to_container(
            OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        )
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        where = f"{spec.choice}={groups.get(spec.choice)}" if spec.choice else f"recipes/{command}.yaml"
        raise ConfigError(f"{where}: {_first_lines(error)}") from error
    return tree, choices


def _first_lines(error: Exception) -> str:
    """A library's message without its account of where it searched."""
    return re.split(r"\n\s*(?:Config search path|full_key|object_type)", str(error).strip())[0]


def _word(problem: schema.Problem, spec: Command, choices: Mapping[str, Any], typed: set[str]) -> str:
    """A mistake as the user reads it: with the key that was meant, wherever it stands, and the file that holds it."""
    text = str(problem)
    leaf = problem.key.rpartition(".")[2]
    if problem.siblings is not None and "did you mean" not in text:
        keys = [key for key, parameter in schema.walk(spec.config) if not schema.is_schema(parameter.hint)]
        leaves = [key.rpartition(".")[2] for key in keys]
        meant = difflib.get_close_matches(leaf, leaves, n=1)
        close = [key for key, its_leaf in zip(keys, leaves, strict=True) if [its_leaf] == meant]
        there = f"; the keys there are {', '.join(problem.siblings)}"
        text += f"; did you mean {' or '.join(close)}?" if close else there
    if problem.key and not any(problem.key == key or problem.key.startswith((f"{key}.", f"{key}[")) for key in typed):
        pattern = re.compile(rf"^[^#\n]*\b{re.escape(leaf.partition('[')[0])}\s*:", re.MULTILINE)
        files = [RECIPES / group.partition("@")[0] / f"{choice}.yaml" for group, choice in choices.items()]
        held = [path for path in files if path.is_file() and pattern.search(path.read_text(encoding="utf-8"))]
        names = dict.fromkeys(str(path.relative_to(RECIPES.parent)) for path in held)
        text += f" (in {' or '.join(names)})" if names else ""
    return text


# --- the run's folder ---


@contextmanager
def _run_dir(cfg: DictConfig) -> Iterator[None]:
    """Fix `cfg.run_dir` and make it, for commands that have one; taken away again if a mistake left it empty."""
    if "run_dir" not in cfg:
        yield
        return
    chosen = cfg.run_dir if cfg.run_dir is not None else _default_run_dir(cfg.recipe, cfg.resume)
    cfg.run_dir = _escape(chosen)
    if cfg.dry_run:
        yield
        return
    os.environ[RUN_DIR_VARIABLE] = chosen
    folder = Path(chosen)
    made = not folder.exists()
    make_folder(folder, "run_dir")
    try:
        yield
    except ConfigError:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise


def make_folder(folder: Path, key: str) -> None:
    """Create a folder that a user named by `key`, and try that it can be written. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{key}={folder}: this folder can't be written ({reason}); give another {key}") from error


def _default_run_dir(recipe: str, resume: str | None) -> str:
    """runs/<recipe>/<date-time>; for `resume=last` the recipe's newest run that has a checkpoint."""
    if "LOCAL_RANK" in os.environ:  # this process is one of several that must agree
        if RUN_DIR_VARIABLE not in os.environ:
            raise ConfigError("run_dir=null: each rank would date a folder of its own; give run_dir=<folder>")
        return os.environ[RUN_DIR_VARIABLE]
    runs = Path("runs", recipe)
    if resume == "last":
        from geotune.checkpoints import FOLDER, checkpoint_steps  # imports torch

        saved = [run for run in runs.glob("*/") if checkpoint_steps(run)]
        if not saved:
            raise ConfigError(f"resume=last: no run in {runs} has a checkpoint; give run_dir=<folder of the run>")
        return str(max(saved, key=lambda run: (run / FOLDER).stat().st_mtime))
    dated = runs / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    later = (dated.with_name(f"{dated.name}-{count}") for count in range(2, 100))
    return str(dated if not dated.exists() else next(path for path in later if not path.exists()))


# --- words ---


def help_text(command: str, words: Sequence[str]) -> str:
    """What `--help` prints: the recipes that exist, and every key; with a choice made, what that one says of itself."""
    spec = COMMANDS[command]
    chosen = dict(word.partition("=")[::2] for word in words).get(spec.choice, "")
    keys = schema.parameters_of(spec.config)
    required = [f"{key}=<value>" for key, parameter in keys.items() if parameter.default is schema.REQUIRED]
    needed = f"{spec.beside}{spec.choice}=<name>" if spec.choice else " ".join(required)
    lines = [
        f"geotune {command}: {spec.summary}",
        "",
        f"usage: geotune {command} {needed} [key=value ...]",
        f"       python -m {spec.module} is the same; for example: {spec.example}",
    ]
    if not spec.choice:
        lines += ["", *(f"  {line}" for line in _header(RECIPES / f"{command}.yaml"))]
    elif chosen:
        path = _file_of(spec.choice, chosen)
        if path not in _files(spec.choice):
            _take_in(spec.choice, path)
        lines += ["", f"{spec.choice}={chosen}", *(f"  {line}" for line in _header(path))]
        if spec.shorthand:
            node: Any = OmegaConf.to_container(OmegaConf.load(path))
            fields = schema.walk(schema.locate(node["_target_"], spec.choice))
            lines += ["", f"keys of {chosen}:", *_key_lines(fields, node)]
    else:
        names = choices_of(spec.choice)
        lines += ["", f"{spec.choice}=", *_columns([(name, what_is(spec.choice, name)) for name in names])]
    others = [group for group in _groups() if group in keys and group != spec.choice]
    if others:
        lines += ["", "other choices:", *_columns([(f"{group}=", ", ".join(choices_of(group))) for group in others])]
    own = ((key, parameter) for key, parameter in schema.walk(spec.config) if key != spec.choice)
    lines += ["", "keys:", *_key_lines(own, {spec.kept_at: f"as in {spec.choice}="})]
    return "\n".join(lines)


def what_is(group: str, name: str) -> str:
    """What a recipe file says of itself: its header's first line after the launch line."""
    about = [line for line in _header(RECIPES / group / f"{name}.yaml") if not re.match(r"(python|geotune) ", line)]
    return about[0] if about else ""


def _header(path: Path) -> list[str]:
    """Comment lines at the top of a recipe file, without Hydra's own."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def _key_lines(keys: Iterable[tuple[str, schema.Parameter]], preset: Mapping[str, Any]) -> list[str]:
    """Key, text, choices and default of each key; `preset` holds what a file sets instead of the default."""
    rows = []
    for key, parameter in keys:
        if schema.is_schema(parameter.hint) or key.endswith("_target_"):
            continue
        value = preset.get(key, parameter.default)
        default = "required" if value in (schema.REQUIRED, schema.MISSING) else schema.show(value)
        choices = " | ".join(schema.choices_of(parameter.hint))
        rows.append((key, f"{parameter.doc} [{f'{choices}; ' if choices else ''}{default}]".strip()))
    return _columns(rows)


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0) + 2
    return [f"  {name:<{width}}{text}".rstrip() for name, text in rows]


def _own_words(error: ConfigError) -> str:
    """The message alone: one that was raised in a data worker arrives wrapped in that process's traceback."""
    text = str(error)
    return text.rpartition("ConfigError: ")[2].strip() if "Traceback (most recent call last)" in text else text


def _show_own_messages() -> None:
    """Our loggers speak from INFO on, libraries from WARNING on."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for package in ("geotune", "data_builders", "eval"):
        logging.getLogger(package).setLevel(logging.INFO)
