"""The text that `dry_run=true` prints: the resolved recipe, what trains, one sample as the model sees it, and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from geotune.backbones.base import Backbone
    from geotune.data.dataset import SampleDataset
    from geotune.data.sampler import UpdatePlan
    from geotune.encoding.encoder import Encoder
    from geotune.encoding.segments import Encoded

BINS = 12
"""Largest number of bars of a histogram."""
WIDTH = 40
"""Length of the longest bar, in characters."""
LARGE_SHARE = 0.1
"""Share of the samples above which leaving them out is a warning that comes again at the end of a run."""


def run_summary(
    cfg: DictConfig, backbone: Backbone, dataset: SampleDataset, plan: UpdatePlan, total_updates: int
) -> str:
    """Return the whole summary of a run."""
    encoded = dataset.encoder.encode(dataset.samples[0])
    return "\n\n".join(
        (
            *_summary_without_data(cfg, backbone),
            f"# Sample {encoded.id}\n" + show_sample(encoded, dataset.encoder),
            "# Data\n" + data_table(dataset, plan, total_updates),
            "# Tokens per sample\n" + histogram(dataset.lengths),
        )
    )


def unbuilt_summary(cfg: DictConfig, backbone: Backbone) -> str:
    """Return the summary of a run whose training data is not built yet."""
    steps, epochs = cfg.trainer.max_steps, cfg.trainer.epochs
    updates = f"{steps:,} updates" if epochs is None else "updates: known once built"
    data = f"{cfg.data.path} is not built yet; a run builds it first, by {cfg.data.build._target_}"
    return "\n\n".join(
        (
            *_summary_without_data(cfg, backbone),
            f"# Data\n{data}\nsamples, tasks, tokens and what is left out: known once built\n{updates}",
        )
    )


def _summary_without_data(cfg: DictConfig, backbone: Backbone) -> tuple[str, str]:
    return (
        "# Recipe\n" + OmegaConf.to_yaml(cfg, resolve=True).rstrip(),
        "# What trains\n" + trainable_table(backbone),
    )


def findings(dataset: SampleDataset, evaluators: Sequence[Any]) -> list[str]:
    """Return a line for each thing that the audits of the data found, and for each suite that shares data with it."""
    from geotune.data.findings import audit_lines, shared_line

    lines = [f"{part.file.path}: {line}" for part in dataset.chosen for line in audit_lines(part.file.path)]
    for evaluator in evaluators:
        for name, questions in evaluator.questions().items() if hasattr(evaluator, "questions") else ():
            if (line := shared_line(dataset.chosen, questions)) is not None:
                lines.append(f"WARNING: suite {name}: {line}")
    return lines


def trainable_table(backbone: Backbone) -> str:
    """Return the trainable parameters: a line per name pattern with its count, and the share of all parameters."""
    from geotune.backbones.quantization import weight_count

    rows = backbone.trainable_summary()
    trained = sum(count for _, count in rows)
    total = sum(weight_count(parameter) for parameter in backbone.parameters())
    width = max(len(pattern) for pattern, _ in rows) if rows else 0
    lines = [f"{pattern:<{width}}  {count:>14,}" for pattern, count in rows]
    lines.append(f"{trained:,} of {total:,} parameters train ({100 * trained / total:.2f}%)")
    return "\n".join(lines)


def show_sample(encoded: Encoded, encoder: Encoder) -> str:
    """Return a sample decoded from its tokens, with images in braces and supervised text in double brackets."""
    pieces = []
    for segment in encoded.segments:
        if segment.kind == "image":
            pieces.append(f"{{{segment.image}: {len(segment.ids)} tokens}}")
            continue
        text = encoder.tokenizer.decode(list(segment.ids), skip_special_tokens=False)
        pieces.append(f"[[{text}]]" if segment.kind == "answer" else text)
    return "".join(pieces) + f"\n({encoded.length} tokens, {encoded.targets} of them supervised)"


def data_table(dataset: SampleDataset, plan: UpdatePlan, total_updates: int) -> str:
    """Return the number of samples per task, the figures of the plan, and the first rejected samples."""
    tasks = {task or "(no task)": count for task, count in dataset.task_counts.items()}
    width = max(map(len, tasks))
    lines = [f"{task:<{width}}  {count:>10,}" for task, count in tasks.items()]
    lines.append(f"{len(dataset):,} samples, {len(dataset.rejected):,} rejected, {total_updates:,} updates")
    lines.append(plan_in_words(plan_figures(plan)))
    lines += [*left_out_in_words(dataset)]
    lines += [f"rejected {sample}: {reason}" for sample, reason in dataset.rejected[:5]]
    return "\n".join(lines)


def left_out_in_words(dataset: SampleDataset) -> dict[str, bool]:
    """Return a line for each filter that leaves samples out, and whether its share is large though nobody asked for it.

    The filters are `data.tasks`, `data.limit` and `data.max_length`.
    """
    counts = dataset.left_out
    too_long = counts.get("too_long", 0)
    before = len(dataset) + too_long
    lines = {}
    if counts.get("tasks"):
        lines[f"{counts['tasks']:,} samples are of other tasks than data.tasks and are left out"] = False
    if counts.get("limit"):
        lines[f"{counts['limit']:,} samples are beyond data.limit and are left out"] = False
    if too_long:
        # The reason of each begins with its number of tokens.
        longest = max(int(reason.split()[0]) for _, reason in dataset.rejected)
        limit = dataset.rejected[0][1].partition("data.max_length=")[2]
        said = (
            f"{too_long:,} of {before:,} samples ({too_long / before:.0%}) are longer than data.max_length={limit} "
            f"and are left out; data.max_length={longest} keeps all, and a smaller backbone.max_pixels shortens images"
        )
        is_large = too_long > LARGE_SHARE * before
        lines[f"WARNING: {said}" if is_large else said] = is_large
    return lines


def plan_figures(plan: UpdatePlan) -> dict[str, float]:
    """Return what the prefix tree saves and how evenly tasks are mixed, measured on the first updates.

    `duplication_removed` is the number of tokens of separate samples per token of the tree, 1 without a tree.
    """
    from geotune.data.sampler import task_tolerance
    from geotune.data.tree_plan import TreePlan

    duplication = plan.duplication_factor if isinstance(plan, TreePlan) else 1.0
    return {"duplication_removed": duplication, "task_tolerance": task_tolerance(plan)}


def plan_in_words(figures: Mapping[str, float]) -> str:
    """Return the figures of `plan_figures` as a sentence."""
    from geotune.data.sampler import FIRST_UPDATES

    points, factor = 100 * figures["task_tolerance"], figures["duplication_removed"]
    tree = f"the prefix tree computes one token where separate samples have {factor:.2f}; " if factor > 1 else ""
    tasks = f"each task's share of an update is within {points:.1f} points of its share of the data"
    return f"{tree}{tasks} (first {FIRST_UPDATES} updates)"


def histogram(lengths: Sequence[int] | np.ndarray) -> str:
    """Return a histogram of lengths in tokens, a line per bar, with the median, the maximum and the total."""
    values = np.asarray(lengths)
    counts, edges = np.histogram(values, bins=min(BINS, max(1, int(np.ptp(values)) + 1)))
    lines = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * round(WIDTH * count / counts.max())
        lines.append(f"{low:>8.0f} to {high:>8.0f}  {count:>9,}  {bar}")
    lines.append(f"median {np.median(values):.0f}, longest {values.max():,}, {values.sum():,} tokens in total")
    return "\n".join(lines)
