"""InternVL in the layout of the transformers library (`-hf` folders)."""

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
from geotune.encoding.segments import Grid, Segment
from geotune.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image


class InternVLProcessor(ImageOnly, StockProcessor):  # type: ignore[misc]
    """The stock processor without the video processor, which would need torchvision.

    It bears the stock name because a saved processor states the name of its class.
    """

    video_processor_type = "InternVLVideoProcessor"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        chat_template: str | None = None,
    ) -> None:
        # The stock class hands a third, empty one on by position; its base counts what this signature names.
        super().__init__(image_processor, tokenizer, None, image_seq_length, chat_template)


class InternVLEncoder(Encoder):
    """Images cut into square tiles, with a thumbnail when there are several; 1-D positions."""

    image_newline = True

    def grid_of(self, width: int, height: int) -> Grid:
        """(tiles,), the thumbnail included."""
        image = self.processor.image_processor
        return (image.get_number_of_image_patches(height, width, {}),)

    def image_text(self, grid: Grid) -> str:
        """The image tokens of all tiles between the start and end tokens."""
        text = self.processor.replace_image_token({"num_patches": [grid[0]]}, 0)
        assert isinstance(text, str)
        return text

    def resize(self, image: Image.Image) -> np.ndarray:
        """All tiles, the thumbnail last."""
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
        """Tiles (sum of tiles, 3, H, W) and how many belong to each image (N,)."""
        tiles = torch.tensor([len(image) for image in images])
        return {"pixel_values": self.normalized(torch.cat(list(images))), "tiles": tiles}

    def positions(self, segment: Segment) -> tuple[np.ndarray, int]:
        """One after the other."""
        count = len(segment.ids)
        return np.arange(count)[None], count


class InternVL(Backbone):
    """InternVL behind the common interface."""

    family = "internvl"
    parts = Parts(
        tower="model.vision_tower", projector="model.multi_modal_projector", language_model="model.language_model"
    )
    model_class = InternVLForConditionalGeneration

    @classmethod
    def load_encoder(cls, path: str, *, max_pixels: int, min_pixels: int | None) -> InternVLEncoder:
        """Tokenizer, template and image processor of the folder or hub id `path`."""
        if min_pixels is not None:
            raise ConfigError(f"backbone.min_pixels={min_pixels}: InternVL's tiles have one size; set it to null")
        tokenizer, template = load_tokenizer(path)
        image = load_image_processor(GotOcr2ImageProcessorPil, path)
        tile = image.size.height * image.size.width
        tiles = max_pixels // tile
        if tiles < 1:
            raise ConfigError(f"backbone.max_pixels={max_pixels}: one tile takes {tile} pixels; raise it")
        # Several tiles come with a thumbnail of the whole, a tile more.
        image.crop_to_patches = True
        image.max_patches = min(image.max_patches, max(1, tiles - 1))
        image.min_patches = min(image.min_patches, image.max_patches)
        length = read_processor_config(path).get("image_seq_length", 256)
        processor = InternVLProcessor(image, tokenizer, image_seq_length=length, chat_template=template)
        return InternVLEncoder(processor, path=path, max_pixels=max_pixels, min_pixels=min_pixels)

    def image_features(self, pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Features of each image, (tokens, hidden)."""
        model = self.base.model
        # Nothing before the projector asks for a gradient when the tower is frozen: autograd starts where it must.
        features = model.get_image_features(pixel_values=pixels["pixel_values"].to(model.dtype)).pooler_output
        return [part.flatten(0, 1) for part in torch.split(features, pixels["tiles"].tolist())]
