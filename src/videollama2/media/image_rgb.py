"""A Pillow image to RGB, as a viewer shows it, and notes on what differs.

upright        by its EXIF orientation
8 bits         16-bit grey by its upper byte; 32-bit and float levels scaled from their own range
colours        its ICC profile to sRGB, where the protocol shows pictures as viewers do; else as stored
transparency   dropped, and noted
"""

from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import UnreadableMedia
from .clip import Frame

_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # tags of a TIFF
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
TRANSPARENT = "the image is partly transparent; transparency is ignored"
_GREY = ("1", "L", "LA")
_PROFILES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile: mode of its image


def image_to_rgb(image: Image.Image, name: str = "the image", *, as_shown: bool = False) -> tuple[Frame, list[str]]:
    """u8[H, W, 3] and notes.

    Raises:
        UnreadableMedia: the pixels are corrupt, truncated, or of a kind that Pillow misreads.
    """
    try:
        notes = [TRANSPARENT] if _is_transparent(image) else []
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
            upright = Image.fromarray(_grey(np.asarray(upright), image))
        elif image.format == "TIFF":
            _check_planes(image, name)
        upright, of_profile = in_srgb(upright, image.info.get("icc_profile"), as_shown=as_shown)
        notes += of_profile
        return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB")), notes
    except UnreadableMedia:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableMedia(f"{name} is corrupt or truncated: its pixels can't be decoded.") from error


def shared_notes(notes: Iterable[str], images: int) -> tuple[str, ...]:
    """Each note once; where it holds for some of the images only, with their number."""
    return tuple(note if n == images else f"{n} of {images} images: {note}" for note, n in Counter(notes).items())


def _is_transparent(image: Image.Image) -> bool:
    alpha = image
    if "transparency" in image.info and image.mode in ("P", "RGB", "L", "1"):
        alpha = image.convert("RGBA" if image.mode != "L" else "LA")
    if alpha.mode == "PA":
        alpha = alpha.convert("RGBA")
    return alpha.mode in _WITH_ALPHA and alpha.getchannel(alpha.getbands()[-1]).getextrema()[0] != 255


# ── depth ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _grey(levels: NDArray[Any], image: Image.Image) -> NDArray[np.uint8]:
    """u8[H, W] of grey levels with more than 8 bits."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = _first(tags.get(_BITS), 16 if image.mode.startswith("I;16") or image.format in ("PNG", "PPM") else 32)
    signed = _first(tags.get(_SAMPLE_FORMAT), 2 if bits == 32 else 1) == 2
    if levels.dtype.kind == "f":
        grey = _scaled(levels)
    elif bits == 32:
        grey = _scaled(levels if signed else levels.astype(np.int64) & 0xFFFFFFFF)
    elif signed:
        grey = (levels.astype(np.int64).clip(0, 32767) >> 7).astype(np.uint8)
    else:
        grey = (levels.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
    return 255 - grey if _first(tags.get(_PHOTOMETRIC), 1) == 0 else grey  # TIFF: the lowest number is white


def _first(value: Any, default: int) -> int:
    if value is None:
        return default
    return int(value[0] if isinstance(value, tuple) else value)


def _scaled(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """u8[H, W] of levels that are fractions (0 to 1), bytes (to 255), 16-bit numbers (to 65535), or others."""
    values = np.nan_to_num(levels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    top = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    low = low if low < 0 else 0.0
    return np.round((values - low) * (255.0 / (top - low))).astype(np.uint8)


def _check_planes(image: Image.Image, name: str) -> None:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if _first(tags.get(_PLANES), 1) == 2 and _first(tags.get(_BITS), 8) > 8:
        raise UnreadableMedia(
            f"{name} is a TIFF with a plane of {_first(tags.get(_BITS), 8)} bits per colour, which is not supported. "
            "Save it with interleaved colours, or as PNG."
        )


# ── colour profile ─────────────────────────────────────────────────────────────────────────────────────────────────


def in_srgb(image: Image.Image, profile: bytes | None, *, as_shown: bool) -> tuple[Image.Image, list[str]]:
    """The image by its ICC profile, or as stored, and a note unless the profile is sRGB itself."""
    if not profile:
        missing = "the image is CMYK without a colour profile: its colours are approximate"
        return image, [missing] if image.mode == "CMYK" else []
    from PIL import ImageCms, features  # few images have a profile

    if not features.check("littlecms2"):
        return image, ["its colour profile is ignored: this Pillow was built without LittleCMS"]
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        name = (source.profile.profile_description or "unnamed").strip("\0 ")
        mode = _PROFILES.get(str(source.profile.xcolor_space).strip())
        if "srgb" in name.lower() and mode == "RGB":
            return image, []
        if not as_shown:
            return image, [f"its colour profile ({name}) is not applied"]
        if mode is None or (image.mode == "CMYK") != (mode == "CMYK") or (mode == "L" and image.mode not in _GREY):
            raise ValueError("a profile of another colour space")
        converted = ImageCms.profileToProfile(
            image.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image, ["its colour profile can't be used and is ignored"]
    assert converted is not None  # as it is not converted in place
    return converted, [f"its colours ({name}) are converted to sRGB"]
