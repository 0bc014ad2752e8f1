"""A local file or bytes, opened so that FFmpeg and Pillow open nothing else.

A container can refer to other files (playlists, concat scripts, image patterns, data references), and FFmpeg would open
them. So only self-contained formats are on the allow-list, `file:` is the only protocol, and only listed decoders run,
even while FFmpeg probes the streams. A file's type is determined from its content, never from its name.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import av
import av.error
from PIL import Image

from ..errors import EmptyMedia, MediaError, MediaNotFound, MediaTooLarge, UnreadableMedia, UsageError
from .limits import DEFAULT_LIMITS, Limits

Kind = Literal["av", "image"]

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2;matroska,webm;avi;flv;mpegts;mpeg;ogg;wav;w64;flac;mp3;aac;aiff;au;caf;asf;amr;ac3;eac3;"
    "mxf;h264;hevc;ivf;m4v;mpegvideo"
).replace(";", ",")
# fmt: off
VIDEO_CODECS = frozenset({
    "h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "msmpeg4",
    "msmpeg4v1", "msmpeg4v2", "h263", "h263p", "mpeg1video", "mpeg2video", "mjpeg", "theora", "prores", "dnxhd",
    "wmv1", "wmv2", "wmv3", "vc1", "flv", "flv1", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "qtrle",
    "cinepak", "dvvideo", "svq1", "svq3",
})
AUDIO_CODECS = frozenset({
    "aac", "aac_fixed", "aac_latm", "mp3", "mp3float", "mp2", "mp2float", "mp1", "mp1float", "opus", "libopus",
    "vorbis", "libvorbis", "flac", "alac", "ac3", "ac3_fixed", "eac3", "dca", "wmav1", "wmav2", "wavpack", "amrnb",
    "amrwb", "libopencore_amrnb", "libopencore_amrwb", "adpcm_ima_wav", "adpcm_ms", "adpcm_ima_qt", "gsm", "gsm_ms",
    "nellymoser", "speex", "libspeex", "truehd",
})
# fmt: on
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")

# What untrusted clients may send (Limits.any_format = False): what phones, browsers and recorders write.
SERVED_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,wav,flac,mp3,aac"
SERVED_VIDEO = VIDEO_CODECS & {
    "h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4",
}  # fmt: skip
SERVED_AUDIO = AUDIO_CODECS & {
    "aac", "aac_fixed", "mp3", "mp3float", "opus", "libopus", "vorbis", "libvorbis", "flac",
}  # fmt: skip
SERVED_PCM = frozenset(
    "pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_s16be pcm_s24be pcm_mulaw pcm_alaw".split()
)
SERVED_IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
_MAX_STREAMS = 64  # of a container

_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+:(?![\\])")  # C:\clip.mp4 is a path; no scheme has one letter
_EBML = b"\x1a\x45\xdf\xa3"  # Matroska, WebM
_PLAYLIST_MAGIC = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"v=0")


@dataclass(frozen=True)
class MediaSource:
    """A file, or the bytes of one. `name` is for messages and receipts; `limits` restrict what may decode it.

    `video_track`, `audio_track`: the track that the caller chose (tracks.py); None: chosen automatically.
    `as_shown`: whether its pictures get a player's colours and square pixels (appearance.py), or are taken as stored.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    limits: Limits = DEFAULT_LIMITS
    video_track: int | str | None = None
    audio_track: int | str | None = None
    as_shown: bool = False

    @classmethod
    def of(cls, item: str | os.PathLike[str] | bytes, limits: Limits) -> "MediaSource":
        """The source of a media item that exists, is local and within limits.

        Raises:
            MediaNotFound, EmptyMedia, MediaTooLarge, UnreadableMedia (a URL).
        """
        if isinstance(item, bytes):
            source, size = cls(f"<{len(item)} bytes>", data=item, limits=limits), len(item)
        else:
            path = local_path(item)
            if not path.is_file():
                raise MediaNotFound(f"{path} is neither a file nor a folder; expected a video, audio file or image.")
            source, size = cls(str(path), path=path, limits=limits), path.stat().st_size
        if size == 0:
            raise EmptyMedia(f"{source.name} is empty (0 bytes); expected a video, an audio file or an image.")
        if limits.max_file_bytes is not None and size > limits.max_file_bytes:
            raise MediaTooLarge(f"{source.name} has {size:,} bytes; the limit is {limits.max_file_bytes:,}.")
        return source

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.data) if self.data is not None else self._path.stat().st_size

    @property
    def _path(self) -> Path:
        if self.path is None:
            raise UsageError("this source is bytes; it has no path.")
        return self.path

    def head(self, n: int = 64) -> bytes:
        """The first n bytes."""
        if self.data is not None:
            return self.data[:n]
        try:
            with self._path.open("rb") as file:
                return file.read(n)
        except OSError as error:  # no permission, a broken disk
            raise UnreadableMedia(f"{self.name} can't be read: {error.strerror or error}.") from error

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], bytes]]:
        """A function that reads `n` bytes at a place in the file, or fewer at its end.

        Raises:
            UnreadableMedia: no permission, a broken disk; also from the function.
        """
        try:
            with BytesIO(self.data) if self.data is not None else self._path.open("rb") as file:

                def read(at: int, n: int) -> bytes:
                    file.seek(at)
                    return file.read(n)

                yield read
        except OSError as error:
            raise UnreadableMedia(f"{self.name} can't be read: {error.strerror or error}.") from error

    def kind(self) -> Kind:
        """Whether Pillow ("image": stills and animations) or FFmpeg ("av") reads it, by its first bytes."""
        head = self.head()
        webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
        avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
        return "image" if webp or avif or head.startswith(_IMAGE_MAGIC) else "av"

    @contextmanager
    def container(self, *, probe: bool = True) -> Iterator["av.container.InputContainer"]:
        """The opened container. FFmpeg's errors become UnreadableMedia, also those raised inside the block.

        Args:
            probe: whether FFmpeg decodes the first pictures, for what headers leave open (such as pixel formats).
                A file that is opened again doesn't need it, if its header lists all tracks (mp4, Matroska).

        Raises:
            UnreadableMedia: not an allowed format, truncated, or a playlist.
        """
        head = self.head()
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLIST_MAGIC):
            raise UnreadableMedia(
                f"{self.name} is a playlist or a script, which could refer to other files; pass the media file itself."
            )
        decoders = self.decoders()
        if not probe and (head.startswith(_EBML) or head[4:8] == b"ftyp"):
            decoders -= VIDEO_CODECS
        options = {
            "format_whitelist": FORMATS if self.limits.any_format else SERVED_FORMATS,
            "codec_whitelist": ",".join(sorted(decoders)),
            "protocol_whitelist": "file",
            "max_streams": str(_MAX_STREAMS),
        }
        if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
            options["probesize"] = "32768"  # else FFmpeg reads 5 MB in case the samples are DTS
        target: Any = BytesIO(self.data) if self.data is not None else f"file:{self._path.absolute()}"
        try:
            with av.open(target, options=options) as opened:
                yield opened
        except MediaError:
            raise
        except (av.error.FFmpegError, EOFError) as error:
            raise UnreadableMedia(f"{self.name} can't be read ({_why(error)}): {_guess(head)}.") from error

    def decoders(self) -> frozenset[str]:
        """FFmpeg's names of the decoders allowed for this source."""
        if not self.limits.any_format:
            return SERVED_VIDEO | SERVED_AUDIO | SERVED_PCM
        return VIDEO_CODECS | AUDIO_CODECS | _pcm()

    def image(self, limits: Limits) -> Image.Image:
        """The opened image or animation, not decoded yet.

        Raises:
            UnreadableMedia: not an allowed image format. MediaTooLarge: its header is over the limit.
        """
        target = BytesIO(self.data) if self.data is not None else self._path
        formats = IMAGE_FORMATS if self.limits.any_format else SERVED_IMAGE_FORMATS
        try:
            image = Image.open(target, formats=formats)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise MediaTooLarge(
                f"{self.name} is far too large for an image; the limit is {limits.max_pixels:,} pixels."
            ) from error
        except (OSError, ValueError, SyntaxError) as error:
            raise UnreadableMedia(
                f"{self.name} can't be read as an image: it is corrupt, truncated, or none of {', '.join(formats)}."
            ) from error
        try:
            limits.check_pixels(*image.size, self.name)
        except MediaTooLarge:
            image.close()
            raise
        return image


@cache
def _pcm() -> frozenset[str]:
    """Decoders of uncompressed samples."""
    return frozenset(name for name in av.codecs_available if name.startswith("pcm_"))


def local_path(item: str | os.PathLike[str]) -> Path:
    """The path of a local file or folder.

    Raises:
        UnreadableMedia: a URL or an FFmpeg protocol (`http:`, `concat:`, …). MediaNotFound: empty.
    """
    text = os.fspath(item)
    if not text or "\0" in text:
        raise MediaNotFound(f"{text!r} is not a path; expected a local file or folder.")
    path = Path(text)
    if _URL.match(text) and not path.exists():
        raise UnreadableMedia(
            f"{text} is a URL or a protocol; only local files are opened. Download it and pass its path."
        )
    return path


def _why(error: BaseException) -> str:
    """FFmpeg's message without its numbers, paths and addresses."""
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()


def _guess(head: bytes) -> str:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return "it is corrupt, truncated, or in an unsupported format."
    if text.isprintable() or "\n" in text:
        return "it is a text file, whatever its name."
    return "it is corrupt, truncated, or in an unsupported format."
