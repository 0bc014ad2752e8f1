"""How a checkpoint wants its pictures: preprocessor_config.json, or the defaults of its vision encoder."""

from pathlib import Path
from typing import Any

from .configuration import VideoLlama2Config, read_json
from .media import PixelSettings

PREPROCESSOR = "preprocessor_config.json"
# transformers' processor class for each vision encoder, whose defaults hold where a checkpoint brings no file
_IMAGE_PROCESSORS = {
    "clip_vision_model": "CLIPImageProcessor",
    "siglip_vision_model": "SiglipImageProcessor",
    "dinov2": "BitImageProcessor",
}


def default_pixels(vision_config: Any) -> PixelSettings:
    """Image settings of a vision encoder whose checkpoint brings no preprocessor_config.json."""
    kind, side = _IMAGE_PROCESSORS[vision_config.model_type], vision_config.image_size
    size = {"height": side, "width": side} if kind == "SiglipImageProcessor" else {"shortest_edge": side}
    return PixelSettings.from_dict(
        {"image_processor_type": kind, "size": size, "crop_size": {"height": side, "width": side}}
    )


def find_pixels(folder: Path, config: VideoLlama2Config) -> PixelSettings | None:
    """Image settings from the checkpoint's folder, or the tower's inside it; else the encoder's defaults."""
    if config.vision_config is None:
        return None
    raw = read_json(folder / "config.json")
    tower = str(raw.get("mm_vision_tower") or "")
    for place in (folder, *([folder / tower, folder / Path(tower).name, Path(tower)] if tower else [])):
        if (place / PREPROCESSOR).is_file():
            return PixelSettings.from_dict(read_json(place / PREPROCESSOR))
    return default_pixels(config.vision_config)


def as_dict(settings: PixelSettings, vision_config: Any) -> dict[str, Any]:
    """The contents of a preprocessor_config.json, as transformers' own processors read it, too."""
    return {"image_processor_type": _IMAGE_PROCESSORS[vision_config.model_type], **settings.to_dict()}
