"""Frames and audio pushed over time: what is held, for how long, and what a question sees of it."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from videollama2.engine import Engine
from videollama2.errors import EmptyMedia, MediaTooLarge, NoAudioStream, NumericsError, TimeRangeError, UsageError
from videollama2.live import LiveStream
from videollama2.live.audio_buffer import AudioBuffer
from videollama2.media import Limits, Recording, open_clip
from videollama2.media.images import array_to_rgb
from videollama2.protocols import FULL

from .. import tiny


def picture(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def fill(stream: LiveStream, seconds: float, fps: float = 4.0, rate: int = 16000) -> None:
    for i in range(round(seconds * fps)):
        stream.push_frame(picture(i % 256), i / fps)
    stream.push_audio(tiny.tone(seconds, rate=rate), rate, 0.0)


def test_the_last_seconds_are_asked_about(engine: Engine) -> None:
    stream = LiveStream(engine, seconds=3, name="<test>")
    fill(stream, 10)
    answer = stream.ask("what do you see and hear?", max_new_tokens=3)
    seen, heard = answer.receipt.video, answer.receipt.audio
    assert seen is not None and heard is not None and stream.now == 10.0
    assert seen.source == "<test>" and seen.frames_used == 4 and seen.frames_total == 12
    assert all(7 <= t < 10 for t in seen.times_seconds or ())
    assert heard.state == "used" and heard.used_seconds == pytest.approx(3, abs=0.01)
    assert heard.windows_seconds[0] == pytest.approx((7, 10), abs=0.01)
    assert any("the last 3 s of a stream" in note for note in seen.notes)
    assert "".join(stream.stream("what do you see and hear?", max_new_tokens=3)) == answer.text
    assert stream.open().ask("what do you see and hear?", max_new_tokens=3).text == answer.text


def test_same_input_as_from_a_list(engine: Engine) -> None:
    """The same frames and samples, passed as a Recording and pushed as a stream, give the model the same input."""
    stream = LiveStream(engine, seconds=5, max_fps=100)
    frames = [picture(9 * i) for i in range(20)]
    for i, frame in enumerate(frames):
        stream.push_frame(frame, i / 4)
    ours, receipt = engine.processor.media_inputs(replace_source(stream.recording()), FULL)
    theirs, _ = engine.processor.media_inputs(replace_source(frames, [i / 4 for i in range(20)]), FULL)
    assert ours.pixels is not None and theirs.pixels is not None
    assert (ours.pixels == theirs.pixels).all() and receipt.audio is not None and receipt.audio.state == "absent"


def replace_source(source: object, times: object = None):  # type: ignore[no-untyped-def]
    from videollama2 import Media

    return Media(source=source, times=times)  # type: ignore[arg-type]


def test_memory_is_bounded(engine: Engine) -> None:
    stream = LiveStream(engine, seconds=4, max_fps=10, max_bytes=12 * 48 * 64 * 3)
    for i in range(3000):
        stream.push_frame(picture(i % 256), i / 30)
        stream.push_audio(np.zeros(534, np.int16), 16000)
    found = stream.recording()
    assert 8 < len(found.frames) <= 12 and found.times[-1] - found.times[0] > 2.5
    assert found.samples is not None and len(found.samples) <= 4.05 * 16000
    assert stream._bytes <= 12 * 48 * 64 * 3 and stream._audio._held <= 5 * 16000
    assert "up to 2.5 frames per second" in found.notes[0]


def test_callers_may_reuse_their_array(engine: Engine) -> None:
    stream, frame = LiveStream(engine), picture(1)
    stream.push_frame(frame, 0)
    found = stream.recording()
    frame[:] = 99
    stream.push_frame(frame, 1)
    assert [int(f[0, 0, 0]) for f in stream.recording().frames] == [1, 99] and len(found.frames) == 1


def test_from_several_threads(engine: Engine) -> None:
    stream, wrong = LiveStream(engine, seconds=2), []

    def work(push: object) -> None:
        try:
            for i in range(120):
                push(i)  # type: ignore[operator]
        except Exception as error:
            wrong.append(error)

    pushes = [
        lambda i: stream.push_frame(picture(i), i / 30),
        lambda i: stream.push_audio(tiny.tone(1 / 30), 16000, i / 30),
        lambda i: stream.now is None or stream.recording(),
        lambda i: stream.ask("what?", max_new_tokens=1) if stream.now and i % 40 == 0 else None,
    ]
    threads = [threading.Thread(target=work, args=(push,)) for push in pushes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and stream.now == pytest.approx(4, abs=0.1)


def test_invalid_frames_and_audio(engine: Engine) -> None:
    stream = LiveStream(engine, limits=Limits(max_pixels=5000))
    with pytest.raises(EmptyMedia, match="no frames or audio"):
        stream.ask("what?")
    with pytest.raises(MediaTooLarge):
        stream.push_frame(picture(1, (100, 100)), 0)
    stream.push_frame(picture(1), 1)
    with pytest.raises(UsageError, match="expected ascending times"):
        stream.push_frame(picture(1), 0.5)
    with pytest.raises(UsageError, match="finite"):
        stream.push_frame(picture(1), float("nan"))
    with pytest.raises(UsageError, match="uint8"):
        stream.push_frame(np.zeros((4, 4, 3)), 2)  # type: ignore[arg-type]
    with pytest.raises(NumericsError):
        stream.push_audio(np.array([np.nan], np.float32), 16000)
    for samples, rate in (
        (np.zeros((9, 3)), 16000),
        (np.zeros(9, np.uint8), 16000),
        (np.zeros(9), 0),
        (np.zeros(9), 2.5),
    ):
        with pytest.raises(UsageError, match="expected"):
            stream.push_audio(samples, rate)  # type: ignore[arg-type]
    for wrong in ({"seconds": 0}, {"seconds": 1e9}, {"seconds": float("nan")}, {"max_fps": 0}, {"max_bytes": 0}):
        with pytest.raises(UsageError):
            LiveStream(engine, **wrong)


def test_audio_only(engine: Engine) -> None:
    stream = LiveStream(engine, seconds=2)
    stream.push_audio(np.stack([tiny.tone(3, rate=48000)] * 2, 1), 48000)
    heard = stream.ask("what is heard?", max_new_tokens=2).receipt.audio
    assert heard is not None and heard.state == "used" and heard.used_seconds == pytest.approx(2, abs=0.02)


def test_gaps_and_repeated_audio() -> None:
    buffer = AudioBuffer(10)
    buffer.push(tiny.tone(1), 16000, 5.0)
    buffer.push(tiny.tone(1), 16000, 6.1)  # within what clocks may wander
    assert buffer.end == 7.0
    buffer.push(tiny.tone(1), 16000, 9.0)
    assert buffer.end == 10.0 and buffer.filled == 2.0
    buffer.push(tiny.tone(1), 16000, 9.5)
    assert buffer.end == 10.5 and buffer.dropped == pytest.approx(0.5)
    samples, begins = buffer.last(5.0)
    assert begins == pytest.approx(5.0, abs=0.01) and len(samples) / 16000 == pytest.approx(5.5, abs=0.01)
    quiet = samples[round(2.1 * 16000) : round(3.9 * 16000)]
    assert not quiet.any() and samples[:16000].any()
    assert np.allclose(samples[1000:2000], tiny.tone(1)[1000:2000], atol=2e-4)


def test_many_short_pushes_stay_cheap() -> None:
    buffer = AudioBuffer(60)
    for i in range(9000):
        buffer.push(np.ones(32, np.int16), 16000, i * 0.002)
    assert len(buffer._parts) < 4200 and len(buffer.last(0)[0]) == 9000 * 32


def test_recordings_are_media_items() -> None:
    frames = [picture(10 * i) for i in range(10)]
    whole = Recording(frames=frames, times=[i / 2 for i in range(10)], samples=tiny.tone(5), name="<r>")
    clip = open_clip(whole, num_frames=4, protocol="full", start=1, end=3)
    assert clip.kind == "video" and list(clip.times) == [1.0, 1.5, 2.0, 2.5] and clip.range_seconds == (1, 3)
    assert clip.wave is not None and clip.wave.start_seconds == 1 and clip.wave.seconds == 2
    released = open_clip(whole, num_frames=8, protocol="released")
    assert len(released.frames) == 8 and released.wave is not None and released.wave.seconds == 5
    assert open_clip(whole, want_video=False, protocol="full").wave is not None
    assert open_clip(whole, want_audio=False).audio_state == "not_requested"
    mute = replace(whole, samples=np.zeros(16000, np.float32))
    assert open_clip(mute).audio_state == "silent" and open_clip(replace(whole, samples=None)).audio_state == "absent"
    with pytest.raises(TimeRangeError, match="no frames or audio after 50 s"):
        open_clip(whole, start=50)
    with pytest.raises(NoAudioStream):
        open_clip(replace(whole, samples=None), want_video=False)
    with pytest.raises(EmptyMedia):
        Recording()
    with pytest.raises(UsageError, match="one time for each frame"):
        Recording(frames=frames)
    with pytest.raises(UsageError, match="float32"):
        Recording(samples=np.zeros(9))  # type: ignore[arg-type]
    assert array_to_rgb(frames[0]) is not None
