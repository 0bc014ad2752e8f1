"""Files that were cut off, joined byte by byte, or edited by a list; and raw streams of fields."""

import struct
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import UnreadableMedia
from videollama2.media import audio_input, open_clip
from videollama2.media.edit_lists import edit_losses
from videollama2.media.file_end import ends_inside, second_recording
from videollama2.media.limits import DEFAULT_LIMITS
from videollama2.media.source import MediaSource
from videollama2.protocols import FULL

from .fields import field_coded
from .make import tone, write
from .remux import record, remux
from .test_timeline import sound_at

FILES: list[tuple[str, str | None, str | None, dict[str, str]]] = [
    ("flv", "libx264", "aac", {}),
    ("flv", "libx264", "aac", {"flvflags": "no_metadata+no_sequence_end"}),
    ("ts", "libx264", "aac", {}),
    ("ogg", None, "libopus", {}),
    ("ogg", None, "flac", {}),
    ("mp3", None, "libmp3lame", {}),
    ("flac", None, "flac", {}),
    ("aiff", None, "pcm_s16be", {}),
    ("au", None, "pcm_s16be", {}),
    ("caf", None, "pcm_s16le", {}),
    ("w64", None, "pcm_s16le", {}),
    ("wav", None, "pcm_s16le", {"rf64": "always"}),
    ("wma", None, "wmav2", {}),
    ("wmv", "wmv2", "wmav2", {}),
    ("mxf", "mpeg2video", "pcm_s16le", {}),
]


def written(folder: Path, suffix: str, video: str | None, audio: str | None, options: dict[str, str]) -> Path:
    if audio == "wmav2":
        return record(folder / f"x.{suffix}", video, audio)
    keeps = "mkv" if audio in ("libopus", "flac") else "mov" if (audio or "").startswith("pcm") else "mp4"
    plain = record(folder / f"plain.{keeps}", video, audio, frames=75 if suffix == "mxf" else 30)
    return remux(plain, folder / f"x.{suffix}", options=options)


@pytest.mark.parametrize(("suffix", "video", "audio", "options"), FILES)
def test_a_broken_download(
    suffix: str, video: str | None, audio: str | None, options: dict[str, str], tmp_path: Path
) -> None:
    path = written(tmp_path, suffix, video, audio, options)
    whole = path.read_bytes()
    assert not open_clip(path, num_frames=2, protocol="full").losses
    for part in (0.6, 0.9):
        clip = open_clip(whole[: int(part * len(whole)) | 1], num_frames=2, protocol="full")
        assert clip.losses and len(clip.losses) == len(set(clip.losses))


def live_webm(data: bytes) -> bytes:
    """Without the sizes of segment and clusters, as a browser's recorder writes it."""
    for name, header in ((b"\x18\x53\x80\x67", 4), (b"\x1f\x43\xb6\x75", 4)):
        at = 0
        while (at := data.find(name, at)) >= 0:
            length = 9 - data[at + header].bit_length()
            unknown = ((1 << 7 * length) - 1) | (1 << 7 * length)
            data = data[: at + header] + unknown.to_bytes(length) + data[at + header + length :]
            at += header
    return data


