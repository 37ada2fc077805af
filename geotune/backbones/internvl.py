"""InternVL in the layout of transformers (`-hf` folders)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration
from transformers import InternVLProcessor as StockProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from geotune.backbones.adapters import Parts
from geotune.backbones.base import Backbone
from geotune.backbones.image_only import ImageOnly
from geotune.backbones.pretrained import load_image_processor, load_tokenizer, read_processor_config
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import FeatureGrid, Segment
from geotune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from PIL import Image


class InternVLProcessor(ImageOnly, StockProcessor):  # type: ignore[misc]
    """The stock processor without its video processor, which would need torchvision.

    The class keeps the stock name because a saved processor records the name of its class.
    """

    video_processor_type = "InternVLVideoProcessor"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        chat_template: str | None = None,
    ) -> None:
        # ProcessorMixin drops the video processor (None) that the stock class passes: this signature names none.
        super().__init__(image_processor, tokenizer, None, image_seq_length, chat_template)


class InternVLEncoder(Encoder):
    """Encoder that cuts an image into square tiles, plus a thumbnail if there are several; position ids are 1-D."""

    image_newline = True

    def grid_of(self, width: int, height: int) -> FeatureGrid:
        """(tiles,): the number of tiles, including the thumbnail."""
        image = self.processor.image_processor
        return (image.get_number_of_image_patches(height, width, {}),)

    def image_text(self, grid: FeatureGrid) -> str:
        """The start token, the image tokens of all tiles, and the end token."""
        text = self.processor.replace_image_token({"num_patches": [grid[0]]}, 0)
        assert isinstance(text, str)
        return text

    def resize(self, image: Image.Image) -> np.ndarray:
        """The tiles, uint8 (tiles, 3, H, W), with the thumbnail last."""
        processor = self.processor.image_processor
        array = np.moveaxis(np.asarray(image), -1, 0)
        size = processor.size
        if processor.crop_to_patches and processor.max_patches > 1:
            tiles = processor.crop_image_to_patches(
                array, processor.min_patches, processor.max_patches, patch_size=size, resample=processor.resample
            )
            return np.stack(tiles)
        return np.ascontiguousarray(processor.resize(array, size, processor.resample))[None]

    def pixel_values(self, images: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Normalized tiles of all N images (sum of tiles, 3, H, W), and the number of tiles of each image (N,)."""
        tiles = torch.tensor([len(image) for image in images])
        return {"pixel_values": self.normalized(torch.cat(list(images))), "tiles": tiles}

    def positions(self, segment: Segment) -> tuple[np.ndarray, int]:
        """Consecutive position ids (1, T), and T."""
        count = len(segment.ids)
        return np.arange(count)[None], count


class InternVL(Backbone):
    """InternVL as a `Backbone`."""

    family = "internvl"
    parts = Parts(
        tower="model.vision_tower", projector="model.multi_modal_projector", language_model="model.language_model"
    )
    model_class = InternVLForConditionalGeneration

    @classmethod
    def load_encoder(cls, path: str, *, max_pixels: int, min_pixels: int | None) -> InternVLEncoder:
        """Load tokenizer, chat template and image processor of the folder or hub id `path`. Raises ConfigError."""
        if min_pixels is not None:
            raise ConfigError(
                Problem("backbone.min_pixels", min_pixels, "InternVL's tiles have a fixed size", "set it to null")
            )
        tokenizer, template = load_tokenizer(path)
        image = load_image_processor(GotOcr2ImageProcessorPil, path)
        tile = image.size.height * image.size.width
        tiles = max_pixels // tile
        if tiles < 1:
            raise ConfigError(
                Problem("backbone.max_pixels", max_pixels, f"one tile takes {tile} pixels", "increase it")
            )
        # An image of several tiles gets one more tile: a thumbnail of the whole image.
        image.crop_to_patches = True
        image.max_patches = min(image.max_patches, max(1, tiles - 1))
        image.min_patches = min(image.min_patches, image.max_patches)
        length = read_processor_config(path).get("image_seq_length", 256)
        processor = InternVLProcessor(image, tokenizer, image_seq_length=length, chat_template=template)
        return InternVLEncoder(processor, path=path, max_pixels=max_pixels, min_pixels=min_pixels)

    def image_features(self, pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Features (tokens, hidden) of each image."""
        model = self.base.model
        # With a frozen tower no input of the projector requires a gradient, so autograd records nothing before it.
        features = model.get_image_features(pixel_values=pixels["pixel_values"].to(model.dtype)).pooler_output
        return [part.flatten(0, 1) for part in torch.split(features, pixels["tiles"].tolist())]
