"""A server's settings, with conservative defaults: limits on requests, and everything else."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:  # the command line reads the defaults for its help, without importing the media libraries
    from ..media.limits import Limits
    from ..media.worker import WorkerLimits

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Limits on the media of a request; a request can only lower them.

    Attributes:
        max_media: media items per request.
        max_data_bytes: decoded size of a media item sent inside a request (data URL, input_audio).
        max_request_media_bytes: total size of these and of the downloads of a request.
        max_num_frames: maximum `num_frames` of a media item.
        url_hosts: hosts that media may be downloaded from: "media.example.org" is that host, ".example.org" every host
            under it. Empty: no URLs.
        url_schemes, url_ports: allowed schemes; allowed ports, explicit or implied by the scheme.
        url_max_bytes, url_seconds: size and time limit of a download, including redirects.
        url_redirects: redirects that are followed; each target is checked like the URL itself.
        url_concurrency: downloads at once; others wait for at most `url_seconds`.
        media_workers: worker processes that decode media.
        decode_seconds, decode_cpu_seconds, decode_memory_mb: limits on decoding a media item in its worker.
        max_file_bytes, max_pixels, max_held_mb, max_frames, max_animation_frames, max_sound_seconds, max_channels:
            limits on the content of a media item; see media.limits.Limits.
    """

    max_media: int = 16
    max_data_bytes: int = 64 * _MIB
    max_request_media_bytes: int = 128 * _MIB
    max_num_frames: int = 128
    url_hosts: tuple[str, ...] = ()
    url_schemes: tuple[str, ...] = ("https",)
    url_ports: tuple[int, ...] = (80, 443)
    url_max_bytes: int = 64 * _MIB
    url_seconds: float = 30.0
    url_redirects: int = 3
    url_concurrency: int = 4
    media_workers: int = 2
    decode_seconds: float = 60.0
    decode_cpu_seconds: float = 120.0
    decode_memory_mb: int = 2048
    max_file_bytes: int = 2048 * _MIB
    max_pixels: int = 36_000_000
    max_held_mb: int = 512
    max_frames: int = 1_000_000
    max_animation_frames: int = 5_000
    max_sound_seconds: float = 2 * 3600.0
    max_channels: int = 16

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            least = 0 if each.name == "url_redirects" else 1 if isinstance(value, int) else 1e-3
            if isinstance(value, int | float) and not least <= value < float("inf"):  # also rejects NaN
                raise UsageError(f"{each.name}={value}; expected a number of at least {least:g}.")
        if wrong := sorted(set(self.url_schemes) - {"http", "https"}):
            raise UsageError(f"url_schemes has {', '.join(wrong)}; expected http, https or both.")
        for host in self.url_hosts:
            if not host.strip(".") or host != host.strip().lower() or set(host) & set("*/:@[]\\ "):
                raise UsageError(
                    f"url_hosts has {host!r}; expected a lower-case name like media.example.org, or .example.org for "
                    "every host under it."
                )

    @property
    def decode_limits(self) -> "Limits":
        """Limits on what a worker decodes, restricted to formats that clients send to servers."""
        from ..media.limits import Limits

        return Limits(
            max_pixels=self.max_pixels,
            max_held_bytes=self.max_held_mb * _MIB,
            max_frames=self.max_frames,
            max_animation_frames=self.max_animation_frames,
            max_sound_seconds=self.max_sound_seconds,
            max_file_bytes=self.max_file_bytes,
            max_channels=self.max_channels,
            any_format=False,
        )

    @property
    def worker_limits(self) -> "WorkerLimits":
        """Limits on the worker itself."""
        from ..media.worker import WorkerLimits

        return WorkerLimits(
            seconds=self.decode_seconds,
            cpu_seconds=self.decode_cpu_seconds,
            memory_mb=self.decode_memory_mb,
            # the frames, and as much again for the audio
            reply_bytes=2 * self.max_held_mb * _MIB,
        )


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        limits: limits on the media of a request.
        api_keys: every request must present one of these. Empty: no authentication.
        hosts: accepted Host headers; empty: any. This prevents other web pages from reaching a server on a private
            machine through their own host name (DNS rebinding).
        cors_origins: origins whose web pages can call the server.
        queue_size: requests that can wait; further ones get status 429.
        queue_share: share of the queue that one client can fill.
        max_batch_size: answers decoded in one batch.
        preparing: requests whose media are prepared at once (`limits.media_workers` of them are decoded).
        request_seconds: time limit from the arrival of a request to the end of its answer; a request may lower it.
        default_tokens, max_tokens: length limit of an answer if the request sets none, and the largest allowed.
        max_text_bytes: size of a request without its media.
        bodies_bytes: size of all request bodies held at once; further requests get status 503.
        body_seconds: time for the headers (at most 15 s) and then for the body, plus a second per MiB received.
        shutdown_seconds: time for running answers to finish when the server stops.
        cache_bytes: memory for encoded media; 0: no cache.
        prompt_cache_bytes: memory, the model's device's, for beginnings of prompts, with their media; 0: none are kept.
        cache_folder, cache_folder_bytes: cache of encoded media on disk; None: memory only.
        files_folder: folder of uploads; None: a temporary one, deleted with the server.
        files_bytes, files_count: size and number of all uploads.
        max_upload_bytes: size of an upload.
        file_seconds: lifetime of an upload.
        log_content: whether to log questions and answers.
        docs: whether to serve /openapi.json.
        page: whether to serve the web page at /.
    """

    limits: RequestLimits = field(default_factory=RequestLimits)
    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    queue_size: int = 64
    queue_share: float = 0.5
    max_batch_size: int = 16
    preparing: int = 4
    request_seconds: float = 300.0
    default_tokens: int = 512
    max_tokens: int = 2048
    max_text_bytes: int = 1 * _MIB
    bodies_bytes: int = 512 * _MIB
    body_seconds: float = 30.0
    shutdown_seconds: float = 30.0
    cache_bytes: int = 512 * _MIB
    prompt_cache_bytes: int = 256 * _MIB
    cache_folder: Path | None = None
    cache_folder_bytes: int = 4096 * _MIB
    files_folder: Path | None = None
    files_bytes: int = 8192 * _MIB
    files_count: int = 1000
    max_upload_bytes: int = 512 * _MIB
    file_seconds: float = 24 * 3600.0
    log_content: bool = False
    docs: bool = True
    page: bool = True

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            least = (
                0
                if each.name in ("cache_bytes", "prompt_cache_bytes", "shutdown_seconds")
                else 1e-3
                if isinstance(value, float)
                else 1
            )
            if not least <= value < float("inf"):  # also rejects NaN
                raise UsageError(f"{each.name}={value}; expected a number of at least {least:g}.")
        if any(len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key for key in self.api_keys):
            raise UsageError(
                "an API key is too short or has unusual characters; expected 8 or more of printable ASCII, no spaces."
            )
        if "*" in self.cors_origins:
            raise UsageError("cors_origins has '*'; list the origins, such as https://example.org.")
        if self.default_tokens > self.max_tokens:
            raise UsageError(f"default_tokens={self.default_tokens} is above max_tokens={self.max_tokens}.")

    @property
    def max_body_bytes(self) -> int:
        """Size of a request with its media: base64 needs 4 characters for 3 bytes."""
        return self.max_text_bytes + self.limits.max_request_media_bytes // 3 * 4 + 4096
