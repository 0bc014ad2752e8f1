"""How much a file may make us allocate. Checked against headers, before anything of that size exists."""

from dataclasses import dataclass, fields
from typing import Any

from ..errors import MediaTooLarge


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Ceilings for one medium. A caller may lower them; a server hands its own to every call.

    max_pixels         of one picture or video frame, width x height; 8K video has 33 million
    max_held_bytes     decoded pictures kept at once
    max_frames         pictures in a video, folder or list
    max_animation_frames  pictures in a GIF, WebP or APNG: these can't be skipped, each is decoded to reach the next
    max_sound_seconds  decoded sound; 3 hours at 16 kHz mono are 350 MB of 16-bit samples
    max_file_bytes     size of the file itself; None = any
    max_channels       of the sound, as the file claims and as it is decoded
    any_format         False: only the few containers and codecs that people send to servers; the fewer decoders a
                       stranger can choose from, the fewer of their bugs (source.py has both lists)
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
        """The lower one of each; None is the highest, and False the lower one of two."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        lower: dict[str, Any] = {n: min((v for v in two if v is not None), default=None) for n, two in pairs.items()}
        return Limits(**lower)

    def check_pixels(self, width: int, height: int, what: str) -> None:
        """Raise MediaTooLarge when one picture of this size is over the limit."""
        if width * height > self.max_pixels:
            raise MediaTooLarge(
                f"{what} claims {width}x{height} pixels; at most {self.max_pixels:,} are decoded. "
                "Scale it down, or raise Limits.max_pixels."
            )

    def check_held(self, width: int, height: int, frames: int, what: str) -> None:
        """Raise MediaTooLarge when that many RGB pictures of this size can't be held."""
        need = width * height * 3 * frames
        if need > self.max_held_bytes:
            raise MediaTooLarge(
                f"{frames} frames of {width}x{height} from {what} take {need / 2**30:.1f} GiB; the limit is "
                f"{self.max_held_bytes / 2**30:.1f} GiB. Ask for fewer frames, or raise Limits.max_held_bytes."
            )

    def check_frames(self, frames: int, what: str, most: int | None = None) -> None:
        """Raise MediaTooLarge when a file or folder has more pictures than may be listed (`most`, else max_frames)."""
        most = self.max_frames if most is None else most
        if frames > most:
            raise MediaTooLarge(f"{what} has more than {most:,} pictures; cut it, or raise the limit in Limits.")

    def check_channels(self, channels: int, what: str) -> None:
        """Raise MediaTooLarge when the sound has more channels than are decoded."""
        if channels > self.max_channels:
            raise MediaTooLarge(
                f"{what} has {channels} channels of sound; at most {self.max_channels} are decoded. Mix it down, or "
                "raise Limits.max_channels."
            )

    def check_seconds(self, seconds: float, what: str) -> None:
        """Raise MediaTooLarge when more sound than allowed would be decoded."""
        if seconds > self.max_sound_seconds:
            raise MediaTooLarge(
                f"{what} has more than {self.max_sound_seconds:g} s of sound; ask for a range with start and end, "
                "or raise Limits.max_sound_seconds."
            )


DEFAULT_LIMITS = Limits()
