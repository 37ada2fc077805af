"""Processors of transformers without their video processor, which would need torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from geotune.system.files import open_atomically

VIDEO_FILE = "video_preprocessor_config.json"
"""File of a processor's folder that configures the video processor."""


class ImageOnly:
    """Mixin for a stock processor without its video processor.

    A saved folder still configures a video processor, because the stock class requires one where torchvision is
    installed.
    """

    video_processor_type: ClassVar[str]
    """Name of the video processor class that the stock class loads."""

    def save_pretrained(self, save_directory: str | Path, **settings: Any) -> Any:
        """Write the processor's files, and a config of the video processor with the settings of the image processor."""
        saved = super().save_pretrained(save_directory, **settings)  # type: ignore[misc]
        images = self.image_processor.to_dict()  # type: ignore[attr-defined]
        images.pop("image_processor_type", None)
        video = {"video_processor_type": self.video_processor_type, **images}
        with open_atomically(Path(save_directory) / VIDEO_FILE) as file:
            file.write(json.dumps(video, indent=2, sort_keys=True) + "\n")
        return saved
