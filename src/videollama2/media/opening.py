"""open_clip: a file, folder or list of pictures, and a protocol, to a Clip.

what is it?  -> pictures (numbered, with times)   -> which of them?  -> decode those
             -> sound                             -> which seconds?  -> decode those      (at the same time)
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import EmptyMedia, NoAudioStream, NoVideoStream, TimeRangeError, UnreadableMedia, UsageError
from ..protocols import Protocol
from ..protocols import protocol as named_protocol
from .audio import audio_stream, decode_sound
from .clip import Clip, Frame, FrameIndex, Pictures, Wave
from .decoder import video_stream
from .images import PictureList, array_rgb, open_animation, open_folder, rgb
from .limits import DEFAULT_LIMITS, Limits
from .recording import Recording
from .sampling import candidates_by_index, candidates_by_time, check_range, per_second, uniform
from .source import Source, local_path
from .video import VideoReader

MOST_FRAMES = 10_000  # that may be asked for; protocols use far fewer
Opener = Callable[..., Clip]
"""`open_clip`, or anything with its signature: a WorkerPool's, a ClipCache."""
MediaItem = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Recording | Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The arguments of open_clip, checked."""

    protocol: Protocol
    num_frames: int | None
    start: float | None
    end: float | None
    want_video: bool
    want_audio: bool
    times: Sequence[float] | None
    limits: Limits

    @property
    def range_seconds(self) -> tuple[float | None, float | None] | None:
        return None if self.start is None and self.end is None else (self.start, self.end)


def open_clip(
    medium: MediaItem,
    *,
    num_frames: int | None = 8,
    protocol: str | Protocol = "released",
    start: float | None = None,
    end: float | None = None,
    want_video: bool = True,
    want_audio: bool = True,
    times: Sequence[float] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Clip:
    """Decode what the protocol asks of a medium, and no more.

    Args:
        medium: path of a video, sound, picture or folder of pictures; the bytes of a file; a PIL image; u8[T, H, W, C]
            or u8[H, W, C]; a list of paths, arrays and PIL images; a Recording.
        num_frames: how many frames to sample of a video; None = about one per second.
        start, end: seconds from the beginning; of a sound file always, of a video's sound where the protocol says so.
        want_video, want_audio: what to decode. A file that lacks one of two wanted things gives a Clip with the other.
        times: seconds of each picture of a list.

    Raises:
        MediaError: MediaNotFound, UnreadableMedia, EmptyMedia, NoVideoStream, NoAudioStream, MediaTooLarge or
            TimeRangeError, see errors.py.
        NumericsError: the medium holds what is no number.
        UsageError: an argument, not the medium, is wrong.
    """
    check_range(start, end)
    whole = isinstance(num_frames, int) and not isinstance(num_frames, bool)
    if num_frames is not None and not (whole and 1 <= num_frames <= MOST_FRAMES):
        raise UsageError(
            f"num_frames={num_frames!r}; expected a whole number from 1 to {MOST_FRAMES:,}, or None for one per second."
        )
    if not (want_video or want_audio):
        raise UsageError("neither pictures nor sound are wanted of the medium; want at least one.")
    request = _Request(
        protocol=named_protocol(protocol),
        num_frames=num_frames,
        start=start,
        end=end,
        want_video=want_video,
        want_audio=want_audio,
        times=times,
        limits=limits,
    )
    if isinstance(medium, str | os.PathLike | bytes):
        return _open_file(medium, request)
    if isinstance(medium, Recording):
        return _open_recording(medium, request)
    return _open_given(medium, request)


def _open_file(medium: str | os.PathLike[str] | bytes, request: _Request) -> Clip:
    if request.times is not None:
        raise UsageError("times= is for lists of pictures; a file has its own.")
    if not isinstance(medium, bytes) and local_path(medium).is_dir():
        folder = local_path(medium)
        _want_pictures(str(folder), request)
        return _clip_of(open_folder(folder, request.protocol.folder_fps, request.limits), str(folder), request)
    source = Source.of(medium, request.limits)
    if source.kind() == "av":
        return _open_container(source, request)
    _want_pictures(source.name, request)
    with open_animation(source, request.limits) as animation:
        if animation is not None:
            return _clip_of(animation, source.name, request, animated=True)
    with source.picture(request.limits) as picture:
        return _image(_named_rgb(picture, source.name), source.name, request, _alpha_note(picture))


def _want_pictures(name: str, request: _Request) -> None:
    if not request.want_video:
        raise NoAudioStream(f"{name} holds pictures only; it has no sound to decode.")


def _open_given(medium: Image.Image | NDArray[Any] | Sequence[Any], request: _Request) -> Clip:
    """Arrays, PIL images and lists."""
    _want_pictures("the medium", request)
    if isinstance(medium, Image.Image):
        request.limits.check_pixels(*medium.size, "the picture")
        return _image(rgb(medium), "<picture>", request, _alpha_note(medium))
    if isinstance(medium, np.ndarray) and medium.ndim in (2, 3):
        return _image(array_rgb(medium), f"<array {list(medium.shape)}>", request)
    if not isinstance(medium, Sequence | np.ndarray):
        raise UsageError(
            f"a medium is a {type(medium).__name__}; expected a path, bytes, a picture, an array or a list."
        )
    items = list(medium)
    if request.times is None and request.range_seconds is not None:
        raise UsageError("a list of pictures has no times to apply start and end to; give times= as well.")
    times = request.times if request.times is not None else [float(i) for i in range(len(items))]
    clip = _clip_of(PictureList(items, times, request.limits), f"<{len(items)} pictures>", request, given=True)
    if request.times is None:
        clip = replace(clip, notes=(*clip.notes, "the pictures were given without times: counted as one per second"))
    return clip


def _open_recording(medium: Recording, request: _Request) -> Clip:
    """What is in memory, cut to the asked range, both pictures and sound; then as of a video."""
    if request.times is not None:
        raise UsageError("times= is for lists of pictures; a Recording has its own.")
    cut = medium.between(request.start, request.end) if request.range_seconds is not None else medium
    if not cut.frames and not request.want_audio:
        raise NoVideoStream(f"{cut.name} has no frames, and its sound is not wanted.")
    if not request.want_video and (cut.samples is None or not len(cut.samples)):
        raise NoAudioStream(f"{cut.name} has no sound, and its frames are not wanted.")
    clip = Clip(source=cut.name, kind="video" if cut.frames else "audio", notes=cut.notes)
    if cut.frames and request.want_video:
        pictures = PictureList(cut.frames, cut.times, request.limits, cut.notes)
        clip = _clip_of(pictures, cut.name, replace(request, start=None, end=None))
    clip = replace(clip, range_seconds=request.range_seconds)
    return cut.with_sound(clip, request.protocol) if request.want_audio else clip


def _image(frame: Frame, name: str, request: _Request, notes: tuple[str, ...] = ()) -> Clip:
    if request.range_seconds is not None:
        raise UsageError(f"{name} is one picture; start and end don't apply.")
    state = "absent" if request.want_audio else "not_requested"
    return Clip(
        source=name,
        kind="image",
        frames=(frame,),
        frame_indices=(0,),
        times=np.zeros(1),
        frames_total=1,
        audio_state=state,  # type: ignore[arg-type]
        notes=notes,
    )


def _open_container(source: Source, request: _Request) -> Clip:
    """A video or sound file: pictures here, sound on a second thread."""
    with source.container() as container, ThreadPoolExecutor(1) as aside:
        has_video, has_audio = _streams(container, source, request)
        sound: Future[Wave] | None = None
        if has_audio and request.want_audio:
            sound = aside.submit(_decode_wave, source, request, is_video=has_video)
        if has_video and request.want_video:
            clip = _clip_of(VideoReader(container, source, request.limits), source.name, request)
        else:
            kind: Any = "video" if has_video else "audio"
            clip = Clip(source=source.name, kind=kind, range_seconds=request.range_seconds)
        if not request.want_audio:
            return clip
        if sound is None:
            return replace(clip, audio_state="absent")
        try:
            return _with_sound(clip, sound.result(), request)
        except (TimeRangeError, EmptyMedia, UnreadableMedia) as error:
            if not clip.frames:
                raise
            loss = f"the sound is not used: {error}"
            return replace(clip, audio_state="absent", notes=(*clip.notes, loss), losses=(*clip.losses, loss))


def _streams(container: "av.container.InputContainer", source: Source, request: _Request) -> tuple[bool, bool]:
    """Whether there are pictures and sound, after making sure that one of them is wanted."""
    has_video = has_audio = True
    try:
        video_stream(container, source)
    except NoVideoStream:
        has_video = False
    try:
        audio_stream(container, source)
    except NoAudioStream:
        has_audio = False
    except UnreadableMedia:
        if not (has_video and request.want_video):
            raise  # else the pictures can still be had, and decoding the sound will say why it can't
    if not (has_video or has_audio):
        raise UnreadableMedia(f"{source.name} holds neither pictures nor sound.")
    if not has_video and not request.want_audio:
        raise NoVideoStream(f"{source.name} has no video stream, and its sound is not wanted.")
    if not has_audio and not request.want_video:
        raise NoAudioStream(f"{source.name} has no audio stream, and its pictures are not wanted.")
    return has_video, has_audio


def _decode_wave(source: Source, request: _Request, *, is_video: bool) -> Wave:
    protocol = request.protocol
    whole = (protocol.video_sound if is_video else protocol.file_sound) != "first_channel"
    cut = protocol.sound_in_range or not is_video
    windows = is_video and protocol.video_sound == "eight_windows"  # these spread over all there is
    return decode_sound(
        source,
        request.limits,
        start=request.start if cut else None,
        end=request.end if cut else None,
        mixed=whole,
        most_seconds=None if windows else protocol.sound_seconds,
    )


def _with_sound(clip: Clip, wave: Wave, request: _Request) -> Clip:
    notes, losses = list(clip.notes), list(clip.losses)
    if wave.lost_seconds > 0.01:
        losses.append(f"{wave.lost_seconds:.2f} s of sound could not be decoded")
        notes.append(losses[-1])
    if request.range_seconds is not None and clip.kind == "video" and not request.protocol.sound_in_range:
        notes.append(
            f"the {request.protocol.name} protocol takes a video's sound from the whole file, not from the asked range"
        )
    state: Any = "silent" if wave.silent else "used"
    return replace(clip, wave=wave, audio_state=state, notes=tuple(notes), losses=tuple(losses))


def _clip_of(pictures: Pictures, name: str, request: _Request, *, animated: bool = False, given: bool = False) -> Clip:
    """Choose and decode frames."""
    index, protocol = pictures.index, request.protocol
    losses: list[str] = list(index.losses)
    chosen = _choose(pictures, request, animated=animated, given=given, losses=losses)
    picked = pictures.pick(chosen)
    losses += picked.losses
    frames, padded = list(picked.frames), 0
    notes = [*index.notes, *losses, *_remarks(index, picked.indices, request)]
    if request.num_frames is not None and protocol.short == "black":
        padded = max(min(request.num_frames, protocol.max_frames) - len(frames), 0)
        for _ in range(padded):  # each of the transposed size of the one before, as the public implementation has it
            frames.append(np.zeros((frames[-1].shape[1], frames[-1].shape[0], 3), np.uint8))
        notes += [f"{padded} black frames are added to reach {request.num_frames}"] if padded else []
    return Clip(
        source=name,
        kind="video",
        frames=tuple(frames),
        frame_indices=picked.indices,
        times=index.times[list(picked.indices)],
        frames_total=index.frames,
        frames_padded=padded,
        fps=index.fps,
        range_seconds=request.range_seconds,
        audio_state="absent" if request.want_audio else "not_requested",
        notes=tuple(notes),
        losses=tuple(losses),
    )


def _remarks(index: FrameIndex, shown: Sequence[int], request: _Request) -> list[str]:
    """What a reader of the answer should know about the frames, though nothing was lost."""
    notes = []
    if len(set(shown)) < len(shown):
        notes.append(f"{len(set(shown))} different frames for {len(shown)}: some are used more than once")
    ends = float(index.times[-1]) + 1 / index.fps
    if request.end is not None and request.end > ends + 0.5:
        notes.append(f"the pictures end at {ends:.2f} s, before end={request.end:g}")
    return notes


def _choose(pictures: Pictures, request: _Request, *, animated: bool, given: bool, losses: list[str]) -> list[int]:
    """Indices of the frames to decode; what is left out against the request goes to `losses`."""
    index, protocol, wanted = pictures.index, request.protocol, request.num_frames
    fps = protocol.gif_fps if animated and protocol.gif_fps is not None else index.fps
    if given or protocol.frame_clock == "time":
        candidates = candidates_by_time(index.times, request.start, request.end)  # type: ignore[arg-type]
    else:
        candidates = candidates_by_index(index.frames, fps, request.start, request.end)
    if given and protocol.given_frames == "keep":
        chosen = list(candidates)
    elif wanted is not None and protocol.sampling == "uniform":
        chosen = [candidates[i] for i in uniform(len(candidates), wanted)]
    else:
        chosen = [candidates[i] for i in per_second(len(candidates), fps)]
    if animated and protocol.gif_fps is not None:
        chosen = list(dict.fromkeys(chosen))  # the public reader of animations gives each picture once
    if len(chosen) > protocol.max_frames:
        if protocol.given_frames == "keep":
            losses.append(f"only the first {protocol.max_frames} of {len(chosen)} frames are used")
            return chosen[: protocol.max_frames]
        losses.append(f"{protocol.max_frames} of {len(chosen)} frames are used, spread evenly")
        return [chosen[i] for i in uniform(len(chosen), protocol.max_frames)]
    return chosen


def _alpha_note(picture: Image.Image) -> tuple[str, ...]:
    """A remark where transparent pixels were taken for opaque ones."""
    if picture.mode in ("RGBA", "LA", "PA") and picture.getchannel("A").getextrema()[0] != 255:
        return ("the picture is partly transparent: transparency is ignored",)
    return ()


def _named_rgb(picture: Image.Image, name: str) -> Frame:
    try:
        return rgb(picture)
    except UnreadableMedia as error:
        raise UnreadableMedia(f"{name}: {error}") from error
