"""Turns the media parts of requests into `Media`: the only way into the server for untrusted media.

    video_url, image_url, audio_url   {"url": "data:…;base64,…"}        size checked before it is decoded, in chunks
                                      {"url": "https://…"}              downloaded by the Fetcher, if allowed
    input_audio                       {"data": "…", "format": "wav"}    base64, or a data URL
    file                              {"file_id": "file-…"}             uploaded before
                                      {"file_data": "data:…;base64,…"}

No paths, no file:, no other schemes.
"""

import binascii
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from ..errors import MediaTooLarge, UsageError
from ..text.media_parts import Media
from .fetch import Fetcher
from .settings import RequestLimits

KINDS: Final = ("video_url", "image_url", "audio_url", "input_audio", "file")
_MAX_TRACK = 64  # characters of a language
_OPTIONS = ("start", "end", "num_frames", "sound", "video_track", "audio_track")
_CHUNK = 1 << 20  # characters of base64 decoded at once; a multiple of 4
# Browsers write parameters after the type, unquoted even where they hold a comma: video/webm;codecs=vp8,opus
_HEAD = re.compile(
    r"data:(?P<type>[a-z]+/[a-z0-9.+-]+)?(?:; ?[a-z0-9_-]+=(?:\"[^\"]*\"|[^;\"]*))*;base64,", re.IGNORECASE
)
_MAX_HEAD = 1024  # characters before the data
_FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_AUDIO_FORMATS = ("wav", "mp3", "flac", "ogg", "opus", "aac", "m4a", "webm")
# declared types that are accepted; the actual type is read from the content
_TYPES = re.compile(r"(video|image|audio)/(?!svg)(?!jpeg$|jpg$|png$)[a-z0-9.+-]+|image/(jpeg|jpg|png)|application/"
                    r"(octet-stream|ogg|mp4)")  # fmt: skip


class UploadedFiles(Protocol):
    """Where uploaded files are looked up."""

    def path_of(self, id: str) -> Path:
        """Path of a file; raises a VideoLlama2Error for an unknown id."""


@dataclass(frozen=True)
class UploadedFile(os.PathLike[str]):
    """An uploaded file: opened by its path, shown by its id."""

    path: Path
    id: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return self.id


