"""Files to arrays: frames with their times, sound with its rate, and what was lost. Knows nothing of models.

clip = open_clip("clip.mp4", num_frames=8, protocol="released")    # decode only what is needed
frames = pixel_values(clip.frames, CLIP_336)                       # f32[T, 3, 336, 336]
sound = sound_features(clip, protocol("released"))                 # fbank [F, 128] and what became of every second

What computes with torch is imported when first used: a process that only decodes starts in a tenth of the time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .clip import AudioState, Clip, Frame, FrameIndex, Wave
from .limits import DEFAULT_LIMITS, Limits
from .opening import MediaItem, Opener, open_clip
from .recording import Recording

if TYPE_CHECKING:
    from .pixels import BUILT_IN, CLIP_336, SIGLIP_384, PixelSettings, pixel_values, pixels_u8
    from .resample import resample_fourier
    from .sound import Sound, sound_features

_HOMES = {
    "BUILT_IN": "pixels",
    "CLIP_336": "pixels",
    "PixelSettings": "pixels",
    "SIGLIP_384": "pixels",
    "Sound": "sound",
    "pixel_values": "pixels",
    "pixels_u8": "pixels",
    "resample_fourier": "resample",
    "sound_features": "sound",
}

__all__ = [
    "BUILT_IN",
    "CLIP_336",
    "DEFAULT_LIMITS",
    "SIGLIP_384",
    "AudioState",
    "Clip",
    "Frame",
    "FrameIndex",
    "Limits",
    "MediaItem",
    "Opener",
    "PixelSettings",
    "Recording",
    "Sound",
    "Wave",
    "open_clip",
    "pixel_values",
    "pixels_u8",
    "resample_fourier",
    "sound_features",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'videollama2.media' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
