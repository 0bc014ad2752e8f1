"""Scenes to sound, and frames and sound to mp4."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import EmptyMedia
from .packs import SoundPack
from .scenes import Scene

SOUND_RATE_HZ = 16_000


def render_sound(scene: Scene, sounds: SoundPack) -> NDArray[np.float32]:
    """f32[seconds · 16000] in ±1: the scene's sounds, each with 20 ms fades."""
    total = round(scene.seconds * SOUND_RATE_HZ)
    wave = np.zeros(total, np.float32)
    for sound in scene.sounds:
        begin, length = round(sound.at * total), round(sound.length * total)
        piece = sounds.cut(sound.recording, sound.offset, min(length, total - begin)) * sound.gain
        fade = min(SOUND_RATE_HZ // 50, piece.size // 2)
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        piece[:fade] *= ramp
        piece[piece.size - fade :] *= ramp[::-1]
        wave[begin : begin + piece.size] += piece
    return np.clip(wave, -1, 1)


def write_clip(
    path: Path,
    frames: NDArray[np.uint8] | None,
    wave: NDArray[np.float32] | None,
    *,
    seconds: float,
    rate_hz: int = SOUND_RATE_HZ,
) -> None:
    """Write frames u8[T, H, W, 3] (H and W even) and a mono wave f32[S] as mp4: AAC, and H.264 if PyAV's build has it.

    The same input gives the same bytes on machines of the same kind with the same encoders.

    Raises:
        EmptyMedia: neither frames nor sound is given.
    """
    import av

    if frames is None and wave is None:
        raise EmptyMedia("a clip needs frames or sound; neither was given.")
    with av.open(str(path), "w") as out:
        if frames is not None:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            video = out.add_stream(codec, rate=max(1, round(len(frames) / seconds)))
            video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            video.bit_rate = 600_000
            video.codec_context.thread_count = 1  # rate control with several threads is not deterministic
            if codec == "libx264":  # its AVX-512 code is not deterministic; SSE2 gives the same bytes as plain C
                video.options = {"x264-params": "asm=SSE2"}
        if wave is not None:
            audio = out.add_stream("aac", rate=rate_hz, layout="mono")
        if frames is not None:
            for image in frames:
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(video.encode())
        if wave is not None:
            sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            sound.sample_rate = rate_hz
            out.mux(audio.encode(sound))
            out.mux(audio.encode())
