"""Reading, choosing and writing subtitles."""

import re
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


SSA = (
    "[Script Info]\nTitle: x\n\n[Events]\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Comment: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,not shown\n"
    "Dialogue: 0,0:00:02.50,0:00:04.00,Default,,0,0,0,,{\\k20}late, {\\i1}at{\\i0}\\Nnight\n"
    "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Hi\n"
    "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
)
SBV = "0:00:01.000,0:00:02.000\nHi\n\n0:00:02.500,0:00:04.000\nlate, at\nnight\n"
LRC = "[ar:someone]\n[offset:+500]\n[00:03.00]late, <00:03.50>at night\n[00:01.50]Hi\n[00:02.50]\n[00:04.50]\n"
TTML = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="25">
<head><metadata><title>x</title></metadata></head>
<body><div begin="1s"><p begin="0s" dur="1000ms"><span>Hi</span></p>
<p begin="00:00:01.500" xml:id="b" end="00:00:03.000">late,<br/>at night</p></div></body></tt>""".replace(
    ":12.5", ".500"
)
SAMI = (
    "<SAMI><BODY>\n<SYNC Start=1000><P Class=ENCC>Hi\n<SYNC Start=2000><P Class=ENCC>&nbsp;\n"
    '<SYNC Start="2500"><P Class="ENCC">late, <i>at</i><br>night<P Class=FRCC>tard\n'
    "<SYNC Start=4000><P Class=ENCC>&nbsp;\n</BODY></SAMI>"
)
MICRODVD = "{1}{1}20.000\n{20}{40}{y:i}Hi\n{50}{80}late, at|night\n"
SRT = "1\n00:00:01,000 --> 00:00:02,000\nHi\n\n2\n00:00:02,500 --> 00:00:04,000\n<i>late, at</i>\nnight\n\n"


@pytest.mark.parametrize(
    "content", [SSA, SBV, LRC, TTML, SAMI, MICRODVD, SRT, SRT + "3\n00:00:05,000 --> 00:00:06,000\n\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_formats_and_encodings(tmp_path: Path, content: str, encoding: str) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(content.replace("\n", "\r\n").encode(encoding))
    assert read_subtitles(path) == (Subtitle(1000, 2000, "Hi"), Subtitle(2500, 4000, "late, at night"))


@pytest.mark.parametrize("content", [SRT, SSA])
def test_lines_without_text_are_no_subtitles(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.srt"
    path.write_text(re.sub(r"Hi|late, |at\b|night", "", content))
    with pytest.raises(DataError, match=r"has [23] subtitles, but none has text"):
        read_subtitles(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (SRT.replace("Hi", "Tom &amp; Jerry &#39;n&#x27; &lt;3"), "Tom & Jerry 'n' <3"),
        (SBV.replace("Hi", "&quot;Hi&quot; AT&T"), '"Hi" AT&T'),
        (SRT.replace("Hi", "R&D &copy 5"), "R&D &copy 5"),
        (LRC.replace("Hi", "&eacute;t&eacute;"), "été"),
    ],
)
def test_entities(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.srt").write_text(content, encoding="utf-8")
    assert read_subtitles(tmp_path / "a.srt")[0].text == said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TTML.replace("0s", "soon"), "the time 'soon' can't be read"),
        (TTML.replace("</tt>", ""), "not valid XML"),
        (TTML.replace("<tt ", '<!DOCTYPE a [<!ENTITY b "c">]><tt '), "defines entities"),
        (SAMI.replace("Hi", "").replace("late, <i>at</i><br>night", "").replace("tard", ""), "has no subtitles"),
    ],
)
def test_broken_files_of_other_formats(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.ttml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_subtitles(tmp_path / "a.ttml")


def test_times_of_ttml(tmp_path: Path) -> None:
    (tmp_path / "a.dfxp").write_text(
        '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="30" '
        'ttp:frameRateMultiplier="1000 1001" ttp:tickRate="10000000"><body><div>'
        '<p begin="00:00:01:12" end="2.5s">a</p><p begin="30000000t" end="40000000t">b</p><p begin="5m" dur="1h">c</p>'
        "</div></body></tt>"
    )
    spans = [(s.start, s.end, s.text) for s in read_subtitles(tmp_path / "a.dfxp")]
    assert spans == [(1400, 2500, "a"), (3000, 4000, "b"), (300_000, 3_900_000, "c")]


def test_a_format_that_counts_frames(tmp_path: Path) -> None:
    (tmp_path / "a.sub").write_text("{25}{50}Hi\n")
    with pytest.raises(DataError, match="it is MicroDVD, which counts frames, without their rate; convert it"):
        read_subtitles(tmp_path / "a.sub")


LEGACY = {
    "cp1252": "Où êtes-vous allé\N{NO-BREAK SPACE}? C'est très étrange, ça ne va pas…",
    "cp1250": "Zażółć gęślą jaźń. Proszę, chodźcie już. Árvíztűrő tükörfúrógép",
    "cp1251": "Привет, как дела? Мы идём домой.",
    "koi8_r": "Привет, как дела? Мы идём домой.",
    "cp1253": "Καλημέρα, τι κάνεις; Είμαι πολύ καλά",
    "cp1254": "Teşekkür ederim, nasılsınız? İyi akşamlar, değil",
    "cp1255": "שלום, מה שלומך? אני בסדר גמור",
    "cp932": "こんにちは、元気ですか。今日はいい天気ですね。",
    "gb18030": "你好，你在做什么？我不知道这是什么。",
    "big5": "你好，你在做什麼？我不知道這是什麼。",
    "cp949": "안녕하세요, 지금 무엇을 하고 있어요?",
}


@pytest.mark.parametrize(("encoding", "words"), LEGACY.items())
def test_legacy_encodings_are_told_by_their_letters(
    tmp_path: Path, encoding: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.srt").write_bytes(f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n".encode(encoding))
    assert read_subtitles(tmp_path / "a.srt") == (Subtitle(1000, 2000, words),)
    assert f"is not Unicode; reading it as {encoding}" in caplog.text
    (tmp_path / "b.srt").write_bytes(b"1\n00:00:01,000 --> 00:00:02,000\n\xb0\xfe\xd0\xff\x99\x81\x81\x01\n")
    with pytest.raises(DataError, match="not UTF-8, and its encoding can't be detected; convert it to UTF-8"):
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
