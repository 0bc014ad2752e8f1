"""`videollama2 watch FILE QUESTION`: a long clip, window by window.

Not a flag of `ask`, because its output is different: many answers with their times, and subtitles.
"""

import argparse
from typing import Any

from . import arguments, terminal, windows
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
    windows.add_flags(parser, seconds=30.0, results="answers")
    arguments.add_schema_flag(parser)
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    arguments.add_generation_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the answer to each window, then the summary."""
    arguments.trim_torch(args)
    from ..live.windows import Window, watch

    asked = windows.prepared(args, args.question)

    def shown(window: Window, total: int) -> None:
        if not args.json:
            words = window.text if window.answer is not None else f"(failed: {window.error})"
            terminal.write(f"{windows.span(window)} {' '.join(words.split())}\n")

    with terminal.without_losses(args.verbose):
        found = watch(
            asked.engine, asked.request, window=args.window, overlap=args.overlap, summary=not args.no_summary,
            subtitles=asked.subtitles, on_window=shown,
        )  # fmt: skip
    windows.write_out(asked.out, found.subtitles)
    if args.json:
        terminal.print_json(found.to_dict())
        return windows.exit_code(found.windows)
    if found.summary is not None and len(found.windows) > 1:
        terminal.write(f"\n{found.summary.text}\n")
    if args.receipt and found.summary is not None:
        terminal.say(receipt_text(found.summary), style="dim")
    elif args.receipt:
        windows.print_receipts(found.windows)
    return windows.exit_code(found.windows)
