"""The README.md of an exported folder: how to load it, what it reached, on what it was trained, how it was tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

MAX_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for --max-lora-rank, whose default is 16."""

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
    """The card of `folder` (`adapter` or `merged`), for what export_report.json says and the recipe's YAML."""
    trained = yaml.safe_load(recipe)
    head = {
        "base_model": report["base_model"],
        "library_name": "peft" if folder == "adapter" else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["geotune", "geolocation", *(["lora"] if folder == "adapter" else [])],
    }
    what = "LoRA adapter" if folder == "adapter" else "Whole model"
    sections = (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {trained.get('recipe', 'geotune')}, update {report['step']}",
        f"{what} fine-tuned from `{report['base_model']}` with geotune to say where photos were taken.",
        "## Use\n\n" + _use(folder, report),
        "## Evaluation\n\n" + evaluation_text(report["evaluation"]) + _quantized(report["quantization"]),
        f"## Training\n\nData fingerprint `{report['data_fingerprint']}`, chat template and system prompt "
        f"`{report['template_hash']}`. The recipe, also in `recipe.yaml`:\n\n```yaml\n{recipe.rstrip()}\n```",
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
            serve += f"  # not the adapter: {vllm['reason']}"
    return f"```python\n{code}\n```\n\n```\ngeotune locate checkpoint=<out>/{folder} image=photo.jpg\n{serve}\n```"


def evaluation_text(evaluation: Mapping[str, Any] | None) -> str:
    """One table for each suite of an evaluation."""
    if evaluation is None:
        return "This checkpoint has not been evaluated."
    parts = []
    for name, suite in evaluation["suites"].items():
        parts.append(f"`{name}`, answers by `{suite['answer_mode']}`:")
        parts.append(_choice_table(suite) if "tasks" in suite else _distance_table(suite))
    return "\n\n".join(parts)


def _quantized(kind: str | None) -> str:
    if kind is None:
        return ""
    return (
        f"\n\nIt was trained and evaluated on a backbone in four bits ({kind}), but is exported for the backbone's own "
        "weights: its figures may differ a little."
    )


def _choice_table(suite: Mapping[str, Any]) -> str:
    rows = [
        (task, f"{one['n']:,}", *map(_share, (one["accuracy"], *one["ci95"], one["chance"], one["parse_rate"])))
        for task, one in suite["tasks"].items()
    ]
    rows.append(("mean", "", *map(_share, (suite["mean_accuracy"], *suite["mean_ci95"])), "", ""))
    header = ("task", "n", "accuracy", "95% from", "to", "chance", "parsed")
    return markdown_table(header, rows)


def _distance_table(suite: Mapping[str, Any]) -> str:
    answered = suite.get("answered_only", {})
    keys = [key for key, value in suite.items() if isinstance(value, int | float) and key != "samples_per_second"]
    rows = [(key, _figure(key, suite[key]), _figure(key, answered.get(key))) for key in keys]
    return markdown_table(("figure", "all samples", "answered only"), rows)


def _figure(key: str, value: float | None) -> str:
    if value is None or key == "n":
        return "" if value is None else f"{value:,}"
    return f"{value:,.1f}" if key.endswith("_km") or key == "geoscore" else _share(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def _self_test(checks: Sequence[Mapping[str, Any]]) -> str:
    header = ("compared", "with", "largest difference of logits", "allowed", "greedy answers")
    rows = [
        (
            check["subject"],
            check["reference"],
            f"{check['difference']:.1e}",
            f"{check['tolerance']:.0e}",
            "the same" if check["same_answers"] else "differ",
        )
        for check in checks
    ]
    about = "On fixed prompts, computed in float32; differences are shares of the largest logit."
    return f"{about}\n\n{markdown_table(header, rows)}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
