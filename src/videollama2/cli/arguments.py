"""The argument parser, and the flags that several commands share."""

import argparse
import gc
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import MediaNotFound, UsageError, did_you_mean
from . import terminal

if TYPE_CHECKING:
    from ..generation.request import Request
    from ..subtitles import Subtitle
    from ..text.media_parts import Media

ENGINES = ("torch", "llama.cpp")  # of --engine


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Epilogs keep their line breaks; most flags take one line of 100 columns."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, **{"max_help_position": 32, **kwargs})


class _HelpAll(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        parser.advanced_groups.clear()
        parser.print_help()
        raise SystemExit(0)


class Parser(argparse.ArgumentParser):
    """argparse's parser without abbreviated flags; its errors look like all others, and suggest the closest flag.

    Attributes:
        default_action: for a command with actions, the one to run if none is named.
        advanced_groups: groups that --help-all shows and --help does not.
        optional_values: flags with an optional value, and what such a value looks like; another word after the flag is
            an argument.
    """

    default_action: str | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **{"formatter_class": HelpFormatter, **kwargs})
        self.advanced_groups: list[Any] = []
        self.optional_values: dict[str, re.Pattern[str]] = {}

    def add_advanced_group(self, title: str) -> Any:
        """An argument group that only --help-all shows."""
        if not self.advanced_groups:
            self.add_argument("--help-all", action=_HelpAll, nargs=0, help="also show the flags that are rarely needed")
        self.advanced_groups.append(self.add_argument_group(title))
        return self.advanced_groups[-1]

    def format_help(self) -> str:
        """As argparse does, without the advanced groups."""
        groups = self._action_groups
        self._action_groups = [group for group in groups if group not in self.advanced_groups]
        try:
            return super().format_help()
        finally:
            self._action_groups = groups

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but a sub-command reports its unknown flags itself, so that the hint lists its flags."""
        if self.default_action is not None and args and not self._is_action(args[0]):
            args = [self.default_action, *args]
        for flag, value in self.optional_values.items():
            args = [
                f"{word}=" if word == flag and not value.fullmatch(after) else word
                for word, after in zip(args, [*args[1:], ""], strict=True)
            ]
        found, unknown = super().parse_known_args(args, namespace)
        several = [a for a in self._actions if a.nargs == "+" and not a.option_strings]
        if several and not any(word.startswith("-") for word in unknown):  # positional arguments after a flag
            getattr(found, several[-1].dest).extend(self._get_value(several[-1], word) for word in unknown)
            unknown = []
        flags = [word.split("=")[0] for word in unknown if word.startswith("--")]
        if flags:
            known = [flag for flag, action in self._option_string_actions.items() if not isinstance(action, _Former)]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{did_you_mean(flags[0], known)}")
        return found, unknown

    def _is_action(self, word: str) -> bool:
        return word in ("-h", "--help") or any(word in (action.choices or ()) for action in self._actions)

    def error(self, message: str) -> NoReturn:
        dashed = "unrecognized" in message and "did you mean" not in message
        hint = " (write a file name that begins with '-' as ./-name)" if dashed else ""
        if wrong := re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message):
            hint = did_you_mean(wrong[1], re.findall(r"'(.+?)'", wrong[2]))
        terminal.complain(f"{message}{hint}; see {self.prog} --help")
        raise SystemExit(UsageError.exit_code)


class _Former(argparse.Action):
    """A flag's former name: hidden from help, works like the new one, and prints a deprecation notice."""

    def __init__(self, *args: Any, current: argparse.Action, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._current = current

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        new = self._current.option_strings[0]
        terminal.say(f"{option_string} is deprecated; use {new}", "yellow")
        self._current(parser, namespace, values, new)


def former_name(old: str, current: argparse.Action, parser: Any) -> None:
    """Keep a renamed flag working under its old name for one release.

    Args:
        old: the former name, such as "--together".
        current: what `add_argument` returned for the new name.
        parser: the parser or group that has the new flag.
    """
    parser.add_argument(
        old, action=_Former, current=current, dest=current.dest, nargs=current.nargs, type=current.type,
        choices=current.choices, default=argparse.SUPPRESS, help=argparse.SUPPRESS,
    )  # fmt: skip


def seconds(text: str) -> float:
    """A time as seconds or [hours:]minutes:seconds.

    Raises:
        ArgumentTypeError: anything else.
    """
    try:
        parts = [float(part) for part in text.split(":")]
        value = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        value = math.nan
    if value < 0 and text.count(":") == 0:
        raise argparse.ArgumentTypeError(
            f"a time must not be negative, got {text}; expected seconds from the beginning"
        )
    if not math.isfinite(value) or text.count(":") > 2 or any(p < 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; expected seconds (12.5) or minutes:seconds (1:02.5)")
    return value


def add_model_flags(parser: argparse.ArgumentParser, engines: Sequence[str] = ENGINES) -> None:
    """Flags that choose the model, its device and its dtype."""
    add = parser.add_argument_group("model").add_argument
    add("--model", "-m", default="nano", metavar="M", help="nano (default), a released name, a hub id or a folder")
    add("--base", metavar="B", help="base language model, for nano or the folder of a training stage")
    add("--revision", metavar="R", help="branch, tag or commit of a hub id; default: main branch")
    add("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:N or mps")
    add("--dtype", default="auto", metavar="T", help="auto (default), float32, bfloat16 or float16")
    others = " or ".join(engines[1:])
    add("--engine", choices=engines, metavar="E", help=f"what runs the language model: torch (default), {others}")
    add("--gguf", metavar="F", help="for llama.cpp: a GGUF file, or the type of the one in the folder")
    add("--verbose", "-v", action="store_true", help="log what is loaded, and why this device and dtype were chosen")


def add_subtitle_flags(parser: argparse.ArgumentParser) -> None:
    """Add --subtitles and --subtitle-track."""
    add = parser.add_argument
    formats = ".srt, .vtt, .ass, .sbv, .lrc, .ttml, .smi, or a video file with a subtitle track"
    add("--subtitles", metavar="FILE", help=f"also give the model these subtitles: {formats}")
    add("--subtitle-track", metavar="N|LANG", help="of a video file with subtitles: a number from 1, or a language")


def subtitles_from(args: argparse.Namespace) -> "tuple[Subtitle, ...] | None":
    """The subtitles that the flags of `add_subtitle_flags` name; None without --subtitles.

    Raises:
        VideoLlama2Error: as `read_subtitle_source`.
    """
    from ..media.subtitle_tracks import read_subtitle_source

    return None if args.subtitles is None else read_subtitle_source(Path(args.subtitles), args.subtitle_track)


def add_media_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that choose which part of the media to use."""
    add = parser.add_argument_group("media").add_argument
    add("--start", type=seconds, metavar="S", help="start at this time (12.5 or 1:02.5)")
    add("--end", type=seconds, metavar="S", help="end at this time")
    add("--frames", type=int, metavar="N", help="number of video frames to sample; default: the model's")
    add("--fps", type=float, metavar="F", help="frame rate of a folder of images; default: the protocol's")
    add("--audio-track", metavar="N|LANG", help="audio track to use: a number from 1, or a language (eng)")
    add("--video-track", metavar="N|LANG", help="video track to use: a number from 1, or a language")
    add("--no-audio", action="store_true", help="ignore the audio")
    add("--no-video", action="store_true", help="ignore the video")
    add("--protocol", metavar="P", help="media preprocessing: released, full or paper; default: the model's own")
    add("--strict", action="store_true", help="fail if any requested input would be dropped")


def media_item(source: str, args: argparse.Namespace) -> "Media":
    """A media item, read as the flags say."""
    from ..text.media_parts import Media

    return Media(
        source=source, video=not args.no_video, audio=not args.no_audio, start=args.start, end=args.end,
        num_frames=args.frames, fps=args.fps, video_track=args.video_track, audio_track=args.audio_track,
    )  # fmt: skip


def add_generation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that control how the answer is generated."""
    add = parser.add_argument_group("answer").add_argument
    add(
        "--max-new-tokens",
        type=int,
        default=512,
        metavar="N",
        help="maximum length of the answer in tokens; default: 512",
    )
    add("--system", metavar="TEXT", help="replace the model's system prompt")
    add("--temperature", type=float, default=0.0, metavar="X", help="0 (default): greedy decoding; above 0: sampling")
    add("--top-p", type=float, default=0.9, metavar="X", help="nucleus sampling at temperature > 0; default: 0.9")
    add("--seed", type=int, metavar="N", help="make sampling reproducible")


def add_schema_flag(parser: argparse.ArgumentParser) -> None:
    """The flag for structured output."""
    parser.add_argument("--schema", metavar="FILE", help="answer in JSON that follows the JSON schema in this file")


def request_from(paths: Sequence[str], question: str, args: argparse.Namespace) -> "Request":
    """The request that the flags describe, validated before loading a model for it.

    Raises:
        UsageError: an invalid value.
        MediaNotFound, UnreadableMedia: a path does not exist, or is a URL.
    """
    from ..generation.request import Request
    from ..protocols import protocol

    media = media_from(paths, args)
    return Request(
        media=media or None,
        question=question,
        system=args.system,
        protocol=None if args.protocol is None else protocol(args.protocol),
        strict=args.strict,
        options=generate_options(args),
    )


def media_from(paths: Sequence[str], args: argparse.Namespace) -> "list[Media]":
    """The media that the flags describe. Imports no torch.

    Raises:
        UsageError, MediaNotFound, UnreadableMedia: as `request_from`.
    """
    from ..media.source import local_path
    from ..text.media_parts import Media

    for path in paths:
        if not local_path(path).exists():
            raise MediaNotFound(f"{path} not found; expected a media file or a folder of images.")
    media = [media_item(path, args) for path in paths]
    if not media and media_item("", args) != Media(source=""):
        raise UsageError(
            "--start, --end, --frames, --fps, --audio-track, --video-track, --no-audio and --no-video require media, "
            "but no media file was passed."
        )
    return media


def generate_options(args: argparse.Namespace) -> Any:
    """The options set by the flags of `add_generation_flags`.

    Raises:
        UsageError: an invalid value.
    """
    from ..generation.sampling import GenerateOptions

    return GenerateOptions(
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, seed=args.seed,
        schema=_schema_in(getattr(args, "schema", None)),
    )  # fmt: skip


def _schema_in(path: str | None) -> str | None:
    """The text of --schema's file.

    Raises:
        UsageError: it can't be read.
    """
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"--schema {path} can't be read ({error}); expected a file with a JSON schema.") from error


def exists(path: str) -> bool:
    """Whether a file or folder with this name exists; False for text that can't be a file name."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def trim_torch(args: argparse.Namespace) -> None:
    """Import torch as far as an answer takes it, if this process is the command's own; call before other imports."""
    from ..lean_imports import trim_torch

    if getattr(args, "own_process", False):
        gc.disable()  # until the model is loaded
        trim_torch()


def load_engine(args: argparse.Namespace, on_stage: Any, **kwargs: Any) -> Any:
    """The engine that the flags describe; further keywords go to `videollama2.load`."""
    import videollama2

    on_stage("loading")
    engine = videollama2.load(
        args.model,
        device=args.device,
        dtype=args.dtype,
        base=args.base,
        revision=args.revision,
        engine=args.engine,
        gguf=args.gguf,
        **kwargs,
    )
    if getattr(args, "own_process", False):
        gc.freeze()  # what is loaded stays
        gc.enable()
    return engine
