"""How much memory one file can make us allocate: checked against its headers, before anything is allocated."""

from dataclasses import dataclass, fields
from typing import Any

from ..errors import MediaTooLarge


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on one media item. A caller can lower them; a server applies its own to every request.

    max_pixels         of one image or frame, width x height; 8K video has 33 million
    max_held_bytes     of decoded frames held at once
    max_frames         of a video, folder or list
    max_animation_frames  of a GIF, WebP or APNG: each is decoded to reach the next
    max_sound_seconds  of decoded audio; 3 hours at 16 kHz mono are 350 MB of 16-bit samples
    max_file_bytes     size of the file; None = unlimited
    max_channels       of the audio, in the header and when decoded
    any_format         False: only the containers and codecs that phones, browsers and recorders write; fewer decoders
                       exposed to untrusted files mean fewer decoder bugs (source.py has both lists)
    """

    max_pixels: int = 64_000_000
    max_held_bytes: int = 2 << 30
    max_frames: int = 4_000_000
    max_animation_frames: int = 20_000
    max_sound_seconds: float = 3 * 3600.0
    max_file_bytes: int | None = None
    max_channels: int = 64
    any_format: bool = True

    def lowered(self, other: "Limits") -> "Limits":
        """The lower limit of each pair; None is the highest, and False is lower than True."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        lower: dict[str, Any] = {n: min((v for v in two if v is not None), default=None) for n, two in pairs.items()}
        return Limits(**lower)

    def check_pixels(self, width: int, height: int, what: str) -> None:
        """Raise MediaTooLarge if one frame of this size is over the limit."""
        if width * height > self.max_pixels:
            raise MediaTooLarge(
                f"{what} has {width}x{height} pixels; the limit is {self.max_pixels:,}. "
                "Scale it down, or raise Limits.max_pixels."
            )

    def check_held(self, width: int, height: int, frames: int, what: str) -> None:
        """Raise MediaTooLarge if that many RGB frames of this size can't be held."""
        need = width * height * 3 * frames
        if need > self.max_held_bytes:
            raise MediaTooLarge(
                f"{frames} frames of {width}x{height} from {what} take {need / 2**30:.1f} GiB; the limit is "
                f"{self.max_held_bytes / 2**30:.1f} GiB. Request fewer frames, or raise Limits.max_held_bytes."
            )

    def check_frames(self, frames: int, what: str, limit: int | None = None) -> None:
        """Raise MediaTooLarge if an item has more frames than `limit` (default: max_frames)."""
        limit = self.max_frames if limit is None else limit
        if frames > limit:
            raise MediaTooLarge(f"{what} has more than {limit:,} frames; cut it, or raise the limit in Limits.")

    def check_channels(self, channels: int, what: str) -> None:
        """Raise MediaTooLarge if the audio has too many channels."""
        if channels > self.max_channels:
            raise MediaTooLarge(
                f"{what} has {channels} channels of audio; the limit is {self.max_channels}. Mix it down, or raise "
                "Limits.max_channels."
            )

    def check_seconds(self, seconds: float, what: str) -> None:
        """Raise MediaTooLarge if too much audio would be decoded."""
        if seconds > self.max_sound_seconds:
            raise MediaTooLarge(
                f"{what} has more than {self.max_sound_seconds:g} s of audio; request a range with start and end, "
                "or raise Limits.max_sound_seconds."
            )


DEFAULT_LIMITS = Limits()
