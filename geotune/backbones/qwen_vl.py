"""Qwen2.5-VL in the layout of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers import Qwen2_5_VLProcessor as StockProcessor
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from geotune.backbones.adapters import Parts
from geotune.backbones.base import Backbone
from geotune.backbones.image_only import ImageOnly
from geotune.backbones.pretrained import load_image_processor, load_tokenizer
from geotune.backbones.window_attention import tower_layout, use_window_attention
from geotune.encoding.encoder import Encoder
from geotune.encoding.segments import FeatureGrid, Segment
from geotune.errors import BadRecord, ConfigError, Problem

if TYPE_CHECKING:
    from PIL import Image


class Qwen2_5_VLProcessor(ImageOnly, StockProcessor):  # type: ignore[misc]  # noqa: N801 - the stock name
    """The stock processor without its video processor, which would need torchvision.

    The class keeps the stock name because a saved processor records the name of its class.
    """

    video_processor_type = "Qwen2VLVideoProcessor"

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        # ProcessorMixin drops the video processor (None) that the stock class passes: this signature names none.
        super().__init__(image_processor, tokenizer, chat_template=chat_template)


class QwenEncoder(Encoder):
    """Encoder that cuts a resized image into patches; position ids are 3-D (time, row, column)."""

    axes = 3

    def grid_of(self, width: int, height: int) -> FeatureGrid:
        """(1, rows, columns): one frame of rows x columns patches. Raises BadRecord if the image is too narrow."""
        image = self.processor.image_processor
        try:
            rows, columns = smart_resize(
                height,
                width,
                factor=image.patch_size * image.merge_size,
                min_pixels=image.size.shortest_edge,
                max_pixels=image.size.longest_edge,
            )
        except ValueError as error:
            raise BadRecord("", f"an image of {width} x {height} pixels can't be used: {error}") from error
        return (1, rows // image.patch_size, columns // image.patch_size)

    def image_text(self, grid: FeatureGrid) -> str:
        """One image token per merged patch."""
        text = self.processor.replace_image_token({"image_grid_thw": np.array([grid])}, 0)
        assert isinstance(text, str)
        return text

    def resize(self, image: Image.Image) -> np.ndarray:
        """The resized image as a single tile, uint8 (1, 3, H, W)."""
        processor = self.processor.image_processor
        array = np.moveaxis(np.asarray(image), -1, 0)
        if processor.do_resize:
            array = processor.resize(
                array,
                size=processor.size,
                resample=processor.resample,
                factor=processor.patch_size * processor.merge_size,
            )
        return np.ascontiguousarray(array)[None]

    def pixel_values(self, images: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Normalized patches and grids of N images, as the stock image processor computes them.

        `pixel_values` holds the patches of all images (sum of patches, channels x frames x patch x patch),
        `image_grid_thw`, on the host, the grid of each image (N, 3).
        """
        processor = self.processor.image_processor
        patch, merge, frames = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        grids = [(1, image.shape[-2] // patch, image.shape[-1] // patch) for image in images]
        starts = np.cumsum([0, *(rows * columns for _, rows, columns in grids)])
        values = torch.empty(int(starts[-1]), 3 * frames * patch * patch, device=images[0].device)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, grid in enumerate(grids):
            by_shape.setdefault(grid, []).append(number)
        for (_, rows, columns), numbers in by_shape.items():
            pixels = self.normalized(torch.cat([images[number] for number in numbers]))
            blocks = pixels.view(len(numbers), 3, rows // merge, merge, patch, columns // merge, merge, patch)
            blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
            blocks = blocks.expand(*blocks.shape[:6], frames, patch, patch).reshape(len(numbers), rows * columns, -1)
            for number, block in zip(numbers, blocks, strict=True):
                values[starts[number] : starts[number + 1]] = block
        return {"pixel_values": values, "image_grid_thw": torch.tensor(grids)}

    def positions(self, segment: Segment) -> tuple[np.ndarray, int]:
        """Position ids (3, T) and the span of the segment.

        The ids of text are equal on all three axes. Those of an image are the frame, row and column of each merged
        patch, and its span is its longer side in merged patches.
        """
        if segment.kind != "image":
            count = len(segment.ids)
            return np.broadcast_to(np.arange(count), (3, count)), count
        merge = self.processor.image_processor.merge_size
        frames, rows, columns = segment.grid[0], segment.grid[1] // merge, segment.grid[2] // merge
        assert len(segment.ids) == frames * rows * columns
        return np.indices((frames, rows, columns)).reshape(3, -1), max(rows, columns)


class QwenVL(Backbone):
    """Qwen2.5-VL as a `Backbone`."""

    family = "qwen2_5_vl"
    parts = Parts(tower="model.visual", projector="model.visual.merger", language_model="model.language_model")
    model_class = Qwen2_5_VLForConditionalGeneration

    def _load_model(self, config: Any, trust_remote_code: bool) -> Any:
        model: Any = super()._load_model(config, trust_remote_code)
        use_window_attention(model.model.visual)
        return model

    @classmethod
    def load_encoder(cls, path: str, *, max_pixels: int, min_pixels: int | None) -> QwenEncoder:
        """Load tokenizer, chat template and image processor of the folder or hub id `path`. Raises ConfigError."""
        tokenizer, template = load_tokenizer(path)
        image = load_image_processor(Qwen2VLImageProcessorPil, path)
        cell = (image.patch_size * image.merge_size) ** 2
        if max_pixels < cell:
            raise ConfigError(
                Problem("backbone.max_pixels", max_pixels, f"one visual token takes {cell} pixels", "increase it")
            )
        low = image.size.shortest_edge if min_pixels is None else min_pixels
        if min_pixels is not None and min_pixels > max_pixels:
            raise ConfigError(
                Problem(
                    "backbone.min_pixels",
                    min_pixels,
                    f"must not be above backbone.max_pixels={max_pixels}",
                    "decrease it",
                )
            )
        image.size = SizeDict(shortest_edge=min(low, max_pixels), longest_edge=max_pixels)
        processor = Qwen2_5_VLProcessor(image_processor=image, tokenizer=tokenizer, chat_template=template)
        return QwenEncoder(processor, path=path, max_pixels=max_pixels, min_pixels=min_pixels)

    def image_features(self, pixels: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Features (tokens, hidden) of each image."""
        visual, grids = self.base.model.visual, pixels["image_grid_thw"]
        # The merger runs inside the tower's forward pass. With a frozen tower no input of the merger requires a
        # gradient, so autograd records the merger alone if it trains, and nothing otherwise.
        layout = tower_layout(visual, grids, pixels["pixel_values"].device)
        merged = visual(
            pixels["pixel_values"].to(visual.dtype), grid_thw=grids, layout=layout, **layout.precomputed
        ).pooler_output
        sizes = (grids.prod(-1) // visual.spatial_merge_size**2).tolist()
        return list(torch.split(merged, sizes))
