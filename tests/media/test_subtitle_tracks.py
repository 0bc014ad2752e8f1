"""Text tracks inside containers: reported by every clip, and read where subtitles are asked for."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from videollama2.errors import DataError, UsageError
from videollama2.media import open_clip
from videollama2.media.subtitle_tracks import read_subtitle_source
from videollama2.subtitles import Subtitle

from .make import tone, write

LINES = [(500, 1500, "Hello &amp; goodbye"), (2000, 3000, "<i>late, at</i>\nnight")]
HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
READ = (Subtitle(500, 1500, "Hello & goodbye"), Subtitle(2000, 3000, "late, at night"))


def write_tracks(path: Path, codec: str, languages: list[str], *, start: float = 0.0) -> Path:
    """A video with the lines in a track per language; the second language's are numbered."""
    plain = write(path.with_name("plain.mp4"), 40, sound=tone(4.0))
    with av.open(str(plain)) as given, av.open(str(path), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in given.streams}
        texts = [out.add_stream(codec) for _ in languages]
        for stream, language in zip(texts, languages, strict=True):
            if not hasattr(stream.codec_context, "subtitle_header"):
                pytest.skip("this PyAV can't write subtitles")
            stream.codec_context.subtitle_header = HEADER
            stream.metadata["language"] = language
        packets = []
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                packet.pts += round(start / packet.time_base)
                packet.dts += round(start / packet.time_base)
                packets.append((float(packet.dts * packet.time_base), packet))
        for n, stream in enumerate(texts):
            for number, (begin, end, text) in enumerate(LINES):
                said = text if n == 0 else f"{n} {number}"
                data = said.encode()
                if codec == "mov_text":
                    data = struct.pack(">H", len(data)) + data
                if codec == "ass":
                    said = said.replace("<i>", "").replace("</i>", "")
                    data = f"{number},0,Default,,0,0,0,,{{\\i1}}{said}".replace("\n", "\\N").encode()
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = begin + round(1000 * start)
                packet.duration = end - begin
                packets.append((start + begin / 1000, packet))
        for _, packet in sorted(packets, key=lambda pair: pair[0]):
            out.mux(packet)
    return path


def check(found: Sequence[Subtitle]) -> None:
    """The lines, on the axis of the file, which begins with the priming of the audio encoder."""
    assert [line.text for line in found] == [line.text for line in READ]
    for line, expected in zip(found, READ, strict=True):
        assert (line.start, line.end) == pytest.approx((expected.start, expected.end), abs=30)


@pytest.mark.parametrize(
    ("suffix", "codec", "name"), [("mkv", "srt", "srt"), ("mp4", "mov_text", "mov_text"), ("mkv", "ass", "ssa")]
)
def test_text_tracks(tmp_path: Path, suffix: str, codec: str, name: str) -> None:
    path = write_tracks(tmp_path / f"a.{suffix}", codec, ["eng", "fra"])
    for protocol in ("full", "released"):
        clip = open_clip(path, num_frames=2, protocol=protocol)
        note = f"the file has 2 subtitle tracks, 1 (eng, {name}), 2 (fra, {name}): used only with --subtitles"
        assert note in clip.notes and not clip.losses
    assert read_subtitle_source(path) == read_subtitle_source(path, "en") == read_subtitle_source(path, 1)
    check(read_subtitle_source(path))
    assert (
        [s.text for s in read_subtitle_source(path, "fr")]
        == ["1 0", "1 1"]
        == [s.text for s in read_subtitle_source(path, "2")]
    )
    with pytest.raises(DataError, match=r"has no subtitle track deu; it has 1 \(eng"):
        read_subtitle_source(path, "deu")


def test_other_files(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.mp4", 5)
    assert not any("subtitle" in note for note in open_clip(plain, num_frames=2).notes)
    with pytest.raises(DataError, match="has no subtitle track of text; it has none"):
        read_subtitle_source(plain)
    srt = tmp_path / "a.srt"
    srt.write_text("1\n00:00:01,000 --> 00:00:02,000\nHi\n")
    assert read_subtitle_source(srt) == (Subtitle(1000, 2000, "Hi"),)
    with pytest.raises(UsageError, match="it has no subtitle tracks to choose from"):
        read_subtitle_source(srt, 1)
    with pytest.raises(UsageError, match="subtitle_track=0; expected a track's number from 1"):
        read_subtitle_source(plain, 0)
    with pytest.raises(DataError, match="can't be read"):
        read_subtitle_source(tmp_path / "missing.srt")


def test_times_are_those_of_the_player(tmp_path: Path) -> None:
    """A file whose stamps begin late: the axis begins where the file does."""
    late = write_tracks(tmp_path / "a.mkv", "srt", ["eng"], start=5.0)
    with av.open(str(late)) as container:
        assert container.start_time == pytest.approx(5_000_000, abs=30_000)
    check(read_subtitle_source(late))
