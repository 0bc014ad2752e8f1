"""Files to arrays: frames with their times, audio with its rate, and what was lost. Independent of any model.

clip = open_clip("clip.mp4", num_frames=8, protocol="released")    # decodes only the frames it returns
frames = pixel_values(clip.frames, CLIP_336)                       # f32[T, 3, 336, 336]
audio = audio_input(clip, protocol("released"))                    # fbank [F, 128], its receipt and losses

    opening.py     open_clip: file, folder, list or Recording ─► Clip (clip.py)
    source.py      a file or bytes: allowed formats and codecs; limits.py: how much it may decode to
    packets.py, timeline.py    one time axis for video and audio; declared.py: was the file cut off?
    sampling.py    which frames, which seconds: choose_frames
    appearance.py, colour.py, image_rgb.py, heif.py    pictures as players and viewers show them
    tracks.py      which video and audio track is used; audible.py, mixing.py: which channels
    video.py, frame_decoder.py, images.py, folders.py, audio_decoder.py      reading and decoding
    unreferenced.py             which packets needn't be decoded
    pixels.py, fbank.py, audio_features.py               arrays to the encoders' inputs
    worker/        open_clip in confined, limited processes: where a hostile file is contained
    clip_cache.py  LRU cache of decoded clips

Modules that need torch are imported on first use: a worker, which only decodes, starts in a fifth of the time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .clip import AudioState, Clip, Frame, Wave
from .frames import FrameIndex
from .limits import DEFAULT_LIMITS, Limits
from .opening import MediaItem, Opener, open_clip
from .recording import Recording

if TYPE_CHECKING:
    from .audio_features import AudioInput, audio_input
    from .fbank import resample_fourier
    from .pixels import BUILT_IN, CLIP_336, SIGLIP_384, PixelSettings, pixel_values, pixels_u8

_HOMES = {
    "AudioInput": "audio_features",
    "BUILT_IN": "pixels",
    "CLIP_336": "pixels",
    "PixelSettings": "pixels",
    "SIGLIP_384": "pixels",
    "audio_input": "audio_features",
    "pixel_values": "pixels",
    "pixels_u8": "pixels",
    "resample_fourier": "fbank",
}

__all__ = [
    "BUILT_IN",
    "CLIP_336",
    "DEFAULT_LIMITS",
    "SIGLIP_384",
    "AudioInput",
    "AudioState",
    "Clip",
    "Frame",
    "FrameIndex",
    "Limits",
    "MediaItem",
    "Opener",
    "PixelSettings",
    "Recording",
    "Wave",
    "audio_input",
    "open_clip",
    "pixel_values",
    "pixels_u8",
    "resample_fourier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'videollama2.media' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
