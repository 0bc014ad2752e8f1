"""One media item of a request to vLLM: where it comes from, how it is prepared, and what caches know it by.

    a part of a message, or a value of `multi_modal_data` ── ServedMedia ── decoded() ── MediaInputs, MediaReceipt

The key covers content, kind, range, protocol and every other choice. A client's `uuid` stands for the content alone:
the same one for a video and for audio is two items, and so is the same one with other options.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ...errors import UsageError, did_you_mean
from ...media import Opener, open_clip
from ...processing import MediaInputs, VideoLlama2Processor
from ...protocols import Protocol, protocol
from ...receipt import MediaReceipt, Modality
from ...text.media_parts import Media, PartDefaults, source_media

# Keys of a message's part that choose what is used of it.
PART_OPTIONS = ("start", "end", "num_frames", "sound", "video_track", "audio_track", "strict")
_OLD_NAMES = {"use_audio_in_video": "sound", "load_audio_from_video": "sound"}


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What `mm_processor_kwargs` choose for all media of a request.

    Attributes:
        protocol: name of the protocol; None: the model's own.
        strict: fail if anything requested would not be used.
        num_frames: frames to sample of each video; None: the model's own number.
        sound: whether a video's audio is used.
    """

    protocol: str | None = None
    strict: bool = False
    num_frames: int | None = None
    sound: bool = True

    @classmethod
    def read(cls, kwargs: Mapping[str, Any] | None) -> "RequestOptions":
        """From `mm_processor_kwargs`; None leaves a default.

        Raises:
            UsageError: an unknown or invalid option.
        """
        values: dict[str, Any] = {}
        known = [field.name for field in fields(cls)]
        for name, value in (kwargs or {}).items():
            target = _OLD_NAMES.get(name, name)
            if target not in known:
                raise UsageError(
                    f"mm_processor_kwargs has {name!r}{did_you_mean(name, known)}; expected {', '.join(known)}."
                )
            if value is not None:
                values[target] = value
        options = cls(**values)
        for name in ("strict", "sound"):
            if not isinstance(getattr(options, name), bool):
                raise UsageError(f"{name}={getattr(options, name)!r}; expected true or false.")
        if options.protocol is not None:
            protocol(options.protocol)
        if options.num_frames is not None and (not _is_int(options.num_frames) or options.num_frames < 1):
            raise UsageError(f"num_frames={options.num_frames!r}; expected an integer of 1 or more.")
        return options


class ServedMedia:
    """A media item, decoded at most once.

    Attributes:
        kind: of its part: a video, with its audio, is one item.
        media: what is used of which source; None: it must be in a cache, under its uuid.
        uuid: the client's name for the content.
        name: its name in receipts and errors.
        strict: anything requested of it and not used is an error.
        opener: opens it: `open_clip`, or a WorkerPool's.
    """

    def __init__(
        self,
        kind: Modality,
        media: Media | None,
        protocol: Protocol,
        *,
        uuid: str | None = None,
        name: str = "the media item",
        options: Mapping[str, Any] | None = None,
        decoded: tuple[MediaInputs, MediaReceipt] | None = None,
        key: str | None = None,
        strict: bool = False,
        opener: Opener = open_clip,
    ) -> None:
        self.kind, self.media, self.protocol, self.uuid, self.name = kind, media, protocol, uuid, name
        self.strict, self.opener = strict, opener
        self._options = dict(options or {})
        self._decoded, self._key = decoded, key
        self._lock = threading.Lock()

    def decoded(self, processor: VideoLlama2Processor) -> tuple[MediaInputs, MediaReceipt]:
        """The encoders' inputs and their receipt.

        Raises:
            MediaError, UnsupportedModality: as `VideoLlama2Processor.media_inputs`.
            UsageError: it has a uuid alone, and is in no cache.
        """
        with self._lock:
            if self._decoded is None:
                if self.media is None:
                    raise UsageError(f"no media are cached under the uuid {self.uuid!r:.60}; send them with the uuid.")
                inputs, receipt = processor.media_inputs(self.media, self.protocol, self.opener)
                self._decoded = inputs, receipt.renamed(self.name)
            return self._decoded

    def key(self, hash_content: Callable[[Any], str], model: str) -> str:
        """What caches know it by.

        Args:
            hash_content: of a source: bytes, a path, an array, an image.
            model: distinguishes this model's tokens from another's.
        """
        if self._key is None:
            content: list[Any]
            if self.uuid is not None:
                content = ["uuid", self.uuid]
            else:
                assert self.media is not None
                content = ["content", hash_content(self.media.source)]
                if self.media.audio_source is not None:
                    content.append(hash_content(self.media.audio_source))
            used = [self.kind, content, self._options, self.protocol.key(), model]
            self._key = hashlib.sha256(json.dumps(used, sort_keys=True, default=str).encode()).hexdigest()
        return self._key


def served_media(
    kind: Modality,
    source: Any,
    request: RequestOptions,
    default_protocol: str,
    *,
    part: Mapping[str, Any] | None = None,
    uuid: str | None = None,
    name: str = "the media item",
) -> ServedMedia:
    """The item of one source.

    Args:
        source: as in a media part of a message; None: cached under `uuid`.
        part: options of the part.

    Raises:
        UsageError: an invalid option, or neither source nor uuid.
    """
    own = {key: value for key, value in (part or {}).items() if value is not None}
    strict = bool(own.pop("strict", request.strict))
    options = {"num_frames": request.num_frames, "sound": request.sound, **own} if kind == "video" else own
    options = {key: value for key, value in options.items() if value is not None}
    chosen = protocol(request.protocol or default_protocol)
    if isinstance(source, Media):
        options = {k: v for k, v in asdict(replace(source, source=None, audio_source=None)).items() if v is not None}
        return ServedMedia(kind, source, chosen, uuid=uuid, name=name, options=options, strict=strict)
    media: Media | None = None
    if source is not None:
        media = source_media(kind, source, PartDefaults(), **options)
    elif uuid is None:
        raise UsageError(f"{name} ({kind}) has neither a source nor a uuid; send one of them.")
    return ServedMedia(kind, media, chosen, uuid=uuid, name=name, options=options, strict=strict)


def checked_part(kind: Modality, part: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a message's part.

    Raises:
        UsageError: an invalid value, or an option that does not apply to this kind.
    """
    options = {name: part[name] for name in PART_OPTIONS if part.get(name) is not None}
    for name in ("start", "end"):
        value = options.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
            raise UsageError(f"{name}={value!r:.40}; expected seconds, 0 or more.")
    if not options.get("start", 0.0) < options.get("end", float("inf")):
        raise UsageError(f"start={options['start']:g}, end={options['end']:g}; expected start before end.")
    frames = options.get("num_frames", 1)
    if not _is_int(frames) or not 1 <= frames <= 1000:
        raise UsageError(f"num_frames={frames!r:.40}; expected an integer from 1 to 1000.")
    for name in ("sound", "strict"):
        if not isinstance(options.get(name, True), bool):
            raise UsageError(f"{name}={options[name]!r:.40}; expected true or false.")
    wrong = [name for name in ("num_frames", "sound", "video_track") if name in options and kind != "video"]
    if wrong:
        raise UsageError(f"{wrong[0]} does not apply to {kind}; it is an option of videos.")
    return options


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
