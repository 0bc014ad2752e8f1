"""Which of a container's video and audio tracks is used, and what a receipt says about the others.

Tracks of one kind are numbered from 1, in the order of the file. Cover art is not a video track.

chosen by the caller    that track, by its number or its language
else                    FFmpeg's best (marked as default, then by size or channels), if its codec can be decoded
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import av
from av.stream import Discard

from ..errors import UsageError
from .source import VIDEO_CODECS, MediaSource

MediaKind = Literal["video", "audio", "subtitle"]
TrackChoice = int | str | None
"""A number from 1, or a language as in the file ("eng", "en"); None: chosen automatically."""

_LANGUAGES = (  # ISO 639-1 and 639-2 codes of the same language
    "ar ara;bg bul;ca cat;cs ces cze;da dan;de deu ger;el ell gre;en eng;es spa;et est;fa fas per;fi fin;fr fra fre;"
    "he heb;hi hin;hr hrv;hu hun;id ind;it ita;ja jpn;ko kor;lt lit;lv lav;ms msa may;nl nld dut;no nor nb nob;pl pol;"
    "pt por;ro ron rum;ru rus;sk slk slo;sl slv;sr srp;sv swe;ta tam;te tel;th tha;tr tur;uk ukr;vi vie;zh zho chi"
)
_SAME = {code: group.split()[0] for group in _LANGUAGES.split(";") for code in group.split()}
_MAX_SHOWN = 8


@dataclass(frozen=True)
class Track:
    """A track: its number from 1, its stream, and what a reader would know it by."""

    number: int
    stream: Any
    usable: bool

    @property
    def language(self) -> str:
        """The language stated in the file; "" if none."""
        language = str(self.stream.metadata.get("language") or "")
        return "" if language == "und" else language

    @property
    def title(self) -> str:
        """The title stated in the file."""
        tags = self.stream.metadata
        return str(tags.get("title") or tags.get("handler_name") or "")

    def __str__(self) -> str:
        codec = self.stream.codec_context
        parts = [self.language, "unknown codec" if codec is None else codec.name]
        if codec is not None and self.stream.type == "audio":
            parts.append(f"{codec.channels} channel{'s' if codec.channels != 1 else ''}")
        elif codec is not None and self.stream.type == "video":
            parts.append(f"{codec.width}x{codec.height}")
        return f"{self.number} ({', '.join(part for part in parts if part)})"


def check_choice(kind: MediaKind, choice: TrackChoice) -> None:
    """Raise UsageError unless a choice is a number from 1, a text, or None."""
    number = isinstance(choice, int) and not isinstance(choice, bool) and choice >= 1
    if not (choice is None or number or (isinstance(choice, str) and choice.strip())):
        raise UsageError(f"{kind}_track={choice!r}; expected a track's number from 1, or its language.")


def tracks(container: "av.container.InputContainer", source: MediaSource, kind: MediaKind) -> tuple[Track, ...]:
    """All tracks of a kind."""
    allowed = source.decoders() & VIDEO_CODECS if kind == "video" else source.decoders()
    streams = container.streams.video if kind == "video" else container.streams.audio
    real = [s for s in streams if not s.disposition & av.stream.Disposition.attached_pic]
    return tuple(
        Track(n, s, s.codec_context is not None and s.codec_context.name in allowed) for n, s in enumerate(real, 1)
    )


def choose_track(container: "av.container.InputContainer", source: MediaSource, kind: MediaKind) -> Track | None:
    """The track to use; None if there is none of this kind. Its codec may not be allowed.

    Raises:
        UsageError: the caller's choice is not in the file.
    """
    found = tracks(container, source, kind)
    choice = source.video_track if kind == "video" else source.audio_track
    if not found:
        return None
    if choice is not None:
        named = named_track(found, choice)
        if named is None:
            raise UsageError(f"{source.name} has no {kind} track {choice}; it has {listed(found)}.")
        return named
    best = container.streams.best(kind)
    first = next((t for t in found if best is not None and t.stream.index == best.index), found[0])
    return first if first.usable else next((t for t in found if t.usable), first)


def named_track(found: Sequence[Track], choice: int | str) -> Track | None:
    """The track of that number, language or title; None if there is none."""
    wanted = str(choice).strip()
    named = [t for t in found if wanted == str(t.number)] or [t for t in found if _is_called(t, wanted)]
    return named[0] if named else None


def read_only(container: "av.container.InputContainer", used: Sequence[Any]) -> None:
    """Let the container pass over the packets of all other streams."""
    for stream in container.streams:
        if stream not in used and hasattr(stream, "discard"):
            stream.discard = Discard.all


def track_notes(found: Sequence[Track], used: Track | None) -> tuple[str, ...]:
    """A note on which track is used, if there are several."""
    if used is None or len(found) < 2:
        return ()
    others = [track for track in found if track != used]
    left = [track for track in others if not track.usable]
    why = f"; the codec of {listed(left)} is not supported" if left else ""
    return (f"{used.stream.type} track {used} of {len(found)} is used, not {listed(others)}{why}",)


def listed(found: Sequence[Track]) -> str:
    """The tracks with what tells them apart."""
    more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    return ", ".join(map(str, found[:_MAX_SHOWN])) + more


def _is_called(track: Track, wanted: str) -> bool:
    def same(language: str) -> str:
        code = language.lower().replace("_", "-").partition("-")[0]
        return _SAME.get(code, code)

    return wanted.lower() == track.title.lower() or (track.language != "" and same(wanted) == same(track.language))
