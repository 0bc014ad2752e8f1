"""The image settings of a checkpoint: its preprocessor_config.json, or the defaults of its vision encoder."""

from pathlib import Path
from typing import Any

from .call_options import IMAGE_SETTINGS
from .configuration import VideoLlama2Config, read_json
from .media import PixelSettings
from .vision import vision_family

PREPROCESSOR = "preprocessor_config.json"


def default_pixels(vision_config: Any) -> PixelSettings:
    """Image settings of a vision encoder without a preprocessor_config.json."""
    family, side = vision_family(vision_config.model_type), vision_config.image_size
    square = {"height": side, "width": side}
    size = square if family.exact_size else {"shortest_edge": side}
    return PixelSettings.from_dict({"image_processor_type": family.image_processor, "size": size, "crop_size": square})


def find_pixels(folder: Path, config: VideoLlama2Config) -> PixelSettings | None:
    """Image settings from the checkpoint's folder or its vision encoder's; else the encoder's defaults."""
    if config.vision_config is None:
        return None
    raw = read_json(folder / "config.json")
    tower = str(raw.get("mm_vision_tower") or "")
    for place in (folder, *([folder / tower, folder / Path(tower).name, Path(tower)] if tower else [])):
        if (place / PREPROCESSOR).is_file():
            return PixelSettings.from_dict(read_json(place / PREPROCESSOR))
    return default_pixels(config.vision_config)


def as_dict(settings: PixelSettings, vision_config: Any) -> dict[str, Any]:
    """The contents of a preprocessor_config.json, readable by transformers' own processors."""
    return {"image_processor_type": vision_family(vision_config.model_type).image_processor, **settings.to_dict()}


def pixels_of(image_processor: Any) -> PixelSettings:
    """Settings of an image processor of transformers' own.

    Raises:
        ConfigError: it does what this package's does not.
    """
    given = {name: value for name, value in image_processor.to_dict().items() if value is not None}
    unused = {name for name, value in given.items() if value is False and name not in IMAGE_SETTINGS}
    return PixelSettings.from_dict({name: value for name, value in given.items() if name not in unused})
