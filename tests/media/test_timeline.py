"""One time axis: holes, joined and wrapped stamps, one track alone, repeats, raw streams, files that were cut off."""

import re
from array import array
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from videollama2.errors import TimeRangeError, UnreadableMedia
from videollama2.media import Clip, audio_input, open_clip
from videollama2.media.declared import declared_size
from videollama2.media.limits import DEFAULT_LIMITS
from videollama2.media.source import MediaSource
from videollama2.media.timeline import UNKNOWN, Packets, join
from videollama2.protocols import FULL, RELEASED

from .make import flat, grey, noisy, tone, truth, write
from .remux import record, remux, strongest


def sound_at(clip: Clip, second: float) -> float:
    """The strongest frequency in the quarter of a second from there."""
    assert clip.wave is not None
    first = round((second - clip.wave.start_seconds) * clip.wave.rate)
    return strongest(clip.wave.samples[first : first + clip.wave.rate // 4].astype(np.float32), clip.wave.rate)


def packets(stamps: list[int], tick: Fraction = Fraction(1, 10), *, duration: int = 1, first: int = 0) -> Packets:
    """Packets with these stamps, 100 bytes apart."""
    n = len(stamps)
    return Packets(
        tick=tick,
        pts=array("q", stamps),
        dts=array("q", stamps),
        duration=array("q", [duration] * n),
        position=array("q", [first + 100 * i for i in range(n)]),
        key=bytearray([1] * n),
        empty=bytearray(n),
        hidden=bytearray(n),
    )


class TestJoin:
    def test_ascending_stamps_are_left_alone(self) -> None:
        assert join({0: packets([0, 1, 2, 5, 6, 60]), 1: packets([3, 4, 5])}) == ({}, [])

    def test_stamps_that_begin_anew(self) -> None:
        both = {0: packets([10, 11, 12, 13, 5, 6, 7]), 1: packets([10, 11, 12, 13, 4, 5, 6], first=50)}
        joins, begins = join(both)
        assert joins == {0: ((4, 10),), 1: ((4, 10),)} and begins == pytest.approx([1.4])
        for index, corrections in joins.items():
            both[index].add(corrections)
        assert list(both[0].pts) == [10, 11, 12, 13, 15, 16, 17] and list(both[1].dts) == [10, 11, 12, 13, 14, 15, 16]

    def test_three_recordings(self) -> None:
        joins, begins = join({0: packets([0, 1, 2, 0, 1, 2, 0, 1])})
        assert joins == {0: ((3, 3), (6, 6))} and begins == pytest.approx([0.3, 0.6])

    def test_a_leap_is_a_hole_or_another_recording(self) -> None:
        both = {0: packets([0, 1, 2, 500, 501]), 1: packets([0, 1, 2, 500, 501], first=50)}
        assert join(both) == ({}, [])
        joins, begins = join(both, leaps=True)
        assert joins == {0: ((3, -497),), 1: ((3, -497),)} and begins == pytest.approx([0.3])

    def test_a_leap_of_one_track_is_its_hole(self) -> None:
        both = {0: packets(list(range(200))), 1: packets([0, 1, 2, 190, 191], first=50)}
        both[1].position = array("q", [50, 150, 250, 19050, 19150])
        assert join(both, leaps=True) == ({}, [])

    def test_a_clock_that_wraps(self) -> None:
        tick = Fraction(1, 90000)
        stamps = [(2**33 - 9000 + 3000 * i) % 2**33 for i in range(6)]
        joins, begins = join({0: packets(stamps, tick, duration=3000)}, wrap=2**33, leaps=True)
        assert joins == {0: ((3, 2**33),)} and not begins

    def test_unknown_stamps(self) -> None:
        assert join({0: packets([UNKNOWN] * 4), 1: packets([])}) == ({}, [])


@pytest.fixture(scope="module")
def hole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hole")
    plain = record(folder / "plain.mov", "libx264", "pcm_s16le", frames=80, seconds=8.0)
    return remux(plain, folder / "x.mkv", keep=lambda kind, s: kind != "audio" or s < 0.3 or s >= 4.0)


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def podcast(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("podcast")
    plain = record(folder / "plain.mp4", "libx264", "aac", frames=1, seconds=6.0)
    return remux(plain, folder / f"x.{request.param}", form={"ts": "mpegts"}.get(request.param))


class TestHoles:
    def test_sound_stays_where_it_is(self, hole: Path) -> None:
        for start, end in ((5.0, 7.0), (0.5, 7.0), (None, None)):
            clip = open_clip(hole, num_frames=2, protocol="full", start=start, end=end)
            assert clip.wave is not None and not clip.losses
            assert clip.wave.start_seconds == (start or 0.0) and clip.wave.seconds == pytest.approx(
                (end or 8) - (start or 0)
            )
            assert sound_at(clip, 5.125) == 400 + 200 * 10 and sound_at(clip, 6.625) == 400 + 200 * 13
            notes = audio_input(clip, FULL).receipt.notes
            assert any("no audio from" in note for note in notes) == (start != 5.0)

    def test_a_range_inside_the_hole_is_silent(self, hole: Path) -> None:
        clip = open_clip(hole, num_frames=2, protocol="full", start=1, end=3)
        assert clip.audio_state == "silent" and clip.wave is not None and clip.wave.seconds == 2
        assert "no audio from 1.00 to 3.00 s" in audio_input(clip, FULL).receipt.notes[0]

    def test_sound_alone(self, hole: Path, tmp_path: Path) -> None:
        clip = open_clip(hole, want_video=False, protocol="full", start=0.1, end=4.5)
        assert clip.wave is not None and clip.wave.seconds == pytest.approx(4.4) and sound_at(clip, 4.125) == 2000

    def test_the_picture_on_screen(self, tmp_path: Path) -> None:
        plain = record(tmp_path / "plain.mov", "libx264", None, frames=60)
        path = remux(plain, tmp_path / "x.mkv", keep=lambda kind, s: s < 1.0 or s >= 4.0)
        clip = open_clip(path, num_frames=1, protocol="full", start=2, end=3)
        assert clip.times[0] == pytest.approx(0.9) and abs(clip.frames[0].mean() - grey(9)) < 4
        assert any("the frame at 0.90 s" in note for note in clip.notes)
        assert any("no frames for 3.1 s after 0.90 s" in note for note in clip.notes) and not clip.losses


class TestOneTrackAlone:
    """A range in which only one of picture and sound exists."""

    def test_after_the_picture(self, podcast: Path) -> None:
        clip = open_clip(podcast, protocol="full", start=3, end=5)
        assert clip.kind == "video" and not clip.frames and clip.frames_total == 1
        assert clip.wave is not None and clip.wave.seconds == pytest.approx(2) and sound_at(clip, 4.125) == 2000
        assert len(clip.losses) == 1 and "only the audio is used: no frame in 3..5 s" in clip.losses[0]
        with_frame = open_clip(podcast, protocol="full", start=0, end=2)
        assert with_frame.frames and with_frame.audio_state == "used" and not with_frame.losses

    def test_after_both(self, podcast: Path) -> None:
        with pytest.raises(TimeRangeError, match=r"last frame ends at .*the audio ends at (5\.9|6\.0)"):
            open_clip(podcast, protocol="full", start=30, end=40)

    def test_released_has_no_frames_to_give(self, podcast: Path) -> None:
        with pytest.raises(TimeRangeError):
            open_clip(podcast, start=30, end=40)

    @pytest.mark.parametrize("late", ["audio", "video"])
    def test_before_a_track_begins(self, late: str, tmp_path: Path) -> None:
        plain = record(tmp_path / "plain.mp4", "libx264", "aac", options={"bf": "0"})
        path = remux(plain, tmp_path / "x.mkv", shift={late: 2.0})
        clip = open_clip(path, num_frames=2, protocol="full", start=0.5, end=1.5)
        assert len(clip.losses) == 1
        if late == "audio":
            assert clip.frames and clip.audio_state == "absent" and "the audio begins at " in clip.losses[0]
            made = audio_input(clip, FULL)
            assert not made.losses and not any("no sound" in note for note in made.receipt.notes)
        else:
            assert not clip.frames and clip.audio_state == "used" and "first frame is at 2.0" in clip.losses[0]
        both = open_clip(path, num_frames=3, protocol="full", start=0.5, end=3)
        assert both.frames and both.wave is not None and not both.losses
        assert sound_at(both, 2.625) == (600 if late == "audio" else 1400)


class TestJoined:
    @pytest.mark.parametrize(
        ("suffix", "video", "audio"),
        [
            ("ts", "libx264", "aac"),
            ("mkv", "libx264", "aac"),
            ("webm", "libvpx", "libopus"),
            ("mpg", "mpeg2video", "mp2"),
        ],
    )
    def test_files_put_together(self, suffix: str, video: str, audio: str, tmp_path: Path) -> None:
        rate = 25 if video.startswith("mpeg2") else 10
        one = record(tmp_path / f"a.{suffix}", video, audio, frames=2 * rate, seconds=2.0)
        two = record(tmp_path / f"b.{suffix}", video, audio, frames=2 * rate, seconds=2.0, first=60)
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(one.read_bytes() + two.read_bytes())
        clip = open_clip(path, num_frames=4, protocol="full")
        assert clip.frames_total == 4 * rate and not clip.losses
        assert [round(t, 1) for t in clip.times] == pytest.approx([0.4, 1.4, 2.4, 3.4], abs=0.25)
        first, second = open_clip(one, num_frames=2, protocol="full"), open_clip(two, num_frames=2, protocol="full")
        levels = [f.mean() for f in (*first.frames, *second.frames)]
        assert [f.mean() for f in clip.frames] == pytest.approx(levels, abs=8)
        assert any("timestamps jump at 2.0" in note for note in clip.notes)
        assert clip.wave is not None and clip.wave.seconds == pytest.approx(4.0, abs=0.15)
        assert sound_at(clip, 1.125) == 800 and sound_at(clip, 3.175) == 800
        late = open_clip(path, num_frames=2, protocol="full", start=3, end=3.8)
        assert late.times.min() >= 3 and late.times.max() < 3.8 and sound_at(late, 3.175) == 800

    def test_chained_ogg(self, tmp_path: Path) -> None:
        parts = [record(tmp_path / f"{i}.ogg", None, "libopus", seconds=2.0).read_bytes() for i in range(2)]
        (tmp_path / "x.ogg").write_bytes(b"".join(parts))
        clip = open_clip(tmp_path / "x.ogg", protocol="full")
        assert clip.wave is not None and clip.wave.seconds == pytest.approx(4.0, abs=0.05)
        assert sound_at(clip, 1.625) == 1000 and sound_at(clip, 3.645) == 1000

    def test_later_stamps_of_another_recording(self, tmp_path: Path) -> None:
        plain = record(tmp_path / "plain.mp4", "libx264", "aac", frames=20, seconds=2.0)
        data = [
            remux(plain, tmp_path / f"{shift}.ts", form="mpegts", shift={"audio": shift, "video": shift}).read_bytes()
            for shift in (0.0, 3600.0)
        ]
        (tmp_path / "x.ts").write_bytes(b"".join(data))
        clip = open_clip(tmp_path / "x.ts", num_frames=4, protocol="full")
        assert clip.frames_total == 40 and clip.times[-1] < 4.1


class TestLimitsAreReported:
    @pytest.mark.parametrize(
        ("suffix", "video", "audio", "options"),
        [
            ("mp4", "libx264", "aac", {}),
            ("mkv", "libx264", "aac", {}),
            ("webm", "libvpx", "libopus", {"live": "1"}),
            ("avi", "mpeg4", "libmp3lame", {}),
            ("mp4", "libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
            ("ts", "libx264", "aac", {}),
            ("mka", None, "aac", {"live": "1"}),
            ("ogg", None, "libopus", {}),
            ("mp3", None, "libmp3lame", {}),
            ("aac", None, "aac", {}),
            ("flac", None, "flac", {}),
        ],
    )  # fmt: skip
    def test_sound_beyond_the_limit(
        self, suffix: str, video: str | None, audio: str, options: dict[str, str], tmp_path: Path
    ) -> None:
        path = tmp_path / f"x.{suffix}"
        if options:
            path = remux(
                record(
                    tmp_path / ("plain.mp4" if video == "libx264" else "plain.mkv"), video, audio, frames=10, seconds=40
                ),
                path,
                options=options,
            )
        else:
            record(path, video, audio, frames=10, seconds=40)
        if suffix == "flac":  # as written to a pipe: no number of samples
            data = bytearray(path.read_bytes())
            data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
            path.write_bytes(data)
        short = replace(FULL, audio_seconds=15.0)
        made = audio_input(open_clip(path, num_frames=1, protocol=short), short)
        assert len(made.losses) == 1  # a fragmented file begins with the 0.2 s by which its pictures are reordered
        assert re.fullmatch(r"25\.[02] of 40\.[02] s of audio are not used", made.losses[0].detail)
        if video is None:
            released = audio_input(open_clip(path), RELEASED)
            assert any("10.0 of 40.0 s" in loss.detail for loss in released.losses)


class TestCutOff:
    @pytest.mark.parametrize(
        ("suffix", "video", "audio", "options"),
        [
            ("mkv", "libx264", "aac", {}),
            ("webm", "libvpx", "libopus", {}),
            ("avi", "mpeg4", "libmp3lame", {}),
            ("mp4", "libx264", "aac", {"movflags": "faststart"}),
            ("mp4", "libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
            ("mka", None, "aac", {}),
            ("wav", None, "pcm_s16le", {}),
        ],
    )
    @pytest.mark.parametrize("part", [0.6, 0.97])
    def test_a_broken_download(
        self, suffix: str, video: str | None, audio: str, options: dict[str, str], part: float, tmp_path: Path
    ) -> None:
        plain = record(
            tmp_path / f"plain.{suffix if suffix == 'webm' else 'mov' if 'pcm' in audio else 'mp4'}",
            video,
            audio,
            frames=60,
            seconds=6,
        )
        path = remux(plain, tmp_path / f"x.{suffix}", options=options)
        assert not open_clip(path, num_frames=2, protocol="full").losses
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        for wanted in ({}, {"want_audio": False}, {"want_video": False}):
            if video is None and wanted.get("want_audio") is False:
                continue
            assert open_clip(path, num_frames=2, protocol="full", **wanted).losses, wanted

    def test_sizes_that_say_nothing(self, tmp_path: Path) -> None:
        wav = record(tmp_path / "x.wav", None, "pcm_s16le", seconds=1)
        data = bytearray(wav.read_bytes())
        data[4:8] = b"\xff\xff\xff\xff"
        assert declared_size(MediaSource.of(bytes(data), DEFAULT_LIMITS)) is None
        ts = record(tmp_path / "x.ts", "libx264", None)
        assert declared_size(MediaSource.of(ts, DEFAULT_LIMITS)) is None

    def test_junk_after_the_end_is_no_loss(self, tmp_path: Path) -> None:
        for suffix in ("mp4", "mkv", "avi"):
            path = write(tmp_path / f"x.{suffix}", 20, codec="mpeg4")
            path.write_bytes(path.read_bytes() + bytes(3000))
            assert not open_clip(path, num_frames=2).losses


class TestRawStreams:
    @pytest.mark.parametrize(
        ("suffix", "codec", "options"),
        [
            ("h264", "libx264", {"bf": "2"}),
            ("hevc", "libx265", {"x265-params": "log-level=none"}),
            ("m2v", "mpeg2video", {"bf": "2"}),
            ("m4v", "mpeg4", {}),
            ("ivf", "libvpx", {}),
        ],
    )
    def test_frames_are_counted(self, suffix: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
        rate = 25 if codec.startswith("mpeg2") else 10
        path = record(tmp_path / f"x.{suffix}", codec, None, frames=30, options=options)
        clip = open_clip(path, num_frames=30, protocol="full")
        assert clip.frames_total == 30 and not clip.losses
        np.testing.assert_allclose(np.diff(clip.times), 1 / rate, atol=1e-3)
        assert all(abs(f.mean() - grey(i)) < 8 for i, f in enumerate(clip.frames))
        some = open_clip(path, num_frames=2, protocol="full", start=0.5, end=0.9)
        assert some.times.min() >= 0.5 and some.times.max() < 0.9
        assert all(abs(f.mean() - grey(i)) < 8 for i, f in zip(some.frame_indices, some.frames, strict=True))

    def test_the_rate_is_stated(self, tmp_path: Path) -> None:
        clip = open_clip(record(tmp_path / "x.h264", "libx264", None), num_frames=2)
        assert any("nominal rate of 10 frames per second" in note for note in clip.notes)


def test_avi_with_b_frames(tmp_path: Path) -> None:
    """AVI has decoding times only: the k-th frame shown has the k-th of them."""
    path = record(tmp_path / "x.avi", "libx264", None, options={"bf": "3"})
    clip = open_clip(path, num_frames=30, protocol="full")
    assert [round(float(f.mean())) for f in clip.frames] == pytest.approx([grey(i) for i in range(30)], abs=4)
    np.testing.assert_allclose(clip.times, np.arange(30) / 10, atol=1e-6)
    assert any("only decoding times" in note for note in clip.notes) and not clip.losses


def test_frames_before_an_edit_are_no_loss(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain.mp4", "libx264", "aac", options={"bf": "2"})
    path = remux(plain, tmp_path / "x.mp4", shift={"video": -0.5, "audio": -0.5})
    clip = open_clip(path, num_frames=25, protocol="full")
    assert clip.frames_total == 25 and not clip.losses and clip.times[0] == pytest.approx(0, abs=0.02)
    assert [round(float(f.mean())) for f in clip.frames] == pytest.approx([grey(i) for i in range(5, 30)], abs=4)
    assert sound_at(clip, 0.625) == 800


def test_repeated_frames_are_shown_again(tmp_path: Path) -> None:
    """Packets without bytes, as Theora and AVI write for a picture that stands still."""
    plain = write(tmp_path / "plain.avi", 12, codec="mpeg4", draw=lambda i, *size: flat(3 * (i // 4), *size))
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    at, size = places[6]
    junk = data.index(b"idx1")
    data[at - 8 : at] = b"JUNK" + size.to_bytes(4, "little")
    entry = junk + 8 + 16 * 6
    data[entry + 12 : entry + 16] = bytes(4)
    plain.write_bytes(data)
    try:
        clip = open_clip(plain, num_frames=12, protocol="full")
    except UnreadableMedia:
        pytest.skip("this FFmpeg does not read such an index")
    assert not clip.losses


def test_a_recording_that_begins_between_key_frames(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain.mp4", "libx264", "aac", options={"bf": "0"})
    path = remux(plain, tmp_path / "x.ts", form="mpegts", keep=lambda kind, s: kind != "video" or s >= 0.6)
    clip = open_clip(path, num_frames=20, protocol="full")
    assert clip.frames_total == 20 and not clip.losses
    assert any("4 frames before the first key frame" in note for note in clip.notes)
    assert [round(float(f.mean())) for f in clip.frames] == pytest.approx([grey(i) for i in range(10, 30)], abs=4)


def test_a_growing_file(tmp_path: Path) -> None:
    """A recording that is still being written can be read up to where it is."""
    for suffix, options in (("mkv", {"live": "1"}), ("mp4", {"movflags": "frag_keyframe+empty_moov"}), ("ts", {})):
        plain = record(tmp_path / "plain.mkv", "libx264", "aac", frames=60, seconds=6, options={"bf": "0"})
        path = remux(plain, tmp_path / f"x.{suffix}", options=options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        clip = open_clip(path, num_frames=4, protocol="full")
        assert 10 < clip.frames_total < 60
        assert all(abs(f.mean() - grey(i)) < 4 for i, f in zip(clip.frame_indices, clip.frames, strict=True))


def test_many_b_frames_and_noise(tmp_path: Path) -> None:
    """Joined transport streams: every frame is the right one, wherever it is."""
    paths = [
        write(
            tmp_path / f"{i}.ts", 20, draw=lambda k, *size, i=i: noisy(k + 40 * i, *size), options={"bf": "3", "g": "7"}
        )
        for i in range(2)
    ]
    (tmp_path / "x.ts").write_bytes(b"".join(p.read_bytes() for p in paths))
    separate = [f for p in paths for f in open_clip(p, num_frames=20, protocol="full").frames]
    clip = open_clip(tmp_path / "x.ts", num_frames=32, protocol="full")
    assert clip.frames_total == 40
    for frame, index in zip(clip.frames, clip.frame_indices, strict=True):
        assert np.array_equal(frame, separate[index])


@pytest.mark.parametrize(("draw", "size"), [(flat, (128, 96)), (noisy, (64, 48))])
def test_a_program_stream_is_not_entered_in_the_middle(tmp_path: Path, draw: Any, size: tuple[int, int]) -> None:
    """There, FFmpeg gives each frame the stamp of the next one, because only some packets have stamps."""
    sound = {"sound": tone(4.0, 48000), "rate": 48000, "sound_codec": "mp2"}
    path = write(tmp_path / "x.mpg", 100, fps=25, codec="mpeg1video", draw=draw, size=size, **sound)
    frames = truth(path)
    clip = open_clip(path, num_frames=32, protocol="full")
    assert clip.frames_total == 100 and not clip.losses
    for frame, index in zip(clip.frames, clip.frame_indices, strict=True):
        assert np.array_equal(frame, frames[index]), index


def test_a_tone_before_and_after(tmp_path: Path) -> None:
    """Ordinary files: one stretch of sound, exactly as FFmpeg decodes it."""
    clip = open_clip(write(tmp_path / "x.mp4", 20, sound=tone(2.0)), num_frames=2, protocol="full")
    assert clip.wave is not None and not clip.wave.notes and clip.wave.start_seconds == 0