def test_a_browser_recording_that_was_cut_off(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain.webm", "libvpx", "libopus")
    path = remux(plain, tmp_path / "x.webm", options={"live": "1", "cluster_time_limit": "500"})
    data = live_webm(path.read_bytes())
    assert not open_clip(data, num_frames=2, protocol="full").losses
    for part in (0.5, 0.7, 0.95):
        clip = open_clip(data[: int(part * len(data))], num_frames=2, protocol="full")
        expected = "the file ends inside a block: it was cut off, or is still being written"
        assert clip.losses == (expected,) and clip.notes.count(expected) == 1


def test_sound_files_and_streams_end_between_packets(tmp_path: Path) -> None:
    """Nothing is reported for whole files, whatever follows them."""
    for name, form in (("a.ts", "mpegts"), ("a.flv", "flv"), ("a.mkv", "matroska")):
        plain = record(tmp_path / "plain.mp4", "libx264", "aac", frames=10, seconds=1.0)
        source = MediaSource.of(remux(plain, tmp_path / name, form=form), DEFAULT_LIMITS)
        assert ends_inside(source) == "" and second_recording(source) is None
    for junk in (b"", b"\0" * 40, b"G" * 50, b"OggS", b"\x1a\x45\xdf\xa3", b"FLV\1", b"RIFF\0\0\0\0WAVE", b"fLaC"):
        if junk:
            source = MediaSource.of(junk, DEFAULT_LIMITS)
            ends_inside(source)
            second_recording(source)


@pytest.mark.parametrize(
    ("suffix", "video", "audio"),
    [
        ("mp4", "libx264", "aac"),
        ("flv", "libx264", "aac"),
        ("m4a", None, "aac"),
        ("wav", None, "pcm_s16le"),
        ("aiff", None, "pcm_s16be"),
        ("caf", None, "pcm_s16le"),
        ("flac", None, "flac"),
        ("wma", None, "wmav2"),
    ],
)
def test_a_second_recording_that_players_ignore(
    suffix: str, video: str | None, audio: str | None, tmp_path: Path
) -> None:
    once = written(tmp_path, suffix, video, audio, {}).read_bytes()
    clip = open_clip(once + once, num_frames=2, protocol="full")
    alone = open_clip(once, num_frames=2, protocol="full")
    assert clip.frames_total == alone.frames_total and clip.wave is not None and alone.wave is not None
    assert clip.wave.seconds == pytest.approx(alone.wave.seconds, abs=0.01) and not alone.losses
    second = f"a second recording begins at byte {len(once):,} and is not used, as in players; remux the files instead"
    assert second in clip.losses and (len(clip.losses) == 1 or suffix in ("caf", "wma"))  # FFmpeg adds their lengths


def test_fragmented_recordings_that_would_be_mixed(tmp_path: Path) -> None:
    plain = record(tmp_path / "plain.mp4", "libx264", "aac", frames=20, seconds=2.0)
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    once = remux(plain, tmp_path / "x.mp4", options=options).read_bytes()
    with pytest.raises(UnreadableMedia, match="a second fragmented recording from byte"):
        open_clip(once + once)


# ── edit lists ─────────────────────────────────────────────────────────────────────────────────────────────────


def boxes(data: bytes, at: int, end: int) -> Any:
    while at + 8 <= end:
        size = struct.unpack_from(">I", data, at)[0]
        yield data[at + 4 : at + 8], at, at + size
        at += size


def with_edits(data: bytes, track: bytes, entries: list[tuple[float, float, float]], scale: int) -> bytes:
    """An mp4, whose index comes last, with another edit list: seconds, start in seconds or -1, rate."""
    movie = next((a, b) for kind, a, b in boxes(data, 0, len(data)) if kind == b"moov")
    ticks = struct.unpack_from(">I", data, data.index(b"mvhd", movie[0]) + 16)[0]
    for kind, begin, end in boxes(data, movie[0] + 8, movie[1]):
        if kind == b"trak" and track in data[begin:end]:
            rows = b"".join(
                struct.pack(">Iii", round(d * ticks), -1 if s < 0 else round(s * scale), round(r * 65536))
                for d, s, r in entries
            )
            elst = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(entries)) + rows
            edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
            parts = [data[a:b] for name, a, b in boxes(data, begin + 8, end) if name != b"edts"]
            body = parts[0] + edts + b"".join(parts[1:])
            trak = struct.pack(">I4s", 8 + len(body), b"trak") + body
            moov = data[movie[0] + 8 : begin] + trak + data[end : movie[1]]
            return data[: movie[0]] + struct.pack(">I4s", 8 + len(moov), b"moov") + moov + data[movie[1] :]
    raise AssertionError("no such track")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("plain") / "x.mp4"
    return record(path, "libx264", "aac", frames=40, seconds=4.0, options={"bf": "0"}).read_bytes()


