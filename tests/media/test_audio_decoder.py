"""Audio of files: rates, channels, ranges, losses."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from videollama2.errors import EmptyMedia, MediaTooLarge, NumericsError, TimeRangeError, UnreadableMedia
from videollama2.media import Limits, audio_input, open_clip
from videollama2.media.audio_decoder import decode_audio
from videollama2.media.limits import DEFAULT_LIMITS
from videollama2.media.source import MediaSource
from videollama2.protocols import FULL, RELEASED

from .make import tone, write

CODECS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "ogg": "vorbis",
    "opus": "libopus",
    "mp3": "libmp3lame",
    "m4a": "aac",
    "aiff": "pcm_s16be",
    "mka": "aac",
}
LOSSLESS = {"wav", "flac", "aiff"}


def loudest_hz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


@pytest.mark.parametrize("suffix", CODECS)
def test_formats(suffix: str, tmp_path: Path) -> None:
    rate = 48000 if suffix == "opus" else 44100
    path = write(tmp_path / f"x.{suffix}", sound=tone(2.0, rate, 2), rate=rate, sound_codec=CODECS[suffix])
    clip = open_clip(path, protocol="full")
    assert clip.kind == "audio" and not clip.frames and clip.audio_state == "used" and not clip.losses
    assert clip.wave is not None and clip.wave.rate == 16000 and clip.wave.channels == 2
    assert clip.wave.samples.dtype == np.float32
    assert clip.wave.seconds == pytest.approx(2.0, abs=1e-3 if suffix in LOSSLESS else 0.1)
    strongest = loudest_hz(clip.wave.samples, 16000)
    assert strongest == pytest.approx(440, abs=2) or strongest == pytest.approx(880, abs=2)
    first = open_clip(path).wave
    assert first is not None and first.rate == rate and first.samples.dtype == np.float64
    assert loudest_hz(first.samples, rate) == pytest.approx(440, abs=2)


def test_vorbis_whose_last_packet_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ogg", sound=tone(12666 / 22050, 22050, 2), rate=22050, sound_codec="vorbis")
    with av.open(str(path)) as file:
        longest = max(packet.duration or 0 for packet in file.demux(audio=0))
    assert longest > 2**31, "FFmpeg gives the last packet's duration, which is negative, without its sign"
    clip = open_clip(path, protocol="full")
    assert clip.wave is not None and clip.wave.seconds == pytest.approx(12666 / 22050, abs=0.1)
    assert clip.wave.available_seconds == pytest.approx(clip.wave.seconds, abs=0.1), "of 194,783 s, it would be lost"


@pytest.mark.parametrize(
    ("codec", "step"), [("pcm_u8", 2**-7), ("pcm_s16le", 2**-15), ("pcm_s24le", 2**-23), ("pcm_f32le", 1e-9)]
)
def test_the_first_channel_is_exact(codec: str, step: float, tmp_path: Path) -> None:
    sound = tone(0.3, 22050, 2)
    path = write(tmp_path / "x.wav", sound=sound, rate=22050, sound_codec=codec)
    found = open_clip(path).wave
    assert found is not None and found.rate == 22050 and len(found.samples) == sound.shape[1]
    assert np.abs(found.samples - sound[0]).max() <= step


def test_rates_and_lengths(tmp_path: Path) -> None:
    for rate in (8000, 11025, 16000, 22050, 48000, 96000):
        path = write(tmp_path / f"{rate}.wav", sound=tone(1.5, rate), rate=rate, sound_codec="pcm_s16le")
        found = open_clip(path, protocol="full").wave
        assert found is not None and abs(len(found.samples) - 24000) <= 1


def test_mix_of_5_1(tmp_path: Path) -> None:
    """The mix of 5.1: left and right fully, centre and surrounds at -3 dB, no bass channel; scaled not to clip."""
    levels = []
    for channel in range(6):
        sound = np.zeros((6, 16000), np.float32)
        sound[channel] = tone(1.0, 16000)[0]
        path = write(tmp_path / f"{channel}.wav", sound=sound, rate=16000, sound_codec="pcm_s16le")
        # the mix itself: open_clip takes a bass channel that is alone
        found = decode_audio(MediaSource.of(path, DEFAULT_LIMITS), DEFAULT_LIMITS)
        assert found.channels == 6
        levels.append(float(found.samples.std()))
    left, right, centre, bass, back_left, back_right = levels
    assert left == pytest.approx(right, rel=0.01) and bass < 1e-3
    assert back_left == pytest.approx(back_right, rel=0.01)
    assert centre / left == pytest.approx(2**0.5, rel=0.05) and back_left / left == pytest.approx(0.5**0.5, rel=0.05)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a"])
def test_a_range_of_an_audio_file(suffix: str, tmp_path: Path) -> None:
    rate = 16000
    rising = np.concatenate([tone(1.0, rate, hz=300 * (k + 1))[0] for k in range(6)])[None]
    path = write(tmp_path / f"x.{suffix}", sound=rising, rate=rate, sound_codec=CODECS[suffix])
    for protocol in ("full", "released"):
        clip = open_clip(path, protocol=protocol, start=3.0, end=4.0)
        assert clip.wave is not None and clip.wave.seconds == pytest.approx(1.0, abs=0.01)
        assert clip.wave.start_seconds == pytest.approx(3.0, abs=0.01)
        assert loudest_hz(clip.wave.samples[800:-800], clip.wave.rate) == pytest.approx(1200, abs=8)
    with pytest.raises(TimeRangeError, match="start=30"):
        open_clip(path, start=30)


def test_a_range_of_a_video(tmp_path: Path) -> None:
    rising = np.concatenate([tone(1.0, 44100, hz=300 * (k + 1))[0] for k in range(5)])[None]
    path = write(tmp_path / "x.mp4", 50, sound=rising)
    clip = open_clip(path, num_frames=2, protocol="full", start=2, end=3)
    assert clip.wave is not None and loudest_hz(clip.wave.samples, 16000) == pytest.approx(900, abs=8)
    assert clip.times.min() >= 2 and clip.times.max() < 3
    released = open_clip(path, num_frames=2, start=2, end=3)
    assert released.wave is not None and released.wave.seconds > 4.9  # the public code never cuts it
    assert any("whole file" in note for note in released.notes)


def test_audio_that_ends_before_the_range(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 50, sound=tone(1.0))
    clip = open_clip(path, num_frames=2, protocol="full", start=3, end=4)
    assert clip.frames and clip.wave is None and clip.audio_state == "absent"
    assert any("the audio ends at" in loss for loss in clip.losses)


def test_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", sound=np.zeros((1, 16000), np.float32), rate=16000, sound_codec="pcm_s16le")
    assert open_clip(path).audio_state == "silent"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite(bad: float, tmp_path: Path) -> None:
    sound = tone(0.5, 16000)
    sound[0, 4000] = bad
    path = write(tmp_path / "x.wav", sound=sound, rate=16000, sound_codec="pcm_f32le")
    for protocol in ("released", "full"):
        with pytest.raises(NumericsError, match="NaN"):
            open_clip(path, protocol=protocol)


def test_audio_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
    with pytest.raises((EmptyMedia, UnreadableMedia)):
        open_clip(path)


def test_audio_over_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "x.flac", sound=np.zeros((1, 160_000), np.float32), rate=16000, sound_codec="flac")
    with pytest.raises(MediaTooLarge, match="more than 5 s"):
        open_clip(path, protocol="full", limits=Limits(max_sound_seconds=5))
    assert open_clip(path, protocol="full", end=4, limits=Limits(max_sound_seconds=5)).wave is not None


def test_a_wave_header_that_lies(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", sound=tone(3.0, 16000), rate=16000, sound_codec="pcm_s16le")
    path.write_bytes(path.read_bytes()[: 44 + 16000 * 2])
    clip = open_clip(path, protocol="full")
    assert clip.wave is not None and clip.wave.seconds == pytest.approx(1.0, abs=0.05)


def test_damaged_audio_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "x.flac", sound=tone(6.0, 16000), rate=16000, sound_codec="flac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 8] = bytes(len(data) // 8)
    path.write_bytes(data)
    found = decode_audio(MediaSource.of(path, DEFAULT_LIMITS), DEFAULT_LIMITS)
    assert found.lost_seconds > 0.3
    clip = open_clip(path, protocol="full")
    assert any("could not be decoded" in loss for loss in clip.losses) and set(clip.losses) <= set(clip.notes)


def test_truncated_audio(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mka", sound=tone(6.0, 16000), rate=16000, sound_codec="aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = open_clip(path, protocol="full")
    assert clip.wave is not None and clip.wave.seconds < 5
    assert any("could not be decoded" in loss for loss in clip.losses)


def test_the_mix_equals_ffmpegs(tmp_path: Path) -> None:
    """Feeding FFmpeg's resampler frame by frame or all at once gives the same samples."""
    sound = tone(2.0, 44100, 2) * 0.8
    path = write(tmp_path / "x.wav", sound=sound, sound_codec="pcm_s16le")
    found = decode_audio(MediaSource.of(path, DEFAULT_LIMITS), DEFAULT_LIMITS).samples
    with av.open(str(path)) as container:
        parts = [f.to_ndarray() for f in container.decode(audio=0)]
    whole = av.AudioFrame.from_ndarray(np.concatenate(parts, axis=1), format="s16", layout="stereo")
    whole.sample_rate = 44100
    resampler = av.AudioResampler("s16", "mono", 16000)
    expected = np.concatenate([f.to_ndarray()[0] for f in [*resampler.resample(whole), *resampler.resample(None)]])
    assert len(found) == len(expected) and np.abs(found * 32768 - expected).max() <= 1


