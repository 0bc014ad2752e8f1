"""Frames to the vision encoder's pixel values, bit-identical to CLIP's, SigLIP's and DINOv2's processors (spec §4.1).

    u8[H, W, 3]  --pad to a square?--resize (Pillow, u8)--centre crop-->  u8[S, S, 3]  --normalise-->  f32[3, S, S]

After the resize every value depends on one byte and its channel only, so it is looked up in a 3 x 256 table.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import ConfigError, EmptyMedia
from .clip import Frame
from .frame_decoder import THREADS

BICUBIC = 3  # Pillow's number, as in preprocessor_config.json

# image processor class in preprocessor_config.json -> its defaults
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
}
for _name in ("VideoLlama2ImageProcessor", "VideoLlama2VideoProcessor"):  # processor_parts.py; their files state all
    _DEFAULTS[_name] = _DEFAULTS["CLIPImageProcessor"]
_DEFAULTS["CLIPFeatureExtractor"] = _DEFAULTS["CLIPImageProcessor"]
_DEFAULTS["BitImageProcessor"] = _DEFAULTS["CLIPImageProcessor"]  # DINOv2's; its files state all differences
_SWITCHES = ("do_resize", "do_rescale", "do_normalize")
_KNOWN = {
    "size",
    "crop_size",
    "resample",
    "rescale_factor",
    "image_mean",
    "image_std",
    "do_center_crop",
    "do_convert_rgb",
}
_IGNORED = {
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_valid_processor_keys",
    "_processor_class",
}
_IGNORED |= {"data_format", "input_data_format", "return_tensors", "default_to_square"}


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """Settings of an image processor.

    shortest_edge  resize so that the shorter side has this length, or
    resize_to      (height, width): resize to exactly this, ignoring the aspect ratio
    crop_to        (height, width) centre crop, padded with black if the image is smaller; None = no crop
    mean, std      per channel, for pixels scaled by rescale_factor
    resample       Pillow's filter number
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shortest_edge: int | None = None
    resize_to: tuple[int, int] | None = None
    crop_to: tuple[int, int] | None = None
    rescale_factor: float = 1 / 255
    resample: int = BICUBIC

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "PixelSettings":
        """From the contents of a preprocessor_config.json.

        Raises:
            ConfigError: an unknown processor or setting.
        """
        name = config.get("image_processor_type", config.get("feature_extractor_type", "CLIPImageProcessor"))
        defaults = _DEFAULTS.get(str(name).removesuffix("Fast").removesuffix("Pil"))
        if defaults is None:
            raise ConfigError(f"unknown image processor {name!r}; expected one of {', '.join(_DEFAULTS)}.")
        given = {key: value for key, value in config.items() if value is not None}
        unknown = sorted(given.keys() - _KNOWN - _IGNORED - set(_SWITCHES))
        if unknown:
            raise ConfigError(
                f"unknown image processor settings {', '.join(unknown)}; expected {', '.join(sorted(_KNOWN))}."
            )
        if given.get("do_resize", True) is not True:
            raise ConfigError("do_resize=False in the image processor's settings; only true is supported.")
        merged = defaults | given | _switched_off(given)
        shortest, exact = _size(merged["size"])
        return cls(
            mean=_three(merged["image_mean"], "image_mean"),
            std=_three(merged["image_std"], "image_std"),
            shortest_edge=shortest,
            resize_to=exact,
            crop_to=_square(merged["crop_size"], "crop_size") if merged["do_center_crop"] else None,
            rescale_factor=float(merged.get("rescale_factor", 1 / 255)),
            resample=int(merged.get("resample", BICUBIC)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The contents of a preprocessor_config.json that `from_dict` reads back."""
        exact = self.resize_to and {"height": self.resize_to[0], "width": self.resize_to[1]}
        crop = self.crop_to and {"height": self.crop_to[0], "width": self.crop_to[1]}
        return {
            "size": exact or {"shortest_edge": self.shortest_edge},
            "do_center_crop": crop is not None,
            **({"crop_size": crop} if crop else {}),
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "rescale_factor": self.rescale_factor,
            "resample": self.resample,
        }

    @property
    def is_unnormalised(self) -> bool:
        """Whether mean and standard deviation change nothing."""
        return self.mean == (0.0, 0.0, 0.0) and self.std == (1.0, 1.0, 1.0)

    def changed(self, changes: Mapping[str, Any]) -> "PixelSettings":
        """With other values of some settings, by their names in a preprocessor_config.json.

        Raises:
            ConfigError: an unknown setting or value.
        """
        for switch, off, name in (
            ("do_normalize", self.is_unnormalised, "image_mean"),
            ("do_rescale", self.rescale_factor == 1, "rescale_factor"),
        ):
            if changes.get(switch) is True and off and name not in changes:
                raise ConfigError(f"{switch} is off in these settings; to switch it on, pass {name} too.")
        return PixelSettings.from_dict(self.to_dict() | dict(changes))

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of the output.

        Raises:
            ConfigError: it depends on the image.
        """
        size = self.crop_to or self.resize_to
        if size is None:
            raise ConfigError(
                "shortest_edge without a centre crop gives frames of different sizes; expected crop_size."
            )
        return size

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """f32[3, 256]: the value of each byte in each channel; rescaled in float64, normalised in float32."""
        scaled = (np.arange(256) * self.rescale_factor).astype(np.float32)
        mean, std = np.array(self.mean, np.float32)[:, None], np.array(self.std, np.float32)[:, None]
        return (scaled - mean) / std

    @property
    def fill(self) -> tuple[int, ...]:
        """The colour used for padding to a square: the mean, truncated to integers."""
        return tuple(int(255 * m) for m in self.mean)


def pixels_u8(
    frames: Sequence[Frame], settings: PixelSettings, aspect: Literal["none", "pad"] = "none"
) -> NDArray[np.uint8]:
    """u8[T, S, S, 3]: frames resized and cropped, before scaling.

    Raises:
        EmptyMedia: no frame, or a frame without pixels.
    """
    if not frames or any(0 in frame.shape for frame in frames):
        raise EmptyMedia("expected 1 or more frames, each with pixels.")
    out = np.empty((len(frames), *settings.output_size, 3), np.uint8)

    def fit(i: int) -> None:
        out[i] = _fit(frames[i], settings, aspect)

    _each(fit, len(frames))
    return out


def pixel_values(frames: Sequence[Frame], settings: PixelSettings, aspect: Literal["none", "pad"] = "none") -> Tensor:
    """f32[T, 3, S, S]: the vision encoder's input.

    Raises:
        EmptyMedia: no frame, or a frame without pixels.
    """
    bytes_thwc = pixels_u8(frames, settings, aspect)
    out = np.empty((len(frames), 3, *settings.output_size), np.float32)

    def look_up(i: int) -> None:
        for channel in range(3):
            np.take(settings.table[channel], bytes_thwc[i, :, :, channel], out=out[i, channel], mode="clip")

    _each(look_up, len(frames))
    return torch.from_numpy(out)


def _each(work: Any, count: int) -> None:
    """Run work(0) … work(count-1), in parallel if possible."""
    if count == 1 or THREADS == 1:
        for i in range(count):
            work(i)
        return
    with ThreadPoolExecutor(min(THREADS, count)) as pool:
        list(pool.map(work, range(count)))


def _fit(frame: Frame, settings: PixelSettings, aspect: Literal["none", "pad"]) -> NDArray[np.uint8]:
    image = Image.fromarray(frame)
    width, height = image.size
    side = max(width, height)
    padded = aspect == "pad" and width != height
    size = _resized(side, side, settings) if padded else _resized(width, height, settings)
    if padded:
        if width > height:  # Pillow resizes rows first: skip that for the padding, whose rows have one colour
            image = image.resize((size[0], height), Image.Resampling(settings.resample))
        square = Image.new("RGB", (image.width if width > height else side, side), settings.fill)
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        image = square
    resized = np.asarray(image.resize(size, Image.Resampling(settings.resample)))
    return _centre(resized, settings.crop_to) if settings.crop_to else resized


def _resized(width: int, height: int, settings: PixelSettings) -> tuple[int, int]:
    """(width, height) after the resize."""
    if settings.resize_to is not None:
        return settings.resize_to[::-1]
    edge = settings.shortest_edge or min(width, height)
    longer = int(edge * max(width, height) / min(width, height))
    return (edge, longer) if width <= height else (longer, edge)


def _centre(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Centre crop of [H, W, 3] to `size`, padded with black if smaller (an odd row or column goes first)."""
    height, width = size
    pad_y, pad_x = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
    if pad_y or pad_x:
        around = ((-(-pad_y // 2), pad_y // 2), (-(-pad_x // 2), pad_x // 2), (0, 0))
        image = np.pad(image, around)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _size(size: Any) -> tuple[int | None, tuple[int, int] | None]:
    """(shortest edge, exact size), one of them None."""
    if isinstance(size, int):
        return size, None
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"]), None
    return None, _square(size, "size")


def _square(size: Any, key: str) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return int(size["height"]), int(size["width"])
    raise ConfigError(f"the image processor's {key} is {size!r}; expected a number, or height and width.")


def _switched_off(given: Mapping[str, Any]) -> dict[str, Any]:
    """What steps that are switched off leave unchanged."""
    neutral: dict[str, Any] = {}
    if given.get("do_normalize") is False:
        neutral |= {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    if given.get("do_rescale") is False:
        neutral["rescale_factor"] = 1.0
    return neutral


def _three(values: Any, key: str) -> tuple[float, float, float]:
    if not isinstance(values, Sequence) or len(values) != 3:
        raise ConfigError(f"the image processor's {key} is {values!r}; expected three numbers.")
    return float(values[0]), float(values[1]), float(values[2])


CLIP_336 = PixelSettings.from_dict({"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}})
SIGLIP_384 = PixelSettings.from_dict(
    {"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}}
)
# for checkpoints that name their vision encoder by hub id and have no preprocessor_config.json
BUILT_IN = {
    "openai/clip-vit-large-patch14-336": CLIP_336,
    "google/siglip-so400m-patch14-384": SIGLIP_384,
}
