"""Files with several tracks, and audio in channels that a mix of all would not let through."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from videollama2.errors import UsageError
from videollama2.media import Clip, audio_input, open_clip
from videollama2.media.limits import DEFAULT_LIMITS
from videollama2.media.mixing import Mixer
from videollama2.media.source import MediaSource
from videollama2.media.tracks import choose_track, tracks
from videollama2.protocols import FULL, RELEASED

from .make import tone
from .test_audio_decoder import loudest_hz

RATE = 16000


def write_tracks(
    path: Path,
    *,
    colours: Sequence[tuple[int, int, int]] = (),
    sounds: Sequence[np.ndarray] = (),
    languages: Sequence[str] = (),
) -> Path:
    """A file with one video track per colour and one audio track per sound (f32[channels, S])."""
    with av.open(str(path), "w") as out:
        pictures = [out.add_stream("libx264", rate=10) for _ in colours]
        for k, stream in enumerate(pictures):
            stream.width, stream.height, stream.pix_fmt = 64 + 64 * k, 48, "yuv420p"
        audios = [out.add_stream("pcm_s16le", rate=RATE, layout="mono" if len(s) == 1 else "stereo") for s in sounds]
        for stream, language in zip(audios, languages, strict=False):
            stream.metadata["language"] = language
        for stream, colour in zip(pictures, colours, strict=True):
            for i in range(10):
                shape = (stream.height, stream.width, 3)
                frame = av.VideoFrame.from_ndarray(np.full(shape, colour, np.uint8), format="rgb24")
                frame.pts = i
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        for stream, sound in zip(audios, sounds, strict=True):
            mux_sound(out, stream, sound)
    return path


def mux_sound(out: Any, stream: Any, sound: np.ndarray) -> None:
    data = (sound.T.reshape(1, -1) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format="s16", layout=stream.layout.name)
    frame.sample_rate, frame.pts = RATE, 0
    out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def heard(clip: Clip) -> float:
    assert clip.wave is not None and clip.audio_state == "used"
    return loudest_hz(clip.wave.samples, clip.wave.rate)


SILENCE = np.zeros((1, RATE), np.float32)
LOW, HIGH = (tone(1.0, RATE, hz=hz) for hz in (440.0, 880.0))


def test_audio_tracks_are_told_and_chosen(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", sounds=[LOW, HIGH], languages=["jpn", "eng"])
    clip = open_clip(path, protocol="full")
    assert heard(clip) == pytest.approx(440, abs=2) and clip.wave is not None
    one, other = "1 (jpn, pcm_s16le, 1 channel)", "2 (eng, pcm_s16le, 1 channel)"
    assert clip.wave.notes == (f"audio track {one} of 2 is used, not {other}",)
    assert audio_input(clip, FULL).receipt.notes == clip.wave.notes and audio_input(clip, FULL).losses == ()
    for choice in (2, "2", "eng", "EN", "en-US"):
        chosen = open_clip(path, protocol="full", audio_track=choice)
        assert heard(chosen) == pytest.approx(880, abs=2) and chosen.wave is not None
        assert chosen.wave.notes == (f"audio track {other} of 2 is used, not {one}",)
    with pytest.raises(UsageError, match=r"has no audio track fr; it has 1 \(jpn.*2 \(eng"):
        open_clip(path, audio_track="fr")
    for wrong in (0, -1, True, "", 1.5):
        with pytest.raises(UsageError, match="expected a track's number from 1, or its language"):
            open_clip(path, audio_track=wrong)  # type: ignore[arg-type]


def test_video_tracks_are_told_and_chosen(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mp4", colours=[(255, 0, 0), (0, 0, 255)])
    note = "video track {} of 2 is used, not {}"
    both = "1 (h264, 64x48)", "2 (h264, 128x48)"
    for choice, size in ((1, 64), (2, 128)):
        clip = open_clip(path, protocol="full", video_track=choice)
        assert clip.width == size and clip.frames[0][0, 0].argmax() == 2 * (choice - 1)
        assert clip.notes[0] == note.format(*(both if choice == 1 else both[::-1]))
    automatic = open_clip(path, protocol="full")
    assert automatic.notes[0] in (note.format(*both), note.format(*both[::-1]))
    with pytest.raises(UsageError, match="has no video track 3"):
        open_clip(path, video_track=3)


def test_images_have_no_tracks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose tracks of video and audio files"):
        open_clip(np.zeros((4, 4, 3), np.uint8), video_track=1)
    with pytest.raises(UsageError, match="choose tracks of video and audio files"):
        open_clip(tmp_path, audio_track="eng")


def test_the_first_track_with_a_signal(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", colours=[(9, 9, 9)], sounds=[SILENCE, SILENCE, HIGH])
    clip = open_clip(path, protocol="full")
    assert heard(clip) == pytest.approx(880, abs=2) and clip.wave is not None
    assert clip.wave.notes[0].startswith("audio track 1 (pcm_s16le, 1 channel) of 3 is digital silence; track 3 (")
    released = open_clip(path, protocol="released")
    assert released.audio_state == "silent" and released.wave is not None
    assert released.wave.notes[0].endswith("has a signal, choose it with audio_track=3")
    chosen = open_clip(path, protocol="full", audio_track=1)
    assert chosen.audio_state == "silent", "the caller's choice is kept"


def test_a_track_that_is_nearly_silent(tmp_path: Path) -> None:
    """Dither, or what a codec makes of silence; and a track so quiet that a person hardly hears it."""
    noise = np.random.default_rng(0).integers(-2, 3, (1, RATE)).astype(np.float32) / 32767
    path = write_tracks(tmp_path / "a.mkv", sounds=[noise, HIGH])
    clip = open_clip(path, protocol="full")
    assert heard(clip) == pytest.approx(880, abs=2) and clip.wave is not None
    first = "audio track 1 (pcm_s16le, 1 channel) of 2 is nearly silent (its peak is -84 dB)"
    assert clip.wave.notes[0].startswith(f"{first}; track 2 (")
    released = open_clip(path, protocol="released")
    assert released.wave is not None and released.wave.notes[0].startswith(f"{first} and is used; track 2 ")
    chosen = open_clip(path, protocol="full", audio_track=1)
    assert chosen.wave is not None and "the audio is nearly silent (its peak is -84 dB)" in chosen.wave.notes
    path = write_tracks(tmp_path / "b.mkv", sounds=[0.0008 * LOW, HIGH])
    quiet = open_clip(path, protocol="full")
    assert quiet.wave is not None and quiet.wave.peak < 0.01 and "-68 dB) and is used" in quiet.wave.notes[0]
    alone = open_clip(write_tracks(tmp_path / "c.mkv", sounds=[0.0008 * LOW]), protocol="full")
    assert alone.wave is not None and alone.wave.notes == ()


def test_a_track_that_can_be_decoded_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tracks(tmp_path / "a.mkv", sounds=[LOW, HIGH])
    source = MediaSource.of(path, DEFAULT_LIMITS)
    with source.container() as container:
        first, second = tracks(container, source, "audio")
        assert choose_track(container, source, "audio") == first
        monkeypatch.setattr("videollama2.media.tracks.tracks", lambda *_: (type(first)(1, first.stream, False), second))
        assert choose_track(container, source, "audio") == second


# ── channels ───────────────────────────────────────────────────────────────────────────────────────────────────


def write_channels(path: Path, sound: np.ndarray, layout: str) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout=layout)
        mux_sound(out, stream, sound)
    return path


def test_channels_that_cancel_are_not_silence(tmp_path: Path) -> None:
    path = write_channels(tmp_path / "a.wav", np.concatenate([LOW, -LOW]), "stereo")
    clip = open_clip(path, protocol="full")
    assert heard(clip) == pytest.approx(440, abs=2) and clip.wave is not None
    note = "its 2 channels cancel each other in the mix (their peak is 0.50)"
    assert clip.wave.notes == (f"{note}; channel 1 is used alone",)
    video = write_tracks(tmp_path / "a.mkv", colours=[(9, 9, 9)], sounds=[np.concatenate([LOW, -LOW])])
    released = open_clip(video, protocol="released")
    made = audio_input(released, RELEASED)
    assert released.audio_state == "silent" and made.fbank is not None, "the published arithmetic is kept"
    assert made.receipt.notes[-1] == note and made.losses[-1].detail == note


def test_bass_alone(tmp_path: Path) -> None:
    sound = np.zeros((6, RATE), np.float32)
    sound[3] = LOW[0]
    clip = open_clip(write_channels(tmp_path / "a.wav", sound, "5.1"), protocol="full")
    assert heard(clip) == pytest.approx(440, abs=2) and clip.wave is not None
    assert clip.wave.notes[0].startswith("the mix drops channel 4 of 6, the only one with a signal")


def test_quiet_channels_are_mixed(tmp_path: Path) -> None:
    sound = np.concatenate([LOW, 0.5 * LOW]) / 1000
    clip = open_clip(write_channels(tmp_path / "a.wav", sound, "stereo"), protocol="full")
    assert clip.wave is not None and clip.wave.notes == () and clip.wave.peak == pytest.approx(0.375e-3, rel=0.1)


@pytest.mark.parametrize("count", [3, 4, 5, 7, 9, 12, 16])
def test_channels_without_a_layout_are_averaged(tmp_path: Path, count: int) -> None:
    for channel in range(count):
        sound = np.zeros((count, RATE // 4), np.float32)
        sound[channel] = LOW[0, : RATE // 4]
        clip = open_clip(write_channels(tmp_path / "a.mkv", sound, f"{count} channels"), protocol="full")
        assert clip.wave is not None and clip.wave.peak == pytest.approx(0.5 / count, rel=0.02)
        assert clip.wave.notes == (f"its {count} channels have no layout: they are averaged",)


def test_six_channels_without_a_layout_are_5_1(tmp_path: Path) -> None:
    sound = np.concatenate([LOW, 0 * tone(1.0, RATE, 5)])
    named = open_clip(write_channels(tmp_path / "a.wav", sound, "5.1"), protocol="full").wave
    unnamed = open_clip(write_channels(tmp_path / "a.mkv", sound, "6 channels"), protocol="full").wave
    assert named is not None and unnamed is not None and named.notes == ()
    assert np.array_equal(named.samples, unnamed.samples)
    assert unnamed.notes == ("its 6 channels have no layout: 5.1 is assumed",)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_of_ambisonics_the_channel_of_all_directions(order: int) -> None:
    layout, count = f"ambisonic {order}", (order + 1) ** 2
    sound = 0.1 * np.ones((count, RATE), np.float32)
    sound[0] = LOW[0]
    packed = av.AudioFrame.from_ndarray(sound.T.reshape(1, -1).copy(), format="flt", layout=layout)
    packed.sample_rate = RATE
    mixer = Mixer()
    for block in av.AudioResampler("fltp", layout, RATE).resample(packed):
        mixer.add(block)
    assert np.abs(mixer.finish() - LOW[0]).max() < 1e-3
    assert mixer.notes == (f"ambisonics of {count} channels: only the first, omnidirectional one is used",)
