"""Rows of inference.py: from a file to the inputs of the encoders."""

import importlib.util
import shutil
import wave
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import plain
from long_videos import LongVideo, make
from measure import Case

Builder = Callable[[], Case]
CLIPS = ("sample_demo_1.mp4", "sample_demo_9.mp4", "00003491.mp4")
PROCESSORS = {"clip336": (8, 16), "siglip384": (16,)}


LONG = [LongVideo(codec, gop) for codec in ("h264", "hevc", "av1", "vp9") for gop in (250, 30)]
LONG_SOUND = LongVideo("h264", 250, sound=True)


def rows(media: Path | None, scratch: Path, long: Path | None = None) -> dict[str, Builder]:
    """Rows by name. Rows of video files need `media`: CLIPS in that folder, or every mp4 in it.

    Long videos are made in `long`, and stay there; without it they are made in `scratch`: 3 GB in all.
    """
    found: dict[str, Builder] = {}
    if media is not None:
        clips = [media / name for name in CLIPS if (media / name).is_file()] or sorted(media.glob("*.mp4"))
        for clip in clips:
            for kind, counts in PROCESSORS.items():
                for count in counts:
                    found[f"preprocess.{clip.name}.{kind}.{count}frames"] = partial(_preprocess, clip, kind, count)
    found["audio.kaldi_fbank_10s_f32"] = partial(_fbank, 10, torch.float32)
    found["audio.kaldi_fbank_60s_f32"] = partial(_fbank, 60, torch.float32)
    found["audio.kaldi_fbank_30s_f64"] = partial(_fbank, 30, torch.float64)
    found["audio.process_audio_file_10s_44k"] = partial(_sound_file, scratch, 10)
    found["audio.process_audio_file_60s_44k"] = partial(_sound_file, scratch, 60)
    if media is not None and clips:
        found[f"audio.process_audio_from_video_{clips[0].stem}"] = partial(_video_sound, lambda: clips[0])
    folder = long or scratch
    for video in LONG:
        for kind, counts in PROCESSORS.items():
            for count in counts if video.codec == "h264" else (8,) * (kind == "clip336"):
                build = partial(_preprocess_long, folder, video, kind, count)
                found[f"preprocess.{video.name}.{kind}.{count}frames"] = build
    found[f"audio.process_audio_from_{LONG_SOUND.name}"] = partial(_video_sound, partial(make, folder, LONG_SOUND))
    return found


def _preprocess(clip: Path, kind: str, count: int) -> Case:
    from videollama2.media import open_clip, pixel_values
    from videollama2.media.pixels import CLIP_336, SIGLIP_384

    settings = CLIP_336 if kind == "clip336" else SIGLIP_384
    processor = _transformers_processor(kind)

    def ours(want: int = count) -> Any:
        return pixel_values(
            open_clip(clip, num_frames=want, protocol="paper", want_audio=False).frames, settings, "pad"
        )

    indices = open_clip(clip, num_frames=count, protocol="paper", want_audio=False).frame_indices
    variants: dict[str, Callable[[], Any]] = {
        "ours": ours,
        "plain": partial(plain.preprocess, plain.frames_by_pyav, clip, indices, processor),
    }
    if importlib.util.find_spec("decord") and "av1" not in clip.name:  # its FFmpeg has no decoder of AV1
        variants["decord"] = partial(plain.preprocess, plain.frames_by_decord, clip, indices, processor)
    variants["bare decoding, 1 thread"] = _bare(clip, indices)
    # decoders round YUV to RGB differently, by a few levels of 1/255/0.26
    return Case(variants, goal=3.0, tolerance=0.15, note="decode, pad to a square, resize, normalise")


def _preprocess_long(folder: Path, video: LongVideo, kind: str, count: int) -> Case:
    return _preprocess(make(folder, video), kind, count)


def _bare(clip: Path, indices: Sequence[int]) -> Callable[[], None]:
    """The limit: FFmpeg decodes the packets that these frames depend on, and nothing else is done."""
    import av

    from videollama2.media.unreferenced import unreferenced

    container = av.open(str(clip))
    stream = container.streams.video[0]
    codec = stream.codec_context
    codec.thread_count, codec.thread_type = 1, "NONE"
    skip = unreferenced(codec)
    packets = [p for p in container.demux(stream) if p.size]
    stamps = sorted(p.pts for p in packets)
    wanted = {stamps[i] for i in indices}
    groups: dict[int, list[Any]] = {}  # by the timestamp of the key frame
    since_key: list[Any] = []
    for packet in packets:
        if packet.is_keyframe:
            since_key = []
        if packet.pts in wanted or skip is None or not skip(packet):
            since_key.append(packet)
        if packet.pts in wanted:
            groups[since_key[0].pts] = list(since_key)

    def decode() -> None:
        for group in groups.values():
            for packet in [*group, None]:
                codec.decode(packet)
            codec.flush_buffers()

    return decode


def _transformers_processor(kind: str) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    if kind == "clip336":
        return CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return SiglipImageProcessorPil(size={"height": 384, "width": 384})


def _noise(seconds: float, rate: int) -> np.ndarray:
    """Seeded noise with a slow swell, ±0.5."""
    n = int(seconds * rate)
    swell = 0.25 + 0.2 * np.sin(np.arange(n) * (2 * np.pi * 0.7 / rate))
    return np.random.default_rng(5).uniform(-1, 1, n) * swell


def _fbank(seconds: int, dtype: torch.dtype) -> Case:
    from videollama2.media.fbank import fbank

    samples = torch.from_numpy(_noise(seconds, 16000)).to(dtype)
    return Case({"ours": lambda: fbank(samples), "plain": lambda: plain.fbank(samples)}, tolerance=1e-2)


def _sound_file(scratch: Path, seconds: int) -> Case:
    from videollama2.media import audio_input, open_clip
    from videollama2.protocols import RELEASED

    path = scratch / f"noise_{seconds}s.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(44100)
        file.writeframes((_noise(seconds, 44100) * 32767).astype("<i2").tobytes())
    return Case(
        {"ours": lambda: audio_input(open_clip(path), RELEASED).fbank, "plain": lambda: plain.sound_file(path)},
        tolerance=float("inf"),  # in the padded tail of the 10 s file, the log amplifies the resampler's ringing
        note="released protocol: always 30 s",
    )


def _video_sound(clip_of: Callable[[], Path]) -> Case:
    from videollama2.media import audio_input, open_clip
    from videollama2.protocols import RELEASED

    clip = clip_of()
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: audio_input(open_clip(clip, want_video=False), RELEASED).fbank,
        "plain": lambda: plain.video_sound(clip),
    }
    if shutil.which("ffmpeg"):
        variants["ffmpeg"] = lambda: plain.video_sound_by_ffmpeg(clip) is None  # another version: not compared
    return Case(
        variants,
        tolerance=0.2,  # bfloat16 steps of quiet bins
        note="eight windows of 2 s",
    )
