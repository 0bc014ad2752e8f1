"""What the server takes from strangers, in one place: every ceiling that a request can meet, and may only lower."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:  # else the command line would load what decodes media for its list of flags
    from ..media.limits import Limits
    from ..media.worker import WorkerLimits

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Safety:
    """Ceilings of one server.

    Attributes:
        max_media: media parts of one request.
        max_data_bytes: of one medium inside a request (data URLs, input_audio), decoded.
        max_request_media_bytes: of all of these, and of what URLs bring, in one request.
        max_num_frames: frames that a request may ask to sample of one medium.
        url_hosts: hosts that media may be fetched from: "media.example.org" is that host, ".example.org" every host
            below it. None by default: nothing is fetched.
        url_schemes, url_ports: what an address may have; of the port, what it has or its scheme stands for.
        url_max_bytes, url_seconds: of one fetch, redirects included.
        url_redirects: hops that are followed, each checked like the first address.
        url_at_once: fetches at the same time; others wait, at most `url_seconds`.
        decoders: child processes that open media at the same time.
        decode_seconds, decode_cpu_seconds, decode_memory_mb: of one medium, in its child process.
        max_file_bytes, max_pixels, max_held_mb, max_frames, max_animation_frames, max_sound_seconds, max_channels: of
            one medium; see media.limits.Limits.
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
    url_at_once: int = 4
    decoders: int = 2
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
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "url_redirects" else 1 if isinstance(value, int) else 1e-3
            if isinstance(value, int | float) and not least <= value < float("inf"):  # a NaN fails too
                raise UsageError(f"{field.name}={value}; expected a number of at least {least:g}")
        if wrong := sorted(set(self.url_schemes) - {"http", "https"}):
            raise UsageError(f"url_schemes has {', '.join(wrong)}; media are fetched by http and https only")
        for host in self.url_hosts:
            if not host.strip(".") or host != host.strip().lower() or set(host) & set("*/:@[]\\ "):
                raise UsageError(
                    f"url_hosts has {host!r}; expected a name in small letters like media.example.org, or .example.org "
                    "for every host below it"
                )

    @property
    def limits(self) -> "Limits":
        """What one medium may make its child process allocate; only formats that people send to servers."""
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
        """What one medium may take of the machine."""
        from ..media.worker import WorkerLimits

        return WorkerLimits(
            seconds=self.decode_seconds,
            cpu_seconds=self.decode_cpu_seconds,
            memory_mb=self.decode_memory_mb,
            # the frames, and what a protocol keeps of the sound
            reply_bytes=2 * self.max_held_mb * _MIB,
        )
