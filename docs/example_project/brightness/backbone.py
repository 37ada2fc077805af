"""A backbone: Qwen2.5-VL whose image features are scaled, to see how much the answers depend on the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geotune.backbones.qwen_vl import QwenVL
from geotune.config.parts import BackboneConfig


@dataclass
class FaintConfig(BackboneConfig):
    """Options of `FaintQwenVL`: those of every backbone, and one more."""

    image_scale: float = 1.0
    """Factor of the image features; 0 hides the images."""


class FaintQwenVL(QwenVL):
    """Qwen2.5-VL with `image_scale`. No other library knows that factor, so `geotune export` refuses it."""

    Config = FaintConfig

    def __init__(self, config: FaintConfig) -> None:
        super().__init__(config)
        self.image_scale = config.image_scale

    def image_features(self, pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return [self.image_scale * features for features in super().image_features(pixels)]
