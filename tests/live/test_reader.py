"""Live sources: files at playback speed, pipes, RTSP; and which modules may read them."""

import io
import json
import math
import os
import threading
import time
from pathlib import Path

import pytest

from videollama2 import cli
from videollama2.engine import Engine
from videollama2.errors import MediaError, MediaNotFound, UnreadableMedia, UsageError
from videollama2.live.reader import StreamReader, _Clock, ask_every
from videollama2.live.stream import LiveStream

from .. import test_house, tiny
from . import rtsp_server

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def read(source: object, stream: LiveStream, **kwargs: object) -> StreamReader:
    with StreamReader(source, stream, **kwargs) as reader:  # type: ignore[arg-type]
        assert reader.ended.wait(20)
    return reader


def test_a_file_at_playback_speed(engine: Engine, media: Path) -> None:
    stream = LiveStream(engine, seconds=10)
    began = time.monotonic()
    reader = read(media / "clip.mp4", stream, speed=2.0)
    assert 0.8 < time.monotonic() - began < 6 and reader.error is None
    found = stream.recording()
    assert stream.now == pytest.approx(2.0, abs=0.15) and 14 <= len(found.frames) <= 17
    assert found.samples is not None and len(found.samples) == pytest.approx(32000, abs=2500)
    assert sum(abs(found.samples[8000:16000])) > 1000


def test_without_pacing_video_or_audio_only(engine: Engine, media: Path) -> None:
    pictures, sounds = (LiveStream(engine, seconds=10) for _ in range(2))
    read(media / "long.mp4", pictures, speed=math.inf, audio=False)
    read(media / "long.mp4", sounds, speed=math.inf, video=False)
    assert pictures.recording().frames and not len(pictures.recording().samples)  # type: ignore[arg-type]
    assert not sounds.recording().frames and len(sounds.recording().samples) > 60000  # type: ignore[arg-type]


def test_stopping_the_reader(engine: Engine, media: Path) -> None:
    stream = LiveStream(engine)
    with StreamReader(media / "long.mp4", stream, speed=0.5) as reader:
        while stream.now is None:
            time.sleep(0.01)
    assert reader.ended.wait(2) and reader.error is None and (stream.now or 9) < 3


def streamable(path: Path) -> Path:
    """A clip in a container that needs no seeking."""
    return tiny.write_clip(path.with_suffix(".mkv"), frames=30)


@needs_pipes
def test_a_pipe_and_questions_at_intervals(engine: Engine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = streamable(tmp_path / "clip").read_bytes()

    def write() -> None:
        with pipe.open("wb") as file:
            for i in range(0, len(content), len(content) // 12):
                file.write(content[i : i + len(content) // 12])
                file.flush()
                time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    stream = LiveStream(engine, seconds=1.5)
    with StreamReader(pipe, stream) as reader:
        moments = list(ask_every(stream, reader, "what?", 1.0, max_new_tokens=2))
    writer.join()
    assert 1 <= len(moments) <= 4 and moments[-1].end == pytest.approx(3.0, abs=0.2)
    assert [m.end for m in moments] == sorted(m.end for m in moments)
    seen = moments[-1].answer.receipt.video
    assert seen is not None and min(seen.times_seconds or ()) >= moments[-1].end - 1.6


def test_rtsp(engine: Engine) -> None:
    stream = LiveStream(engine, seconds=5)
    with rtsp_server.serving() as (address, asked):
        reader = StreamReader(address, stream)
        with reader:
            reader.ended.wait(10)
    assert asked[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"] and "secret" not in reader.name
    assert stream.now == pytest.approx(2.0, abs=0.2)
    heard = stream.ask("what?", max_new_tokens=1).receipt.audio
    assert heard is not None and heard.state == "used" and heard.used_seconds > 1.5


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("http://127.0.0.1/clip.mp4", UnreadableMedia),
        ("tcp://127.0.0.1:9", UnreadableMedia),
        ("concat:a.mp4|b.mp4", UnreadableMedia),
        ("none.mp4", MediaNotFound),
        (".", MediaNotFound),
        ("camera:/dev/none", MediaError),
        ("rtsp://user:secret@127.0.0.1:1/main", UnreadableMedia),
        (io.BytesIO(b"#EXTM3U\nhttp://127.0.0.1/a.ts\n"), UnreadableMedia),
    ],
)
def test_rejected_sources(engine: Engine, source: object, error: type[Exception]) -> None:
    reader = read(source, LiveStream(engine))
    with pytest.raises(error) as caught:
        reader.check()
    assert "secret" not in str(caught.value)


def test_playlists_are_rejected(engine: Engine, tmp_path: Path, media: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\n{media / 'clip.mp4'}\n", encoding="utf-8")
    with pytest.raises(UnreadableMedia, match="playlist"):
        read(path, LiveStream(engine)).check()


def test_invalid_arguments(engine: Engine) -> None:
    stream = LiveStream(engine)
    for wrong in ({"speed": 0}, {"speed": math.nan}, {"video": False, "audio": False}):
        with pytest.raises(UsageError):
            StreamReader("a.mp4", stream, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="more than 0"):
        next(ask_every(stream, StreamReader("a.mp4", stream), "what?", 0))


def test_clocks_that_start_anywhere_and_start_over() -> None:
    clock = _Clock()
    found = [clock.seconds(t, "video") for t in (1000.0, 1000.5, None, 1000.4, 3.0, 3.5, 900.0)]
    assert found == [0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0]
    assert clock.seconds(901.0, "audio") == 2.0


def test_nothing_that_serves_requests_imports_the_reader() -> None:
    """Requests go through serve/ and media/; a URL in one never reaches the reader."""
    reaching = {
        test_house.name_of(path)
        for path in test_house.MODULES
        if "reader" in path.read_text(encoding="utf-8")
        for module, _ in test_house.imports(path, late=True)
        if module == "videollama2.live.reader"
    }
    assert reaching == {"cli/live.py"}


def test_the_command(
    tiny_folder: Path, media: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ["--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "2"]
    words = ["live", str(media / "long.mp4"), "what?", "--every", "1", "--seconds", "2", "--speed", "4", *model]
    assert cli.main([*words, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told and told[-1]["end"] == pytest.approx(4, abs=0.2) and told[-1]["receipt"]["video"]["frames_used"] == 4
    monkeypatch.setattr("videollama2.cli.live._questions", waiting("what do you see?"))
    assert cli.main(["live", str(media / "clip.mp4"), "--speed", "inf", *model]) == 0
    assert capsys.readouterr().out.startswith("[0:0")
    assert cli.main(["live", "-"]) == 2 and cli.main(["live", "none.mp4", "what?", *model]) == 3


def waiting(question: str):  # type: ignore[no-untyped-def]
    def questions(reader: StreamReader):  # type: ignore[no-untyped-def]
        reader.ended.wait(10)
        yield question

    return questions
