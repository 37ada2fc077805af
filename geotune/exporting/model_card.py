"""The README.md of an exported folder: how to load the model, its evaluation, its training and its self-test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from geotune.runs.radii import measured_radii
from geotune.runs.suite_tables import table_of

EVALUATION_NOTE = (
    "Answers are read from generated text (`generate`), or are the likeliest of the legal answers, scored at once "
    "(`choice`) or after an explanation (`explain_choice`). Intervals cover 95%; `parsed` and `coverage` are the "
    "shares of answers that could be read. A missing answer counts as wrong, except under `answered only`."
)
RADII_NOTE = "The radii that `geotune locate` gives for this model, measured by drawing answers as it does:"
MAX_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for `--max-lora-rank`, whose default is 16."""

LOAD = {
    "merged": """import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{folder}", dtype={dtype})
processor = AutoProcessor.from_pretrained("{folder}")  # needs torchvision""",
    "adapter": """import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{base_model}", dtype={dtype})
model = PeftModel.from_pretrained(model, "{folder}")
processor = AutoProcessor.from_pretrained("{folder}")  # needs torchvision""",
}


def model_card(folder: str, report: Mapping[str, Any], recipe: str) -> str:
    """Write the model card of an exported folder in markdown.

    Args:
        folder: `adapter` or `merged`.
        report: content of export_report.json.
        recipe: YAML of the recipe that the model was trained with.
    """
    trained = yaml.safe_load(recipe)
    head = {
        "base_model": report["base_model"],
        "library_name": "peft" if folder == "adapter" else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["geotune", "geolocation", *(["lora"] if folder == "adapter" else [])],
    }
    kind = "LoRA adapter" if folder == "adapter" else "Complete model"
    sections = (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {trained.get('recipe', 'geotune')}, update {report['step']}",
        f"{kind} fine-tuned from `{report['base_model']}` with geotune to tell where photos were taken.",
        "## Use\n\n" + _use(folder, report),
        "## Evaluation\n\n" + evaluation_text(report["evaluation"]) + _quantized(report["quantization"]),
        f"## Training\n\nData fingerprint `{report['data_fingerprint']}`. What the model depends on:\n\n"
        + _identity_table(report["identity"])
        + f"\n\nThe recipe, which is also in `recipe.yaml`:\n\n```yaml\n{recipe.rstrip()}\n```",
        "## Self-test\n\n" + _self_test(report["self_test"]),
        "Exported with " + ", ".join(f"{name} {number}" for name, number in report["versions"].items()) + ".",
    )
    return "\n\n".join(sections) + "\n"


def _use(folder: str, report: Mapping[str, Any]) -> str:
    dtype = "torch.float32" if folder == "merged" and report["merged_dtype"] == "float32" else "torch.bfloat16"
    code = LOAD[folder].format(folder=f"<out>/{folder}", base_model=report["base_model"], dtype=dtype)
    serve = "vllm serve <out>/merged"
    if folder == "adapter":
        vllm = report["vllm"]
        if vllm["serves_adapter"]:
            rank = next((rank for rank in MAX_RANKS if rank >= vllm["rank"]), vllm["rank"])
            serve = f"vllm serve {report['base_model']} --enable-lora --max-lora-rank {rank} "
            serve += "--lora-modules geotune=<out>/adapter"
        else:
            serve += f"  # vLLM does not serve the adapter: {vllm['reason']}"
    return f"```python\n{code}\n```\n\n```\ngeotune locate checkpoint=<out>/{folder} image=photo.jpg\n{serve}\n```"


def evaluation_text(evaluation: Mapping[str, Any] | None) -> str:
    """Write one markdown table for each suite of an evaluation, or a sentence if there is none.

    If radii were measured, a sentence below the table says how often they held the truth.
    """
    if evaluation is None:
        return "This checkpoint has not been evaluated."
    parts = [EVALUATION_NOTE]
    for name, entry in evaluation["suites"].items():
        if "failed" in entry:
            parts.append(f"`{name}` could not be measured: {entry['failed']}")
            continue
        parts.append(f"`{name}`, answers by `{entry['answer_mode']}`:")
        if table := table_of(entry):
            parts.append(markdown_table(table[0], table[1:]))
        parts += [f"{RADII_NOTE} {radii.told()}." for radii in measured_radii({"suites": {f"`{name}`": entry}})]
    return "\n\n".join(parts)


def _quantized(kind: str | None) -> str:
    if kind is None:
        return ""
    return (
        f"\n\nThe model was trained and evaluated on a backbone in four bits ({kind}), but it is exported for the "
        "backbone's unquantized weights, so its figures may differ slightly."
    )


def _identity_table(identity: Mapping[str, Mapping[str, str]]) -> str:
    rows = [(part, fact, text) for part, facts in identity.items() for fact, text in facts.items()]
    return markdown_table(("part", "fact", "value"), rows)


def _self_test(checks: Sequence[Mapping[str, Any]]) -> str:
    header = ("compared", "with", "largest difference of logits", "allowed", "greedy answers")
    rows = [
        (
            check["subject"],
            check["reference"],
            f"{check['difference']:.1e}",
            f"{check['tolerance']:.0e}",
            "the same" if check["same_answers"] else "different",
        )
        for check in checks
    ]
    about = "Each row compares two models on fixed prompts in float32; differences are relative to the largest logit."
    return f"{about}\n\n{markdown_table(header, rows)}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in GitHub's markdown."""
    lines = [header, ["---"] * len(header), *rows]
    written = (" | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in written)
