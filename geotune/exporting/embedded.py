"""The embedded backbone: a small Qwen2.5-VL with its own tokenizer, in the ordinary Hugging Face layout.

    python -m geotune.exporting.embedded create <dataset.jsonl> <folder>
    python -m geotune.exporting.embedded internvl <dataset.jsonl> <folder>
    python -m geotune.exporting.embedded export <checkpoint> <folder> [--skills <dataset.jsonl>]

`create` writes an untrained model: a tokenizer trained on the texts of a dataset, a processor and random weights. The
recipes `tiny_perceive`, `tiny_words` and `tiny_pretrain` train it. `export` turns a checkpoint of these recipes into a
folder that loads like any other model's; `geotune/assets/tiny` was made in this way. `internvl` writes a small InternVL
with random weights, for trying the other family.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from geotune.backbones.generation import generate
from geotune.backbones.weights import save_processor
from geotune.config.parts import BackboneConfig
from geotune.errors import ConfigError
from geotune.exporting.untrained import create_tiny, create_tiny_internvl
from geotune.records import read_samples
from geotune.runs.directory import STATE_FILE
from geotune.sample import Sample
from geotune.system.files import open_atomically

if TYPE_CHECKING:
    from geotune.backbones.base import Backbone

PROVENANCE = "provenance.json"


def export_embedded(checkpoint: Path, out: Path, skills: Path | None = None) -> None:
    """Write the model of a checkpoint that trained all weights, in bfloat16, with its processor and `provenance.json`.

    Args:
        skills: dataset of exercises on places that training has not seen. The share of exact answers to them is
            stored in `provenance.json`.
    """
    import torch

    from geotune.backbones.qwen_vl import QwenVL
    from geotune.backbones.weights import load_weights

    config = OmegaConf.load(checkpoint / "config.yaml")
    settings: dict[str, Any] = {"max_pixels": config.backbone.max_pixels, "dtype": "float32"}
    trained: dict[str, Any] = dict.fromkeys(("tower", "projector", "language_model"), "full")
    backbone = QwenVL(BackboneConfig(path=config.backbone.path, **settings, **trained))
    load_weights(backbone, checkpoint)
    save_processor(backbone, out)
    model: Any = backbone.base
    model.to(torch.bfloat16).save_pretrained(str(out))
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    report = json.loads((Path(config.data.path) / "build_report.json").read_text(encoding="utf-8"))
    recipe: Any = OmegaConf.to_container(config)
    provenance: dict[str, Any] = {
        "made_by": f"python -m geotune.train recipe={config.recipe}",
        "updates": state["step"],
        "recipe": {key: value for key, value in recipe.items() if key not in ("run_dir", "resume", "wandb")},
        "data_fingerprint": state["data_fingerprint"],
        "city_fingerprint": report["audit"]["city_fingerprint"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if skills is not None:
        provenance["skills_word_for_word"] = skill_figures(QwenVL(BackboneConfig(path=str(out), **settings)), skills)
    start = Path(config.backbone.path) / PROVENANCE
    if start.is_file():
        provenance["started_from"] = json.loads(start.read_text(encoding="utf-8"))
    with open_atomically(out / PROVENANCE) as file:
        file.write(json.dumps(provenance, indent=2) + "\n")


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
    """Run the command line. Raises SystemExit(2) for a path that can't be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m geotune.exporting.embedded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["create", "internvl", "export"])
    parser.add_argument("source", type=Path, help="sharegpt dataset; for export, a checkpoint")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--skills", type=Path, help="for export: dataset of exercises on which to measure the skills")
    args = parser.parse_args(argv)
    try:
        if args.command == "export":
            export_embedded(args.source, args.out, args.skills)
        else:
            {"create": create_tiny, "internvl": create_tiny_internvl}[args.command](args.source, args.out)
    except (ConfigError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