class MediaIntake:
    """Turns the media parts of requests into `Media`. Thread-safe; blocks while it downloads."""

    def __init__(self, settings: RequestLimits, files: UploadedFiles | None, fetcher: Fetcher | None = None) -> None:
        """Without a `fetcher`, media by URL are rejected."""
        self.limits, self._files, self._fetcher = settings, files, fetcher

    def media(self, part: Mapping[str, Any]) -> Media:
        """One media part.

        Raises:
            UsageError: malformed, or an unknown kind. MediaTooLarge: more bytes than allowed.
            UnreadableMedia: the download failed. MediaNotFound: no such file.
        """
        return self._media(part, self.limits.max_request_media_bytes)

    def all(self, parts: Sequence[Mapping[str, Any]]) -> list[Media]:
        """The media parts of a request, within the limits on their number and total size.

        Raises:
            as `media`.
        """
        if len(parts) > self.limits.max_media:
            raise UsageError(f"the request has {len(parts):,} media items; expected at most {self.limits.max_media}.")
        left, found = self.limits.max_request_media_bytes, []
        for part in parts:
            found.append(self._media(part, left))
            left -= len(found[-1].source) if isinstance(found[-1].source, bytes) else 0
        return found

    def _media(self, part: Mapping[str, Any], left: int) -> Media:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in KINDS:
            raise UsageError(f"a content part has type {_shown(kind)}; expected text, {', '.join(KINDS)}.")
        body = part.get(kind)
        if unknown := sorted(str(key) for key in set(part) - {"type", kind, *_OPTIONS}):
            raise UsageError(f"a {kind} part has {_shown(unknown[0])}; expected {kind}, {', '.join(_OPTIONS)}.")
        if not isinstance(body, Mapping):
            raise UsageError(f"the {kind} part needs an object {kind!r}: {_expected(kind)}.")
        options = self._options(kind, part)
        source = self._source(kind, body, left)
        audio_only = kind in ("audio_url", "input_audio")
        sound = bool(options.pop("sound", True))
        return Media(source=source, video=not audio_only, audio=audio_only or sound, **options)

    def _options(self, kind: str, part: Mapping[str, Any]) -> dict[str, Any]:
        """The part's options; they can only lower what the server allows."""
        options = {name: part[name] for name in _OPTIONS if part.get(name) is not None}
        for name in ("start", "end"):
            if name in options:
                options[name] = _seconds(name, options[name])
        start, end = options.get("start", 0.0), options.get("end", math.inf)
        if not start < end:
            raise UsageError(f"start={start:g}, end={end:g}; expected start before end.")
        frames, limit = options.get("num_frames"), self.limits.max_num_frames
        if frames is not None and (isinstance(frames, bool) or not isinstance(frames, int) or not 1 <= frames <= limit):
            raise UsageError(f"num_frames={_shown(frames)}; expected an integer from 1 to {limit}.")
        if not isinstance(options.get("sound", True), bool):
            raise UsageError(f"sound={_shown(options['sound'])}; expected true or false.")
        for name in ("video_track", "audio_track"):
            track = options.get(name)
            if not (track is None or (isinstance(track, str) and 0 < len(track) <= _MAX_TRACK)):
                number = isinstance(track, int) and not isinstance(track, bool) and 1 <= track <= 1000
                if not number:
                    raise UsageError(f"{name}={_shown(track)}; expected a number from 1, or a language.")
        if wrong := [
            n for n in ("num_frames", "sound", "video_track") if n in options and kind in ("audio_url", "input_audio")
        ]:
            raise UsageError(f"a {kind} part has {wrong[0]}, which does not apply to audio.")
        return options

    def _source(self, kind: str, body: Mapping[str, Any], left: int) -> bytes | UploadedFile:
        if kind == "input_audio":
            _only(kind, body, {"data", "format"})
            if body.get("format") not in _AUDIO_FORMATS:
                raise UsageError(
                    f"format={_shown(body.get('format'))} of input_audio; expected one of {', '.join(_AUDIO_FORMATS)}."
                )
            data = _text(kind, body, "data")
            return self._data(data, left) if data[:5].lower() == "data:" else self._decoded(data, 0, left)
        if kind == "file":
            _only(kind, body, {"file_id", "file_data", "filename"})
            if ("file_id" in body) == ("file_data" in body):
                raise UsageError(f"a file part needs either file_id or file_data: {_expected(kind)}.")
            if "file_id" in body:
                return self._uploaded(_text(kind, body, "file_id"))
            return self._data(_text(kind, body, "file_data"), left)
        _only(kind, body, {"url", "detail"} if kind == "image_url" else {"url"})
        if body.get("detail", "auto") not in ("auto", "low", "high"):
            raise UsageError(f"detail={_shown(body['detail'])}; expected auto, low or high.")
        url = _text(kind, body, "url")
        if url[:5].lower() == "data:":
            return self._data(url, left)
        if not re.match(r"https?://", url, re.IGNORECASE):
            raise UsageError(
                f"the {kind} is neither a data URL nor an http URL; to use a local file, upload it and send its id."
            )
        if self._fetcher is None:
            raise UsageError("this server does not allow media by URL; upload the file, or send it as a data URL.")
        return self._fetcher.fetch(url, left)

    def _uploaded(self, id: str) -> UploadedFile:
        if self._files is None:
            raise UsageError("this server does not accept uploads; send the media as a data URL.")
        if not _FILE_ID.fullmatch(id):
            raise UsageError("the file_id is not valid; expected the id that the upload returned.")
        return UploadedFile(self._files.path_of(id), id)

    def _data(self, url: str, left: int) -> bytes:
        """The content of a data URL."""
        head = _HEAD.match(url[:_MAX_HEAD])
        if head is None:
            raise UsageError("the data URL is not valid; expected data:TYPE;base64,DATA.")
        if head["type"] and not _TYPES.fullmatch(head["type"].lower()):
            raise UsageError(f"the data URL has type {_shown(head['type'])}; expected video, image or audio.")
        return self._decoded(url, head.end(), left)

    def _decoded(self, text: str, start: int, left: int) -> bytes:
        """Decode base64 from `start` on, after checking its length; in chunks, to avoid a third copy in memory."""
        limit = min(self.limits.max_data_bytes, left)
        length = len(text) - start
        if length // 4 * 3 > limit + 2:
            raise MediaTooLarge(f"a media item in the request is larger than {limit:,} bytes; upload it as a file.")
        content = io.BytesIO()
        try:
            for at in range(start, len(text), _CHUNK):
                chunk = text[at : at + _CHUNK]
                if "=" in chunk and at + _CHUNK < len(text):
                    raise binascii.Error("padding in the middle")
                content.write(binascii.a2b_base64(chunk, strict_mode=True))
        except ValueError as error:  # binascii.Error is one; so is the error for non-ASCII
            raise UsageError(
                "invalid base64 in the request; expected the standard alphabet, padded, without line breaks."
            ) from error
        if content.tell() > limit:
            raise MediaTooLarge(f"a media item in the request is larger than {limit:,} bytes; upload it as a file.")
        if not content.tell():
            raise UsageError("a media item in the request is empty.")
        return content.getvalue()


def _seconds(name: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1e9:  # rejects NaN too
        raise UsageError(f"{name}={_shown(value)}; expected seconds, 0 or more.")
    return float(value)


def _text(kind: str, body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"the {kind} part needs a string {name!r}: {_expected(kind)}.")
    return value


def _only(kind: str, body: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(str(key) for key in set(body) - known):
        raise UsageError(f"{kind} has {_shown(unknown[0])}; expected {', '.join(sorted(known))}.")


def _expected(kind: str) -> str:
    if kind == "input_audio":
        return '{"data": BASE64, "format": "wav"}'
    return '{"file_id": ID} or {"file_data": "data:…"}' if kind == "file" else '{"url": "data:…"}'


def _shown(value: object) -> str:
    """A caller's value in an error message: short, on one line."""
    if isinstance(value, int) and abs(value) >= 1 << 64:  # Python refuses to write out the longest
        return "a very large number"
    return ascii(value)[:60] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
