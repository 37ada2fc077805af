"""The embedded backbone: a small Qwen2.5-VL with its own tokenizer, in the ordinary Hugging Face layout.

    python -m geotune.exporting.embedded raise <folder> [--seed N]
    python -m geotune.exporting.embedded create <dataset.jsonl> <folder> [--seed N]
    python -m geotune.exporting.embedded internvl <dataset.jsonl> <folder> [--seed N]
    python -m geotune.exporting.embedded export <chain> <folder>

`raise` makes the backbone from nothing: it builds the exercises, writes an untrained model, trains it by the chain
`recipe=tiny_backbone`, measures what it has learned, and writes the weights with `provenance.json`. The same command
goes on where it was stopped. `geotune/assets/tiny` was made in this way.

`create` writes an untrained model: a tokenizer trained on the texts of a dataset, a processor and random weights.
`internvl` writes a small InternVL with random weights, for trying the other family. `export` is the last part of
`raise`: it turns a finished chain into a folder that loads like any other model's.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from geotune.backbones.generation import generate
from geotune.backbones.weights import save_processor
from geotune.config.chain import compose_chain
from geotune.config.composing import compose
from geotune.config.parts import BackboneConfig
from geotune.data.building import REPORT, ensure_dataset
from geotune.errors import ConfigError
from geotune.exporting.untrained import create_tiny, create_tiny_internvl
from geotune.records import read_samples
from geotune.runs.chain import Leg, is_chain, read_chain
from geotune.runs.directory import CHECKPOINTS, read_state
from geotune.runs.logs import seconds_of_updates
from geotune.sample import Sample
from geotune.system.digests import fingerprint_of
from geotune.system.files import open_atomically
from geotune.system.interruption import Stopped
from geotune.training.chain import is_complete
from geotune.training.training_process import TrainingProcess

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

PROVENANCE = "provenance.json"
RECIPE = "tiny_backbone"
"""The chain that trains the embedded backbone."""
EXERCISES = Path("datasets/tiny_validation")
EXERCISES_BUILD = ["builder=synthetic_skills", "split=validation", "places=90", "asides=60"]
"""Overrides that build the exercises on which the skills are measured, on places that training has not seen."""
log = logging.getLogger(__name__)


def raise_backbone(out: Path, seed: int = 0, overrides: Sequence[str] = ()) -> None:
    """Make the embedded backbone from nothing and write it to `out`; goes on where an earlier call was stopped.

    Datasets and the untrained model lie in datasets/, the chain in runs/tiny_backbone/. The names of model and chain
    hold a digest of all that they come from, so that nothing old passes for what other data or settings give.

    seed: seed of the first weights and of the order of the samples. overrides: further overrides of the chain.

    Raises ConfigError for a mistake of the user, Stopped after a request to stop, and SystemExit with the exit status
    of a training that failed.
    """
    given = [f"recipe={RECIPE}", f"seed={seed}", *overrides]
    legs = {name: compose("train", list(leg.overrides)) for name, leg in compose_chain(given).chain.items()}
    _exercises()
    corpora = [
        ensure_dataset(leg.data.path, leg.data.build, key=f"chain.{name}.data.path") for name, leg in legs.items()
    ]
    built = [json.loads((corpus.parent / REPORT).read_text(encoding="utf-8"))["fingerprint"] for corpus in corpora]
    untrained = Path("datasets", f"tiny_untrained_{seed}_{fingerprint_of(json.dumps(built))[:8]}")
    if not untrained.is_dir():
        with tempfile.TemporaryDirectory(dir=untrained.parent) as scratch:
            create_tiny(corpora[-1], Path(scratch, untrained.name), seed)
            Path(scratch, untrained.name).rename(untrained)
    settings = [OmegaConf.to_container(leg, resolve=True) for leg in legs.values()]
    folder = Path("runs", RECIPE, f"seed{seed}_{fingerprint_of(json.dumps([built, settings]))[:8]}")
    if not is_finished_chain(folder):
        resume = ["resume=last"] if is_chain(folder) else []
        with TrainingProcess().signals() as process:
            status = process.run([*given, f"backbone.path={untrained}", f"run_dir={folder}", *resume], {})
        if process.stopped:
            raise Stopped(process.stopped)
        if status:
            raise SystemExit(status)
    export_embedded(folder, out)


def is_finished_chain(folder: Path) -> bool:
    """Return whether `folder` holds a chain whose legs are all complete."""
    return is_chain(folder) and all(is_complete(folder / leg.folder) for leg in read_chain(folder))


def export_embedded(chain: Path, out: Path) -> None:
    """Write the model that a finished chain trained, in bfloat16, with its processor and `provenance.json`.

    Raises ConfigError if there is no such chain.
    """
    import torch

    from geotune.backbones.qwen_vl import QwenVL
    from geotune.backbones.weights import load_weights

    if not is_finished_chain(chain):
        raise ConfigError(f"{chain}: this is not the folder of a finished chain; finish it, or name another folder")
    legs, exercises = read_chain(chain), _exercises()
    checkpoint = chain / legs[-1].folder / CHECKPOINTS / "last"
    config = OmegaConf.load(checkpoint / "config.yaml")
    settings: dict[str, Any] = {"max_pixels": config.backbone.max_pixels, "dtype": "float32"}
    trained: dict[str, Any] = dict.fromkeys(("tower", "projector", "language_model"), "full")
    backbone = QwenVL(BackboneConfig(path=config.backbone.path, **settings, **trained))
    load_weights(backbone, checkpoint)
    model: Any = backbone.base
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        save_processor(backbone, Path(scratch))
        model.to(torch.bfloat16).save_pretrained(scratch)
        measured = skill_figures(QwenVL(BackboneConfig(path=scratch, **settings)), exercises)
        provenance = {
            "made_by": f"python -m geotune.exporting.embedded raise <folder> --seed {config.seed}",
            "seed": config.seed,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "city_fingerprint": _city(exercises.parent),
            "minutes_of_updates": round(sum(_minutes(chain / leg.folder) for leg in legs), 1),
            "skills_word_for_word": measured,
            "legs": {leg.name: _leg_provenance(leg, chain / leg.folder) for leg in legs},
        }
        (out / PROVENANCE).unlink(missing_ok=True)  # it never stands beside weights that are not its own
        for path in Path(scratch).iterdir():
            path.replace(out / path.name)
    with open_atomically(out / PROVENANCE) as file:
        file.write(json.dumps(provenance, indent=2) + "\n")


def _exercises() -> Path:
    """Return the exercises on which the skills are measured; builds them if they are missing."""
    build: Any = OmegaConf.to_container(compose("build", [*EXERCISES_BUILD, f"out={EXERCISES}"]).builder)
    return ensure_dataset(EXERCISES, build, key="the exercises")


def _leg_provenance(leg: Leg, run_dir: Path) -> dict[str, Any]:
    """Return what a leg of the chain trained with and on, and how long its updates took."""
    checkpoint = run_dir / CHECKPOINTS / "last"
    recipe: Any = OmegaConf.to_container(OmegaConf.load(checkpoint / "config.yaml"))
    state = read_state(checkpoint)
    return {
        "updates": state.step,
        "minutes_of_updates": round(_minutes(run_dir), 1),
        "identity": state.identity,
        "city_fingerprint": _city(Path(recipe["data"]["path"])),
        "overrides": leg.overrides,
        "recipe": {key: value for key, value in recipe.items() if key not in ("run_dir", "resume", "start", "wandb")},
    }


def _minutes(run_dir: Path) -> float:
    """Return the time of a run's updates, without what lay between them."""
    return seconds_of_updates(run_dir / "metrics.csv", read_state(run_dir / CHECKPOINTS / "last").update_size) / 60


