"""`geotune eval checkpoint=[<model>,...]`: ask models the questions of suites, and measure the answers.

What was answered is kept at once, and the same command asks only what is missing (`eval.offline`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotune.cli.entry import run_command
from geotune.errors import ConfigError, Problem
from geotune.system.screen import as_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from eval.evaluator import Evaluator
    from eval.offline import Counts, Evaluation
    from geotune.backbones.base import Backbone
    from geotune.inference.loading import Source

EMBEDDED = "embedded"
"""What the embedded backbone is called."""
IMAGE_DIGESTS = ".images.json"
"""File in the folder of all evaluations that holds the digests of images."""
SUITES = re.compile(r"\+{0,2}suites=(?!null$)(?:\[(?P<names>.*)\]|(?P<name>[^\[{].*))")
log = logging.getLogger("eval.run")  # __name__ is __main__ under `python -m`


def evaluate(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """Evaluate every model of `cfg` on its suites; returns the content of each metrics.json, by its folder.

    A model that can't be evaluated stops no other. Raises ConfigError if that is the only model, and SystemExit with
    status 1 if one of several can't be evaluated, or if an answer failed or is missing.
    """
    from geotune.system.libraries import silence_libraries

    silence_libraries()
    models = list(cfg.checkpoint) or [None]
    results: dict[str, dict[str, Any]] = {}
    broken = []
    for model in models:
        try:
            results |= evaluate_model(cfg, model)
        except ConfigError as error:
            if len(models) == 1:
                raise
            log.error("checkpoint=%s: can't be evaluated: %s", model, error)
            broken.append(model)
        except Exception:
            if len(models) == 1:
                raise
            log.exception("checkpoint=%s: can't be evaluated", model)
            broken.append(model)
    lacking = sum(result["failed"] + result["missing"] for result in results.values())
    if broken or lacking:
        said = (
            [f"{len(broken)} of {len(models)} models can't be evaluated: {', '.join(map(str, broken))}"]
            if broken
            else []
        )
        said += [f"{lacking:,} answers failed or are missing; they count as wrong"] if lacking else []
        raise SystemExit(f"error: {'; '.join(said)}")
    return results


def evaluate_model(cfg: DictConfig, model: str | None) -> dict[str, dict[str, Any]]:
    """Evaluate one model, whose weights are loaded once, on all suites; see `evaluate`."""
    from geotune.inference.loading import device_of, find_source, open_backbone

    device = device_of(cfg.accelerator)
    source = find_source(model, hub=True)
    if model is not None:
        log.info("checkpoint=%s: %s", model, source.folder)
    evaluator = evaluator_for(cfg, source, model)
    evaluator.prepare()
    changes = {"path": cfg.base_model, "max_pixels": cfg.max_pixels, "dtype": cfg.dtype}
    backbone = open_backbone(source, allow_changes=cfg.allow_changes, **changes)
    evaluations = evaluations_of(cfg, evaluator, backbone, model or EMBEDDED)
    if cfg.dry_run:
        for evaluation in evaluations:
            log.info("%s", plan_of(evaluation, evaluation.read(), cfg.rerun))
        return {}
    backbone.to(device)
    return {str(evaluation.folder): run(evaluation, cfg, backbone) for evaluation in evaluations}


def evaluator_for(cfg: DictConfig, source: Source, model: str | None) -> Evaluator:
    """Return the evaluator of the suites that `cfg` names, or else of those of the model's recipe.

    Raises ConfigError if there are none.
    """
    from omegaconf import OmegaConf

    from eval.evaluator import Evaluator
    from geotune.config.parts import EvaluatorConfig

    recipe: Mapping[str, Any] = source.config.get("evaluator") or {}
    suites: Any = OmegaConf.to_container(cfg.suites, resolve=True) or recipe.get("suites")
    if not suites:
        raise ConfigError(
            Problem(
                "suites",
                [],
                f"nothing is named, and {model or EMBEDDED} has no recipe with suites",
                "name suites, as in suites=[cross_view] suites.cross_view.path=<dataset>",
            )
        )
    keys = ("answer_mode", "max_new_tokens", "batch_size")
    settings = {key: cfg[key] if cfg[key] is not None else recipe.get(key) for key in keys}
    return Evaluator(EvaluatorConfig(suites, **{key: value for key, value in settings.items() if value is not None}))


def evaluations_of(cfg: DictConfig, evaluator: Evaluator, backbone: Backbone, model: str) -> list[Evaluation]:
    """Return the evaluation of a loaded model on each suite."""
    from eval.image_digests import content_digest
    from eval.offline import Evaluation, suite_facts
    from geotune.backbones.identity import backbone_identity

    out = Path(cfg.out)
    facts = {**backbone_identity(backbone), "trained": trained_facts(backbone)}
    facts["processor"] = {**facts["processor"], "precision": str(backbone.dtype).removeprefix("torch.")}
    found = []
    for name in evaluator.suites:
        images = {image for sample in evaluator.samples(name) for image in sample.images}
        try:
            digest = content_digest(images, out / IMAGE_DIGESTS)
        except OSError as error:
            raise ConfigError(Problem(f"suites.{name}", error.filename, f"can't be read ({error.strerror})")) from error
        found.append(Evaluation(evaluator, name, out, model, {**facts, "suite": suite_facts(evaluator, name, digest)}))
    return found


def trained_facts(backbone: Backbone) -> dict[str, str]:
    """Return facts about the trained weights of a backbone, read in full; none for a model without adapters."""
    import torch

    tensors = sorted(backbone.trained_parameters().items())
    if not tensors:
        return {}
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {"tensors": f"{len(tensors):,}", "values": digest.hexdigest()}


def run(evaluation: Evaluation, cfg: DictConfig, backbone: Backbone) -> dict[str, Any]:
    """Ask what is left of an evaluation, write and print its figures, and return them.

    After an interruption, the figures are those of what was answered.
    """
    import torch

    from eval.answerers.local import LocalAnswerer
    from eval.report.terminal import evaluation_tables
    from geotune.runs.saved_config import write_config
    from geotune.system.files import make_folder

    answerer = LocalAnswerer(backbone, evaluation.evaluator.config.batch_size)
    evaluation.evaluator.check(answerer)
    before = evaluation.read()
    if not before.answered + before.failed:
        for told in evaluation.differences():
            log.info("another evaluation than %s", told)
    log.info("%s", plan_of(evaluation, before, cfg.rerun))
    make_folder(evaluation.folder, "out")
    write_config(evaluation.folder, cfg)
    try:
        with torch.no_grad():
            counts = evaluation.ask(answerer, cfg.rerun)
    except BaseException:  # an interruption too
        if evaluation.counts().answered:
            evaluation.measure()
        raise
    content = evaluation.measure()
    sys.stdout.write(as_text(evaluation_tables(content)))
    sys.stdout.flush()
    if counts.lacking:
        log.warning("%s: %s of %s; they count as wrong", evaluation.folder, counts.lacking, f"{counts.expected:,}")
    return content


def plan_of(evaluation: Evaluation, counts: Counts, rerun: str) -> str:
    """Say in a line what is there of an evaluation and what will be asked."""
    kept = counts.answered + (counts.failed if rerun == "missing" else 0)
    held = f"{kept:,} answers are there, " if kept else ""
    return f"{evaluation.folder}: {held}{counts.expected - kept:,} to ask of {evaluation.model}"


def with_suites(argv: Sequence[str]) -> list[str]:
    """Return the arguments with `suites=[a,b]` as one choice of a file of recipes/suite/ for each name.

    A name may also be a YAML file of one's own, whose name without ending is then the suite's.
    """
    arguments = []
    for argument in argv:
        if match := SUITES.fullmatch(argument):
            names = match["name"] if match["names"] is None else match["names"]
            for name in filter(None, (part.strip().strip("'\"") for part in names.split(","))):
                arguments.append(f"+suite@suites.{Path(name).stem}={name}")
        else:
            arguments.append(argument)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit status."""
    return run_command("eval", evaluate, with_suites(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    raise SystemExit(main())
