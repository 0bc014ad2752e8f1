"""Frames, pixels and the sound of videos, against what the public implementation recorded (fixtures: preprocess/)."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from videollama2.errors import VideoLlama2Error
from videollama2.media import (
    DEFAULT_LIMITS,
    Clip,
    PixelSettings,
    audio_input,
    open_clip,
    pixel_values,
    pixels_u8,
)
from videollama2.media.fbank import fbank
from videollama2.media.sampling import eight_windows, per_second, released_range, uniform, window_samples
from videollama2.media.source import MediaSource
from videollama2.media.video import VideoReader
from videollama2.protocols import RELEASED

from .recorded import FIXTURES, MEDIA, meta, need

META = meta("preprocess")
PIXELS = load_file(need(FIXTURES / "preprocess") / "pixels.safetensors")
SOUND = load_file(FIXTURES / "preprocess" / "video_audio.safetensors")

CASE = re.compile(
    r"(?P<proc>[a-z]+)(?P<px>\d+)(\.n(?P<n>\d+|None))?\.(?P<aspect>pad|noaspect)(\.s(?P<s>[^_]+)_e(?P<e>[^_]+))?$"
)
VIDEO_CASES = [(name, key) for name, video in META["videos"].items() for key in video["cases"]]
IMAGE_CASES = [(name, key) for name, image in META["images"].items() for key in image["cases"]]


def sha(array: np.ndarray | torch.Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(np.asarray(array)).tobytes()).hexdigest()


def number(text: str | None) -> float | None:
    return None if text in (None, "None") else float(text)


def settings(proc: str, px: int) -> PixelSettings:
    """The recorded processor, at another size."""
    config = dict(META["processors"][proc])
    for key in ("size", "crop_size"):
        if key in config:
            config[key] = dict.fromkeys(config[key], px)
    return PixelSettings.from_dict(config)


def media(name: str, recorded: dict[str, Any]) -> Path:
    path = need(MEDIA) / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == recorded["sha256_file"], f"{path} is another file"
    return path


def opened(medium: Any, n: float | None, start: float | None = None, end: float | None = None) -> Clip:
    start, end = released_range(start, end)
    frames = None if n is None else int(n)
    return open_clip(medium, num_frames=frames, protocol=RELEASED, start=start, end=end, want_audio=False)


def same(clip: Clip, prepared: PixelSettings, aspect: str, case: dict[str, Any], kept: str) -> None:
    """Bytes equal; where only the decoder differs, the statistics."""
    pad = "pad" if aspect == "pad" else "none"
    u8 = pixels_u8(clip.frames, prepared, pad).transpose(0, 3, 1, 2)
    f32 = pixel_values(clip.frames, prepared, pad)
    assert list(f32.shape) == case["shape"] and f32.dtype == torch.float32
    if kept + ".u8" in PIXELS:
        assert np.array_equal(u8, PIXELS[kept + ".u8"].numpy())
    if kept + ".frame0_f32" in PIXELS:
        torch.testing.assert_close(f32[0], PIXELS[kept + ".frame0_f32"], rtol=0, atol=1e-6)
    if "sha256_u8" in case:
        assert sha(u8) == case["sha256_u8"]
    wide = f32.double()
    assert float(wide.mean()) == pytest.approx(case["mean"], abs=1e-6)
    assert float(wide.abs().max()) == pytest.approx(case["absmax"], abs=1e-6)
    assert float(wide.square().sum()) == pytest.approx(case["sumsq64"], rel=1e-6)
    if "per_frame_channel_mean" in case:
        found = wide.mean(dim=(2, 3)).numpy()
        np.testing.assert_allclose(found, case["per_frame_channel_mean"], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "key"), VIDEO_CASES, ids=[key for _, key in VIDEO_CASES])
def test_video_case(name: str, key: str) -> None:
    recorded = META["videos"][name]
    case = recorded["cases"][key]
    parts = CASE.match(key.removeprefix(Path(name).stem + "."))
    assert parts, f"the case name {key} is not understood"
    path = media(name, recorded)
    if "error" in case:
        with pytest.raises(VideoLlama2Error):
            opened(path, number(parts["n"]), number(parts["s"]), number(parts["e"]))
        return
    clip = opened(path, number(parts["n"]), number(parts["s"]), number(parts["e"]))
    assert list(clip.frame_indices) == case["indices"][: RELEASED.max_frames]
    assert clip.frames_total == recorded["frames"]
    assert clip.fps == pytest.approx(recorded["fps"], rel=1e-12)
    assert [clip.height, clip.width] == recorded["size_hw"]
    same(clip, settings(parts["proc"], int(parts["px"])), parts["aspect"], case, key)


@pytest.mark.parametrize("name", META["videos"])
def test_raw_frames(name: str) -> None:
    recorded = META["videos"][name]
    path, stem = media(name, recorded), Path(name).stem
    stills = {int(p.stem.rsplit("frame", 1)[1]): p for p in MEDIA.glob(f"{stem}_frame*.png")}
    middle = recorded["frames"] // 2
    wanted = sorted({*map(int, recorded["raw"]), *stills, middle})
    source = MediaSource.of(path, DEFAULT_LIMITS)
    with source.container() as container:
        picked = VideoReader(container, source, DEFAULT_LIMITS).decode(wanted)
    assert list(picked.indices) == wanted and not picked.losses
    frames = dict(zip(picked.indices, picked.frames, strict=True))
    for index, expected in recorded["raw"].items():
        assert frames[int(index)].mean(axis=(0, 1)) == pytest.approx(expected["mean_rgb"], abs=0.5)
        assert sha(frames[int(index)]) == expected["sha256"]
    if f"{stem}.raw_mid_center_96x128" in PIXELS:
        height, width = frames[middle].shape[:2]
        top, left = (height - 96) // 2, (width - 128) // 2
        centre = frames[middle][top : top + 96, left : left + 128]
        assert np.array_equal(centre, PIXELS[f"{stem}.raw_mid_center_96x128"].numpy())
    for index, still in stills.items():
        assert np.array_equal(frames[index], rgb_of(still))


@pytest.mark.parametrize(("name", "key"), IMAGE_CASES, ids=[key for _, key in IMAGE_CASES])
def test_image_case(name: str, key: str) -> None:
    recorded = META["images"][name]
    parts = CASE.match(key.removeprefix(Path(name).stem + "."))
    assert parts, f"the case name {key} is not understood"
    clip = opened(media(name, recorded), 8)
    assert clip.kind == "image" and [clip.width, clip.height] == recorded["size_wh"]
    same(clip, settings(parts["proc"], int(parts["px"])), parts["aspect"], recorded["cases"][key], key)


@pytest.mark.parametrize("key", META["other"])
def test_other_input(key: str, tmp_path: Path) -> None:
    case = META["other"][key]
    if "error" in case:
        pytest.fail(f"{key}: the recorded error {case['error']} needs a case here")
    if parts := re.match(r"(\w+)\.(ndarray|list_of_arrays|list_of_pil)\.([a-z]+)\.n(\d+)\.(pad|noaspect)", key):
        stem, form, proc, n, aspect = parts.groups()
        frames = PIXELS[f"{stem}.frames_u8"].numpy()
        medium = {
            "ndarray": frames,
            "list_of_arrays": list(frames),
            "list_of_pil": [Image.fromarray(f) for f in frames],
        }
        size = case["shape"][-1]
        kept = f"{stem}.ndarray.{proc}.n{n}.{aspect}"
        same(opened(medium[form], int(n)), settings(proc, size), aspect, case, kept)
    elif parts := re.match(r"array(\d+)_n(\d+)$", key):
        given, n = int(parts[1]), int(parts[2])
        grey = np.arange(given, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3).repeat(4, 1).repeat(6, 2)
        clip = opened(grey, n)
        assert len(clip.frames) == case["shape"][0]
        assert [int(f[0, 0, 0]) for f in clip.frames] == list(range(case["shape"][0]))
        assert clip.losses
    elif parts := re.match(r"folder(\d+)\.s(\w[\d.]*|None)_e(\w[\d.]*|None)_n(\d+|None)$", key):
        for i in range(int(parts[1])):
            Image.new("RGB", (30, 20), (10 * i,) * 3).save(tmp_path / f"{i:04d}.png")
        clip = opened(tmp_path, number(parts[4]), number(parts[2]), number(parts[3]))
        assert list(clip.frame_indices) == case["frame_index"]
        assert [int(f[0, 0, 0]) // 10 for f in clip.frames] == case["frame_index"]
        assert len(clip.frames) == case["shape"][0]
    elif parts := re.match(r"gif(\d+)_n(\d+)$", key):
        files = [path for path in sorted(need(MEDIA).glob("*.gif")) if pictures_in(path) == int(parts[1])]
        assert files, f"no animation of {parts[1]} pictures in {MEDIA}"
        clip = opened(files[0], int(parts[2]))
        assert [int(f[0, 0, 0]) for f in clip.frames] == case["grey"]
        assert len(clip.frames) == case["shape"][0]
    else:
        pytest.fail(f"the case name {key} is not understood")


@pytest.mark.parametrize("key", META["frame_sample"])
def test_frame_sample(key: str) -> None:
    duration, frames = map(int, key.split("/"))
    assert uniform(duration, frames) == META["frame_sample"][key]


@pytest.mark.parametrize("key", META["frame_sample_fps"])
def test_frame_sample_fps(key: str) -> None:
    duration, fps = key.split("@")
    assert per_second(int(duration), float(fps)) == META["frame_sample_fps"][key]


@pytest.mark.parametrize("name", META["audio"])
def test_video_sound(name: str) -> None:
    case, stem = META["audio"][name], Path(name).stem
    clip = open_clip(need(MEDIA) / name, num_frames=8, protocol=RELEASED)
    sound = audio_input(clip, RELEASED)
    assert (clip.wave is not None) == case["has_track"]
    assert (sound.receipt.state == "absent") == (not case["has_track"])
    samples = len(clip.wave.samples) if clip.wave is not None else case["samples_16k"]
    assert samples == case["samples_16k"]
    windows = eight_windows(samples, 16000)
    assert [float(start) for start, _ in windows] == pytest.approx(case["starts"], abs=1e-12)
    assert [float(end) for _, end in windows] == pytest.approx(case["ends"], abs=1e-12)
    pieces = [window_samples(window, samples, 16000) for window in windows]
    assert [[piece.start, piece.stop] for piece in pieces] == case["sample_ranges"]
    if f"{stem}.wave16k_int16" in SOUND:
        assert clip.wave is not None
        off = np.round(clip.wave.samples * 32768) - SOUND[f"{stem}.wave16k_int16"].numpy()
        assert np.abs(off).max() <= 1 and (off != 0).mean() < 1e-3  # one step of 16 bits: another version of FFmpeg
    assert sound.fbank is not None and sound.fbank.dtype == torch.bfloat16
    assert [1, *sound.fbank.shape] == case["fbank_shape"]
    close_statistics(sound.fbank, case["stats_full"])
    for field, stats in case.items():
        if cut := re.match(r"tail_after_(\d+)$", field):
            close_statistics(sound.fbank[int(cut[1]) :], stats)
    for kept, values in SOUND.items():
        if kept == f"{stem}.fbank_bf16_every_10th":
            close_bf16(sound.fbank[::10], values[0])
        elif first := re.match(re.escape(stem) + r"\.fbank_bf16_first_(\d+)$", kept):
            close_bf16(sound.fbank[: int(first[1])], values[0])
    if "va_output" in case:
        frames, audio = case["va_output"]["video"][0], case["va_output"]["audio"][0]
        assert len(clip.frames) == frames[0] and list(sound.fbank.shape) == audio[1:]


def rgb_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def pictures_in(path: Path) -> int:
    with Image.open(path) as animation:
        return animation.n_frames


def close_bf16(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within one bfloat16 step where the value is above 0; one in 10,000 may be two steps off.

    Another version of FFmpeg rounds a sample in ten thousand to the neighbouring 16-bit step, which a quiet bin shows.
    """
    found, expected = found.float(), expected.float()
    loud = expected > 0
    step = torch.exp2(torch.floor(torch.log2(expected.abs().clamp(min=1e-3))) - 7)
    off = ((found - expected).abs() / step)[loud]
    assert off.numel() == 0 or (float(off.max()) <= 2 and float((off > 1).float().mean()) < 1e-4)
    assert (found - expected).abs().mean() < 0.01


def close_statistics(found: torch.Tensor, expected: dict[str, float]) -> None:
    wide = found.double()
    assert float(wide.mean()) == pytest.approx(expected["mean"], abs=5e-3)
    assert float(wide.std(correction=1)) == pytest.approx(expected["std"], abs=5e-3)
    assert float(wide.abs().max()) == pytest.approx(expected["absmax"], abs=0.13)


def test_silence_is_the_floor() -> None:
    """A video without sound becomes the constant that the public implementation computes for silence."""
    rows = fbank(torch.zeros(480_000))
    assert rows.shape == (2998, 128) and torch.allclose(rows, torch.tensor(-15.942385))
