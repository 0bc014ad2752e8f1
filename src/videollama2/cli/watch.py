"""`videollama2 watch FILE QUESTION`: a long clip, window by window.

A command of its own, and no flag of `ask`: what comes of it are many answers with their times, and subtitles.
"""

import argparse
from pathlib import Path
from typing import Any

from ..errors import MediaError, UsageError
from . import terminal
from .ask import summary

_EPILOG = """examples:
  videollama2 watch lecture.mp4 "What happens here?"                      an answer for every 30 s, then a summary
  videollama2 watch lecture.mp4 "What happens here?" --window 10 --overlap 2 --out lecture.vtt
  videollama2 watch lecture.mp4 "What is explained?" --subtitles lecture.srt --no-summary
  videollama2 watch lecture.mp4 "What happens here?" --json               one JSON object, with every receipt

The summary is made of the answers, without the clip. Windows are heard and seen alone under the protocol `full`; under
`released` and `paper` a video's sound is always that of the whole file, as the receipts say.

exit code: 3 if a window can't be answered; the others are all the same
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "watch", help="a long clip, window by window", description="Ask the same about each part of a long clip.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("medium", metavar="FILE", help="a video or a sound")
    parser.add_argument("question", metavar="QUESTION", help="asked of every window")
    add = parser.add_argument
    add("--window", type=terminal.seconds, default=30.0, metavar="S", help="seconds of a window; default: 30")
    add(
        "--overlap", type=terminal.seconds, default=0.0, metavar="S", help="seconds a window shares with the one before"
    )
    add("--no-summary", action="store_true", help="do not merge the answers")
    add("--subtitles", metavar="FILE", help="an .srt or .vtt file with what is said; each window is given its own")
    add("--out", metavar="FILE", help="write the answers as subtitles: .srt or .vtt")
    add("--json", action="store_true", help="print one JSON object")
    add("--receipt", action="store_true", help="at the end, say what was seen and heard in each window")
    terminal.add_model_flags(parser)
    terminal.add_media_flags(parser)
    terminal.add_generation_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Answer window by window, as they come, and sum up."""
    from ..live.merging import clock
    from ..live.windows import Window, watch
    from ..subtitles import FORMATS, read_subtitles, render, write_subtitles

    terminal.log_to_terminal(args.verbose)
    request = terminal.request([args.medium], args.question, args)
    out = None if args.out is None else Path(args.out)
    if out is not None and out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {out}: subtitles are written as {' or '.join(FORMATS)}")
    render((), "srt") if out else None  # a missing package is told before the work
    said = () if args.subtitles is None else read_subtitles(Path(args.subtitles))
    with terminal.progress(args.json) as on_stage:
        engine = terminal.load_engine(args, on_stage, isolate=True)
        on_stage("thinking")  # from here on the terminal is the answers'

    def shown(window: Window, total: int) -> None:
        if not args.json:
            words = window.text if window.answer is not None else f"(nothing: {window.error})"
            terminal.write(f"[{clock(window.start)}-{clock(window.end)}] {' '.join(words.split())}\n")

    with terminal.without_losses(args.verbose):
        found = watch(
            engine, request, window=args.window, overlap=args.overlap, summary=not args.no_summary,
            subtitles=said, on_window=shown,
        )  # fmt: skip
    if out is not None:
        write_subtitles(out, found.lines)
        terminal.say(f"subtitles: {out}")
    if args.json:
        terminal.write_json(found.to_dict())
    elif found.summary is not None and len(found.windows) > 1:
        terminal.write(f"\n{found.summary.text}\n")
    if args.receipt and not args.json:
        if found.summary is not None:
            terminal.say(summary(found.summary), style="dim")
        else:
            answers = [window.answer for window in found.windows if window.answer is not None]
            terminal.say("\n".join(map(summary, answers)), style="dim")
    return 0 if all(window.answer is not None for window in found.windows) else MediaError.exit_code
