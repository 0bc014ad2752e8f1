"""Files to arrays: frames with their times, sound with its rate, and what was lost. Knows nothing of models.

clip = open_clip("clip.mp4", num_frames=8, protocol="released")    # decode only what is needed
frames = pixel_values(clip.frames, CLIP_336)                       # f32[T, 3, 336, 336]
sound = sound_features(clip, protocol("released"))                 # fbank [F, 128] and what became of every second
"""

from .clip import AudioState, Clip, Frame, FrameIndex, Wave
from .fbank import fbank
from .limits import DEFAULT_LIMITS, Limits
from .opening import Medium, open_clip
from .pixels import BUILT_IN, CLIP_336, SIGLIP_384, PixelSettings, pixel_values, pixels_u8
from .resample import resample_fourier
from .sound import Sound, sound_features

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
    "Medium",
    "PixelSettings",
    "Sound",
    "Wave",
    "fbank",
    "open_clip",
    "pixel_values",
    "pixels_u8",
    "resample_fourier",
    "sound_features",
]
