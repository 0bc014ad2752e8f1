"""What goes to the terminal besides answers: progress and remarks, on stderr, coloured only where someone looks."""

import argparse
import contextlib
import io
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from ..errors import MediaNotFound, UsageError
from ..json_lines import dumps_line

if TYPE_CHECKING:
    from ..generation.request import Request

STAGES = {"loading": "loading the model", "decoding": "decoding media", "encoding": "looking and listening"}


@cache
def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, emoji=False, soft_wrap=True)


def console() -> Console:
    """Standard error; colours only if it is a terminal (and NO_COLOR is not set)."""
    return _console(sys.stderr)


def harmless(text: str) -> str:
    """Text of files, users and models without what would drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def say(text: str, style: str = "") -> None:
    """A remark on standard error, as it is: no markup, no control characters."""
    console().print(Text(harmless(text), style=style))


def complain(message: str) -> None:
    """An error on standard error."""
    console().print(Text("error: ", style="bold red") + Text(harmless(message), style="not bold default"))


def write(text: str) -> None:
    """A piece of an answer on standard output, at once."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """One line of JSON on standard output, in ASCII, which every reader and every terminal takes."""
    sys.stdout.write(dumps_line(value) + "\n")
    sys.stdout.flush()


def tolerate_any_text() -> None:
    """No file name, question or answer is too odd to print or to read: what has no encoding is escaped."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A line that names the stage and its time, where standard error is a terminal; yields `on_stage`."""
    if quiet or not console().is_terminal:
        yield lambda stage: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console(), transient=True
    ) as bar:
        task = bar.add_task("starting", total=None)

        def on_stage(stage: str) -> None:
            # the answer itself is printed as it comes, so the bar makes way
            if stage == "thinking":
                bar.stop()
            else:
                bar.update(task, description=STAGES.get(stage, stage))

        yield on_stage


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        say(f"{record.levelname.lower()}: {record.getMessage()}", style)


def log_to_terminal(verbose: bool) -> None:
    """Show this package's decisions (-v) or only its warnings."""
    root = logging.getLogger("videollama2")
    root.handlers[:] = [_Handler()]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    root.propagate = False


@contextlib.contextmanager
def without_losses(verbose: bool) -> Iterator[None]:
    """Of many answers, what was not used of their media stands in the receipts, and is not said of each."""
    log = logging.getLogger("videollama2.engine")
    before = log.level
    log.setLevel(before if verbose else logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


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
    if not math.isfinite(value) or text.count(":") > 2 or any(p < 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected seconds (12.5) or minutes:seconds (1:02.5)")
    return value


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that choose a model and its place."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", "-m", default="nano", metavar="M", help="nano (default), a released name, a hub id or a folder"
    )
    group.add_argument("--base", metavar="B", help="base language model of a training stage's folder, or of nano")
    group.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:N or mps")
    group.add_argument("--dtype", default="auto", metavar="T", help="auto (default), float32, bfloat16 or float16")
    group.add_argument("--verbose", "-v", action="store_true", help="say what is loaded, and why where it runs")


def add_media_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say what is used of the media."""
    group = parser.add_argument_group("media")
    group.add_argument("--protocol", metavar="P", help="released, full or paper; default: the model's own")
    group.add_argument("--start", type=seconds, metavar="S", help="begin at this time (12.5 or 1:02.5)")
    group.add_argument("--end", type=seconds, metavar="S", help="end at this time")
    group.add_argument("--frames", type=int, metavar="N", help="frames to look at; default: the model's own number")
    group.add_argument("--no-audio", action="store_true", help="do not listen")
    group.add_argument("--no-video", action="store_true", help="do not look")
    group.add_argument("--strict", action="store_true", help="anything asked for and not used is an error")


def add_generation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how the answer is made."""
    group = parser.add_argument_group("answer")
    group.add_argument("--system", metavar="TEXT", help="replace the model's system prompt")
    group.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="default: 512")
    group.add_argument("--temperature", type=float, default=0.0, metavar="X", help="0 (default): always the likeliest")
    group.add_argument("--top-p", type=float, default=0.9, metavar="X", help="default: 0.9; used where temperature > 0")
    group.add_argument("--seed", type=int, metavar="N", help="makes sampling repeatable")


def request(paths: Sequence[str], question: str, args: argparse.Namespace) -> "Request":
    """What the flags ask for, checked before a model is loaded for it.

    Raises:
        UsageError: an impossible value.
        MediaNotFound, UnreadableMedia: a path leads nowhere, or is a URL.
    """
    from ..generation.request import Request
    from ..generation.sampling import GenerateOptions
    from ..media.source import local_path
    from ..protocols import protocol
    from ..text.conversations import Media

    for path in paths:
        if not local_path(path).exists():
            raise MediaNotFound(f"{path} is neither a file nor a folder of pictures")
    wishes = {"start": args.start, "end": args.end, "num_frames": args.frames}
    media = [Media(source=path, video=not args.no_video, audio=not args.no_audio, **wishes) for path in paths]
    if not media and (args.no_video or args.no_audio or any(wish is not None for wish in wishes.values())):
        raise UsageError("--start, --end, --frames, --no-audio and --no-video are about media, and there are none")
    return Request(
        media=media or None,
        question=question,
        system=args.system,
        protocol=None if args.protocol is None else protocol(args.protocol),
        strict=args.strict,
        options=GenerateOptions(
            max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, seed=args.seed
        ),
    )


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name; text too long or odd for a name is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def load_engine(args: argparse.Namespace, on_stage: Any, **kwargs: Any) -> Any:
    """The engine that the flags ask for; more keywords as `videollama2.load` takes them."""
    import videollama2

    on_stage("loading")
    return videollama2.load(args.model, device=args.device, dtype=args.dtype, base=args.base, **kwargs)