@pytest.mark.parametrize(
    ("entries", "times", "frames"),
    [
        ([(1, 0, 1), (1, 2, 1)], [i / 10 for i in range(20)], [*range(10), *range(20, 30)]),
        ([(1, 2, 1), (1, 0, 1)], [i / 10 for i in range(20)], [*range(20, 30), *range(10)]),
        ([(1, 0, 1), (1, 0, 1)], [i / 10 for i in range(20)], [*range(10), *range(10)]),
        ([(0.5, -1, 1), (2, 1, 1)], [0.5 + i / 10 for i in range(20)], list(range(10, 30))),
    ],
)
def test_edit_lists_of_several_parts(
    plain: bytes, entries: list[tuple[float, float, float]], times: list[float], frames: list[int]
) -> None:
    from .make import grey

    clip = open_clip(with_edits(plain, b"vide", entries, 10240), num_frames=20, protocol="full", want_audio=False)
    assert clip.frames_total == 20 and not clip.losses
    assert list(clip.times) == pytest.approx(times, abs=0.001) or entries[0][1] < 0
    assert list(clip.times - clip.times[0]) == pytest.approx([t - times[0] for t in times], abs=0.001)
    levels = [float(frame.mean()) for frame in clip.frames]
    alone = open_clip(plain, num_frames=32, protocol="full", want_audio=False)
    assert levels == pytest.approx([grey(i) for i in frames], abs=6) and not alone.losses


def test_the_sound_of_an_edit_list(plain: bytes) -> None:
    clip = open_clip(with_edits(plain, b"soun", [(1, 2, 1), (1, 0, 1)], 48000), protocol="full", want_video=False)
    assert clip.wave is not None and clip.wave.seconds == pytest.approx(2, abs=0.05) and not clip.losses
    assert sound_at(clip, 0.625) == 1400 and sound_at(clip, 1.625) == 600


@pytest.mark.parametrize(
    ("track", "entries", "words"),
    [
        (b"vide", [(1, 0, 2)], "the video track's edit list plays 0.00 to 1.00 s at 2 times the speed; the normal"),
        (b"vide", [(1, 0, 1), (2, 0, 0)], "plays 1.00 to 3.00 s at 0 times the speed"),
        (b"vide", [(1, 0, 1), (1, -1, 1), (1, 2, 1)], "the video track's edit list has nothing from 1.00 to 2.00 s"),
        (b"soun", [(1, 0, 1), (1, -1, 1), (1, 2, 1)], "the audio track's edit list has nothing from 1.00 to 2.00 s"),
    ],
)
def test_edits_that_are_not_applied_are_losses(
    plain: bytes, track: bytes, entries: list[tuple[float, float, float]], words: str
) -> None:
    clip = open_clip(with_edits(plain, track, entries, 10240), num_frames=2, protocol="full")
    assert len(clip.losses) == 1 and words in clip.losses[0]
    other = {"want_video": False} if track == b"vide" else {"want_audio": False}
    assert not open_clip(with_edits(plain, track, entries, 10240), num_frames=2, protocol="full", **other).losses


def test_nonsense_in_boxes(plain: bytes) -> None:
    class Stream:
        id, type = 1, "video"

    at = plain.index(b"elst")
    for count in (0, 1000, 2**32 - 1):
        source = MediaSource.of(plain[: at + 8] + struct.pack(">I", count) + plain[at + 12 :], DEFAULT_LIMITS)
        assert isinstance(edit_losses(source, Stream()), tuple)


# ── fields, holes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_raw_stream_of_fields() -> None:
    """Two pictures make one frame."""
    levels = [16 + 7 * i for i in range(30)]
    clip = open_clip(field_coded(levels), num_frames=30, protocol="full")
    assert clip.frames_total == 30 and list(clip.times) == pytest.approx([i / 25 for i in range(30)])
    shown = [(level - 16) * 255 / 219 for level in levels]
    assert [float(frame.mean()) for frame in clip.frames] == pytest.approx(shown, abs=1.5)
    assert any("interlaced" in note for note in clip.notes) and not clip.losses


def test_a_range_inside_a_hole_has_one_true_loss(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.mov", 60, sound=tone(6.0), sound_codec="pcm_s16le")
    path = remux(path, tmp_path / "x.mkv", keep=lambda kind, s: kind != "audio" or s < 1.0 or s >= 4.0)
    made = audio_input(open_clip(path, num_frames=1, protocol="full", start=2, end=3), FULL)
    assert [loss.detail for loss in made.losses] == ["the file has no audio from 2.00 to 3.00 s; silence was inserted"]
    assert made.receipt.notes == (f"{made.losses[0].detail}; it was not encoded",)
    assert made.fbank is None
    partly = audio_input(open_clip(path, num_frames=1, protocol="full", start=3, end=5), FULL)
    assert not partly.losses and "no audio from 3.00 to 4.0" in partly.receipt.notes[0]
