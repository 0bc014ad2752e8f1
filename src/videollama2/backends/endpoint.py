"""An OpenAI-compatible server as the engine of a job: `videollama2 serve`, or `vllm serve` with this package's plugin.

    row ── media as a data URL, question ──► POST /v1/chat/completions ──► text and receipt

A reply without a receipt, or with one of another range than requested, is an error: the answer might be about less than
was asked. Requests that may succeed later are repeated, with growing pauses.
"""

import base64
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UnreadableMedia, UsageError, WorkerError
from ..evals.judge.http import Endpoint, Refused, Unanswered, post, read_endpoint
from ..generation.request import Request
from ..media import Opener, open_clip
from ..media.worker import WorkerPool
from ..receipt import source_name
from ..text.media_parts import Media

_MIME = {"video": "video/mp4", "audio": "audio/wav", "image": "image/png"}
_IMAGES = frozenset(".jpg .jpeg .png .gif .webp .bmp .tif .tiff".split())
_AUDIO = frozenset(".wav .mp3 .flac .ogg .opus .m4a .aac".split())
_SLACK = 0.05  # seconds: a frame's or a packet's


@dataclass(frozen=True)
class EndpointAnswer:
    """A server's answer. `receipt` is as in the response."""

    text: str
    finish_reason: str
    receipt: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EndpointSpec:
    """How to make an `EndpointEngine`, as data that can be sent to other machines (`backends.ray.spec.Loadable`)."""

    url: str
    model: str
    timeout: float = 600.0
    retries: int = 5
    uses_gpu: ClassVar[bool] = False

    def anywhere(self) -> "EndpointSpec":
        """Itself."""
        return self

    def load(self) -> "EndpointEngine":
        """The engine.

        Raises:
            UsageError: not an http URL.
        """
        return EndpointEngine(self, opener=WorkerPool(workers=2).open_clip)


@dataclass(frozen=True)
class _Protocol:
    name: str = "endpoint"


class EndpointEngine:
    """Has of an Engine what jobs over rows use.

    Attributes:
        name, protocol: for the job's manifest.
        opener: measures the length of clips that are captioned in windows.
    """

    def __init__(
        self, spec: EndpointSpec, opener: Opener = open_clip, pause: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            self.endpoint: Endpoint = read_endpoint(spec.url)
        except UsageError as error:
            raise UsageError(str(error).replace("the judge's endpoint", "--endpoint")) from error
        self.name, self.protocol = f"{spec.model} at {self.endpoint.public}", _Protocol()
        self.opener, self._spec, self._pause = opener, spec, pause

    def answer(self, request: Request) -> EndpointAnswer:
        """The answer to a request about one media item.

        Raises:
            UsageError: the request has something that can't be sent.
            UnreadableMedia: the server rejects the media, or its receipt is not of what was requested.
            WorkerError: the server rejects every request, or can't be reached.
        """
        (media,) = request.media_items()
        reply = self._posted(_body(self._spec.model, request, media))
        return _checked(reply, media)

    def _posted(self, body: Mapping[str, Any]) -> Any:
        for attempt in range(self._spec.retries + 1):
            try:
                return post(self.endpoint, body, {}, self._spec.timeout)
            except Refused as error:
                raise WorkerError(f"{self.endpoint.public}: {error}; check --endpoint and --model.") from error
            except Unanswered as error:
                if not error.again:
                    raise UnreadableMedia(f"{self.endpoint.public}: {error}") from error
                if attempt == self._spec.retries:
                    raise WorkerError(
                        f"{self.endpoint.public}: {error}; {attempt + 1} tries. Check the server, then run the same "
                        "command again."
                    ) from error
                self._pause(min(120.0, error.wait or 2**attempt * random.uniform(0.5, 1.0)))
        raise AssertionError("the last try returns or raises")


def _body(model: str, request: Request, media: Media) -> dict[str, Any]:
    if media.fps is not None or media.audio_source is not None or media.times is not None:
        raise UsageError("--fps and separate audio can't be sent to an endpoint; drop them, or run without --endpoint.")
    options = request.options
    part = {"start": media.start, "end": media.end, "audio_track": media.audio_track}
    kind = _kind(media)
    if kind == "video":
        part |= {"num_frames": media.num_frames, "video_track": media.video_track}
        part |= {} if media.audio else {"sound": False}
    content = base64.b64encode(_content(media.source)).decode()
    url = {"url": f"data:{_MIME[kind]};base64,{content}"}
    parts = [
        {"type": f"{kind}_url", f"{kind}_url": url, **{k: v for k, v in part.items() if v is not None}},
        {"type": "text", "text": request.question},
    ]
    system = [] if request.system is None else [{"role": "system", "content": request.system}]
    protocol = request.protocol if isinstance(request.protocol, str | None) else request.protocol.name
    more = {"seed": options.seed, "protocol": protocol, "strict": request.strict or None}
    if options.schema is not None:
        raise UsageError("--schema can't be sent to an endpoint; drop it, or run without --endpoint.")
    return {
        "model": model, "messages": [*system, {"role": "user", "content": parts}],
        "max_tokens": options.max_new_tokens, "temperature": options.temperature,
        **({"top_p": options.top_p} if options.temperature else {}),
        **{name: value for name, value in more.items() if value is not None},
    }  # fmt: skip


def _kind(media: Media) -> str:
    suffix = Path(str(media.source)).suffix.lower() if isinstance(media.source, str | Path) else ""
    if not media.video or suffix in _AUDIO:
        return "audio"
    return "image" if suffix in _IMAGES else "video"


def _content(source: Any) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UnreadableMedia(f"{source} can't be read: {(error.strerror or str(error)).lower()}.") from error


def _checked(reply: Any, media: Media) -> EndpointAnswer:
    """The answer in a reply, named as the request's media.

    Raises:
        UnreadableMedia: it has no text or no receipt, or another range was used.
    """
    try:
        choice, receipt = reply["choices"][0], reply.get("receipt")
        text, reason = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnreadableMedia(f"the endpoint's reply has no {error}; expected an OpenAI-compatible server.") from error
    if not isinstance(text, str) or not isinstance(receipt, dict):
        raise UnreadableMedia(
            "the endpoint's reply has no receipt, so what was used of the media is unknown; expected `videollama2 "
            "serve`, or `vllm serve` with videollama2 installed."
        )
    for entry in [receipt.get("video"), receipt.get("audio"), *receipt.get("media", [])]:
        if not isinstance(entry, dict):
            continue
        entry["source"] = source_name(media.source)
        _check_range(entry, media)
    return EndpointAnswer(text, reason, receipt)


def _check_range(entry: Mapping[str, Any], media: Media) -> None:
    if media.start is None and media.end is None:
        return
    start, end = media.start or 0.0, float("inf") if media.end is None else media.end
    used = entry.get("times_seconds") or [t for window in entry.get("windows_seconds") or () for t in window]
    if used and not (min(used) >= start - _SLACK and max(used) <= end + _SLACK):
        raise UnreadableMedia(
            f"the endpoint used {min(used):g} to {max(used):g} s; expected {start:g} to {end:g} s. Its server has no "
            "ranges; pass --whole, or run without --endpoint."
        )
