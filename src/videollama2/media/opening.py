"""`open_clip`: from a file, folder or list of images, and a protocol, to a Clip.

video:  list all frames (video.py, images.py) ─► choose some (sampling.choose_frames) ─► decode those
audio:  decode the range that the protocol uses (audio_decoder.py), on a second thread
"""

import gc
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import EmptyMedia, NoAudioStream, NoVideoStream, TimeRangeError, UnreadableMedia, UsageError
from ..protocols import Protocol
from ..protocols import protocol as named_protocol
from .audible import AudioRequest
from .audio_decoder import audio_stream
from .clip import Clip, Frame, Wave
from .folders import open_folder
from .frame_decoder import video_stream
from .frames import FrameIndex, FrameSource
from .heif import read_heif
from .image_rgb import image_to_rgb
from .images import ImageList, array_to_rgb, open_animation, read_still, transparency_of
from .limits import DEFAULT_LIMITS, Limits
from .packets import read_timeline
from .recording import Recording
from .sampling import check_range, choose_frames
from .source import MediaSource, local_path
from .subtitle_tracks import subtitle_note, subtitle_tracks
from .timeline import Timeline
from .tracks import TrackChoice, check_choice, choose_track, track_notes, tracks
from .video import VideoReader

MAX_NUM_FRAMES = 10_000  # a caller may request this many; protocols use far fewer
MediaItem = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Recording | Sequence[Any]
Opener = Callable[..., Clip]
"""`open_clip`, or anything with its signature: a WorkerPool's method, a ClipCache."""


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The arguments of open_clip, checked."""

    protocol: Protocol
    num_frames: int | None
    start: float | None
    end: float | None
    want_video: bool
    want_audio: bool
    times: Sequence[float] | None
    video_track: TrackChoice
    audio_track: TrackChoice
    limits: Limits

    @property
    def range_seconds(self) -> tuple[float | None, float | None] | None:
        return None if self.start is None and self.end is None else (self.start, self.end)


def open_clip(
    item: MediaItem,
    *,
    num_frames: int | None = 8,
    protocol: str | Protocol = "released",
    start: float | None = None,
    end: float | None = None,
    want_video: bool = True,
    want_audio: bool = True,
    times: Sequence[float] | None = None,
    video_track: TrackChoice = None,
    audio_track: TrackChoice = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Clip:
    """Decode the frames and the audio that the protocol uses, and nothing else.

    Args:
        item: path of a video, audio file, image or folder of images; the bytes of a file; a PIL image; u8[T, H, W, C]
            or u8[H, W, C]; a list of paths, arrays and PIL images; or a Recording.
        num_frames: number of frames to sample from a video; None: about one per second.
        start, end: seconds from the beginning. They always cut audio files, and a video's audio if the protocol does.
        want_video, want_audio: what to decode. If both are requested, a file with only one of them is accepted.
        times: the time in seconds of each image of a list.
        video_track, audio_track: which of several tracks: a number from 1, or a language; None: FFmpeg's best, and for
            audio the first one with a signal. The notes name the track used.

    Raises:
        MediaError: MediaNotFound, UnreadableMedia, EmptyMedia, NoVideoStream, NoAudioStream, MediaTooLarge or
            TimeRangeError, see errors.py.
        NumericsError: the audio has NaN or infinite samples.
        UsageError: an argument is wrong, not the file.
    """
    check_range(start, end)
    is_integer = isinstance(num_frames, int) and not isinstance(num_frames, bool)
    if num_frames is not None and not (is_integer and 1 <= num_frames <= MAX_NUM_FRAMES):
        raise UsageError(
            f"num_frames={num_frames!r}; expected an integer from 1 to {MAX_NUM_FRAMES:,}, or None for one per second."
        )
    if not (want_video or want_audio):
        raise UsageError("want_video and want_audio are both false; request at least one.")
    options = _Options(
        protocol=named_protocol(protocol),
        num_frames=num_frames,
        start=start,
        end=end,
        want_video=want_video,
        want_audio=want_audio,
        times=times,
        video_track=video_track,
        audio_track=audio_track,
        limits=limits,
    )
    check_choice("video", video_track)
    check_choice("audio", audio_track)
    if isinstance(item, str | os.PathLike | bytes):
        return _open_file(item, options)
    _require_no_tracks("the media item", options)
    if isinstance(item, Recording):
        return _open_recording(item, options)
    return _open_images(item, options)


def length_seconds(item: MediaItem, limits: Limits = DEFAULT_LIMITS) -> float:
    """A video's length in seconds, from its container; frames in memory without times count as one second each.

    Raises:
        MediaError: as for `open_clip`. UsageError: the container does not state its length.
    """
    if isinstance(item, Recording):
        return float(max(item.times, default=0.0))
    if not isinstance(item, str | os.PathLike | bytes):
        return float(len(item)) if isinstance(item, Sequence | np.ndarray) else 1.0
    with MediaSource.of(item, limits).container() as container:
        if not container.duration:
            raise UsageError(f"{container.name} does not state its length; pass num_frames instead of fps.")
        return float(container.duration / av.time_base)


def _open_file(item: str | os.PathLike[str] | bytes, options: _Options) -> Clip:
    if options.times is not None:
        raise UsageError("times= applies to lists of images; a file has timestamps.")
    if not isinstance(item, bytes) and local_path(item).is_dir():
        folder = local_path(item)
        _require_no_tracks(str(folder), options)
        _require_video(str(folder), options)
        return _clip_of_frames(open_folder(folder, options.protocol, options.limits), str(folder), options)
    source = replace(
        MediaSource.of(item, options.limits),
        video_track=options.video_track,
        audio_track=options.audio_track,
        as_shown=options.protocol.as_shown,
    )
    still = read_heif(source, options.limits) if source.kind() == "av" else None
    if still is not None:
        _require_video(source.name, options)
        _require_no_tracks(source.name, options)
        return _clip_of_image(*still, source.name, options)
    if source.kind() == "av":
        try:
            return _open_container(source, options)
        finally:
            gc.collect(1)  # a frame and its side data refer to each other: they would keep the decoder's threads
    _require_no_tracks(source.name, options)
    _require_video(source.name, options)
    with open_animation(source, options.limits) as animation:
        if animation is not None:
            return _clip_of_frames(animation, source.name, options, kind="animation")
    return _clip_of_image(*read_still(source, options.limits), source.name, options)


def _require_no_tracks(name: str, options: _Options) -> None:
    if options.video_track is not None or options.audio_track is not None:
        raise UsageError(f"video_track and audio_track choose tracks of video and audio files, not of {name}.")


def _require_video(name: str, options: _Options) -> None:
    if not options.want_video:
        raise NoAudioStream(f"{name} has no audio: it contains images only.")


def _open_images(item: Image.Image | NDArray[Any] | Sequence[Any], options: _Options) -> Clip:
    """Arrays, PIL images and lists."""
    _require_video("the media item", options)
    if isinstance(item, Image.Image):
        options.limits.check_pixels(*item.size, "the image")
        return _clip_of_image(*image_to_rgb(item, as_shown=options.protocol.as_shown), "<picture>", options)
    if isinstance(item, np.ndarray) and item.ndim in (2, 3):
        return _clip_of_image(array_to_rgb(item), transparency_of(item), f"<array {list(item.shape)}>", options)
    if not isinstance(item, Sequence | np.ndarray):
        raise UsageError(
            f"a media item of type {type(item).__name__}; expected a path, bytes, an image, an array or a list."
        )
    items = list(item)
    if options.times is None and options.range_seconds is not None:
        raise UsageError("start and end need the time of each image of a list; pass times= too.")
    times = options.times if options.times is not None else [float(i) for i in range(len(items))]
    images = ImageList(items, times, options.limits, as_shown=options.protocol.as_shown)
    clip = _clip_of_frames(images, f"<{len(items)} pictures>", options, kind="list")
    if options.times is None:
        clip = replace(clip, notes=(*clip.notes, "images without times: one per second is assumed"))
    return clip


def _open_recording(recording: Recording, options: _Options) -> Clip:
    """Frames and audio in memory: cut to the range first, then treated like a video."""
    if options.times is not None:
        raise UsageError("times= applies to lists of images; a Recording has times.")
    cut = recording.between(options.start, options.end) if options.range_seconds is not None else recording
    if not cut.frames and not options.want_audio:
        raise NoVideoStream(f"{cut.name} has no frames, and audio was not requested.")
    if not options.want_video and (cut.samples is None or not len(cut.samples)):
        raise NoAudioStream(f"{cut.name} has no audio, and video was not requested.")
    clip = Clip(source=cut.name, kind="video" if cut.frames else "audio", notes=cut.notes)
    if cut.frames and options.want_video:
        frames = ImageList(cut.frames, cut.times, options.limits, cut.notes)
        clip = _clip_of_frames(frames, cut.name, replace(options, start=None, end=None))
    clip = replace(clip, range_seconds=options.range_seconds)
    return cut.with_audio(clip, options.protocol) if options.want_audio else clip


def _open_container(source: MediaSource, options: _Options) -> Clip:
    """A video or audio file: frames on this thread, audio on a second one."""
    probe = options.want_video or source.head(8)[4:] != b"ftyp"  # an mp4's header suffices for its audio
    with source.container(probe=probe) as container, ThreadPoolExecutor(1) as second_thread:
        has_video, has_audio = _streams(container, source, options)
        timeline = _timeline(container, source, options, has_video=has_video, has_audio=has_audio)
        audio: Future[Wave] | None = None
        if has_audio and options.want_audio:
            request = AudioRequest(source, options.protocol, options.limits, options.start, options.end, has_video)
            chosen = choose_track(container, source, "audio")
            audio = second_thread.submit(request.decode, timeline, tracks(container, source, "audio"), chosen)
        no_frames: TimeRangeError | None = None
        kind: Any = "video" if has_video else "audio"
        clip = Clip(source=source.name, kind=kind, range_seconds=options.range_seconds, notes=timeline.notes)
        found = tracks(container, source, "video")
        which = track_notes(found, choose_track(container, source, "video"))
        if has_video and options.want_video:
            frames = VideoReader(container, source, options.limits, timeline)
            try:
                clip = _clip_of_frames(frames, source.name, options)
            except TimeRangeError as error:
                if audio is None or not options.protocol.audio_in_range:
                    raise
                no_frames = error
                clip = replace(clip, frames_total=frames.index.frames, fps=frames.index.fps)
            clip = replace(clip, notes=(*which, *frames.notes, *clip.notes))
        clip = replace(clip, notes=(*clip.notes, *subtitle_note(subtitle_tracks(container))))
        if audio is not None:
            clip = _with_audio(clip, audio, options, no_frames)
        elif options.want_audio:
            clip = replace(clip, audio_state="absent")
        for loss in timeline.losses:
            clip = _with_losses(clip, loss)
        if timeline.cut_off and not clip.losses:
            clip = _with_losses(clip, timeline.cut_off)
        return clip


def _timeline(
    container: "av.container.InputContainer",
    source: MediaSource,
    options: _Options,
    *,
    has_video: bool,
    has_audio: bool,
) -> Timeline:
    """The time axis of the streams in use."""
    streams: list[Any] = [video_stream(container, source)] if has_video and options.want_video else []
    if has_audio and options.want_audio:
        with suppress(UnreadableMedia):  # reported when it is decoded
            streams.append(audio_stream(container, source))
    return read_timeline(container, source, streams)


def _streams(container: "av.container.InputContainer", source: MediaSource, options: _Options) -> tuple[bool, bool]:
    """Whether a container has video and audio, after checking that it has one that is requested."""
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
        if not (has_video and options.want_video):
            raise  # else use the frames; decoding the audio will report why it failed
    if not (has_video or has_audio):
        raise UnreadableMedia(f"{source.name} has neither video nor audio.")
    if not has_video and not options.want_audio:
        raise NoVideoStream(f"{source.name} has no video stream, and audio was not requested.")
    if not has_audio and not options.want_video:
        raise NoAudioStream(f"{source.name} has no audio stream, and video was not requested.")
    return has_video, has_audio


def _with_audio(clip: Clip, audio: "Future[Wave]", options: _Options, no_frames: TimeRangeError | None) -> Clip:
    """The clip with its audio. `no_frames`: why it has no frames, if they were requested."""
    try:
        wave = audio.result()
    except (TimeRangeError, EmptyMedia, UnreadableMedia) as error:
        if no_frames is not None:
            raise TimeRangeError(f"{no_frames} {error}") from error
        if not clip.frames:
            raise
        reason = f"the audio is not used: {error}"
        return _with_losses(replace(clip, audio_state="absent", audio_absent=reason), reason)
    if no_frames is not None:
        clip = _with_losses(clip, f"only the audio is used: {no_frames}")
    if wave.lost_seconds > 0.01:
        clip = _with_losses(clip, f"{wave.lost_seconds:.2f} s of audio could not be decoded")
    if options.range_seconds is not None and clip.kind == "video" and not options.protocol.audio_in_range:
        note = f"the {options.protocol.name} protocol uses the audio of the whole file, not only of the requested range"
        clip = replace(clip, notes=(*clip.notes, note))
    return replace(clip, wave=wave, audio_state="silent" if wave.silent else "used")


def _with_losses(clip: Clip, loss: str) -> Clip:
    return replace(clip, notes=(*clip.notes, loss), losses=(*clip.losses, loss))


def _clip_of_image(frame: Frame, notes: Sequence[str], name: str, options: _Options) -> Clip:
    if options.range_seconds is not None:
        raise UsageError(f"{name} is a single image; start and end don't apply to it.")
    state = "absent" if options.want_audio else "not_requested"
    return Clip(
        source=name,
        kind="image",
        frames=(frame,),
        frame_indices=(0,),
        times=np.zeros(1),
        frames_total=1,
        audio_state=state,  # type: ignore[arg-type]
        notes=tuple(notes),
    )


def _clip_of_frames(
    source: FrameSource, name: str, options: _Options, kind: Literal["video", "animation", "list"] = "video"
) -> Clip:
    """Choose frames and decode them."""
    index, protocol = source.index, options.protocol
    chosen, dropped = choose_frames(
        index, protocol, num_frames=options.num_frames, start=options.start, end=options.end, kind=kind
    )
    decoded = source.decode(chosen)
    losses = [*index.losses, *dropped, *decoded.losses]
    frames, padded = list(decoded.frames), 0
    notes = [*index.notes, *decoded.notes, *losses, *_remarks(index, decoded.indices, options)]
    if options.num_frames is not None and protocol.short == "black":
        padded = max(min(options.num_frames, protocol.max_frames) - len(frames), 0)
        for _ in range(padded):  # each has the transposed size of the one before, as in the public implementation
            frames.append(np.zeros((frames[-1].shape[1], frames[-1].shape[0], 3), np.uint8))
        notes += [f"{padded} black frames added to reach {options.num_frames}"] if padded else []
    return Clip(
        source=name,
        kind="video",
        frames=tuple(frames),
        frame_indices=decoded.indices,
        times=index.times[list(decoded.indices)],
        frames_total=index.frames,
        fps=index.fps,
        end_seconds=index.end_seconds,
        range_seconds=options.range_seconds,
        audio_state="absent" if options.want_audio else "not_requested",
        notes=tuple(notes),
        losses=tuple(losses),
    )


def _remarks(index: FrameIndex, used: Sequence[int], options: _Options) -> list[str]:
    """Notes about the frames that are not losses."""
    notes = []
    if (distinct := len(set(used))) < len(used):
        notes.append(f"only {distinct} distinct frame{'s' if distinct > 1 else ''} for {len(used)} slots; some repeat")
    if options.end is not None and options.end > index.end_seconds + 0.5:
        notes.append(f"the video ends at {index.end_seconds:.2f} s, before end={options.end:g}")
    start = options.start or 0.0
    if used and options.protocol.frame_clock == "time" and index.times[used[-1]] < start - 1e-6:
        notes.append(f"no frame begins in the range; using the frame at {index.times[used[-1]]:.2f} s, still on screen")
    return notes