def _city(dataset: Path) -> str:
    """Return the fingerprint of the city that a built dataset shows."""
    report: Mapping[str, Any] = json.loads((dataset / REPORT).read_text(encoding="utf-8"))
    return str(report["audit"]["city_fingerprint"])


def skill_figures(backbone: Backbone, exercises: Path, per_skill: int = 100) -> dict[str, float]:
    """Return for each skill the share of exercises whose greedy answer equals the gold answer exactly."""
    by_skill: dict[str, list[Sample]] = {}
    for sample in read_samples(exercises):
        by_skill.setdefault(sample.task, []).append(sample.in_folder(exercises.parent))
    figures = {}
    for skill, samples in sorted(by_skill.items()):
        chosen = samples[:per_skill]
        answers = generate(backbone, chosen, max_new_tokens=160, batch_size=50)
        exact = sum(answer == sample.response for answer, sample in zip(answers, chosen, strict=True))
        figures[skill] = round(exact / len(chosen), 4)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Raises SystemExit(2) for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m geotune.exporting.embedded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["raise", "create", "internvl", "export"])
    parser.add_argument(
        "paths", nargs="+", metavar="path", help="as shown above; raise takes overrides of the chain after its folder"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the training (default: 0)")
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.command != "raise" and len(args.paths) != 2:
        parser.error(f"{args.command} takes a source and the folder to write")
    source, out = Path(args.paths[0]), Path(args.paths[-1])
    try:
        if args.command == "raise":
            raise_backbone(source, args.seed, args.paths[1:])
        elif args.command == "export":
            export_embedded(source, out)
        else:
            {"create": create_tiny, "internvl": create_tiny_internvl}[args.command](source, out, args.seed)
    except (ConfigError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    except (Stopped, KeyboardInterrupt) as error:
        parser.exit(128 + getattr(error, "number", 2), "stopped: give the same command again to go on\n")


if __name__ == "__main__":
    main()
