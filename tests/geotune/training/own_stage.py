"""A stage that geotune does not know, with three figures and a state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from geotune.backbones.base import Backbone
from geotune.config.parts import StageConfig
from geotune.encoding.collate import Batch
from geotune.runs.progress import RunProgress
from geotune.stages.base import Stage, StepOutput
from geotune.stages.sft import nll_sum


class OwnStage(Stage):
    """Learns the answers with a weight that shrinks from update to update, as a schedule of a reward might."""

    Config = StageConfig

    def __init__(self, backbone: Backbone, progress: RunProgress, config: StageConfig) -> None:
        options = {name: value for name, value in vars(config).items() if name != "_target_"}
        super().__init__(backbone, progress, **options)

    weight = 1.0
    history = torch.zeros(0)
    """The weight of each update so far."""

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        nll = nll_sum(self.backbone(batch), batch.labels)
        count = float(batch.update >= 2)  # the last figure has no value before
        return {
            "loss": self.weight * nll / batch.update_targets,
            "sums": {
                "reward": nll.detach() * self.weight,
                "clipped": torch.tensor(1.0),
                "samples": len(batch.ids),
                "kl": count * 0.25,
                "kl_counted": count,
            },
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        figures = {"reward": sums["reward"] / sums["samples"], "clip, share": float("inf") * sums["clipped"]}
        return figures | ({"kl": sums["kl"] / sums["kl_counted"]} if sums["kl_counted"] else {})

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ends_update:
            self.history = torch.cat([self.history, torch.tensor([self.weight])])
            self.weight *= 0.5

    def extra_state(self) -> dict[str, Any]:
        return {"weight": self.weight, "history": self.history, "position": {"file": "a.jsonl", "line": [1, 2]}}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.weight, self.history = state["weight"], state["history"]


class CollidingStage(OwnStage):
    """Names a figure as one of the monitor's."""

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {"reward": 1.0, "grad_norm": 2.0}


class UnreadableStage(OwnStage):
    """Has a state that a resumed run could not read."""

    def extra_state(self) -> dict[str, Any]:
        return {"position": Path("a.jsonl")}
