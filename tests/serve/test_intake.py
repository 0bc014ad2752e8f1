"""Media parts of requests: what is accepted, what is rejected, and that rejecting is cheap."""

import base64
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import MediaNotFound, MediaTooLarge, UnreadableMedia, UsageError, VideoLlama2Error
from videollama2.serve.decoding import Decoding
from videollama2.serve.errors import public_message
from videollama2.serve.intake import MediaIntake, UploadedFile
from videollama2.serve.settings import RequestLimits
from videollama2.text.media_parts import Media


class Store:
    """Files of a folder by name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()

    def path_of(self, id: str) -> Path:
        self.asked.append(id)
        if id != "file-abc":
            raise MediaNotFound(f"there is no file {id}")
        return self.folder / "clip.mp4"


class OneAddress:
    """A fetcher that records its calls."""

    def __init__(self) -> None:
        self.fetched: list[tuple[str, int]] = []

    def fetch(self, url: str, max_bytes: int) -> bytes:
        self.fetched.append((url, max_bytes))
        return b"x" * 600


def url(data: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def part(kind: str, value: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, kind: {"url": value}, **more}


SMALL = RequestLimits(max_data_bytes=1000, max_request_media_bytes=2500, max_media=4, max_num_frames=32)


@pytest.fixture
def intake(media: Path) -> MediaIntake:
    return MediaIntake(SMALL, Store(media))


def test_every_kind_of_part(intake: MediaIntake, media: Path) -> None:
    assert intake.media(part("video_url", url(b"abc"))) == Media(source=b"abc")
    assert intake.media(part("image_url", url(b"abc", "image/png"))) == Media(source=b"abc")
    assert intake.media(part("audio_url", url(b"abc", "audio/wav"))) == Media(source=b"abc", video=False)
    assert intake.media(part("video_url", "data:;base64,YQ==")).source == b"a"
    sound = {"type": "input_audio", "input_audio": {"data": "YWI=", "format": "wav"}}
    assert intake.media(sound) == Media(source=b"ab", video=False)
    found = intake.media({"type": "file", "file": {"file_id": "file-abc"}}).source
    assert isinstance(found, UploadedFile) and found.path == media / "clip.mp4" and str(found) == "file-abc"
    inline = {"type": "file", "file": {"file_data": url(b"abc"), "filename": "../../x.mp4"}}
    assert intake.media(inline).source == b"abc"
    tracks = part("video_url", url(b"abc"), audio_track="eng", video_track=2)
    assert intake.media(tracks) == Media(source=b"abc", audio_track="eng", video_track=2)
    asked = part("video_url", url(b"abc"), start=1, end=2.5, num_frames=4, sound=False)
    assert intake.media(asked) == Media(source=b"abc", start=1.0, end=2.5, num_frames=4, audio=False)


@pytest.mark.parametrize(
    "value",
    [
        "/etc/passwd", "etc/passwd", "./clip.mp4", "../clip.mp4", "file:///etc/passwd", "FILE:///etc/passwd",
        "file:clip.mp4",
        "C:\\Windows\\win.ini", "\\\\server\\share\\x.mp4", "//server/share/x.mp4", "~/x.mp4", "concat:a.mp4|b.mp4",
        "pipe:0", "fd:3", "lavfi:testsrc", "rtsp://127.0.0.1/x", "ftp://127.0.0.1/x", "s3://bucket/x",
        "subfile,,start,0:x",
        "crypto:x", "http:/etc/passwd", "img%03d.png", " data:video/mp4;base64,YQ==", "file-abc", "cid:1", "blob:x",
        "\0", "",
    ],
)  # fmt: skip
def test_no_paths_and_no_other_schemes(intake: MediaIntake, value: str) -> None:
    for kind in ("video_url", "image_url", "audio_url"):
        with pytest.raises(UsageError):
            intake.media(part(kind, value))


def test_urls_are_off_without_a_fetcher_and_go_through_it(intake: MediaIntake, media: Path) -> None:
    with pytest.raises(UsageError, match="does not allow media by URL"):
        intake.media(part("video_url", "https://media.example.org/a.mp4"))
    fetcher: Any = OneAddress()
    given = MediaIntake(SMALL, None, fetcher)
    assert given.media(part("video_url", "HTTPS://x/a")).source == b"x" * 600
    assert len(given.all([part("video_url", "https://x/a")] * 4)) == 4
    assert [most for _, most in fetcher.fetched] == [2500, 2500, 1900, 1300, 700]


@pytest.mark.parametrize(
    "value",
    [
        "data:video/mp4;base64,YQ=", "data:video/mp4;base64,YQ", "data:video/mp4;base64,Y",
        "data:video/mp4;base64,YQ==YQ==",
        "data:video/mp4;base64,=", "data:video/mp4;base64,Y-_=", "data:video/mp4;base64,YWJj\n",
        "data:video/mp4;base64, YWJj",
        "data:video/mp4;base64,", "data:video/mp4,abc", "data:,", "data:", "data:video/mp4;base64",
        "data:text/html;base64,YQ==",
        "data:image/svg+xml;base64,YQ==", "data:video/jpeg;base64,YQ==,YQ==",
        "data:application/vnd.apple.mpegurl;base64,YQ==",
        "data:video/mp4;charset=x,YQ==", "data:video/mp4;charset;base64,YQ==",
        "data:video/mp4;x=" + "a" * 9999 + ";base64,YQ==",
        "data:" + "a" * 9999 + ";base64,YQ==",
        "data:video/mp4;base64,\u00e9\u00e9==",
        "data:application/x-python-pickle;base64,gASVAA==", "data:video/mp4;base64;base64,YQ==",
        "data:video/mp4;base64,%59%51",
    ],
)  # fmt: skip
def test_invalid_data_urls(intake: MediaIntake, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        intake.media(part("video_url", value))
    assert "YQ==" not in str(caught.value)


def test_padding_between_chunks_is_detected(media: Path) -> None:
    """Base64 is decoded in chunks; each chunk alone would be valid here."""
    intake = MediaIntake(RequestLimits(), None)
    whole = base64.b64encode(bytes(range(256)) * 12288).decode()  # 4 MiB of text: four pieces
    assert intake.media(part("video_url", "data:video/mp4;base64," + whole)).source == bytes(range(256)) * 12288
    joined = whole[: (1 << 20) - 4] + "YQ==" + whole[1 << 20 :]
    with pytest.raises(UsageError, match="base64"):
        intake.media(part("video_url", "data:video/mp4;base64," + joined))


def test_sizes_are_rejected_before_memory_grows() -> None:
    intake = MediaIntake(RequestLimits(max_data_bytes=1 << 20), None)
    text = "data:video/mp4;base64," + "A" * (64 << 20)
    tracemalloc.start()
    try:
        for given in (part("video_url", text), {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}):
            with pytest.raises(MediaTooLarge):
                intake.media(given)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_number_and_sum_of_media(intake: MediaIntake) -> None:
    one = part("video_url", url(b"x" * 999))
    assert len(intake.all([one, one])) == 2
    with pytest.raises(MediaTooLarge):
        intake.all([one] * 3)
    with pytest.raises(UsageError, match="1,000 media"):
        intake.all([part("video_url", url(b"x"))] * 1000)
    for size, taken in ((1000, True), (1001, False)):
        try:
            assert len(intake.media(part("video_url", url(b"x" * size))).source) == 1000 and taken
        except MediaTooLarge:
            assert not taken


@pytest.mark.parametrize(
    "wish",
    [
        {"num_frames": n} for n in (0, -1, 33, 2**31, 10**9, 10**5000, 1e9, 4.0, float("nan"), float("inf"), True,
        "8", [8])
    ] + [{"start": s} for s in (-1, float("nan"), float("inf"), -0.5, "1", True, [0], 10**400)] + [
        {"end": e} for e in (0, -1, float("nan"), float("inf"), "x")] + [
        {"start": 2, "end": 1}, {"start": 1, "end": 1}, {"sound": 1}, {"sound": "no"}, {"fps": 1e9},
        {"max_frames": 2**31},
        {"limits": {}}, {"protocol": "full"}, {"path": "/etc/passwd"}, {"times": [0]},
        {"mm_processor_kwargs": {"fps": 9}},
    ],
)  # fmt: skip
def test_options_only_lower_the_servers_limits(intake: MediaIntake, wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        intake.media(part("video_url", url(b"abc"), **wish))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "given",
    [
        None, 1, "video_url", [], {}, {"type": "video"}, {"type": None}, {"type": ["video_url"]}, {"type": "video_url"},
        {"type": "video_url", "video_url": "data:video/mp4;base64,YQ=="}, {"type": "video_url", "video_url": {}},
        {"type": "video_url", "video_url": {"url": None}}, {"type": "video_url", "video_url": {"url": 3}},
        {"type": "video_url", "video_url": {"url": ["data:"]}}, {"type": "video_url", "image_url": {"url": url(b"a")}},
        {"type": "video_url", "video_url": {"url": url(b"a"), "headers": {}}}, {"type": "video_embeds",
        "video_embeds": "gASV"},
        {"type": "image_embeds", "image_embeds": "UEsDBA=="}, {"type": "prompt_embeds", "prompt_embeds": "gASV"},
        {"type": "image_url", "image_url": {"url": url(b"a", "image/png"), "detail": "finest"}},
        {"type": "input_audio", "input_audio": {"data": "YQ=="}}, {"type": "input_audio",
        "input_audio": {"format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "iamf"}},
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": ["wav"]}},
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}, "num_frames": 2},
        {"type": "file", "file": {}}, {"type": "file", "file": {"file_id": "file-abc", "file_data": url(b"a")}},
        {"type": "file", "file": {"file_id": "../../etc/passwd"}}, {"type": "file", "file": {"file_id": "a/b"}},
        {"type": "file", "file": {"file_id": "/etc/passwd"}}, {"type": "file", "file": {"file_id": "file-abc\0"}},
        {"type": "file", "file": {"file_id": ".."}}, {"type": "file", "file": {"file_id": "x" * 101}},
        {"type": "file", "file": {"file_id": "C:x"}}, {"type": "file", "file": {"file_id": 7}},
        {"type": "file", "file": {"filename": "/etc/passwd"}}, {"type": "file", "file": {"path": "/etc/passwd"}},
        {"type": "file", "file": {"file_data": "/etc/passwd"}},
    ],
)  # fmt: skip
def test_invalid_parts(intake: MediaIntake, given: Any) -> None:
    with pytest.raises(UsageError) as caught:
        intake.media(given)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    assert not intake._files.asked  # type: ignore[union-attr]


def test_missing_files(intake: MediaIntake) -> None:
    with pytest.raises(MediaNotFound):
        intake.media({"type": "file", "file": {"file_id": "file-other"}})
    with pytest.raises(UsageError, match="does not accept uploads"):
        MediaIntake(SMALL, None).media({"type": "file", "file": {"file_id": "file-abc"}})


# ── opening them ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def decoding() -> Iterator[Decoding]:
    made = Decoding(RequestLimits(media_workers=1, max_channels=2))
    yield made
    made.close()


def test_the_pools_errors_have_no_paths(decoding: Decoding, media: Path, tmp_path: Path) -> None:
    clip = decoding.open_clip(UploadedFile(media / "clip.mp4", "file-abc"))
    assert clip.source == "file-abc" and str(media) not in json.dumps([clip.notes, clip.losses])
    assert decoding.open_clip((media / "still.png").read_bytes()).source == "the media item"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((media / "clip.mp4").read_bytes()[:500])
    for path in (broken, tmp_path / "gone.mp4"):
        with pytest.raises(VideoLlama2Error) as caught:
            decoding.open_clip(UploadedFile(path, "file-abc"))
        assert "file-abc" in str(caught.value) and str(tmp_path) not in str(caught.value)
        assert caught.value.__cause__ is None and not hasattr(caught.value, "__notes__")
    assert str(caught.value) == "file-abc can no longer be read; upload it again", "it expired meanwhile"
    with pytest.raises(UnreadableMedia) as unread:
        decoding.open_clip(b"nothing at all")
    assert "the media item" in str(unread.value)


@pytest.mark.parametrize("medium", ["clip.mp4", Path("clip.mp4"), ["a.png"], None, 3])
def test_the_pool_opens_only_uploads_and_bytes(decoding: Decoding, medium: Any) -> None:
    with pytest.raises(UsageError, match="an uploaded file or bytes"):
        decoding.open_clip(medium)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cannot identify <_io.BytesIO object at 0x7fd39b159850>", "cannot identify an object"),
        ("bad pointer 0xdeadbeef here", "bad pointer … here"),
        ("can't open /srv/data/files/a.mp4: no", "can't open …: no"),
        ("can't open 'C:\\Users\\me\\a.mp4'", "can't open '…'"),
        ("see \\\\host\\share\\x", "see …"),
        ("POST /v1/chat/completions takes image/png and 16/9 at 3 m/s", None),
        ("media are not fetched from evil.example; expected https://HOST/PATH", None),
        ("x\nTraceback (most recent call last):\n  File 'a', line 3", "x …"),
        ("a\r\nb\x1b[31m", "a b [31m"),
        ("the frames are 64x48 of 0x0 pixels", None),
    ],
)
def test_public_messages(text: str, said: str | None) -> None:
    assert public_message(text) == (text if said is None else said)
    assert len(public_message("word " * 1000)) <= 600
