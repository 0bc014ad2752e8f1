"""What `watch` and `when` share: the windows' flags, the start of a run, and its output."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import MediaError, UsageError
from . import arguments, terminal
from .ask import receipt_text

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.request import Request
    from ..live.events import WindowScore
    from ..live.windows import Window
    from ..subtitles import Subtitle


class Prepared(NamedTuple):
    """A checked command line and its engine."""

    engine: "Engine"
    request: "Request"
    subtitles: "Sequence[Subtitle]"
    out: Path | None


def add_flags(parser: argparse.ArgumentParser, *, seconds: float, results: str) -> None:
    """Flags of a command that goes through a clip window by window; `results` names its output for each."""
    add = parser.add_argument
    add(
        "--window",
        type=arguments.seconds,
        default=seconds,
        metavar="S",
        help=f"seconds per window; default: {seconds:g}",
    )
    add("--overlap", type=arguments.seconds, default=0.0, metavar="S", help="seconds shared by adjacent windows")
    arguments.add_subtitle_flags(parser)
    add("--out", metavar="FILE", help=f"also write the {results} as subtitles, .srt or .vtt")
    add("--json", action="store_true", help=f"print one JSON object with the {results} and their receipts")
    add("--receipt", action="store_true", help=f"print what was used of the media after the {results}")


def prepared(args: argparse.Namespace, question: str) -> Prepared:
    """Check the files that the command names, then load the model.

    Raises:
        UsageError, MediaError: a path or a subtitle file can't be used.
    """
    terminal.log_to_terminal(args.verbose)
    request = arguments.request_from([args.medium], question, args)
    out = _subtitle_file(args.out)
    subtitles = arguments.subtitles_from(args) or ()
    with terminal.progress(args.json) as on_stage:
        engine = arguments.load_engine(args, on_stage, isolate=True)
        on_stage("thinking")  # from here on the results are printed
    return Prepared(engine, request, subtitles, out)


def span(window: "Window | WindowScore") -> str:
    """`[0:30-1:00]`"""
    from ..live.windows import clock_time

    return f"[{clock_time(window.start)}-{clock_time(window.end)}]"


def write_out(path: Path | None, subtitles: "Sequence[Subtitle]") -> None:
    """Write the subtitles of --out, if it was given."""
    from ..subtitles import write_subtitles

    if path is not None:
        write_subtitles(path, subtitles)
        terminal.say(f"subtitles: {path}")


def print_receipts(windows: "Sequence[Window] | Sequence[WindowScore]") -> None:
    """Print what was used of the media in each window that succeeded."""
    answers = [window.answer for window in windows if window.answer is not None]
    terminal.say("\n".join(map(receipt_text, answers)), style="dim")


def exit_code(windows: "Sequence[Window] | Sequence[WindowScore]") -> int:
    """3 if a window failed."""
    return 0 if all(window.answer is not None for window in windows) else MediaError.exit_code


def _subtitle_file(path: str | None) -> Path | None:
    """The path of --out, which can be written as subtitles.

    Raises:
        UsageError: it names no subtitle format. MissingExtra: a package is not installed.
    """
    from ..subtitles import FORMATS, render_subtitles

    if path is None:
        return None
    if Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"--out {path}: expected a name that ends in {' or '.join(FORMATS)}.")
    render_subtitles((), "srt")
    return Path(path)
