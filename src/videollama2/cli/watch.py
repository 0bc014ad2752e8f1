"""`videollama2 watch FILE QUESTION`: a long clip, window by window.

Not a flag of `ask`, because its output is different: many answers with their times, and subtitles.
"""

import argparse
from pathlib import Path
from typing import Any

from ..errors import MediaError, UsageError
from . import arguments, terminal
from .ask import receipt_text

_EPILOG = """examples:
  videollama2 watch lecture.mp4 "What happens here?"                      an answer per 30 s, then a summary
  videollama2 watch lecture.mp4 "What happens here?" --window 10 --overlap 2 --out lecture.vtt
  videollama2 watch lecture.mp4 "What is explained?" --subtitles lecture.srt --no-summary
  videollama2 watch lecture.mp4 "What happens here?" --json               one JSON object with all receipts

The summary is written from the answers, without the clip. Under the protocol `full`, each window has its own frames and
audio; under `released` and `paper`, the audio is always that of the whole file, and the receipts report it.

exit code: 3 if a window failed; the remaining windows are still answered
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "watch", help="answer a question about each window of a long clip", epilog=_EPILOG,
        description="Ask the same question about each window of a long clip.",
    )  # fmt: skip
    parser.add_argument("medium", metavar="FILE", help="a video or audio file")
    parser.add_argument("question", metavar="QUESTION", help="the question to ask about each window")
    parser.add_argument("--no-summary", action="store_true", help="do not summarise the answers")
    add_window_flags(parser, seconds=30.0, results="answers")
    arguments.add_schema_flag(parser)
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    arguments.add_generation_flags(parser)
    parser.set_defaults(func=run)


def add_window_flags(parser: argparse.ArgumentParser, *, seconds: float, results: str) -> None:
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


def run(args: argparse.Namespace) -> int:
    """Print the answer to each window, then the summary."""
    arguments.trim_torch(args)
    from ..live.windows import Window, clock_time, watch
    from ..subtitles import write_subtitles

    terminal.log_to_terminal(args.verbose)
    request = arguments.request_from([args.medium], args.question, args)
    out = subtitle_file(args.out)
    subtitles = arguments.subtitles_from(args) or ()
    with terminal.progress(args.json) as on_stage:
        engine = arguments.load_engine(args, on_stage, isolate=True)
        on_stage("thinking")  # from here on the answers are printed

    def shown(window: Window, total: int) -> None:
        if not args.json:
            words = window.text if window.answer is not None else f"(failed: {window.error})"
            terminal.write(f"[{clock_time(window.start)}-{clock_time(window.end)}] {' '.join(words.split())}\n")

    with terminal.without_losses(args.verbose):
        found = watch(
            engine, request, window=args.window, overlap=args.overlap, summary=not args.no_summary,
            subtitles=subtitles, on_window=shown,
        )  # fmt: skip
    if out is not None:
        write_subtitles(out, found.subtitles)
        terminal.say(f"subtitles: {out}")
    if args.json:
        terminal.print_json(found.to_dict())
    elif found.summary is not None and len(found.windows) > 1:
        terminal.write(f"\n{found.summary.text}\n")
    if args.receipt and not args.json:
        if found.summary is not None:
            terminal.say(receipt_text(found.summary), style="dim")
        else:
            answers = [window.answer for window in found.windows if window.answer is not None]
            terminal.say("\n".join(map(receipt_text, answers)), style="dim")
    return 0 if all(window.answer is not None for window in found.windows) else MediaError.exit_code


def subtitle_file(path: str | None) -> Path | None:
    """The path of --out, which can be written as subtitles.

    Raises:
        UsageError: it names no subtitle format. MissingExtra: a package is not installed.
    """
    from ..subtitles import FORMATS, render_subtitles

    if path is None:
        return None
    if Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"--out {path}: expected a name that ends in {' or '.join(FORMATS)}")
    render_subtitles((), "srt")
    return Path(path)