class TestAccount:
    """audio_input accounts for every second."""

    def test_released_audio_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.wav", sound=tone(5.0, 16000, 2), rate=16000, sound_codec="pcm_s16le")
        sound = audio_input(open_clip(path), RELEASED)
        assert sound.fbank is not None and sound.fbank.shape == (2998, 128)
        assert (
            sound.receipt.used_seconds == 5.0
            and sound.receipt.padded_seconds == 25.0
            and sound.receipt.windows_seconds == ((0.0, 5.0),)
        )
        assert any("first of 2 channels" in loss.detail for loss in sound.losses)

    def test_released_long_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.wav", sound=tone(40.0, 8000), rate=8000, sound_codec="pcm_s16le")
        sound = audio_input(open_clip(path), RELEASED)
        assert sound.receipt.used_seconds == 30.0 and sound.receipt.padded_seconds == 0
        assert any("10.0 of 40.0 s" in loss.detail for loss in sound.losses)
        later = audio_input(open_clip(path, start=20), RELEASED)
        assert later.receipt.windows_seconds == ((20.0, 40.0),) and not later.losses

    def test_released_video(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.mp4", 5, sound=tone(12.0))
        sound = audio_input(open_clip(path, num_frames=2), RELEASED)
        assert sound.fbank is not None and str(sound.fbank.dtype) == "torch.bfloat16"
        assert len(sound.receipt.windows_seconds) == 8 and sound.receipt.used_seconds == pytest.approx(16.0)
        assert sound.receipt.padded_seconds == pytest.approx(14.0)

    def test_full(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.mp4", 50, sound=tone(5.0))
        sound = audio_input(open_clip(path, num_frames=2, protocol="full", start=1, end=4), FULL)
        assert sound.fbank is not None and sound.fbank.shape == (298, 128) and str(sound.fbank.dtype) == "torch.float32"
        assert sound.receipt.windows_seconds == ((1.0, 4.0),) and sound.receipt.padded_seconds == 0 and not sound.losses

    def test_full_long_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.wav", sound=tone(70.0, 8000), rate=8000, sound_codec="pcm_s16le")
        sound = audio_input(open_clip(path, protocol="full"), FULL)
        assert sound.receipt.used_seconds == 60.0 and any("10.0 of 70.0 s" in loss.detail for loss in sound.losses)

    def test_full_shorter_than_a_patch(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.wav", sound=tone(0.05, 16000), rate=16000, sound_codec="pcm_s16le")
        sound = audio_input(open_clip(path, protocol="full"), FULL)
        assert sound.fbank is not None and sound.fbank.shape == (16, 128)
        assert sound.receipt.padded_seconds == pytest.approx(0.125)

    def test_absent(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.mp4", 5)
        released = audio_input(open_clip(path, num_frames=2), RELEASED)
        assert released.receipt.state == "absent" and released.fbank is not None and released.receipt.notes
        full = audio_input(open_clip(path, num_frames=2, protocol="full"), FULL)
        assert full.receipt.state == "absent" and full.fbank is None
        unasked = audio_input(open_clip(path, num_frames=2, want_audio=False), RELEASED)
        assert unasked.receipt.state == "not_requested" and unasked.fbank is None
