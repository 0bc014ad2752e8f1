"""Everything that whoever runs a server decides, with careful defaults."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import UsageError
from .safety import Safety

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How one server serves. What a request may make it do stands in `safety`.

    Attributes:
        safety: ceilings on media.
        api_keys: a request must bring one of these; none: everyone may ask.
        hosts: names by which the server may be called (the Host header); none: any. It keeps web pages of others from
            reaching a server on a private machine by a name of their own.
        cors_origins: web origins whose pages may call it.
        queue_size: requests that may wait; one more is refused with 429.
        queue_share: of these, the share that one client may take.
        max_rows: answers that are computed together.
        preparing: questions whose media are looked at, at once; of these `safety.decoders` are decoded.
        request_seconds: from a request's arrival to the end of its answer; a request may ask for less.
        default_tokens, max_tokens: of an answer, where the request does not say, and at most.
        max_text_bytes: of a request, beside the media in it.
        bodies_bytes: of the bodies of all requests that are being read or answered; one more is refused with 503.
        body_seconds: in which a request's headers must arrive, 15 at most, and then its body, and 1 MiB more of it
            each second after.
        shutdown_seconds: for answers that are on their way when the server is told to stop.
        cache_bytes: of encoded media kept in memory; 0: none. cache_folder, cache_folder_bytes: the same on disk.
        files_folder: of uploads; None: a temporary one that goes with the server.
        files_bytes, files_count: of all uploads. max_upload_bytes: of one. file_seconds: until one expires.
        log_content: write questions and answers into the log.
        docs: serve /openapi.json.
        page: serve the page for browsers at /.
    """

    safety: Safety = field(default_factory=Safety)
    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    queue_size: int = 64
    queue_share: float = 0.5
    max_rows: int = 8
    preparing: int = 4
    request_seconds: float = 300.0
    default_tokens: int = 512
    max_tokens: int = 2048
    max_text_bytes: int = 1 * _MIB
    bodies_bytes: int = 512 * _MIB
    body_seconds: float = 30.0
    shutdown_seconds: float = 30.0
    cache_bytes: int = 512 * _MIB
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
            least = 0 if each.name in ("cache_bytes", "shutdown_seconds") else 1e-3 if isinstance(value, float) else 1
            if not least <= value < float("inf"):  # a NaN fails too
                raise UsageError(f"{each.name}={value}; expected a number of at least {least:g}")
        if any(len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key for key in self.api_keys):
            raise UsageError("an API key has fewer than 8 characters, or odd ones; expected printable ASCII, no spaces")
        if "*" in self.cors_origins:
            raise UsageError("cors_origins has '*'; name the origins, as in https://example.org")
        if self.default_tokens > self.max_tokens:
            raise UsageError(f"default_tokens={self.default_tokens} is above max_tokens={self.max_tokens}")

    @property
    def max_body_bytes(self) -> int:
        """Of a request with media in it: base64 takes 4 characters for 3 bytes."""
        return self.max_text_bytes + self.safety.max_request_media_bytes // 3 * 4 + 4096
