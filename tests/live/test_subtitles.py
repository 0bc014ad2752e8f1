"""Reading, choosing and writing subtitles."""

import sys
from pathlib import Path

import pytest

from videollama2.errors import DataError, MissingExtra, UsageError
from videollama2.subtitles import (
    Subtitle,
    in_range,
    quote_before,
    read_subtitles,
    render_subtitles,
    shown_at,
    write_subtitles,
)

LINES = (
    Subtitle(0, 900, "A dog barks."),
    Subtitle(1000, 2500, "It runs: 3 > 2 & {so on}, <b>."),
    Subtitle(2500, 3000, "3"),
)


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    plain = tuple(Subtitle(x.start, x.end, x.text.replace("{so on}, <b>", "so on")) for x in LINES)
    write_subtitles(tmp_path / f"a{suffix}", plain)
    assert read_subtitles(tmp_path / f"a{suffix}") == plain
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


def test_text_is_never_read_as_syntax() -> None:
    odd = "one\n\n\0\x1b2\n00:00:09,000 --> 00:00:10,000\nC:\\new {\\an8}"
    srt, vtt = (
        render_subtitles([*LINES, Subtitle(4000, 5000, odd), Subtitle(5000, 6000, " ")], kind)
        for kind in ("srt", "vtt")
    )
    assert srt.count("-->") == vtt.count("-->") == 4
    assert srt.splitlines()[:3] == ["1", "00:00:00,000 --> 00:00:00,900", "A dog barks."]
    assert vtt.splitlines()[0] == "WEBVTT" and "00:00:01.000 --> 00:00:02.500" in vtt
    assert "3 > 2 & {so on}, <b>." in srt and "3 &gt; 2 &amp; {so on}, &lt;b&gt;." in vtt
    assert "one 2 00:00:09,000 → 00:00:10,000 C:\\\N{WORD JOINER}new {\\an8}" in srt
    with pytest.raises(UsageError, match="expected its end after its start"):
        render_subtitles([Subtitle(5, 5, "x")], "srt")
    with pytest.raises(UsageError, match=r"\.srt or \.vtt"):
        write_subtitles(Path("a.txt"), LINES)


def test_vtt_from_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    path.write_text(
        "\N{ZERO WIDTH NO-BREAK SPACE}WEBVTT - title\n\n"
        "STYLE\n::cue { color: red }\n\nintro\n00:01.000 --> 00:02.000 align:start\n"
        "<v Ann>Tom &amp; <i>Jerry</i></v>\n\nNOTE a remark\n\nsecond\n00:00:02.000 --> 00:00:03.500\n"
        "<00:00:02.500><c>late</c>\nnight\n",
        encoding="utf-8",
    )  # fmt: skip
    assert read_subtitles(path) == (Subtitle(1000, 2000, "Tom & Jerry"), Subtitle(2000, 3500, "late night"))
    path.write_text("WEBVTT\n", encoding="utf-8")
    assert read_subtitles(path) == ()


@pytest.mark.parametrize("content", [b"no subtitles at all", b"\xff\xfe\x00\x00" * 9])
def test_files_without_subtitles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.srt"):
        read_subtitles(path)
    with pytest.raises(DataError, match=r"b\.srt can't be read"):
        read_subtitles(tmp_path / "b.srt")


def test_files_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videollama2.subtitles.MAX_BYTES", 10)
    (tmp_path / "a.srt").write_bytes(b"1\n00:00:00,000 --> 00:00:01,000\na\n")
    with pytest.raises(DataError, match="the limit for subtitles is 10"):
        read_subtitles(tmp_path / "a.srt")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysubs2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'videollama2\[subtitles\]'"):
        render_subtitles(LINES, "srt")


def test_choosing() -> None:
    assert in_range(LINES, None, 1.0) == LINES[:1] and in_range(LINES, 2.5, None) == LINES[2:]
    assert in_range(LINES, 0.5, 1.5) == LINES[:2] and in_range(LINES, None, None) == LINES
    assert shown_at(LINES, [0, 500, 950, 2499], published=False) == ("A dog barks.", LINES[1].text)
    assert quote_before("Why?", []) == "Why?"
    assert quote_before("Why?", ["a", "b"]) == 'This is said in the video: "a b"\nWhy?'
