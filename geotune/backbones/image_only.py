"""Processors of the library without their video processor, which would need torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

VIDEO_FILE = "video_preprocessor_config.json"


class ImageOnly:
    """Mixed into a stock processor: what it saves is whole again where the stock class reads it beside torchvision."""

    video_processor_type: ClassVar[str]
    """Class of the video processor that the stock class would look for."""

    def save_pretrained(self, save_directory: str | Path, **settings: Any) -> Any:
        """The processor's files, and one for the video processor, whose images are those of the image processor."""
        saved = super().save_pretrained(save_directory, **settings)  # type: ignore[misc]
        images = self.image_processor.to_dict()  # type: ignore[attr-defined]
        images.pop("image_processor_type", None)
        video = {"video_processor_type": self.video_processor_type, **images}
        text = json.dumps(video, indent=2, sort_keys=True) + "\n"
        (Path(save_directory) / VIDEO_FILE).write_text(text, encoding="utf-8")
        return saved
